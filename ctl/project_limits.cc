#include "ctl/project_limits.h"

#include "common/base/text.h"
#include "common/io/files.h"

namespace iw::ctl {
namespace {

constexpr std::size_t kFileMax = 1u << 20;
constexpr long long kBytesPerMb = 1'000'000;
// Where a warning ends and a failure begins.
constexpr long long kFailFactor = 5;

// The value of the last `NAME=value` line, without quotes and a comment behind it; empty when there
// is none.
std::string last_value(const std::string& text, const std::string& name) {
    std::string value;
    for (const std::string& line : split(text, '\n')) {
        const std::string_view code = trim(std::string_view(line).substr(0, line.find('#')));
        if (!code.starts_with(name + "=")) continue;
        std::string_view found = trim(code.substr(name.size() + 1));
        const bool quoted = found.size() >= 2 && (found.front() == '"' || found.front() == '\'') &&
                            found.back() == found.front();
        value = quoted ? found.substr(1, found.size() - 2) : found;
    }
    return value;
}

Result<long long> number(const std::string& text, const std::string& name, long long fallback,
                         long long max) {
    const std::string value = last_value(text, name);
    long long parsed = fallback;
    if (value.empty() || parse_int(value, 1, max, parsed)) return parsed;
    return make_error(ErrorCode::config, "scripts/ops/config.sh: " + name + "=" +
                                             printable(value, true) + " is no number from 1 to " +
                                             std::to_string(max));
}

}  // namespace

Result<ProjectLimits> read_project_limits(const std::string& root) {
    ProjectLimits limits;
    const Result<std::string> text = io::read_file(root + "/scripts/ops/config.sh", kFileMax);
    if (!text && text.error().code == ErrorCode::not_found) return limits;
    if (!text) return text.error();
    constexpr long long kTenYears = 10LL * 365 * 86'400;
    const auto seconds = number(*text, "MAX_SESSION_LIFETIME_SECONDS", 1800, kTenYears);
    if (!seconds) return seconds.error();
    const auto megabytes = number(*text, "MAX_DISK_PER_SESSION_MB", 100, 1'000'000'000);
    if (!megabytes) return megabytes.error();
    limits.lifetime = Duration(*seconds * 1000);
    limits.disk_limit = static_cast<std::uint64_t>(*megabytes * kBytesPerMb * kFailFactor);
    return limits;
}

}  // namespace iw::ctl
