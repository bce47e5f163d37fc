// Heartbeats and goodbyes, and what follows from a worker's list of attempts.

#include <algorithm>
#include <map>
#include <utility>

#include "broker/core/state.h"
#include "common/base/check.h"
#include "common/base/text.h"

namespace iw::broker {

namespace {

// With reasons of full length a message of these stays well below its limit; the rest follows at
// the next heartbeat, when these have been obeyed.
constexpr std::size_t kStopsPerMessage = 500;
static_assert(kStopsPerMessage * (limits::kReasonMax + 1024) < limits::kMessageMax);

bool takes_room(AttemptPhase phase) {
    return phase == AttemptPhase::accepted || phase == AttemptPhase::running;
}

// Whether the worker has reported more of the attempt than the broker has a record of. What has
// ended is reported without being asked for.
bool is_beyond(AttemptPhase listed, Phase known) {
    if (listed == AttemptPhase::closing || listed == AttemptPhase::closed) return true;
    return listed == AttemptPhase::running && known == Phase::assigned;
}

using Listed = std::map<AttemptRef, AttemptPhase>;

// How far the worker has come with the session's attempt, as it says now or said after a restore.
std::optional<AttemptPhase> phase_there(const Session& session, const Presence& presence,
                                        const Listed& listed) {
    const auto found = listed.find(AttemptRef{.session = *session.id, .fence = session.fence});
    if (found != listed.end()) return found->second;
    const auto owed = presence.owed.find(session.ordinal);
    if (owed != presence.owed.end()) return owed->second;
    return std::nullopt;
}

bool is_held_by(const Session* session, const Worker& worker, Fence fence) {
    return session != nullptr && session->is_held() && session->fence == fence &&
           is_of(*session, worker);
}

}  // namespace

Presence* BrokerCore::State::present(const Caller& caller, const WorkerName& name) {
    const auto found = presence_.find(name);
    if (found != presence_.end() && found->second.peer == caller.peer) return &found->second;
    // Also a process that a newer one has replaced: it learns so at its hello.
    refuse(caller, ErrorCode::no_session,
           "worker " + printable(name.str(), true) + " has not said hello on this connection");
    return nullptr;
}

void BrokerCore::State::heard(const WorkerName& name, Presence& presence) {
    const Duration silence = time_.steady - presence.heard_at;
    presence.heard_at = time_.steady;
    presence.heard_wall = time_.wall;
    presence.is_given_up = false;
    presence.is_unheard = false;
    presence.is_awaited = false;
    presence.confirmed_dead.clear();
    const Worker& worker = *durable_.worker(name);
    if (worker.is_up()) return;
    note_worker(worker, worker_state::kUp, "heard again after " + format_elapsed(silence));
}

void BrokerCore::State::on(HeartbeatEvent event) {
    Presence* presence = present(event.caller, event.worker);
    if (presence == nullptr) return;
    const HeartbeatRequest& heartbeat = event.heartbeat;
    if (heartbeat.slots > static_cast<std::uint32_t>(limits::kSlotsMax) ||
        (heartbeat.agents && heartbeat.agents->size() > limits::kAgentsPerWorkerMax) ||
        heartbeat.attempts.size() > limits::kInventoryMax ||
        heartbeat.closed.size() > limits::kInventoryMax) {
        return refuse(event.caller, ErrorCode::bad_request,
                      "heartbeat: at most 1000 slots, 500 agents and 10000 attempts of each kind");
    }
    heard(event.worker, *presence);
    const Worker& worker = *durable_.worker(event.worker);
    update_offer(worker, heartbeat);
    // Only a list counts as a beat: it alone can show that something did not arrive.
    ++presence->beat;
    // What it has, and what it once had.
    std::vector<AttemptState> all = heartbeat.attempts;
    if (presence->is_listing) {
        all.insert(all.end(), heartbeat.closed.begin(), heartbeat.closed.end());
        merge(worker, *presence, all);
    }
    take_inventory(worker, *presence, heartbeat.attempts);
    const bool has_listed = presence->is_listing && heartbeat.closed_all;
    // Until the ends are here as well, so that a restart of this broker asks for them once more.
    const bool is_asked_for = (presence->is_listing && !has_listed) || presence->owes_ends();
    reply(event.caller, HeartbeatReply{.time = time_.wall,
                                       .stops = stops(worker, heartbeat.attempts),
                                       .limits = limit_changes(worker, heartbeat.attempts),
                                       .restored = is_asked_for,
                                       .seq = durable_.head()});
    send_missing(worker, *presence, all);
    if (has_listed) end_listing(worker, *presence);
    push_outcomes(worker, *presence);
    ready_.touch(worker);
}

void BrokerCore::State::update_offer(const Worker& worker, const HeartbeatRequest& heartbeat) {
    WorkerRegistered changed = worker.registration;
    if (heartbeat.agents) changed.agents = *heartbeat.agents;
    if (heartbeat.slots) changed.slots = *heartbeat.slots;
    if (changed.agents == worker.registration.agents &&
        changed.slots == worker.registration.slots) {
        return;
    }
    transition("worker=" + changed.name.str(), worker.state, worker.state, "offers have changed");
    change_registration(std::move(changed));
}

// Attempts that are not this worker's take its room all the same. What nobody here knows is noted
// and left alone: it may be another broker's, or older than a restore.
void BrokerCore::State::take_inventory(const Worker& worker, Presence& presence,
                                       const std::vector<AttemptState>& inventory) {
    std::set<AttemptRef> foreign;
    for (const AttemptState& attempt : inventory) {
        if (!takes_room(attempt.phase)) continue;
        if (is_held_by(durable_.session(attempt.session), worker, attempt.fence)) continue;
        AttemptRef ref{.session = attempt.session, .fence = attempt.fence};
        const bool is_known = is_known_over(attempt);
        if (!is_known) presence.unknown.insert(ref);
        if (!presence.foreign.contains(ref)) {
            transition("worker=" + worker.registration.name.str(), worker.state, worker.state,
                       std::string("runs ") + (is_known ? "superseded" : "unknown") + " attempt " +
                           printable(attempt_name(ref), true));
        }
        foreign.insert(std::move(ref));
    }
    // What it runs no more is nobody's business; finished ones stay until the next hello.
    std::erase_if(presence.unknown, [&](const AttemptRef& ref) {
        return presence.foreign.contains(ref) && !foreign.contains(ref);
    });
    presence.foreign = std::move(foreign);
}

// The session has gone on to another attempt, or is over. A fence above the session's own is
// nothing that this broker has given out.
bool BrokerCore::State::is_known_over(const AttemptState& attempt) const {
    const Session* session = durable_.session(attempt.session);
    if (session == nullptr) return durable_.keys().is_finished(attempt.session);
    return attempt.fence <= session->fence;
}

// Wishes not yet reported done, and attempts that the worker should not have any more.
std::vector<StopOrder> BrokerCore::State::stops(const Worker& worker,
                                                const std::vector<AttemptState>& inventory) const {
    std::vector<StopOrder> orders;
    for (const auto& [ordinal, session] : worker.held) {
        const std::optional<KillWished>& wish = session->progressed().kill;
        if (!wish || is_orphan(*session, worker) || orders.size() == kStopsPerMessage) continue;
        orders.push_back(StopOrder{.session = *session->id,
                                   .fence = session->fence,
                                   .cause = wish->cause,
                                   .reason = wish->reason});
    }
    for (const AttemptState& attempt : inventory) {
        if (orders.size() == kStopsPerMessage) break;
        if (!takes_room(attempt.phase)) continue;
        const Session* session = durable_.session(attempt.session);
        if (is_held_by(session, worker, attempt.fence)) continue;
        // Only an attempt of a session that is known to be elsewhere or over is stopped.
        if (!is_known_over(attempt)) continue;
        // The current attempt is the session: whoever runs it, stopping it would end the session.
        if (session != nullptr && session->is_held() && session->fence == attempt.fence) continue;
        orders.push_back(StopOrder{.session = attempt.session,
                                   .fence = attempt.fence,
                                   .cause = Detail::killed,
                                   .reason = "superseded"});
    }
    return orders;
}

// Assignments that the worker's list shows not to have arrived go out again under the same fence.
// So do those of which it knows more than the broker: it never starts a known attempt, but answers
// with its reports.
void BrokerCore::State::send_missing(const Worker& worker, Presence& presence,
                                     const std::vector<AttemptState>& inventory) {
    Listed listed;
    for (const AttemptState& attempt : inventory) {
        listed[AttemptRef{.session = attempt.session, .fence = attempt.fence}] = attempt.phase;
    }
    // After a restore what is not listed may have been given to another worker meanwhile.
    const bool may_begin = !durable_.restored() && !presence.is_listing;
    for (const auto& [ordinal, session] : worker.held) {
        if (is_orphan(*session, worker) || !presence.is_due_again(ordinal)) continue;
        if (is_sated(presence)) return;  // the next list shows the rest again
        const std::optional<AttemptPhase> phase = phase_there(*session, presence, listed);
        // Never one that has started: the list may be older than that, and it must not run twice.
        const bool is_missing = !phase && session->phase == Phase::assigned;
        const bool is_ahead = phase && is_beyond(*phase, session->phase);
        // Its report may be on the way; after a restore it was acknowledged long ago.
        const bool is_owed = presence.is_listing || presence.owed.contains(ordinal);
        if (is_ahead && !is_owed && !presence.sent.contains(ordinal)) {
            presence.sent[ordinal] = presence.beat;
            continue;
        }
        if (is_ahead || (is_missing && may_begin)) send_assignment(presence, *session);
    }
}

void BrokerCore::State::on(PeerGoneEvent event) {
    for (auto& [name, presence] : presence_) {
        if (presence.peer != event.peer) continue;
        presence.peer.reset();
        presence.sent.clear();
        const std::string& state = durable_.worker(name)->state;
        transition("worker=" + name.str(), state, state, "its connection is gone");
    }
}

void BrokerCore::State::on(GoodbyeEvent event) {
    Presence* presence = present(event.caller, event.worker);
    if (presence == nullptr) return;
    const Worker& worker = *durable_.worker(event.worker);
    heard(event.worker, *presence);
    // Its sessions go on under its launchers; the lease runs on and decides about them.
    presence->peer.reset();
    presence->sent.clear();
    note_worker(worker, worker_state::kAway, "said goodbye");
    reply(event.caller, GoodbyeReply{});
    close_abandoned();
}

}  // namespace iw::broker
