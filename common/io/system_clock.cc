#include "common/io/system_clock.h"

#include <ctime>

#include "common/base/check.h"

namespace iw::io {
namespace {

Duration read_clock(clockid_t clock) {
    timespec value{};
    IW_CHECK(::clock_gettime(clock, &value) == 0);
    return std::chrono::floor<Duration>(std::chrono::seconds(value.tv_sec) +
                                        std::chrono::nanoseconds(value.tv_nsec));
}

}  // namespace

Timestamp steady_now() {
    return Timestamp(read_clock(CLOCK_MONOTONIC));
}
Timestamp boottime_now() {
    return Timestamp(read_clock(CLOCK_BOOTTIME));
}
WallTime wall_now() {
    return WallTime(read_clock(CLOCK_REALTIME));
}
Now now() {
    return Now{.steady = steady_now(), .wall = wall_now()};
}

}  // namespace iw::io
