#include "broker/core/session_timers.h"

#include "common/base/check.h"

namespace iw::broker {

void SessionTimers::set(Timestamp at, Session& session) {
    const bool fresh = timers_.try_emplace({at, session.ordinal}, &session).second;
    IW_CHECK(fresh);
}

void SessionTimers::clear(Timestamp at, const Session& session) {
    const std::size_t erased = timers_.erase({at, session.ordinal});
    IW_CHECK(erased == 1);
}

bool SessionTimers::contains(Timestamp at, const Session& session) const {
    return timers_.contains({at, session.ordinal});
}

std::optional<Timestamp> SessionTimers::earliest() const {
    if (timers_.empty()) return std::nullopt;
    return timers_.begin()->first.first;
}

Session* SessionTimers::pop(Timestamp time) {
    if (timers_.empty()) return nullptr;
    const auto first = timers_.begin();
    if (first->first.first > time) return nullptr;
    Session* session = first->second;
    timers_.erase(first);
    return session;
}

}  // namespace iw::broker
