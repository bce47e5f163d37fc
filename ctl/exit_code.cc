#include "ctl/exit_code.h"

namespace iw::ctl {

const std::string_view kExitCodesHelp =
    R"(Exit codes of ictl

    0  done; wait: completed
    1  a precondition does not hold (no result, another host, no terminal); wait: failed;
       fence-check: this attempt does not count
    2  execution failure; kill: not confirmed yet; wait: killed
    3  wait: lost or expired
    4  no such session
   64  wrong arguments or configuration
   65  restore: the backup is damaged, or none
   66  the prompt file is missing, unreadable, empty, too long or not text
   69  no broker answers
   75  not now (the broker is behind, short of disk or read-only), or the outcome is unknown: repeat
   77  denied
  124  wait: --timeout passed
  130  interrupted

wait, submit --wait: the worst over the sessions that ended, in the order 0, 1, 2, 3.
scripts/ops/session-manager.sh maps every code to 0, 1, 2 or 130.
)";

int exit_code(ErrorCode code) {
    switch (code) {
        case ErrorCode::bad_request:
        case ErrorCode::ambiguous:
        case ErrorCode::unknown_agent:
        case ErrorCode::idem_mismatch:
        case ErrorCode::too_large:
        case ErrorCode::config:
            return kExitUsage;
        case ErrorCode::not_found:
        case ErrorCode::gone:
            return kExitUnknownId;
        case ErrorCode::unauthorized:
        case ErrorCode::forbidden:
            return kExitDenied;
        case ErrorCode::conflict:
        case ErrorCode::stale_fence:
        case ErrorCode::name_taken:
        case ErrorCode::io:
            return kExitFailure;
        case ErrorCode::no_session:
        case ErrorCode::unreachable:
        case ErrorCode::version:
        case ErrorCode::unknown_verb:
            return kExitUnavailable;
        case ErrorCode::rate_limited:
        case ErrorCode::storage_low:
        case ErrorCode::read_only:
        case ErrorCode::shutting_down:
        case ErrorCode::unknown_outcome:
            return kExitTryAgain;
        case ErrorCode::internal:
            return kExitFault;
    }
    return kExitFault;
}

}  // namespace iw::ctl
