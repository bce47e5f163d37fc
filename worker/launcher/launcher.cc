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
#include "worker/launcher/exit_record.h"
#include "worker/launcher/guard.h"
#include "worker/launcher/supervisor.h"

namespace iw::worker {
namespace {

constexpr int kExitNotStarted = 127;
constexpr int kExitStopped = 128 + SIGTERM;

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

int run_agent(AttemptStore& store, const LaunchPlan& plan, io::SignalFd& signals,
              const Terminal& terminal) {
    const WallTime started_at = io::wall_now();
    const Result<pid_t> agent = start_agent(plan);
    if (!agent) return not_started(store, plan.attempt, agent.error().message);
    const ProcessRecord process{.launcher = process_id(::getpid()),
                                .guard = terminal.guard,
                                .agent = process_id(*agent),
                                .boot_id = io::boot_id(),
                                .started_at = started_at};
    Supervisor supervisor(store, plan, signals, process, terminal);
    const AgentEnd end = supervisor.run();
    const int failed = write_exit(store, plan.attempt, describe(end, started_at));
    return failed != 0 ? failed : exit_code_of(end.wait_status);
}

int launch_claimed(AttemptStore& store, const AttemptRef& attempt, const Result<LaunchPlan>& plan,
                   io::SignalFd& signals, const Terminal& terminal) {
    if (!plan) return not_started(store, attempt, plan.error().message);
    if (const auto stop = store.read_stop(attempt))
        return stopped_before_start(store, attempt, *stop);
    return run_agent(store, *plan, signals, terminal);
}

bool is_too_late(const LaunchPlan& plan) {
    return plan.start_by != Timestamp{} && io::boottime_now() > plan.start_by;
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
    Result<io::SignalFd> signals = io::SignalFd::open(
        {SIGTERM, kStopSignal, SIGHUP, SIGCHLD, SIGINT, SIGQUIT, SIGTSTP, SIGTTIN, SIGTTOU});
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
    if (plan && is_too_late(*plan)) {
        say(attempt_name + " came to its start too late; the worker has to ask the broker first");
        return kExitNotOurs;
    }
    if (const Status claimed = store->claim(*attempt, Claim::launcher, ""); !claimed) {
        const bool taken = claimed.error().code == ErrorCode::conflict;
        say(taken ? attempt_name + " was started, declined or stopped before; it is not run again"
                  : claimed.error().message);
        return taken ? kExitNotOurs : kExitIo;
    }
    const Guarded guarded{.store = *store, .attempt = *attempt, .plan = plan, .signals = *signals};
    return run_guarded(guarded, [&](const Terminal& terminal) {
        return launch_claimed(*store, *attempt, plan, *signals, terminal);
    });
}

}  // namespace iw::worker
