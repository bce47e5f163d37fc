#pragma once

// JSON about the fleet as a whole; form as in json.h.

#include <string>
#include <vector>

#include "common/base/time.h"
#include "common/messages/messages.h"

namespace iw::ctl {

struct DryRun;

// {"epoch", "generation", "seq", "restored": null or {...}, "read_only", "sessions", "holds",
// "unknown_attempts", "backup", "disk"}
std::string fleet_json(const FleetReply& fleet, const std::vector<WorkerView>& workers);

struct HoldAnswer {
    HoldRequest request;
    HoldReply reply;
};
// {"holds": [{"scope", "name", "on", "changed", "principal", "reason", "since", "until",
// "running"}]}
std::string holds_json(const std::vector<HoldAnswer>& answers);

// One line, for `watch --json`.
std::string event_json(const Event& event, const std::string& epoch);
// {"gap": true, "epoch", "next"} in one line.
std::string gap_json(const EventsReply& page);

// What `explain` found: {"session_id", "status", "detail", "reason", "notes": [...], "workers":
// [{"name", "can_run", "why"}]}
struct WorkerChance {
    std::string name;
    bool can_run = false;
    std::string why;
};
struct Explanation {
    SessionView session;
    std::vector<std::string> notes;
    std::vector<WorkerChance> workers;
};
std::string explanation_json(const Explanation& explanation);

// {"values": [{"name", "value", "origin"}], "warnings": [...], "notes": [...], "workers": [as
// above], "refusal"}
std::string dry_run_json(const DryRun& run);

// {"folder", "seq", "bytes"}
std::string backup_json(const BackupReply& backup);

}  // namespace iw::ctl
