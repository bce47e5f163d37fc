// Time: leases of workers, the patience for owners of workspaces, and the deadlines of sessions.
// Exactly at its deadline a thing has come. Ticks alone end leases: the messages of a turn are read
// before its tick, so that a broker that stood still does not take waiting heartbeats for silence.

#include <algorithm>
#include <utility>

#include "broker/core/state.h"
#include "common/base/check.h"
#include "common/base/planted.h"

namespace iw::broker {

namespace {

bool is_given_up_on_silence(const Session& session, const Worker& worker) {
    return session.on_lost != OnLost::wait && !is_orphan(session, worker);
}

bool holds_what_is_given_up(const Worker& worker) {
    return std::any_of(worker.held.begin(), worker.held.end(), [&worker](const auto& held) {
        return is_given_up_on_silence(*held.second, worker);
    });
}

}  // namespace

void BrokerCore::State::on(TickEvent event) {
    // A worker cannot be blamed for what the broker did not read.
    if (event.stall > Duration(0) && !IW_PLANT(stall_counts_as_silence)) {
        // One heartbeat more than the stall: what arrived meanwhile is still on its way through the
        // transport, which stood still as well.
        // Not again and again: a broker whose every turn is slow would never miss anybody.
        const Duration grace = event.stall + (was_stalled_ ? Duration(0) : config_.heartbeat);
        for (auto& [name, presence] : presence_) {
            presence.heard_at = std::min(presence.heard_at + grace, time_.steady);
            for (auto& [ordinal, deadline] : presence.orphans)
                deadline += grace;
        }
    }
    was_stalled_ = event.stall > Duration(0);
    killed_in_turn_ = 0;
    check_leases();
    check_orphans();
    close_abandoned();
    tell_owners();
}

void BrokerCore::State::check_leases() {
    for (const auto& [name, worker] : durable_.workers()) {
        Presence& presence = presence_.at(name);
        const Duration silence = time_.steady - presence.heard_at;
        IW_CHECK(silence >= Duration(0));
        if (silence >= config_.owner_patience) presence.is_given_up = true;
        const std::string evidence = "silent for " + format_elapsed(silence);
        if (silence >= config_.unreachable_after &&
            (worker.is_up() || worker.state == worker_state::kAway)) {
            note_worker(worker, worker_state::kUnreachable, evidence);
        }
        if (silence < config_.lost_after && !IW_PLANT(lost_when_unreachable)) continue;
        if (worker.state == worker_state::kUnreachable) {
            note_worker(worker, worker_state::kLost, evidence);
        }
        // Also of one that was lost before: the broker may have died between the two.
        if (worker.state == worker_state::kLost && may_give_up()) {
            give_up_attempts(worker, evidence);
        }
    }
}

// What silence alone may do to attempts is their policy's: by default nothing.
void BrokerCore::State::give_up_attempts(const Worker& worker, const std::string& evidence) {
    std::vector<const Session*> held;
    for (const auto& [ordinal, session] : worker.held) {
        if (is_given_up_on_silence(*session, worker)) held.push_back(session);
    }
    for (const Session* session : held)
        lose(*session, evidence);
}

void BrokerCore::State::lose(const Session& session, const std::string& evidence) {
    const SessionId id = *session.id;
    lose_attempt(session, evidence);
    begin_closing(id);
}

// A restored store may take for silent, queued or late what has long gone on elsewhere: nothing
// ends by a deadline before the workers are heard and an admin has released it.
bool BrokerCore::State::may_give_up() const {
    return !durable_.restored();
}

void BrokerCore::State::check_orphans() {
    if (!may_give_up()) return;
    for (const auto& [name, worker] : durable_.workers()) {
        Presence& presence = presence_.at(name);
        std::vector<const Session*> expired;
        for (auto orphan = presence.orphans.begin(); orphan != presence.orphans.end();) {
            if (orphan->second > time_.steady) {
                ++orphan;
                continue;
            }
            expired.push_back(worker.held.at(orphan->first));
            orphan = presence.orphans.erase(orphan);
        }
        // With the state that knew the attempt, whoever could still report its end is gone, so
        // waiting for ever, as OnLost::wait otherwise does, would keep the slot for ever.
        for (const Session* session : expired) {
            lose(*session, "given to an earlier incarnation of " + name.str() + ", silent for " +
                               format_elapsed(config_.lost_after));
        }
    }
}

void BrokerCore::State::note_worker(const Worker& worker, std::string_view state,
                                    std::string evidence) {
    const std::string from = worker.state;
    IW_CHECK(from != state);
    const WorkerName& name = worker.registration.name;
    transition("worker=" + name.str(), from, std::string(state), evidence);
    emit(WorkerNoted{.name = name, .state = std::string(state), .evidence = std::move(evidence)});
    if (state == worker_state::kUp) ready_.touch(worker);
}

// An expiry goes before a due time: a session that may start at the moment it expires does not
// start.
void BrokerCore::State::fire_timers() {
    end_holds();
    while (Session* session = may_give_up() ? expiry_.pop(time_.steady) : nullptr) {
        IW_CHECK(session->phase == Phase::queued);
        const SessionId id = *session->id;
        const Duration waited = *session->particular().expires_at - session->created_at;
        end_queued(*session, Detail::expired, "not started within " + format_duration(waited));
        begin_closing(id);
    }
    while (Session* session = due_.pop(time_.steady)) {
        IW_CHECK(session->phase == Phase::queued);
        // Expiries of sessions that became due go on; only the due time is over.
        session->set_due_at(Deadlines::kNoDue);
        enqueue(*session);
    }
}

std::optional<Timestamp> BrokerCore::State::next_deadline() const {
    std::optional<Timestamp> next;
    const auto at = [&next](std::optional<Timestamp> deadline) {
        if (deadline && (!next || *deadline < *next)) next = deadline;
    };
    const bool is_unfinished = !cascades_.empty() || !unfinished_closes_.empty() ||
                               (!returned_.empty() && !durable_.restored());
    if (is_unfinished || (ready_.is_any_touched() && !durable_.restored())) at(time_.steady);
    at(due_.earliest());
    at(telling_due());
    if (may_give_up()) at(expiry_.earliest());
    for (const auto& [key, end] : hold_ends_)
        at(end);
    for (const auto& [name, worker] : durable_.workers()) {
        const Presence& presence = presence_.at(name);
        if (worker.is_up() || worker.state == worker_state::kAway) {
            at(presence.heard_at + config_.unreachable_after);
        }
        const bool gives_up =
            worker.state == worker_state::kLost && may_give_up() && holds_what_is_given_up(worker);
        if (worker.state == worker_state::kUnreachable || gives_up) {
            at(presence.heard_at + config_.lost_after);
        }
        if (!may_give_up()) continue;
        for (const auto& [ordinal, deadline] : presence.orphans)
            at(deadline);
    }
    for (const auto& [root, group] : durable_.closing()) {
        const Worker* owner = root.empty() ? nullptr : owner_of(root);
        if (owner == nullptr || !is_waited_for(*owner)) {
            at(time_.steady);
            continue;
        }
        at(presence_.at(owner->registration.name).heard_at + config_.owner_patience);
    }
    return next;
}

}  // namespace iw::broker
