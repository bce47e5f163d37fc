#include "worker/launcher/guard.h"

#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <utility>

#include "common/io/files.h"
#include "common/io/system_clock.h"
#include "worker/launcher/exit_record.h"
#include "worker/launcher/launcher.h"

namespace iw::worker {
namespace {

constexpr int kExitLost = 128 + SIGKILL;

int wait_end(pid_t child) {
    int status = 0;
    while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
    }
    return status;
}

// Still to be waited for, running or not: only then can its end be told.
bool is_our_child(const io::ProcessId& process) {
    siginfo_t info{};
    const int options = WEXITED | WNOHANG | WNOWAIT;
    return process.pid > 0 &&
           ::waitid(P_PID, static_cast<id_t>(process.pid), &info, options) == 0 &&
           io::process_start_ticks(process.pid) == process.start_ticks;
}

int go_on(const Guarded& guarded, const ProcessRecord& before, const Terminal& terminal) {
    say("the launcher was killed; its guard goes on");
    ProcessRecord process = before;
    process.launcher = process_id(::getpid());
    process.guard = io::ProcessId{};
    Supervisor supervisor(guarded.store, *guarded.plan, guarded.signals, process, terminal);
    const AgentEnd end = supervisor.take_over();
    const int failed = write_exit(guarded.store, guarded.attempt, describe(end, before.started_at));
    return failed != 0 ? failed : exit_code_of(end.wait_status);
}

// The launcher had taken the agent's end and could not say how it was, or had not said yet whom it
// had started.
int give_up(const Guarded& guarded, const std::optional<ProcessRecord>& before, int status,
            const Terminal& terminal) {
    say("the launcher was killed; what it left is ended");
    ExitRecord record{
        .cause = EndCause::lost,
        .reason = "its launcher was killed",
        .evidence = "the guard saw its launcher end by signal " + std::to_string(WTERMSIG(status)),
        .ended_at = io::wall_now()};
    if (before) record.started_at = before->started_at;
    if (guarded.plan) {
        Supervisor supervisor(guarded.store, *guarded.plan, guarded.signals, ProcessRecord{},
                              terminal);
        const AgentEnd end = supervisor.end_what_is_left();
        record.swept = end.swept;
        record.evidence += "; " + std::to_string(end.swept) + " processes were left, " +
                           std::to_string(end.left) + " of them could not be ended";
    }
    if (guarded.store.read_stop(guarded.attempt)) {
        record.cause = EndCause::stopped;
        record.stop_sent = true;
    }
    const int failed = write_exit(guarded.store, guarded.attempt, record);
    return failed != 0 ? failed : kExitLost;
}

int after_kill(const Guarded& guarded, int status, const io::ProcessId& server) {
    if (guarded.store.read_exit(guarded.attempt)) return kExitLost;
    const Terminal terminal{.server = server, .guard = io::ProcessId{}};
    const std::optional<ProcessRecord> before = guarded.store.read_process(guarded.attempt);
    if (before && guarded.plan && is_our_child(before->agent))
        return go_on(guarded, *before, terminal);
    return give_up(guarded, before, status, terminal);
}

}  // namespace

io::ProcessId process_id(pid_t pid) {
    return io::ProcessId{.pid = pid, .start_ticks = io::process_start_ticks(pid).value_or(0)};
}

int run_guarded(const Guarded& guarded, const std::function<int(const Terminal&)>& launcher) {
    const io::ProcessId server = process_id(::getppid());
    const io::ProcessId own = process_id(::getpid());
    std::fflush(stdout);
    const pid_t child = ::fork();
    // A machine that is out of processes runs what it can, unguarded.
    if (child < 0) return launcher(Terminal{.server = server, .guard = io::ProcessId{}});
    if (child == 0) {
        ::prctl(PR_SET_CHILD_SUBREAPER, 1);
        const int code = launcher(Terminal{.server = server, .guard = own});
        std::fflush(stdout);
        ::_exit(code);
    }
    const int status = wait_end(child);
    if (WIFEXITED(status)) return WEXITSTATUS(status);
    return after_kill(guarded, status, server);
}

}  // namespace iw::worker
