#pragma once

// Entering a session's terminal on this host. Used by attach, submit --attach and the session
// manager.

#include <string>

namespace iw::ctl {

class Context;

// Waits while the session is CREATED and shows why, enters its tmux session until the person leaves
// or the agent ends, and then shows the status. A final session shows status and the end of its
// log. The exit code: 0; 1 without a terminal, or when it runs on another host. `worker_state`
// empty: as the context finds it.
int attach_session(Context& context, const std::string& id, const std::string& worker_state);

}  // namespace iw::ctl
