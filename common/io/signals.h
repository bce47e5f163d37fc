#pragma once

#include <initializer_list>
#include <optional>

#include "common/base/result.h"

namespace iw::io {

// Blocks the signals for the whole process (call before any thread or ZeroMQ context) and makes
// them readable as a descriptor. SIGPIPE is ignored besides.
class SignalFd {
  public:
    static Result<SignalFd> open(std::initializer_list<int> signals);
    SignalFd(SignalFd&&) noexcept;
    SignalFd& operator=(SignalFd&&) noexcept;
    ~SignalFd();

    int fd() const { return fd_; }
    // The next signal's number; nothing when none waits.
    std::optional<int> read();

  private:
    explicit SignalFd(int fd) : fd_(fd) {}
    int fd_ = -1;
};

}  // namespace iw::io
