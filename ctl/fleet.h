#pragma once

// The embedded fleet: one broker and one worker per project root, on sockets in the user's state
// folder, started on demand and left running. Which half runs is told by who holds its lock.

#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

#include "common/base/result.h"
#include "common/io/config_file.h"

namespace iw::ctl {

struct FleetState {
    std::optional<pid_t> broker;
    std::optional<pid_t> worker;
};
FleetState look_at_fleet(const io::FleetPaths& paths);

struct FleetStart {
    bool broker_started = false;
    bool worker_started = false;
};

// How the embedded broker is run: program and flags.
std::vector<std::string> embedded_broker_command(const io::FleetPaths& paths);

// Starts whichever half of the root's fleet is not running and waits until both answer; two at once
// are serialised. What is started has a process session of its own, none of the caller's
// descriptors, and no IW_* variables but IW_CFG_*. Error: unreachable, with the last words of the
// half that did not come up and its log.
Result<FleetStart> start_fleet(const std::string& root);

// Ends worker and broker (SIGTERM, waited for). Running agents go on in tmux; the tmux server ends
// only when it has no session. Error: unreachable when one does not end within its time.
Status stop_fleet(const std::string& root);

}  // namespace iw::ctl
