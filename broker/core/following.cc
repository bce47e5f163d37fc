// The owner of a session's project is told how the session stands while it waits or runs elsewhere,
// so that its files there say the same. Each view says all, so none needs an answer: what is lost
// is made up for by the next one, or by the owner's next hello.

#include <algorithm>
#include <utility>

#include "broker/core/state.h"
#include "common/base/check.h"

namespace iw::broker {

namespace {

// Files of people need no more, and a burst of changes of one session becomes one message.
constexpr Duration kTellInterval{100};
// Within that time: views, for changes and for each owner's list, and sessions looked at for one.
constexpr std::size_t kToldMax = 512;
constexpr std::size_t kLookedAtMax = 5000;
constexpr std::size_t kViewsPerPush = 32;
static_assert(kViewsPerPush * (limits::kMetadataMax + 32 * 1024) < limits::kMessageMax);
// More changes than this are found again by looking at everything.
constexpr std::size_t kChangedMax = 10'000;

}  // namespace

void BrokerCore::State::note_change(const Session& session) {
    const Origin& origin = session.placement->placement.origin;
    if (origin.empty()) return;
    const Worker* holder =
        session.is_held() ? durable_.worker(session.progressed().worker) : nullptr;
    if (holder != nullptr && is_at(holder->registration, origin)) {
        changed_.erase(*session.id);
        return;
    }
    if (changed_.size() < kChangedMax) {
        changed_.insert(*session.id);
        return;
    }
    for (auto& [name, presence] : presence_)
        begin_telling(presence);
}

void BrokerCore::State::begin_telling(Presence& presence) {
    presence.tell_again = presence.told_up_to.has_value();
    if (!presence.told_up_to) presence.told_up_to = SessionId();
}

const Worker* BrokerCore::State::owner_to_tell(const Session& session) const {
    const Origin& origin = session.placement->placement.origin;
    // Of its end it hears with the outcome.
    if (origin.empty() || session.phase == Phase::closing) return nullptr;
    const Worker* owner = owner_of(origin);
    if (owner == nullptr || !presence_.at(owner->registration.name).peer) return nullptr;
    const bool is_own =
        session.is_held() && session.progressed().worker == owner->registration.name;
    return is_own ? nullptr : owner;
}

void BrokerCore::State::tell_owners() {
    const std::optional<Timestamp> due = telling_due();
    if (!due || *due > time_.steady) return;
    tell_at_ = time_.steady + kTellInterval;
    Follows follows;
    for (std::size_t count = 0; count < kToldMax && !changed_.empty(); ++count) {
        const SessionId id = std::move(changed_.extract(changed_.begin()).value());
        const Session* session = durable_.session(id);
        if (session != nullptr) tell(*session, follows);
    }
    for (auto& [name, presence] : presence_) {
        if (presence.peer && presence.told_up_to)
            tell_all(*durable_.worker(name), presence, follows);
    }
    send(std::move(follows));
}

void BrokerCore::State::send(Follows follows) {
    for (auto& [name, follow] : follows) {
        if (!follow.sessions.empty()) push(presence_.at(name), std::move(follow));
    }
}

void BrokerCore::State::tell_from_first(const Worker& owner, Presence& presence) {
    presence.told_up_to.reset();
    begin_telling(presence);
    Follows follows;
    tell_all(owner, presence, follows);
    send(std::move(follows));
}

void BrokerCore::State::tell(const Session& session, Follows& follows) {
    const Worker* owner = owner_to_tell(session);
    if (owner == nullptr) return;
    FollowPush& follow = follows[owner->registration.name];
    follow.sessions.push_back(view_of(session));
    if (follow.sessions.size() == kViewsPerPush)
        push(presence_.at(owner->registration.name), std::exchange(follow, {}));
}

void BrokerCore::State::tell_all(const Worker& owner, Presence& presence, Follows& follows) {
    const auto& sessions = durable_.sessions();
    auto next = sessions.upper_bound(*presence.told_up_to);
    std::size_t told = 0;
    for (std::size_t looked_at = 0; next != sessions.end(); ++next, ++looked_at) {
        if (looked_at == kLookedAtMax || told == kToldMax) return;
        presence.told_up_to = next->first;
        const Session& session = next->second;
        if (!is_at(owner.registration, session.placement->placement.origin)) continue;
        tell(session, follows);
        ++told;
    }
    presence.told_up_to.reset();
    if (std::exchange(presence.tell_again, false)) begin_telling(presence);
}

std::optional<Timestamp> BrokerCore::State::telling_due() const {
    const bool is_listing = std::any_of(presence_.begin(), presence_.end(), [](const auto& each) {
        return each.second.peer && each.second.told_up_to;
    });
    if (changed_.empty() && !is_listing) return std::nullopt;
    return std::max(tell_at_, time_.steady);
}

}  // namespace iw::broker
