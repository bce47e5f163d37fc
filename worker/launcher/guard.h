#pragma once

// The pane's process. It forks the launcher proper and does nothing while that lives; when somebody
// kills it, the agent falls to the guard, which goes on with it as if nothing had happened.
// Whatever the agent has started, with whatever environment and process session, stays below one of
// the two: only who kills both at once makes orphans. The guard's own end closes the terminal, as
// tmux sees it.

#include <functional>

#include "common/io/signals.h"
#include "worker/attempt_store/attempt_store.h"
#include "worker/launcher/supervisor.h"

namespace iw::worker {

// What a claimed attempt needs; all outlive the call.
struct Guarded {
    AttemptStore& store;
    const AttemptRef& attempt;
    const Result<LaunchPlan>& plan;
    io::SignalFd& signals;
};

// Runs `launcher` in a child and returns its exit code; in this process when there can be no child.
// Of a launcher that was killed the attempt is brought to its end here.
int run_guarded(const Guarded& guarded, const std::function<int(const Terminal&)>& launcher);

// A process by its pid and start.
io::ProcessId process_id(pid_t pid);

}  // namespace iw::worker
