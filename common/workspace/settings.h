#pragma once

// The numbers that a project states in scripts/ops/config.sh, read as text and never run.

#include <string>

namespace iw::workspace {

// The value of the last plain `NAME=value` line, as the shell would see it; `fallback` where there
// is none, or no number from `min` to `max`.
long long project_number(const std::string& root, const std::string& name, long long fallback,
                         long long min, long long max);

}  // namespace iw::workspace
