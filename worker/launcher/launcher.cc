#include "worker/launcher/launcher.h"

#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <optional>
#include <utility>

#include "common/base/text.h"
#include "common/io/files.h"
#include "common/io/signals.h"
#include "common/io/system_clock.h"
#include "worker/attempt_store/attempt_store.h"
#include "worker/launcher/agent_process.h"
#include "worker/launcher/supervisor.h"

namespace iw::worker {
namespace {

constexpr int kExitNotStarted = 127;
constexpr int kExitStopped = 128 + SIGTERM;
constexpr int kSignalBase = 128;
// A full disk often has room again soon, and without its record a finished attempt would count as
// lost.
constexpr int kExitRecordTries = 300;
constexpr int kExitRecordPauseMs = 2'000;

// To the terminal, which is also the session's log.
void say(const std::string& text) {
    std::fprintf(stdout, "iexec: %s\n", printable(text, true).c_str());
    std::fflush(stdout);
}

int write_exit(AttemptStore& store, const AttemptRef& attempt, const ExitRecord& record) {
    for (int tries = 0; tries < kExitRecordTries; ++tries) {
        const Status written = store.write_exit(attempt, record);
        if (written) return 0;
        if (written.error().code == ErrorCode::conflict) {
            say("the attempt has an exit record already; it stands");
            return 0;
        }
        if (tries == 0) say("cannot write the exit record, trying on: " + written.error().message);
        if (!io::exists(store.folder(attempt)))
            break;  // somebody removed the state: nobody waits for it
        ::poll(nullptr, 0, kExitRecordPauseMs);
    }
    return kExitIo;
}

std::string signal_words(int signal) {
    const char* name = ::sigabbrev_np(signal);
    const char* words = ::sigdescr_np(signal);
    std::string text = "signal " + std::to_string(signal);
    if (name != nullptr)
        text +=
            std::string(" (SIG") + name + (words != nullptr ? std::string(": ") + words : "") + ")";
    return text;
}

int exit_code_of(int wait_status) {
    return WIFSIGNALED(wait_status) ? kSignalBase + WTERMSIG(wait_status)
                                    : WEXITSTATUS(wait_status);
}

// A stop that was sent decides over everything, a closed terminal over the code that it led to.
ExitRecord describe(const AgentEnd& end, WallTime started_at) {
    ExitRecord record;
    record.exit_code = exit_code_of(end.wait_status);
    record.stop_sent = end.stop_sent;
    record.hangup = end.hangup;
    record.started_at = started_at;
    record.ended_at = end.ended_at;
    record.swept = end.swept;
    record.reason = WIFSIGNALED(end.wait_status) ? signal_words(WTERMSIG(end.wait_status))
                                                 : "exit code " + std::to_string(*record.exit_code);
    record.cause = WIFSIGNALED(end.wait_status) ? EndCause::signal : EndCause::exited;
    if (end.stop_sent) {
        record.cause = EndCause::stopped;
    } else if (end.hangup) {
        record.cause = EndCause::lost;
        record.evidence =
            "the launcher saw its terminal close; the agent ended with " + record.reason;
        record.reason = "the terminal closed: tmux server ended";
    }
    if (end.left > 0) {
        if (!record.evidence.empty()) record.evidence += "; ";
        record.evidence +=
            std::to_string(end.left) + " of the agent's processes could not be ended";
    }
    return record;
}

int not_started(AttemptStore& store, const AttemptRef& attempt, const std::string& reason) {
    say(reason);
    const ExitRecord record{
        .cause = EndCause::start_failed, .reason = reason, .ended_at = io::wall_now()};
    const int failed = write_exit(store, attempt, record);
    return failed != 0 ? failed : kExitNotStarted;
}

int stopped_before_start(AttemptStore& store, const AttemptRef& attempt, const StopRecord& stop) {
    say("stopped before the start: " + stop.reason);
    const ExitRecord record{.cause = EndCause::stopped,
                            .reason = "stopped before the start",
                            .ended_at = io::wall_now()};
    const int failed = write_exit(store, attempt, record);
    return failed != 0 ? failed : kExitStopped;
}

ProcessRecord process_record(pid_t agent, WallTime started_at) {
    const auto name = [](pid_t pid) {
        return io::ProcessId{.pid = pid, .start_ticks = io::process_start_ticks(pid).value_or(0)};
    };
    return ProcessRecord{.launcher = name(::getpid()),
                         .agent = name(agent),
                         .boot_id = io::boot_id(),
                         .started_at = started_at};
}

int run_agent(AttemptStore& store, const LaunchPlan& plan, io::SignalFd& signals) {
    const WallTime started_at = io::wall_now();
    const Result<pid_t> agent = start_agent(plan);
    if (!agent) return not_started(store, plan.attempt, agent.error().message);
    Supervisor supervisor(store, plan, signals, process_record(*agent, started_at));
    const AgentEnd end = supervisor.run();
    const int failed = write_exit(store, plan.attempt, describe(end, started_at));
    return failed != 0 ? failed : exit_code_of(end.wait_status);
}

int launch_claimed(AttemptStore& store, const AttemptRef& attempt, const Result<LaunchPlan>& plan,
                   io::SignalFd& signals) {
    if (!plan) return not_started(store, attempt, plan.error().message);
    if (const auto stop = store.read_stop(attempt))
        return stopped_before_start(store, attempt, *stop);
    return run_agent(store, *plan, signals);
}

}  // namespace

int launch(const std::string& state_folder, const std::string& attempt_name) {
    const std::optional<AttemptRef> attempt = AttemptStore::parse_name(attempt_name);
    if (!attempt) {
        say("\"" + attempt_name +
            "\" is no attempt; it has the form <session>-<generation>-<attempt>");
        return kExitUsage;
    }
    // First of all: a TERM from here on waits until there is somebody to pass it on to, and job
    // control of the terminal cannot stop us.
    Result<io::SignalFd> signals =
        io::SignalFd::open({SIGTERM, SIGHUP, SIGCHLD, SIGINT, SIGQUIT, SIGTSTP, SIGTTIN, SIGTTOU});
    Result<AttemptStore> store = AttemptStore::open(state_folder);
    if (!signals || !store) {
        say(!signals ? signals.error().message : store.error().message);
        return kExitIo;
    }
    ::prctl(PR_SET_CHILD_SUBREAPER, 1);
    const Result<LaunchPlan> plan = store->read_plan(*attempt);
    if (!plan && plan.error().code == ErrorCode::not_found) {
        say("nothing is planned for " + attempt_name + ": " + plan.error().message);
        return kExitUsage;
    }
    if (const Status claimed = store->claim(*attempt, Claim::launcher, ""); !claimed) {
        const bool taken = claimed.error().code == ErrorCode::conflict;
        say(taken ? attempt_name + " was started, declined or stopped before; it is not run again"
                  : claimed.error().message);
        return taken ? kExitNotOurs : kExitIo;
    }
    return launch_claimed(*store, *attempt, plan, *signals);
}

}  // namespace iw::worker
