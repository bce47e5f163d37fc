#pragma once

// Exit codes of the broker, from sysexits(3): a supervisor restarts after the ones that may pass by
// themselves and leaves it alone after usage, data, permission and configuration.

#include <string>

#include "common/base/result.h"

namespace iw::broker {

inline constexpr int kExitOk = 0;
inline constexpr int kExitUsage = 64;
inline constexpr int kExitData = 65;  // newer, foreign or damaged files
inline constexpr int kExitSoftware = 70;
inline constexpr int kExitCannotCreate = 73;
inline constexpr int kExitIo = 74;
inline constexpr int kExitBusy = 75;  // another broker holds the data directory or the endpoint
inline constexpr int kExitPermission = 77;
inline constexpr int kExitConfig = 78;

// Why the broker does not start, or does not go on: one line for stderr, naming the thing and the
// next step.
struct Refusal {
    int exit_code = kExitSoftware;
    std::string message;
};

// What a failure of the journal or of the database means for the process.
inline int exit_code_of_store(const Error& error) {
    if (error.code == ErrorCode::config || error.code == ErrorCode::gone) return kExitData;
    if (error.code == ErrorCode::internal) return kExitSoftware;
    return error.code == ErrorCode::conflict ? kExitBusy : kExitIo;
}

}  // namespace iw::broker
