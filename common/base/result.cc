#include "common/base/result.h"

namespace iw {

std::string_view name(ErrorCode code) {
    switch (code) {
        case ErrorCode::bad_request:
            return "BAD_REQUEST";
        case ErrorCode::unknown_verb:
            return "UNKNOWN_VERB";
        case ErrorCode::version:
            return "VERSION";
        case ErrorCode::no_session:
            return "NO_SESSION";
        case ErrorCode::unauthorized:
            return "UNAUTHORIZED";
        case ErrorCode::forbidden:
            return "FORBIDDEN";
        case ErrorCode::not_found:
            return "NOT_FOUND";
        case ErrorCode::ambiguous:
            return "AMBIGUOUS";
        case ErrorCode::unknown_agent:
            return "UNKNOWN_AGENT";
        case ErrorCode::conflict:
            return "CONFLICT";
        case ErrorCode::idem_mismatch:
            return "IDEM_MISMATCH";
        case ErrorCode::stale_fence:
            return "STALE_FENCE";
        case ErrorCode::name_taken:
            return "NAME_TAKEN";
        case ErrorCode::gone:
            return "GONE";
        case ErrorCode::too_large:
            return "TOO_LARGE";
        case ErrorCode::rate_limited:
            return "RATE_LIMITED";
        case ErrorCode::storage_low:
            return "STORAGE_LOW";
        case ErrorCode::read_only:
            return "READ_ONLY";
        case ErrorCode::shutting_down:
            return "SHUTTING_DOWN";
        case ErrorCode::unreachable:
            return "UNREACHABLE";
        case ErrorCode::unknown_outcome:
            return "UNKNOWN_OUTCOME";
        case ErrorCode::io:
            return "IO";
        case ErrorCode::config:
            return "CONFIG";
        case ErrorCode::internal:
            return "INTERNAL";
    }
    return "INTERNAL";
}

ErrorCode parse_error_code(std::string_view text) {
    for (int code = 0; code <= static_cast<int>(ErrorCode::internal); ++code) {
        if (name(static_cast<ErrorCode>(code)) == text) return static_cast<ErrorCode>(code);
    }
    return ErrorCode::internal;
}

bool is_retryable(ErrorCode code) {
    switch (code) {
        case ErrorCode::no_session:
        case ErrorCode::rate_limited:
        case ErrorCode::storage_low:
        case ErrorCode::shutting_down:
        case ErrorCode::unreachable:
        case ErrorCode::unknown_outcome:
            return true;
        case ErrorCode::read_only:
        case ErrorCode::bad_request:
        case ErrorCode::unknown_verb:
        case ErrorCode::version:
        case ErrorCode::unauthorized:
        case ErrorCode::forbidden:
        case ErrorCode::not_found:
        case ErrorCode::ambiguous:
        case ErrorCode::unknown_agent:
        case ErrorCode::conflict:
        case ErrorCode::idem_mismatch:
        case ErrorCode::stale_fence:
        case ErrorCode::name_taken:
        case ErrorCode::gone:
        case ErrorCode::too_large:
        case ErrorCode::io:
        case ErrorCode::config:
        case ErrorCode::internal:
            return false;
    }
    return false;
}

}  // namespace iw
