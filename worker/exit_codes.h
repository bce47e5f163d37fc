#pragma once

// Exit codes of the worker, from sysexits(3): a supervisor restarts after the ones that may pass by
// themselves and leaves it alone after usage, permission and configuration.

#include <string>

namespace iw::worker {

inline constexpr int kExitOk = 0;
inline constexpr int kExitUsage = 64;
inline constexpr int kExitUnavailable = 69;  // tmux is missing or does not start
inline constexpr int kExitSoftware = 70;
inline constexpr int kExitCannotCreate = 73;
inline constexpr int kExitIo = 74;
inline constexpr int kExitBusy = 75;  // another worker holds the state folder or the root
inline constexpr int kExitPermission = 77;
inline constexpr int kExitConfig = 78;

// Why the worker does not start: one line for stderr, naming the thing and the next step.
struct Refusal {
    int exit_code = kExitSoftware;
    std::string message;
};

}  // namespace iw::worker
