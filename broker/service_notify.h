#pragma once

// The service manager's notification protocol: one datagram a message. Without NOTIFY_SOCKET in the
// environment nothing is sent.

#include <optional>
#include <string>
#include <string_view>

#include "common/base/time.h"

namespace iw::broker {

class ServiceNotify {
  public:
    // Reads and removes NOTIFY_SOCKET and WATCHDOG_*, so that no child inherits them.
    ServiceNotify();

    // "READY=1", "STOPPING=1", "WATCHDOG=1"; a message that cannot be sent is dropped.
    void send(std::string_view message) const;
    // How often WATCHDOG=1 is wanted: half of what the manager waits; nothing: not at all.
    std::optional<Duration> watchdog_interval() const { return watchdog_interval_; }

  private:
    std::string socket_;
    std::optional<Duration> watchdog_interval_;
};

}  // namespace iw::broker
