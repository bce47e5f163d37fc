#include "broker/nightly.h"

#include <algorithm>
#include <ctime>

#include "common/base/text.h"

namespace iw::broker {
namespace {

// A start has better things to do; and one that fails at once must not do so in a loop.
constexpr Duration kAfterStart{60'000};
constexpr Duration kAfterFailure{3'600'000};
// The steady clock does not notice when somebody sets the wall clock.
constexpr Duration kLookInterval{600'000};
constexpr Duration kDay{24LL * 3'600'000};

}  // namespace

std::optional<int> parse_time_of_day(std::string_view text) {
    constexpr std::size_t kLength = 5;
    long long hours = 0;
    long long minutes = 0;
    if (text.size() != kLength || text[2] != ':') return std::nullopt;
    if (!parse_int(text.substr(0, 2), 0, 23, hours)) return std::nullopt;
    if (!parse_int(text.substr(3), 0, 59, minutes)) return std::nullopt;
    return static_cast<int>(hours * 60 + minutes);
}

WallTime last_occurrence(WallTime now, int minutes) {
    const std::time_t seconds =
        std::chrono::floor<std::chrono::seconds>(now.time_since_epoch()).count();
    std::tm local{};
    ::localtime_r(&seconds, &local);
    const auto on_day = [&](int days_back) {
        std::tm day = local;
        day.tm_mday -= days_back;
        day.tm_hour = minutes / 60;
        day.tm_min = minutes % 60;
        day.tm_sec = 0;
        day.tm_isdst = -1;  // whether it holds then is for the system to find out
        return WallTime(std::chrono::seconds(std::mktime(&day)));
    };
    const WallTime today = on_day(0);
    return today <= now ? today : on_day(1);
}

Nightly::Nightly(std::optional<int> at, std::optional<WallTime> last, Now started)
    : at_(at), last_(last), not_before_(started.steady + kAfterStart) {}

bool Nightly::is_due(Now now) {
    if (!at_ || now.steady < not_before_) return false;
    if (!last_) return true;
    // Set back: what looks like the future would keep us from every night until then.
    if (*last_ > now.wall) last_ = now.wall;
    return *last_ < last_occurrence(now.wall, *at_);
}

void Nightly::failed(Now now) {
    last_.reset();
    not_before_ = now.steady + kAfterFailure;
}

std::optional<Timestamp> Nightly::next_look(Now now) const {
    if (!at_) return std::nullopt;
    const WallTime next = last_occurrence(now.wall + kDay, *at_);
    const Duration until =
        std::max(std::chrono::duration_cast<Duration>(next - now.wall), Duration(0));
    return std::max(not_before_, now.steady + std::min(until, kLookInterval));
}

}  // namespace iw::broker
