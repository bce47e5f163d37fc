#pragma once

// The limits that a project states in scripts/ops/config.sh, read as text and never run.

#include <cstdint>
#include <optional>
#include <string>

#include "common/base/result.h"
#include "common/base/time.h"

namespace iw::ctl {

struct ProjectLimits {
    Duration lifetime{1'800'000};            // MAX_SESSION_LIFETIME_SECONDS
    std::uint64_t disk_limit = 500'000'000;  // bytes; five times MAX_DISK_PER_SESSION_MB
};

// Defaults where the file or a variable is missing. config: a value that is no number in its range,
// with file and variable named.
Result<ProjectLimits> read_project_limits(const std::string& root);

// MAX_SESSION_LIFETIME_SECONDS as the file states it; nothing where it does not (as while an editor
// writes the file). config as above.
Result<std::optional<Duration>> read_stated_lifetime(const std::string& root);

}  // namespace iw::ctl
