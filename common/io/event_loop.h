#pragma once

// One thread's wait: until a socket or descriptor is readable or a deadline passes, never at a
// fixed rate.

#include <functional>
#include <memory>
#include <optional>

#include "common/base/result.h"
#include "common/base/time.h"

namespace iw::io {

class EventLoop {
  public:
    // Handlers run in the thread of wait(). A handler must drain its socket up to its own bound; a
    // socket with more to read is reported again at the next wait().
    void add_socket(void* native, std::function<void()> on_readable);
    void remove_socket(void* native);
    void add_fd(int fd, std::function<void()> on_readable);
    void remove_fd(int fd);

    // Waits until something is readable or `deadline` (nothing: for ever) and runs the handlers of
    // what is. Handlers may add and remove. An interrupted wait returns early.
    Status wait(std::optional<Timestamp> deadline);

    EventLoop();
    ~EventLoop();

  private:
    struct State;
    std::unique_ptr<State> state_;
};

// A counter that any thread may raise and one loop waits on (eventfd).
class Wakeup {
  public:
    Wakeup();
    ~Wakeup();
    Wakeup(const Wakeup&) = delete;
    Wakeup& operator=(const Wakeup&) = delete;
    int fd() const { return fd_; }
    void raise();
    void drain();

  private:
    int fd_ = -1;
};

}  // namespace iw::io
