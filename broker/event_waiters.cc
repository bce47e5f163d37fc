#include "broker/event_waiters.h"

#include <string_view>

namespace iw::broker {
namespace {

// Where the agent's name stands in a session id: behind `YYYYMMDD-HHMMSS-`.
constexpr std::size_t kAgentInId = 16;

std::string owner_of(const Requester& who) {
    const std::string peer = std::to_string(who.to.peer.value);
    return who.inside ? peer + "/" + who.inside->session.str() : peer;
}

// A hint that may say yes too often and never no wrongly: the database then looks at the record
// itself.
bool may_concern(const EventsRequest& request, const SessionId* session) {
    if (session == nullptr) return request.agent.empty() && request.project.empty();
    if (request.agent.empty() || session->str().size() < kAgentInId) return true;
    return std::string_view(session->str()).substr(kAgentInId).starts_with(request.agent);
}

}  // namespace

Result<WaiterId> EventWaiters::add(Waiter waiter) {
    const std::string owner = owner_of(waiter.who);
    const auto same_owner = per_owner_.find(owner);
    if (same_owner != per_owner_.end() && same_owner->second >= bounds_.per_owner_max) {
        return make_error(ErrorCode::rate_limited,
                          "this connection waits for events " +
                              std::to_string(bounds_.per_owner_max) +
                              " times already; let some of them end first");
    }
    if (waiters_.size() >= bounds_.waiters_max ||
        ids_ + waiter.request.ids.size() > bounds_.ids_max) {
        return make_error(ErrorCode::rate_limited,
                          "the broker holds too many requests for events; ask without wait");
    }
    const WaiterId id = ++last_id_;
    ++per_owner_[owner];
    ids_ += waiter.request.ids.size();
    for (const SessionId& session : waiter.request.ids) {
        by_session_[session].insert(id);
    }
    if (waiter.request.ids.empty()) without_ids_.insert(id);
    waiters_.emplace(id, std::move(waiter));
    return id;
}

Waiter* EventWaiters::find(WaiterId id) {
    const auto found = waiters_.find(id);
    return found == waiters_.end() ? nullptr : &found->second;
}

void EventWaiters::remove(WaiterId id) {
    const auto found = waiters_.find(id);
    if (found == waiters_.end()) return;
    const Waiter& waiter = found->second;
    deadlines_.erase({waiter.deadline, id});
    without_ids_.erase(id);
    ids_ -= waiter.request.ids.size();
    for (const SessionId& session : waiter.request.ids) {
        const auto waiting = by_session_.find(session);
        if (waiting == by_session_.end()) continue;
        waiting->second.erase(id);
        if (waiting->second.empty()) by_session_.erase(waiting);
    }
    const auto owner = per_owner_.find(owner_of(waiter.who));
    if (owner != per_owner_.end() && --owner->second == 0) per_owner_.erase(owner);
    waiters_.erase(found);
}

void EventWaiters::park(WaiterId id) {
    Waiter* waiter = find(id);
    if (waiter == nullptr) return;
    waiter->asking = false;
    deadlines_.insert({waiter->deadline, id});
}

void EventWaiters::wake_one(WaiterId id, std::vector<WaiterId>& woken) {
    Waiter* waiter = find(id);
    if (waiter == nullptr) return;
    if (waiter->asking) {
        waiter->concerned = true;
        return;
    }
    waiter->asking = true;
    waiter->concerned = false;
    deadlines_.erase({waiter->deadline, id});
    woken.push_back(id);
}

std::vector<WaiterId> EventWaiters::wake(std::span<const Record> records) {
    std::vector<WaiterId> woken;
    if (waiters_.empty()) return woken;
    std::set<WaiterId> concerned;
    for (const Record& record : records) {
        const SessionId* session = session_of(record.body);
        for (const WaiterId id : without_ids_) {
            if (!concerned.contains(id) && may_concern(waiters_.at(id).request, session))
                concerned.insert(id);
        }
        if (session == nullptr) continue;
        const auto waiting = by_session_.find(*session);
        if (waiting != by_session_.end())
            concerned.insert(waiting->second.begin(), waiting->second.end());
    }
    for (const WaiterId id : concerned) {
        wake_one(id, woken);
    }
    return woken;
}

std::vector<WaiterId> EventWaiters::due(Timestamp now) const {
    std::vector<WaiterId> result;
    for (const auto& [deadline, id] : deadlines_) {
        if (deadline > now) break;
        result.push_back(id);
    }
    return result;
}

std::vector<WaiterId> EventWaiters::of_peer(PeerId peer) const {
    std::vector<WaiterId> result;
    for (const auto& [id, waiter] : waiters_) {
        if (waiter.who.to.peer == peer) result.push_back(id);
    }
    return result;
}

std::vector<WaiterId> EventWaiters::all() const {
    std::vector<WaiterId> result;
    for (const auto& [id, waiter] : waiters_) {
        result.push_back(id);
    }
    return result;
}

std::optional<Timestamp> EventWaiters::next_deadline() const {
    if (deadlines_.empty()) return std::nullopt;
    return deadlines_.begin()->first;
}

}  // namespace iw::broker
