#pragma once

// The program `ischema`: whether a result.json fits its schema. What an agent wrote and a user
// asked for may take any time, memory and stack, so it has limits of its own and its end harms
// nobody.

#include <cstdint>

namespace iw::worker {

// Exit codes of the program. Any other end: it went over a limit.
inline constexpr int kResultFits = 0;
inline constexpr int kResultUnfit = 1;    // stdout: "<path>: <rule>"
inline constexpr int kSchemaUnfit = 2;    // stdout: "<path>: <what is wrong>"
inline constexpr int kResultMissing = 3;  // no regular file of that name

// The schema comes on stdin, `argv[1]` names the file.
int run_schema_check(int argc, const char* const* argv);

}  // namespace iw::worker
