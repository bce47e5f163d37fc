#pragma once

// What a project's files need once a day: old archives compressed, archives pruned where that is
// asked for, logs/orchestrator.log rotated, a warning when all of it has grown large. It reads
// whole sessions, so it is the work of a program of its own (`ikeep`), which the worker starts and
// does not wait for; ended at any point it loses nothing.

#include <cstdint>
#include <string>
#include <vector>

#include "common/base/result.h"
#include "common/base/time.h"

namespace iw::worker {

// 0: not at all.
struct HousekeepingRules {
    std::uint32_t compress_days = 30;     // archives that have not changed for longer
    std::uint32_t prune_days = 0;         // archives that are removed after that
    std::uint64_t archive_bytes = 0;      // of the whole archive; the oldest go
    std::uint64_t log_bytes = 10u << 20;  // of logs/orchestrator.log before it is rotated
};

// As arguments of the program, and back. bad_request: another number of them, or no numbers.
std::vector<std::string> to_arguments(const std::string& root, const HousekeepingRules& rules);
struct HousekeepingOrder {
    std::string root;
    HousekeepingRules rules;
};
Result<HousekeepingOrder> parse_arguments(const std::vector<std::string>& arguments);

// Does all of it once. LOG_RETENTION_DAYS and TOTAL_DISK_WARNING_MB come from the project's
// scripts/ops/config.sh. What was done, and what could not be, stands in logs/orchestrator.log.
void keep_house(const HousekeepingOrder& order, WallTime now);

}  // namespace iw::worker
