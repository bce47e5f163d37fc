#include "broker/core/family.h"

#include "common/base/check.h"

namespace iw::broker {

// ---- Descendants
// -----------------------------------------------------------------------------------------

void Descendants::add(const SessionId& ancestor, Session& session) {
    const bool fresh = groups_[ancestor].emplace(session.ordinal, &session).second;
    IW_CHECK(fresh);
}

void Descendants::remove(const Session& session) {
    groups_.erase(*session.id);
    leave(session);
}

void Descendants::leave(const Session& session) {
    for (const SessionId& ancestor : session.particular().ancestors) {
        // One that has left memory before took its group along.
        const auto group = groups_.find(ancestor);
        if (group == groups_.end()) continue;
        group->second.erase(session.ordinal);
        if (group->second.empty()) groups_.erase(group);
    }
}

bool Descendants::contains(const SessionId& ancestor, const Session& session) const {
    return below(ancestor).contains(session.ordinal);
}

const Descendants::Group& Descendants::below(const SessionId& id) const {
    static const Group kNone;
    const auto group = groups_.find(id);
    return group == groups_.end() ? kNone : group->second;
}

// ---- Lending
// ---------------------------------------------------------------------------------------------

void Lending::add(const Session& held) {
    Node& own = nodes_[*held.id];
    IW_CHECK(!own.is_held);
    own.is_held = true;
    if (own.below > 0) ++lenders_;
    for (const SessionId& ancestor : held.particular().ancestors) {
        Node& node = nodes_[ancestor];
        ++node.below;
        if (node.is_held && node.below == 1) ++lenders_;
    }
}

void Lending::remove(const Session& held) {
    Node& own = nodes_[*held.id];
    IW_CHECK(own.is_held);
    own.is_held = false;
    if (own.below > 0) --lenders_;
    drop_if_idle(*held.id);
    for (const SessionId& ancestor : held.particular().ancestors) {
        Node& node = nodes_[ancestor];
        IW_CHECK(node.below > 0);
        --node.below;
        if (node.is_held && node.below == 0) --lenders_;
        drop_if_idle(ancestor);
    }
}

void Lending::drop_if_idle(const SessionId& id) {
    const auto node = nodes_.find(id);
    if (!node->second.is_held && node->second.below == 0) nodes_.erase(node);
}

bool Lending::is_family(const Session& session) const {
    for (const SessionId& ancestor : session.particular().ancestors) {
        const auto node = nodes_.find(ancestor);
        if (node != nodes_.end() && node->second.is_held) return true;
    }
    return false;
}

bool Lending::is_lent_to(const Session& session) const {
    const std::vector<SessionId>& above = session.particular().ancestors;
    for (auto ancestor = above.rbegin(); ancestor != above.rend(); ++ancestor) {
        const auto node = nodes_.find(*ancestor);
        if (node != nodes_.end() && node->second.is_held) return node->second.below == 0;
    }
    return false;
}

bool Lending::can_lend(const Session& held) const {
    const auto node = nodes_.find(*held.id);
    IW_CHECK(node != nodes_.end() && node->second.is_held);
    return node->second.below == 0;
}

}  // namespace iw::broker
