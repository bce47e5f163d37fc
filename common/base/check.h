#pragma once

// Checks of our own assumptions. They stay on in every build: a broken assumption ends the process,
// and recovery starts from what is on disk. Never used for input of a peer, a file or a person.

#include <cstdio>
#include <cstdlib>

namespace iw {

[[noreturn]] inline void check_failed(const char* expression, const char* file, int line) {
    std::fprintf(stderr, "check failed: %s at %s:%d\n", expression, file, line);
    std::abort();
}

}  // namespace iw

#define IW_CHECK(condition) \
    ((condition) ? static_cast<void>(0) : ::iw::check_failed(#condition, __FILE__, __LINE__))
