#pragma once

#include <sys/types.h>

#include "common/base/result.h"
#include "worker/attempt_store/attempt_store.h"

namespace iw::worker {

// Starts the agent of a plan as a child in a process group of its own, in the foreground of our
// terminal (if we have one), with exactly the plan's environment, folder and stdin; stdout and
// stderr are ours. Returns once the program really runs. Errors (io) are for people and name what
// could not be started and why.
Result<pid_t> start_agent(const LaunchPlan& plan);

}  // namespace iw::worker
