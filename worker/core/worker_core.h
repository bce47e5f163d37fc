#pragma once

// The worker's decisions as a deterministic state machine: same (state, now, event), same actions.
// It holds no socket, clock, disk, process or thread, and draws nothing at random. Every input has
// an outcome; input never aborts it. The shell (worker/worker_server) feeds it and performs its
// actions.

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/base/limits.h"
#include "common/messages/messages.h"
#include "worker/core/action.h"
#include "worker/core/event.h"

namespace iw::worker {

struct CoreConfig {
    WorkerName name;
    std::string host;
    std::string root;
    std::string project;
    std::string state_id;
    std::uint64_t start_count = 0;
    std::string boot_id;
    std::uint32_t slots = 0;
    std::vector<std::string> agents;
    std::map<std::string, std::string> labels;
    std::optional<SeenHead> seen;  // as RecordSeen wrote it last

    std::string sessions_folder;  // absolute: where the workspaces of this root stand
    Duration stop_grace = limits::kStopGrace;
    // A log writer that has not finished this long after the end is not waited for.
    Duration log_patience{10'000};
    // A tmux session that has not claimed the start after this long will not.
    Duration claim_patience{60'000};
    Duration disk_interval{30'000};
    std::uint64_t disk_warning = 100'000'000;
    std::uint64_t disk_limit = 500'000'000;  // where the assignment has none
    Duration closed_kept{7LL * 24 * 3600 * 1000};
    // How far the record of the broker's head may lag behind while nothing is accepted.
    Duration seen_interval{60'000};
};

class WorkerCore {
  public:
    explicit WorkerCore(CoreConfig config);
    ~WorkerCore();
    WorkerCore(WorkerCore&&) noexcept;
    WorkerCore& operator=(WorkerCore&&) noexcept;

    // `now.steady` must be CLOCK_BOOTTIME: a suspended worker has not heard its broker either.
    Actions step(Now now, CoreEvent event);
    // When the core next wants a TickEvent; nothing: only when something happens.
    std::optional<Timestamp> next_deadline() const;

    // Whether the broker has welcomed this connection.
    bool linked() const;
    // Whether an attempt may be started at this moment: a Launch that took long asks again.
    bool may_start(Now now) const;
    // The broker's clock as learned from its answers; this machine's before the first.
    WallTime broker_time(Now now) const;
    bool is_known(const AttemptRef& attempt) const;
    // What an unfinished attempt that was assigned here shows in its workspace; nothing for others.
    std::optional<SessionView> view(const AttemptRef& attempt, Now now) const;
    // All but closed ones, as hello and heartbeats state them.
    std::vector<AttemptState> inventory() const;

    struct Counts {
        std::size_t accepted = 0;
        std::size_t running = 0;
        std::size_t ended = 0;   // their end is on its way to the broker
        std::size_t closed = 0;  // kept to answer repeats
    };
    Counts counts() const;

  private:
    class State;
    std::unique_ptr<State> state_;
};

}  // namespace iw::worker
