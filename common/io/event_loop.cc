#include "common/io/event_loop.h"

#include <sys/eventfd.h>
#include <unistd.h>
#include <zmq.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "common/base/check.h"
#include "common/io/system_clock.h"

namespace iw::io {
namespace {

// zmq_poll counts its timeout in an int; a wait may end early, so a long one is cut.
constexpr Duration kWaitMax{3'600'000};

struct Watched {
    void* socket = nullptr;  // or a descriptor
    int fd = -1;
    std::function<void()> on_readable;
    bool removed = false;
};

long poll_timeout(std::optional<Timestamp> deadline) {
    if (!deadline) return -1;
    const Duration left = *deadline - steady_now();
    return static_cast<long>(std::clamp(left, Duration(0), kWaitMax).count());
}

}  // namespace

struct EventLoop::State {
    // Pointers, because a handler may add while another entry's function runs; an entry that is
    // removed stays until the next wait, because it may be the one that runs.
    std::vector<std::unique_ptr<Watched>> watched;
    std::vector<zmq_pollitem_t> items;  // of `watched`, in its order
    bool changed = false;

    void add(void* socket, int fd, std::function<void()> on_readable) {
        watched.push_back(std::make_unique<Watched>(
            Watched{.socket = socket, .fd = fd, .on_readable = std::move(on_readable)}));
        changed = true;
    }

    void remove(void* socket, int fd) {
        for (const std::unique_ptr<Watched>& entry : watched) {
            if (entry->socket == socket && entry->fd == fd) entry->removed = true;
        }
        changed = true;
    }

    void rebuild() {
        if (!changed) return;
        std::erase_if(watched, [](const auto& entry) { return entry->removed; });
        items.clear();
        for (const std::unique_ptr<Watched>& entry : watched) {
            items.push_back({.socket = entry->socket, .fd = entry->fd, .events = ZMQ_POLLIN});
        }
        changed = false;
    }

    void dispatch() {
        for (std::size_t i = 0; i < items.size(); ++i) {
            // An error or a hang-up is reported as readable too: the handler's read then finds out.
            if (items[i].revents == 0 || watched[i]->removed) continue;
            watched[i]->on_readable();
        }
    }
};

EventLoop::EventLoop() : state_(std::make_unique<State>()) {}
EventLoop::~EventLoop() = default;

void EventLoop::add_socket(void* native, std::function<void()> on_readable) {
    IW_CHECK(native != nullptr);
    state_->add(native, -1, std::move(on_readable));
}

void EventLoop::remove_socket(void* native) {
    state_->remove(native, -1);
}

void EventLoop::add_fd(int fd, std::function<void()> on_readable) {
    IW_CHECK(fd >= 0);
    state_->add(nullptr, fd, std::move(on_readable));
}

void EventLoop::remove_fd(int fd) {
    state_->remove(nullptr, fd);
}

Status EventLoop::wait(std::optional<Timestamp> deadline) {
    state_->rebuild();
    // Nothing to wait for and no end would hang for ever.
    IW_CHECK(deadline.has_value() || !state_->items.empty());
    const int ready = zmq_poll(state_->items.data(), static_cast<int>(state_->items.size()),
                               poll_timeout(deadline));
    if (ready < 0 && errno == EINTR) return Done{};
    if (ready < 0) {
        return make_error(ErrorCode::io,
                          std::string("cannot wait for sockets: ") + zmq_strerror(errno));
    }
    if (ready > 0) state_->dispatch();
    return Done{};
}

Wakeup::Wakeup() : fd_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
    IW_CHECK(fd_ >= 0);
}

Wakeup::~Wakeup() {
    ::close(fd_);
}

void Wakeup::raise() {
    const std::uint64_t one = 1;
    // Fails only when the counter is at its end, and then the loop is woken anyway.
    [[maybe_unused]] const ssize_t written = ::write(fd_, &one, sizeof one);
}

void Wakeup::drain() {
    std::uint64_t count = 0;
    // Fails only when nothing was raised.
    [[maybe_unused]] const ssize_t size = ::read(fd_, &count, sizeof count);
}

}  // namespace iw::io
