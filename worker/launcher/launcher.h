#pragma once

// iexec: the command of a session's tmux pane and the authority on its attempt. It claims the
// attempt, runs the agent, ends everything that the agent started and writes how it ended. It needs
// no worker: that may restart, and reads what stands in the attempt's folder.

#include <string>

namespace iw::worker {

// Exit codes for an attempt that this process did not run (sysexits.h).
inline constexpr int kExitUsage = 64;
inline constexpr int kExitNotOurs = 75;  // somebody else holds the claim
inline constexpr int kExitIo = 74;

// Runs one attempt to its end. `state_folder` is the worker's. Returns the agent's exit code (128+n
// for a signal), 127 when it could not be started, 143 when it was stopped before its start, or one
// of the above.
int launch(const std::string& state_folder, const std::string& attempt_name);

}  // namespace iw::worker
