#pragma once

#include <functional>

#include "common/base/time.h"

namespace iw::test {

// Asks again and again, with a pause that grows from 1 ms to 50 ms, until `condition` holds or
// `cap` has passed; whether it holds. The only place of the tests that pauses.
bool wait_until(const std::function<bool()>& condition, Duration cap);

}  // namespace iw::test
