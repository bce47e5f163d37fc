#pragma once

// The broker's decisions as a deterministic state machine: same (state, now, event), same actions.
// It holds no socket, clock, disk, thread or log, and draws nothing at random. Every input has an
// outcome; input never aborts it. The shell (broker/broker_server) feeds it and performs its
// actions.

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "broker/core/action.h"
#include "broker/core/event.h"
#include "broker/core/record.h"

namespace iw::broker {

struct CoreConfig {
    Duration heartbeat = limits::kHeartbeatInterval;
    Duration unreachable_after = limits::kUnreachableAfter;
    Duration lost_after = limits::kLostAfter;
    // An owner of a workspace that has been silent for this long is not waited for at an end.
    Duration owner_patience = limits::kUnreachableAfter;
};

class BrokerCore {
  public:
    BrokerCore(CoreConfig config, std::uint32_t generation);
    ~BrokerCore();
    BrokerCore(BrokerCore&&) noexcept;
    BrokerCore& operator=(BrokerCore&&) noexcept;

    // Recovery, in this order: restore once, restore for each session that the state did not hold
    // already, in order of creation, apply for each record of the journal behind it, then
    // started.
    void restore(const LiveState& state);
    void restore(const LiveSession& session);
    // The one function that changes durable state. A record must be the successor of head().
    void apply(const Record& record);
    // All leases begin at `now` with their full length; due times are taken from the wall clock
    // this once.
    void started(Now now);

    // Decides and applies. `now.steady` never goes back; `now.wall` may. The records in the result
    // are numbered and already applied here.
    Actions step(Now now, CoreEvent event);
    // When the core next wants a TickEvent (a moment that has passed: at once); nothing: only when
    // something happens.
    std::optional<Timestamp> next_deadline() const;

    Seq head() const;
    bool is_live(const SessionId& id) const;
    // A live session as outsiders see it; nothing for others.
    std::optional<SessionView> view(const SessionId& id, Now now) const;
    // Live sessions whose id begins with the prefix, at most `max`.
    std::vector<SessionId> match(std::string_view prefix, std::size_t max) const;
    WorkersReply workers(Now now) const;
    // Agents that some registered worker offers, sorted.
    std::vector<std::string> known_agents() const;
    // Whether `inside` is the session's current attempt and its session is live.
    bool is_current(const AttemptRef& inside) const;
    // The same, and whether `by` is the worker that holds it: no other may speak for it.
    bool is_current(const AttemptRef& inside, const WorkerName& by) const;

    // Of a live session that was submitted with one, in bytes.
    std::optional<std::uint64_t> disk_limit(const SessionId& id) const;

    // Dependencies of the submission that are neither live nor in `settled`: to be looked up before
    // it is submitted.
    std::vector<SessionId> unsettled(const Submission& submission,
                                     const std::map<SessionId, SessionStatus>& settled) const;
    // The core's part of the answer: epoch, generation, seq, restored, unheard, holds, counts.
    FleetReply fleet(Now now) const;

    struct Counts {
        std::size_t queued = 0;
        std::size_t assigned = 0;
        std::size_t running = 0;
        std::size_t workers = 0;
    };
    Counts counts() const;
    // Aborts on a broken assumption; for tests, the simulator and the start of a broker.
    void check_invariants() const;

  private:
    class State;
    std::unique_ptr<State> state_;
};

}  // namespace iw::broker
