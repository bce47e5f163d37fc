#pragma once

// The only place that reads the machine's clocks.

#include "common/base/time.h"

namespace iw::io {

// CLOCK_MONOTONIC: stands still while the machine is suspended.
Timestamp steady_now();
// CLOCK_BOOTTIME: goes on during a suspend; for a worker's judgement of how long it has not heard a
// broker.
Timestamp boottime_now();
WallTime wall_now();
Now now();

}  // namespace iw::io
