#include "tests/support/wait_until.h"

#include <algorithm>
#include <thread>

#include "common/io/system_clock.h"

namespace iw::test {

bool wait_until(const std::function<bool()>& condition, Duration cap) {
    constexpr Duration kPauseMax{50};
    const Timestamp deadline = io::steady_now() + cap;
    Duration pause{1};
    while (!condition()) {
        if (io::steady_now() >= deadline) return false;
        std::this_thread::sleep_for(pause);
        pause = std::min(pause * 2, kPauseMax);
    }
    return true;
}

}  // namespace iw::test
