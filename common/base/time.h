#pragma once

// Time as an argument. Neither clock type here has a now(): only common/io/system_clock reads the
// machine's clocks, so a core that asks for the time does not compile (idea: ScyllaDB
// raft/logical_clock.hh).

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "common/base/result.h"

namespace iw {

using Duration = std::chrono::milliseconds;

// Counts since an arbitrary start and never goes back. Leases and every other deadline live on it.
struct SteadyClock {
    using duration = Duration;
    using rep = duration::rep;
    using period = duration::period;
    using time_point = std::chrono::time_point<SteadyClock>;
    static constexpr bool is_steady = true;
};
using Timestamp = SteadyClock::time_point;

// Civil time, milliseconds since 1970 UTC: for ids, for display, and for due times that survive a
// restart.
struct WallClock {
    using duration = Duration;
    using rep = duration::rep;
    using period = duration::period;
    using time_point = std::chrono::time_point<WallClock>;
    static constexpr bool is_steady = false;
};
using WallTime = WallClock::time_point;

// Both clocks, read once a turn.
struct Now {
    Timestamp steady;
    WallTime wall;
};

inline std::int64_t to_ms(WallTime time) {
    return time.time_since_epoch().count();
}
inline WallTime wall_from_ms(std::int64_t ms) {
    return WallTime(Duration(ms));
}

// "2025-11-18T15:10:05Z": state.json, logs.
std::string format_utc(WallTime time);
// "2025-11-18 15:10:05": `status` for people.
std::string format_display(WallTime time);
// "20251118-151005": the front of a session id.
std::string format_id_second(WallTime time);
// Inverse of format_utc; also accepts a fraction of a second. Nothing for any other text.
std::optional<WallTime> parse_utc(std::string_view text);
// "45s", "8m 30s", "1h 02m 03s": elapsed time for people; negative shows as "0s".
std::string format_elapsed(Duration elapsed);

// "90s", "30m", "2h", "1d", "500ms", "1h30m", or a bare number of seconds; more than zero and at
// most 10 years. The error names the text and the accepted forms.
Result<Duration> parse_duration(std::string_view text);
// The shortest text that parse_duration reads back: "90s", "30m", "2h".
std::string format_duration(Duration duration);

}  // namespace iw
