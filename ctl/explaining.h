#pragma once

// Why a session is where it is: from its own view, those of what it waits for, the workers and the
// fleet. Pure.

#include <map>
#include <string>
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

// What a worker must offer to run something.
struct Wanted {
    AgentName agent;
    std::string project;  // empty: any
    Origin origin;        // binds only where there is no project
    std::string host;     // empty: any
    std::map<std::string, std::string> require;
};
// Whether it could run there now, and what speaks against it first.
WorkerChance chance_of(const WorkerView& worker, const Wanted& wanted);
// "  worker hosta could run it: 1 of 5 slots in use", printable.
std::string chance_line(const WorkerChance& chance);
// What holds it back wherever it could run: read-only, restored, pauses.
std::vector<std::string> fleet_notes(const FleetReply& fleet, const Wanted& wanted);

Explanation explain(const ExplainInput& input, WallTime now);

}  // namespace iw::ctl
