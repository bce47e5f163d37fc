#pragma once

// Exit codes of the daemons, from sysexits(3): a supervisor restarts after the ones that may pass
// by themselves and leaves it alone after usage, data, permission and configuration.

#include <string>

namespace iw {

inline constexpr int kExitOk = 0;
inline constexpr int kExitUsage = 64;
inline constexpr int kExitData = 65;         // newer, foreign or damaged files
inline constexpr int kExitUnavailable = 69;  // a program that is needed does not start
inline constexpr int kExitSoftware = 70;
inline constexpr int kExitCannotCreate = 73;
inline constexpr int kExitIo = 74;
inline constexpr int kExitBusy = 75;  // another process holds the folder, the root or the endpoint
inline constexpr int kExitPermission = 77;
inline constexpr int kExitConfig = 78;

// Why a daemon does not start, or does not go on: one line for stderr, naming the thing and the
// next step.
struct Refusal {
    int exit_code = kExitSoftware;
    std::string message;
};

}  // namespace iw
