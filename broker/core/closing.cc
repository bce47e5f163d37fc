// Between the decision about an end and its being shown: the owner of the workspace writes the last
// files.

#include <algorithm>
#include <utility>

#include "broker/core/state.h"
#include "common/base/check.h"

namespace iw::broker {

namespace {

// Outcomes sent and not yet answered, and outcomes in one message: with 64 KiB of metadata each, a
// message stays below its limit.
constexpr std::size_t kOutcomesUnderWayMax = 256;
constexpr std::size_t kOutcomesPerPush = 32;
static_assert(kOutcomesPerPush * (limits::kMetadataMax + 32 * 1024) < limits::kMessageMax);

}  // namespace

// Of several workers that had this root one after the other, the one that lives.
const Worker* BrokerCore::State::owner_of(const Origin& root) const {
    const Worker* owner = nullptr;
    for (const auto& [name, worker] : durable_.workers()) {
        if (!is_at(worker.registration, root)) continue;
        if (owner == nullptr || (is_waited_for(worker) && !is_waited_for(*owner))) owner = &worker;
    }
    return owner;
}

bool BrokerCore::State::is_waited_for(const Worker& worker) const {
    if (worker.state == worker_state::kAway) return false;
    // Set by ticks alone: a message that waits in the socket is read before patience ends.
    return !presence_.at(worker.registration.name).is_given_up;
}

std::string BrokerCore::State::why_nobody(const Origin& root) const {
    if (root.empty()) return "nobody: no worker has run it";
    const Worker* owner = owner_of(root);
    if (owner == nullptr)
        return "nobody: no worker has registered for " + root.host + ":" + root.root;
    const std::string name = "nobody: worker " + owner->registration.name.str();
    if (owner->state == worker_state::kAway) return name + " has said goodbye";
    const Duration silence = time_.steady - presence_.at(owner->registration.name).heard_at;
    return name + " has been silent for " + format_elapsed(silence);
}

void BrokerCore::State::begin_closing(const SessionId& id) {
    const Session* session = durable_.session(id);
    if (session == nullptr || session->phase != Phase::closing) return;
    const Origin root = session->progressed().owner;
    const Worker* owner = root.empty() ? nullptr : owner_of(root);
    if (owner == nullptr || !is_waited_for(*owner)) {
        return close(id, why_nobody(root));
    }
    Presence& presence = presence_.at(owner->registration.name);
    if (!presence.peer || presence.sent.contains(session->ordinal)) return;
    presence.sent[session->ordinal] = presence.beat;
    ClosePush outcome;
    outcome.outcomes.push_back(outcome_of(*session));
    push(presence, std::move(outcome));
}

void BrokerCore::State::close(const SessionId& id, std::string by) {
    const Session* session = durable_.session(id);
    IW_CHECK(session != nullptr);
    IW_CHECK(session->phase == Phase::closing);
    if (!fail_dependents(*session)) {
        unfinished_closes_[id] = std::move(by);
        return;
    }
    const std::uint64_t ordinal = session->ordinal;
    emit(SessionClosed{.id = id, .by = std::move(by)});
    release_dependents(ordinal);
    for (auto& [name, presence] : presence_)
        presence.sent.erase(ordinal);
}

void BrokerCore::State::close_abandoned() {
    // Collected first: closing takes sessions out of what is looked through.
    std::vector<SessionId> abandoned;
    for (const auto& [root, group] : durable_.closing()) {
        const Worker* owner = root.empty() ? nullptr : owner_of(root);
        if (owner != nullptr && is_waited_for(*owner)) continue;
        for (const auto& [ordinal, session] : group)
            abandoned.push_back(*session->id);
    }
    for (const SessionId& id : abandoned) {
        close(id, why_nobody(durable_.session(id)->progressed().owner));
    }
}

// The first ones of the worker's root are kept under way; the others follow as these are reported
// closed.
void BrokerCore::State::push_outcomes(const Worker& worker, Presence& presence) {
    if (!presence.peer) return;
    const auto group = durable_.closing().find(worker.root());
    if (group == durable_.closing().end()) return;
    ClosePush batch;
    std::size_t under_way = 0;
    for (const auto& [ordinal, session] : group->second) {
        if (++under_way > kOutcomesUnderWayMax) break;
        if (!presence.is_due_again(ordinal)) continue;
        presence.sent[ordinal] = presence.beat;
        batch.outcomes.push_back(outcome_of(*session));
        if (batch.outcomes.size() < kOutcomesPerPush) continue;
        push(presence, std::exchange(batch, {}));
    }
    if (!batch.outcomes.empty()) push(presence, std::move(batch));
}

}  // namespace iw::broker
