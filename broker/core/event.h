#pragma once

// What can happen to the core: everything from outside comes in as one of these.

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "broker/core/record.h"
#include "common/messages/messages.h"

namespace iw::broker {

// One connection of the transport; made by the shell, never reused, worthless after the connection
// ends.
struct PeerId {
    std::uint64_t value = 0;
    auto operator<=>(const PeerId&) const = default;
};

// Where an answer goes, and on whose behalf the request is.
struct Caller {
    PeerId peer;
    std::string request;  // request id, echoed
    Principal principal;
    std::optional<AttemptRef> inside;  // relayed by a worker for a process inside this attempt
    WorkerName relayed_by{};           // the worker that relayed it; empty: not relayed
};

// What the shell found in the database for an idempotency key.
struct KnownKey {
    SessionId id;
    BodyHash body_hash{};
};

struct SubmitEvent {
    struct Item {
        Submission submission;
        BodyHash body_hash{};
        std::optional<KnownKey> known;
        // Dependencies that are final, with their statuses, as the shell found them in the
        // database. Live ones and those that became final since, the core knows itself.
        std::map<SessionId, SessionStatus> settled{};
    };
    Caller caller;
    std::vector<Item> items;
};
struct KillEvent {
    Caller caller;
    SessionId id;  // full and live; ended ones the shell answers from the database
    std::string reason;
    bool keep_children = false;
};
struct ExtendEvent {
    Caller caller;
    SessionId id;  // full and live
    std::optional<Duration> timeout;
    std::optional<Duration> add;
};
struct EditEvent {
    Caller caller;
    EditRequest request;  // its id is full
    // Of a session that is not live: as the database has it, once that knows that it is final.
    std::optional<SessionView> kept{};
};
struct HoldEvent {
    Caller caller;
    HoldRequest request;
};
struct ConfirmDeadEvent {
    Caller caller;
    ConfirmDeadRequest request;  // its id, where it has one, is full and live
};
// A new epoch: the first event after a restore, or an admin accepts that the store has lost
// something. Without a caller nothing is answered.
struct BeginEpochEvent {
    std::optional<Caller> caller;
    std::string epoch;
    std::string reason;
    Principal principal;
};
// What a restore holds back is let go.
struct ReleaseEvent {
    Caller caller;
    bool force = false;  // although workers have not been heard since
    std::string reason;
};
struct HelloEvent {
    Caller caller;
    WorkerHello worker;
    std::string software;
};
// Heartbeats, reports and goodbyes count only from the connection of the worker's latest hello;
// others are answered NO_SESSION.
struct HeartbeatEvent {
    Caller caller;
    WorkerName worker;
    HeartbeatRequest heartbeat;
};
struct ReportEvent {
    Caller caller;
    WorkerName worker;
    std::vector<Report> reports;
};
struct GoodbyeEvent {
    Caller caller;
    WorkerName worker;
};
// The connection is known to be dead. Leases run on: it is not the worker that was noticed to be
// gone, only the way to it, so nothing is sent there until it says hello again.
struct PeerGoneEvent {
    PeerId peer;
};
// Time has passed. `stall` is how long the broker itself was held up since the turn before (0
// normally): every lease gets it back, and one heartbeat more
// unless the tick before had a stall, too.
struct TickEvent {
    Duration stall{0};
};

using CoreEvent = std::variant<SubmitEvent, KillEvent, HelloEvent, HeartbeatEvent, ReportEvent,
                               GoodbyeEvent, PeerGoneEvent, TickEvent, ExtendEvent, HoldEvent,
                               ConfirmDeadEvent, BeginEpochEvent, ReleaseEvent, EditEvent>;

}  // namespace iw::broker
