#pragma once

// The loop of the broker. It owns sockets, timers, signals, the core and the journal; its thread is
// the only one that touches them. One turn: wait, read, decide, commit, send. Nothing of a turn
// leaves before its records are on disk; if they cannot be brought there nothing leaves at all and
// the process ends.

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "broker/admin_requests.h"
#include "broker/assignments.h"
#include "broker/backups.h"
#include "broker/blob_expiry.h"
#include "broker/blob_requests.h"
#include "broker/blob_thread.h"
#include "broker/core/broker_core.h"
#include "broker/database_thread.h"
#include "broker/event_pages.h"
#include "broker/journal/journal.h"
#include "broker/options.h"
#include "broker/peers.h"
#include "broker/prompt_cache.h"
#include "broker/read_only.h"
#include "broker/recovery.h"
#include "broker/requests.h"
#include "broker/service_notify.h"
#include "broker/submissions.h"
#include "broker/turn.h"
#include "common/base/result.h"
#include "common/base/time.h"
#include "common/io/event_loop.h"
#include "common/io/signals.h"
#include "common/io/socket.h"

namespace iw::broker {

class BrokerServer {
  public:
    struct Parts {
        BrokerOptions options;
        Recovered recovered;
        io::RouterSocket router;
        io::SignalFd signals;
        ServiceNotify notify;
        // SIGHUP: the log level as it is configured now.
        std::function<std::optional<std::string>()> log_level;
    };
    explicit BrokerServer(Parts parts);

    // Until a signal or a failure ends it; the exit code.
    int run();

  private:
    // The steps of a turn, in their order.
    void wait();
    std::vector<io::RouterSocket::Message> receive();
    void decide(const std::vector<io::RouterSocket::Message>& messages);
    void tick();
    void commit();
    void hand_over();
    void send();
    void log_transitions();

    void turn(const std::vector<io::RouterSocket::Message>& messages);
    std::optional<Timestamp> next_deadline() const;
    Duration stall_of_turn() const;
    void send_one(Outbound& outbound);
    void ping_watchdog();
    void read_signals();
    void on_signal(int signal);
    void log_counts() const;
    void shut_down();
    bool has_failed();
    [[noreturn]] void end_at_once(int exit_code, const std::string& why);

    BrokerOptions options_;
    std::unique_ptr<Journal> journal_;
    BrokerCore core_;
    io::RouterSocket router_;
    io::SignalFd signals_;
    ServiceNotify notify_;
    std::function<std::optional<std::string>()> log_level_;

    io::EventLoop loop_;
    Turn turn_;
    PeerTable peers_;
    PromptCache prompts_;
    DatabaseThread database_;
    BlobThread blobs_;
    BlobRequests blob_requests_;
    BlobExpiry blob_expiry_;
    Submissions submissions_;
    EventPages events_;
    Assignments assignments_;
    ReadOnly read_only_;
    Backups backups_;
    AdminRequests admin_;
    Requests requests_;

    // Connections that a send found ended; the core is told in the next turn.
    std::vector<PeerId> gone_;

    std::optional<Timestamp> planned_;  // when the last wait was to end
    Timestamp woken_at_{};
    Timestamp worked_until_{};              // when the last wait began
    Duration worked_{0};                    // between the wake-up before it and that
    std::optional<Timestamp> still_since_;  // nothing has been decided since, and no lease ran
    std::optional<Timestamp> watchdog_at_;
    std::optional<int> ending_;  // the signal that asked for the end
    int exit_code_ = 0;
};

}  // namespace iw::broker
