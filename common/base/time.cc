#include "common/base/time.h"

#include <array>
#include <cstdio>
#include <ctime>

namespace iw {
namespace {

struct Civil {
    std::tm fields{};
};

Civil civil(WallTime time) {
    const auto seconds = std::chrono::floor<std::chrono::seconds>(time.time_since_epoch()).count();
    const auto value = static_cast<std::time_t>(seconds);
    Civil result;
    gmtime_r(&value, &result.fields);
    return result;
}

std::string format(WallTime time, const char* pattern) {
    const Civil parts = civil(time);
    std::array<char, 64> text{};
    const std::size_t size = std::strftime(text.data(), text.size(), pattern, &parts.fields);
    return std::string(text.data(), size);
}

struct Unit {
    std::string_view suffix;
    std::int64_t ms;
};
// Longest suffix first where one begins another.
constexpr std::array kUnits = {Unit{"ms", 1}, Unit{"s", 1000}, Unit{"m", 60'000},
                               Unit{"h", 3'600'000}, Unit{"d", 86'400'000}};
constexpr std::int64_t kDurationMaxMs = 10LL * 366 * 86'400'000;

Error bad_duration(std::string_view text) {
    return make_error(ErrorCode::bad_request,
                      "bad duration \"" + std::string(text) +
                          "\"; give a number with a unit, as in 90s, 30m, 2h or 1d");
}

bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

}  // namespace

std::string format_utc(WallTime time) {
    return format(time, "%Y-%m-%dT%H:%M:%SZ");
}
std::string format_display(WallTime time) {
    return format(time, "%Y-%m-%d %H:%M:%S");
}
std::string format_id_second(WallTime time) {
    return format(time, "%Y%m%d-%H%M%S");
}

std::optional<WallTime> parse_utc(std::string_view text) {
    constexpr std::size_t kWholeSize = 19;  // up to the seconds
    std::tm fields{};
    const std::string whole(text.substr(0, kWholeSize));
    const char* rest = strptime(whole.c_str(), "%Y-%m-%dT%H:%M:%S", &fields);
    if (rest == nullptr || *rest != '\0') return std::nullopt;
    const WallTime second = wall_from_ms(static_cast<std::int64_t>(timegm(&fields)) * 1000);
    // strptime takes blanks, short numbers and the 31st of February; what is not written back the
    // same was no such time.
    if (format_utc(second) != whole + "Z") return std::nullopt;

    std::string_view fraction = text.substr(kWholeSize);
    if (fraction.empty() || fraction.back() != 'Z') return std::nullopt;
    fraction.remove_suffix(1);
    if (fraction.empty()) return second;
    if (fraction.front() != '.' || fraction.size() == 1) return std::nullopt;
    fraction.remove_prefix(1);
    std::int64_t ms = 0;
    std::int64_t scale = 100;
    for (const char c : fraction) {
        if (!is_digit(c)) return std::nullopt;
        ms += (c - '0') * scale;
        scale /= 10;
    }
    return second + Duration(ms);
}

std::string format_elapsed(Duration elapsed) {
    const std::int64_t total = elapsed.count() < 0 ? 0 : elapsed.count() / 1000;
    const auto hours = static_cast<long long>(total / 3600);
    const auto minutes = static_cast<long long>(total / 60 % 60);
    const auto seconds = static_cast<long long>(total % 60);
    std::array<char, 64> text{};
    if (hours > 0) {
        std::snprintf(text.data(), text.size(), "%lldh %02lldm %02llds", hours, minutes, seconds);
    } else if (minutes > 0) {
        std::snprintf(text.data(), text.size(), "%lldm %llds", minutes, seconds);
    } else {
        std::snprintf(text.data(), text.size(), "%llds", seconds);
    }
    return text.data();
}

Result<Duration> parse_duration(std::string_view text) {
    std::int64_t total = 0;
    std::string_view rest = text;
    if (rest.empty()) return bad_duration(text);
    while (!rest.empty()) {
        std::int64_t number = 0;
        std::size_t digits = 0;
        while (digits < rest.size() && is_digit(rest[digits])) {
            number = number * 10 + (rest[digits] - '0');
            if (number > kDurationMaxMs) return bad_duration(text);
            ++digits;
        }
        if (digits == 0) return bad_duration(text);
        rest.remove_prefix(digits);
        std::int64_t scale = 1000;
        const bool bare = rest.empty() && digits == text.size();
        if (!bare) {
            const Unit* found = nullptr;
            for (const Unit& unit : kUnits) {
                if (rest.starts_with(unit.suffix)) {
                    found = &unit;
                    break;
                }
            }
            if (found == nullptr) return bad_duration(text);
            scale = found->ms;
            rest.remove_prefix(found->suffix.size());
        }
        if (number > kDurationMaxMs / scale) return bad_duration(text);
        total += number * scale;
    }
    if (total <= 0 || total > kDurationMaxMs) return bad_duration(text);
    return Duration(total);
}

std::string format_duration(Duration duration) {
    const std::int64_t ms = duration.count();
    for (auto unit = kUnits.rbegin(); unit != kUnits.rend(); ++unit) {
        if (ms % unit->ms == 0) return std::to_string(ms / unit->ms) + std::string(unit->suffix);
    }
    return std::to_string(ms) + "ms";
}

}  // namespace iw
