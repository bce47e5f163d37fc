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

constexpr const char* kLifetime = "MAX_SESSION_LIFETIME_SECONDS";
constexpr long long kTenYears = 10LL * 365 * 86'400;

// Nothing where the variable is missing or empty.
Result<std::optional<long long>> number(const std::string& text, const std::string& name,
                                        long long max) {
    const std::string value = last_value(text, name);
    if (value.empty()) return std::optional<long long>();
    long long parsed = 0;
    if (parse_int(value, 1, max, parsed)) return std::optional(parsed);
    return make_error(ErrorCode::config, "scripts/ops/config.sh: " + name + "=" +
                                             printable(value, true) + " is no number from 1 to " +
                                             std::to_string(max));
}

// Empty when there is no such file.
Result<std::string> read_config(const std::string& root) {
    Result<std::string> text = io::read_file(root + "/scripts/ops/config.sh", kFileMax);
    if (!text && text.error().code == ErrorCode::not_found) return std::string();
    return text;
}

}  // namespace

Result<ProjectLimits> read_project_limits(const std::string& root) {
    ProjectLimits limits;
    const Result<std::string> text = read_config(root);
    if (!text) return text.error();
    const auto seconds = number(*text, kLifetime, kTenYears);
    if (!seconds) return seconds.error();
    const auto megabytes = number(*text, "MAX_DISK_PER_SESSION_MB", 1'000'000'000);
    if (!megabytes) return megabytes.error();
    if (*seconds) limits.lifetime = Duration(**seconds * 1000);
    if (*megabytes) {
        limits.disk_limit = static_cast<std::uint64_t>(**megabytes * kBytesPerMb * kFailFactor);
    }
    return limits;
}

Result<std::optional<Duration>> read_stated_lifetime(const std::string& root) {
    const Result<std::string> text = read_config(root);
    if (!text) return text.error();
    const auto seconds = number(*text, kLifetime, kTenYears);
    if (!seconds) return seconds.error();
    return *seconds ? std::optional(Duration(**seconds * 1000)) : std::nullopt;
}

}  // namespace iw::ctl
