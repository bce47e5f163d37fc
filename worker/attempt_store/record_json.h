#pragma once

// The records of an attempt's folder as JSON text and back. Parsing never throws: a text that is
// not what it should be is an error (io) that says what is wrong with it; the caller names the
// file.

#include <string>
#include <string_view>

#include "common/base/result.h"
#include "common/messages/messages.h"
#include "worker/attempt_store/attempt_store.h"

namespace iw::worker {

struct ClaimRecord {
    Claim claim = Claim::launcher;
    std::string reason;
};

std::string to_json(const Assignment& assignment);  // without the prompt
std::string to_json(const LaunchPlan& plan);
std::string to_json(const ClaimRecord& record);
std::string to_json(const ProcessRecord& record);
std::string to_json(const StopRecord& record);
std::string to_json(const ExitRecord& record);
std::string to_json(const SessionView& outcome);
std::string to_json(const JudgedRecord& record);
std::string limits_json(Duration timeout);
std::string log_done_json(std::uint64_t bytes_seen, std::uint64_t bytes_kept);

Result<Assignment> parse_assignment(std::string_view text);
Result<LaunchPlan> parse_plan(std::string_view text);
Result<ClaimRecord> parse_claim(std::string_view text);
Result<ProcessRecord> parse_process(std::string_view text);
Result<StopRecord> parse_stop(std::string_view text);
Result<ExitRecord> parse_exit(std::string_view text);
Result<JudgedRecord> parse_judged(std::string_view text);
Result<Duration> parse_limits(std::string_view text);
Result<SessionView> parse_outcome(std::string_view text);

}  // namespace iw::worker
