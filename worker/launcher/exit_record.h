#pragma once

// How an attempt ended, in the words of its exit record, and the writing of that record.

#include <string>

#include "worker/attempt_store/attempt_store.h"
#include "worker/launcher/supervisor.h"

namespace iw::worker {

// To the terminal, which is also the session's log.
void say(const std::string& text);

// The agent's exit code, 128+n for a signal.
int exit_code_of(int wait_status);
ExitRecord describe(const AgentEnd& end, WallTime started_at);

// Tries on for as long as the attempt's folder is there: without its record a finished attempt
// would count as lost. An earlier record stands and is fine. 0, or kExitIo.
int write_exit(AttemptStore& store, const AttemptRef& attempt, const ExitRecord& record);

}  // namespace iw::worker
