#pragma once

// Exit codes of ictl. Scripts branch on them: they never change meaning. `ictl help exit-codes`
// shows kExitCodesHelp.

#include <string_view>

#include "common/base/result.h"

namespace iw::ctl {

inline constexpr int kExitOk = 0;
inline constexpr int kExitFailure = 1;       // wait: failed; else a precondition does not hold
inline constexpr int kExitKilled = 2;        // wait: killed
inline constexpr int kExitFault = 2;         // execution failure; kill: not confirmed yet
inline constexpr int kExitLost = 3;          // wait: lost or expired
inline constexpr int kExitUnknownId = 4;     // no such session
inline constexpr int kExitUsage = 64;        // wrong arguments or configuration
inline constexpr int kExitData = 65;         // restore: the backup is damaged, or none
inline constexpr int kExitNoInput = 66;      // the prompt file cannot be used
inline constexpr int kExitUnavailable = 69;  // no broker answers
inline constexpr int kExitTryAgain = 75;     // not now, or the outcome is unknown
inline constexpr int kExitDenied = 77;       // the broker refuses this user
inline constexpr int kExitTimeout = 124;     // wait: --timeout passed
inline constexpr int kExitInterrupted = 130;

extern const std::string_view kExitCodesHelp;

// Total: what a command that failed with this error exits with.
int exit_code(ErrorCode code);

}  // namespace iw::ctl
