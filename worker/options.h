#pragma once

// What the command line, the environment and the configuration files say, checked. Keys, defaults
// and ranges: config/worker.toml.

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "common/base/ids.h"
#include "common/base/limits.h"
#include "common/base/time.h"
#include "common/io/program_options.h"
#include "worker/housekeeping/housekeeping.h"

namespace iw::worker {

struct WorkerOptions {
    WorkerName name;
    std::string host;
    std::string root;  // absolute, links resolved
    std::string project;
    std::string state_dir;               // absolute
    std::string broker;                  // ipc:// with an absolute path
    std::optional<std::uint32_t> slots;  // none: MAX_CONCURRENT_SESSIONS of scripts/ops/config.sh
    std::map<std::string, std::string> labels;
    std::uint64_t log_bytes = 0;  // of one session's output.log
    HousekeepingRules housekeeping;
    Duration stop_grace = limits::kStopGrace;
    std::string log_level;   // debug, info, warn, error
    std::string log_format;  // text, json
};

// Reads arguments, environment and files anew at each call (SIGHUP reads the log level again).
std::variant<WorkerOptions, io::Farewell> parse_options(int argc, const char* const* argv);

// MAX_CONCURRENT_SESSIONS of <root>/scripts/ops/config.sh, where it is a plain number in range; 5
// else.
std::uint32_t slots_of_project(const std::string& root);

}  // namespace iw::worker
