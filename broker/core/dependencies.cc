// Sessions that wait for the end of others.

#include "broker/core/state.h"

namespace iw::broker {

std::vector<SessionId> BrokerCore::State::unsettled(
    const Submission& submission, const std::map<SessionId, SessionStatus>& settled) const {
    std::vector<SessionId> unknown;
    for (const Dependency& dependency : submission.after) {
        const SessionId& id = dependency.id;
        if (is_live(id) || durable_.keys().is_finished(id) || settled.contains(id)) continue;
        unknown.push_back(id);
    }
    return unknown;
}

}  // namespace iw::broker
