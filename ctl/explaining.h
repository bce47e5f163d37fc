#pragma once

// Why a session is where it is: from its own view, those of what it waits for, the workers and the
// fleet. Pure.

#include <map>
#include <vector>

#include "common/base/time.h"
#include "common/messages/messages.h"
#include "ctl/fleet_json.h"

namespace iw::ctl {

struct ExplainInput {
    SessionView session;
    std::map<SessionId, SessionView> dependencies;  // those that are still known
    std::vector<WorkerView> workers;
    FleetReply fleet;
};

Explanation explain(const ExplainInput& input, WallTime now);

}  // namespace iw::ctl
