#pragma once

// Result<T>: a value or an Error, for failures that are expected. Broken assumptions are
// IW_CHECK's; exceptions of libraries end in the file that calls the library.

#include <string>
#include <string_view>
#include <utility>
#include <variant>

#include "common/base/check.h"

namespace iw {

// Stable error codes: their names go over the wire (common/PROTOCOL.md, "Errors") and never change
// meaning.
enum class ErrorCode {
    bad_request,
    unknown_verb,
    version,
    no_session,
    unauthorized,
    forbidden,
    not_found,
    ambiguous,
    unknown_agent,
    conflict,
    idem_mismatch,
    stale_fence,
    name_taken,
    gone,
    too_large,
    rate_limited,
    storage_low,
    read_only,  // the store has lost what others have seen; nothing changes until an admin decides
    shutting_down,
    unreachable,      // made by clients: nobody answered
    unknown_outcome,  // made by clients: the request was sent, no answer came; repeat it with its
                      // key
    io,               // local: a file or a system call failed
    config,           // local: a configuration is wrong
    internal,
};

// What the protocol calls `code`. Total; the inverse is parse_error_code.
std::string_view name(ErrorCode code);
// internal for a name that is not known (a newer peer).
ErrorCode parse_error_code(std::string_view text);
// Whether the same request may succeed later without being changed.
bool is_retryable(ErrorCode code);

struct Error {
    ErrorCode code = ErrorCode::internal;
    std::string
        message;  // one sentence that names the thing and, where there is one, the next step
};

template <typename T>
class [[nodiscard]] Result {
  public:
    Result(T value) : state_(std::in_place_index<0>, std::move(value)) {}
    Result(Error error) : state_(std::in_place_index<1>, std::move(error)) {}

    bool ok() const { return state_.index() == 0; }
    explicit operator bool() const { return ok(); }

    const T& value() const& {
        IW_CHECK(ok());
        return *std::get_if<0>(&state_);
    }
    T& value() & {
        IW_CHECK(ok());
        return *std::get_if<0>(&state_);
    }
    T&& value() && {
        IW_CHECK(ok());
        return std::move(*std::get_if<0>(&state_));
    }
    const T& operator*() const& { return value(); }
    T& operator*() & { return value(); }
    T&& operator*() && { return std::move(*this).value(); }
    const T* operator->() const { return &value(); }
    T* operator->() { return &value(); }

    const Error& error() const {
        IW_CHECK(!ok());
        return *std::get_if<1>(&state_);
    }

  private:
    std::variant<T, Error> state_;
};

// The result of what has no value.
struct Done {};
using Status = Result<Done>;

inline Error make_error(ErrorCode code, std::string message) {
    return Error{.code = code, .message = std::move(message)};
}

}  // namespace iw
