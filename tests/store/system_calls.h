#pragma once

// The calls that make data durable, as the test program sees them: it defines them itself
// (system_calls_test.cc), so that a test can look at the folder before each of them, let one fail,
// or count them. Syncs never reach the disk in this program, which makes hundreds of openings
// affordable; what a crash leaves is simulated by copies.

#include <functional>
#include <string>

namespace iw::test {

// Called before each write, sync and rename of this process with the name of the call. Returns 0 to
// go on, or the errno that the call is to fail with. Empty: nothing is called.
extern std::function<int(const std::string& call)> before_system_call;

}  // namespace iw::test
