// Families in the steps: what the end of an attempt, or a wish to kill, means for those below.

#include <algorithm>
#include <utility>

#include "broker/core/state.h"
#include "common/base/check.h"

namespace iw::broker {

namespace {

// Between two ticks at most this many are killed with others, so that a turn stays short however
// large a family is. A tick comes with every turn.
constexpr std::size_t kKilledPerTurn = 4000;
// With reasons of the length that cascades have, a message of these is far below its limit.
constexpr std::size_t kStopsPerPush = 500;

}  // namespace

// Of a queued session every attempt is over. What was submitted from outside belongs to none.
bool BrokerCore::State::is_of_over_attempt(const Session& parent, const Session& descendant) const {
    IW_CHECK(parent.phase == Phase::queued);
    const Particulars& particulars = descendant.particular();
    const auto own =
        std::find(particulars.ancestors.begin(), particulars.ancestors.end(), *parent.id);
    IW_CHECK(own != particulars.ancestors.end());
    return (particulars.inside_links >> (own - particulars.ancestors.begin()) & 1u) != 0;
}

bool BrokerCore::State::waits_for_children(const Session& session) const {
    if (session.phase != Phase::queued || session.fence.attempt == 0) return false;
    if (session.particular().keep_children) return false;
    const Descendants::Group& below = durable_.descendants().below(*session.id);
    return std::any_of(below.begin(), below.end(),
                       [&](const auto& each) { return is_of_over_attempt(session, *each.second); });
}

bool BrokerCore::State::has_unfinished_child(const Session& session) const {
    const Descendants::Group& below = durable_.descendants().below(*session.id);
    return std::any_of(below.begin(), below.end(), [&](const auto& each) {
        return each.second->phase != Phase::closing &&
               each.second->particular().parent == *session.id;
    });
}

void BrokerCore::State::child_is_final(const SessionId& ancestor) {
    Session* session = durable_.session(ancestor);
    if (session == nullptr) return;
    const auto waiting = waiting_parents_.find(session->ordinal);
    if (waiting == waiting_parents_.end() || waits_for_children(*session)) return;
    waiting_parents_.erase(waiting);
    ready_.add(*session, durable_);
}

// ---- Killing with others
// ---------------------------------------------------------------------------------

bool BrokerCore::State::can_be_killed(const Session& session) const {
    return session.phase == Phase::queued || (session.is_held() && !session.is_kill_wished());
}

// Who is about to be killed submits nothing more: what it has below it is known in full.
bool BrokerCore::State::is_being_killed(const Session& session) const {
    if (session.is_kill_wished()) return true;
    const std::vector<SessionId>& above = session.particular().ancestors;
    return std::any_of(cascades_.begin(), cascades_.end(), [&](const Cascade& cascade) {
        return cascade.root == *session.id ||
               std::find(above.begin(), above.end(), cascade.root) != above.end();
    });
}

void BrokerCore::State::end_attempts_children(const Session& parent) {
    Cascade cascade{.root = *parent.id,
                    .rest = {},
                    .reason = "attempt " + std::to_string(parent.fence.attempt) + " of " +
                              parent.id->str() + " above it is over",
                    .principal = "broker",
                    .kill = std::nullopt};
    for (const auto& [ordinal, below] : durable_.descendants().below(*parent.id)) {
        if (can_be_killed(*below) && is_of_over_attempt(parent, *below)) {
            cascade.rest.push_back(*below->id);
        }
    }
    if (!cascade.rest.empty()) cascades_.push_back(std::move(cascade));
}

void BrokerCore::State::settle_families() {
    // What a restored store takes for over may be going on: see release. Wishes of people stand.
    if (!durable_.restored()) {
        for (const SessionId& id : std::exchange(returned_, {})) {
            const Session* session = durable_.session(id);
            if (session != nullptr && waits_for_children(*session)) end_attempts_children(*session);
        }
    }
    run_cascades();
}

void BrokerCore::State::run_cascades() {
    std::map<WorkerName, StopPush> stops;
    std::vector<SessionId> ended;
    while (!cascades_.empty()) {
        Cascade& cascade = cascades_.front();
        for (; !cascade.rest.empty() && killed_in_turn_ < kKilledPerTurn; ++killed_in_turn_) {
            const SessionId id = std::move(cascade.rest.front());
            cascade.rest.pop_front();
            if (kill_descendant(id, cascade, stops)) ended.push_back(id);
        }
        if (!cascade.rest.empty()) break;
        const Cascade done = std::move(cascade);
        cascades_.pop_front();
        if (done.kill) kill_root(done);
    }
    for (auto& [name, stop] : stops)
        push(presence_.at(name), std::move(stop));
    deliver(ended);
}

bool BrokerCore::State::kill_descendant(const SessionId& id, Cascade& cascade,
                                        std::map<WorkerName, StopPush>& stops) {
    const Session* session = durable_.session(id);
    if (session == nullptr || !can_be_killed(*session)) return false;
    ++cascade.killed;
    if (session->phase == Phase::queued) {
        end_queued(*session, Detail::parent_killed, cascade.reason);
        return true;
    }
    emit(KillWished{.id = id,
                    .principal = cascade.principal,
                    .cause = Detail::parent_killed,
                    .reason = cascade.reason});
    const WorkerName& name = session->progressed().worker;
    const Presence& presence = presence_.at(name);
    // The wish stands; a worker that is not there now is told when it is heard again.
    if (!presence.peer || is_orphan(*session, *durable_.worker(name))) return false;
    StopPush& stop = stops[name];
    stop.stops.push_back(StopOrder{.session = id,
                                   .fence = session->fence,
                                   .cause = Detail::parent_killed,
                                   .reason = cascade.reason});
    if (stop.stops.size() == kStopsPerPush) push(presence, std::exchange(stop, {}));
    return false;
}

// Owners are sent as many as they may have under way, in few messages, however many have ended.
void BrokerCore::State::deliver(const std::vector<SessionId>& ended) {
    std::set<WorkerName> owners;
    for (const SessionId& id : ended) {
        const Session* session = durable_.session(id);
        if (session == nullptr || session->phase != Phase::closing) continue;
        const Origin root = session->progressed().owner;
        const Worker* owner = root.empty() ? nullptr : owner_of(root);
        if (owner == nullptr || !is_waited_for(*owner)) {
            close(id, why_nobody(root));
            continue;
        }
        owners.insert(owner->registration.name);
    }
    for (const WorkerName& name : owners)
        push_outcomes(*durable_.worker(name), presence_.at(name));
}

}  // namespace iw::broker
