#pragma once

// Text about the fleet as a whole, for people. Pure, like render.h.

#include <string>
#include <vector>

#include "common/base/time.h"
#include "common/messages/messages.h"

namespace iw::ctl {

// "the fleet", "project site", "agent claude", "worker hosta:site".
std::string hold_target(HoldScope scope, const std::string& name);
// "project site is paused by uid:0 since 2025-11-18T15:10:00Z until ...: reason".
std::string hold_line(const HoldView& hold);
// "20251118-151005-x attempt 2 (generation 1)".
std::string attempt_words(const AttemptRef& attempt);

// The lines of `ictl fleet`.
std::string fleet_text(const FleetReply& fleet, const std::vector<WorkerView>& workers,
                       WallTime now);

// One line of `ictl watch`.
std::string event_line(const Event& event);

// "3 MiB", "2 GiB".
std::string size_text(std::uint64_t bytes);

}  // namespace iw::ctl
