#include "common/io/signals.h"

#include <signal.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "common/io/files.h"

namespace iw::io {

Result<SignalFd> SignalFd::open(std::initializer_list<int> signals) {
    sigset_t set;
    sigemptyset(&set);
    for (const int signal : signals)
        sigaddset(&set, signal);
    // Blocked in this thread, and so in all that it starts; otherwise the default action would come
    // first.
    errno = pthread_sigmask(SIG_BLOCK, &set, nullptr);
    if (errno != 0) return system_error("cannot block", "signals");
    // A write to a peer that has gone is an error value, not the end of the process.
    if (::signal(SIGPIPE, SIG_IGN) == SIG_ERR) return system_error("cannot ignore", "SIGPIPE");
    const int fd = ::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (fd < 0) return system_error("cannot watch", "signals");
    return SignalFd(fd);
}

SignalFd::SignalFd(SignalFd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}

SignalFd& SignalFd::operator=(SignalFd&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
}

SignalFd::~SignalFd() {
    if (fd_ >= 0) ::close(fd_);
}

std::optional<int> SignalFd::read() {
    signalfd_siginfo info{};
    ssize_t size = -1;
    do {
        size = ::read(fd_, &info, sizeof info);
    } while (size < 0 && errno == EINTR);
    if (size != static_cast<ssize_t>(sizeof info)) return std::nullopt;
    return static_cast<int>(info.ssi_signo);
}

}  // namespace iw::io
