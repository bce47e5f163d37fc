// What must hold between any two steps. Everything derived is computed again here, another way.

#include <algorithm>

#include "broker/core/state.h"
#include "common/base/check.h"

namespace iw::broker {

void DurableState::check_session(const Session& session) const {
    IW_CHECK(session.id != nullptr);
    IW_CHECK(sessions_.contains(*session.id));
    IW_CHECK(session.placement != nullptr);
    IW_CHECK(session.placement->sessions > 0);
    IW_CHECK(session.platform_faults < limits::kPlatformFaultsMax);
    IW_CHECK(session.ordinal < next_ordinal_);
    const Progress& progress = session.progressed();
    IW_CHECK((progress.ended != nullptr) == (session.phase == Phase::closing));
    IW_CHECK(session.phase != Phase::running || progress.started_at.has_value());
    IW_CHECK(session.phase != Phase::assigned || !progress.started_at.has_value());
    IW_CHECK(session.phase != Phase::queued || !progress.kill.has_value());
    IW_CHECK(progress.superseded.size() <= kSupersededMax);
    if (session.phase == Phase::closing) {
        IW_CHECK(closing_.at(progress.owner).at(session.ordinal) == &session);
    }
    if (!session.is_held()) return;
    IW_CHECK(session.fence.attempt > 0);
    IW_CHECK(workers_.at(progress.worker).held.at(session.ordinal) == &session);
}

void DurableState::check() const {
    std::array<std::size_t, kPhases> counts{};
    std::size_t keys = 0;
    for (const auto& [id, session] : sessions_) {
        IW_CHECK(session.id == &id);
        check_session(session);
        ++counts[static_cast<std::size_t>(session.phase)];
        if (session.key != nullptr) ++keys;
    }
    IW_CHECK(counts == counts_);
    IW_CHECK(keys == keys_.live_size());
    std::size_t held = 0;
    for (const auto& [name, worker] : workers_) {
        IW_CHECK(worker.registration.name == name);
        held += worker.held.size();
    }
    IW_CHECK(held == count(Phase::assigned) + count(Phase::running));
    std::size_t closing = 0;
    for (const auto& [root, group] : closing_) {
        IW_CHECK(!group.empty());
        closing += group.size();
    }
    IW_CHECK(closing == count(Phase::closing));
    IW_CHECK(placements_.size() <= sessions_.size());
}

void BrokerCore::State::check_invariants() const {
    durable_.check();
    if (!started_) return;
    IW_CHECK(actions_.records.empty());
    for (const auto& [id, session] : durable_.sessions())
        check_schedule(session);
    check_workers();
    check_queue();
}

void BrokerCore::State::check_schedule(const Session& session) const {
    const bool is_queued = session.phase == Phase::queued;
    const bool is_due_later = session.is_due_later();
    const bool is_blocked = dependencies_.is_blocked(session);
    const bool is_waiting = is_queued && !is_blocked;
    const bool is_due = is_waiting && !is_due_later;
    const bool is_held_back = waits_for_children(session);
    IW_CHECK(ready_.contains(session) == (is_due && !is_held_back));
    IW_CHECK(waiting_parents_.contains(session.ordinal) == (is_due && is_held_back));
    IW_CHECK(due_.contains(session.due_at(), session) == (is_waiting && is_due_later));
    std::size_t open = 0;
    for (const Dependency& dependency : session.particular().after) {
        if (is_live(dependency.id)) ++open;
    }
    if (!is_queued || session.fence.attempt > 0) open = 0;
    IW_CHECK(dependencies_.open(session) == open);
    IW_CHECK(expiry_.contains(session.expire_at(), session) == (is_queued && session.can_expire()));
}

void BrokerCore::State::check_workers() const {
    IW_CHECK(presence_.size() == durable_.workers().size());
    for (const auto& [name, worker] : durable_.workers()) {
        const Presence& presence = presence_.at(name);
        IW_CHECK(presence.heard_at <= time_.steady);
        IW_CHECK(used(worker) == use_from_tree(worker));
        IW_CHECK(worker.state != worker_state::kAway || !presence.peer.has_value());
        for (const auto& [ordinal, deadline] : presence.orphans) {
            IW_CHECK(is_orphan(*worker.held.at(ordinal), worker));
        }
    }
}

void BrokerCore::State::check_queue() const {
    std::size_t ready = 0;
    for (const auto& [number, placement_class] : ready_.classes()) {
        IW_CHECK(placement_class.placement->number == number);
        IW_CHECK(!placement_class.entries.empty());
        ready += placement_class.entries.size();
        for (const ReadyQueue::Entry& entry : placement_class.entries)
            check_ready(*entry.session, placement_class);
    }
    IW_CHECK(ready == ready_.size());
    IW_CHECK(ready + due_.size() + dependencies_.size() + waiting_parents_.size() ==
             durable_.count(Phase::queued));
    std::size_t in_families = 0;
    std::size_t classes = 0;
    for (const auto& [number, placement_class] : ready_.classes()) {
        classes += placement_class.families.size();
        for (const auto& [ordinal, entries] : placement_class.families)
            in_families += entries.size();
    }
    for (const auto& [ordinal, family] : ready_.families()) {
        IW_CHECK(family.ancestor->ordinal == ordinal);
        IW_CHECK(is_live(*family.ancestor->id));
        classes -= family.classes.size();
    }
    IW_CHECK(classes == 0);
    for (const auto& [id, session] : durable_.sessions()) {
        if (!ready_.contains(session)) continue;
        for (const SessionId& ancestor : session.particular().ancestors)
            in_families -= is_live(ancestor) ? 1 : 0;
    }
    IW_CHECK(in_families == 0);
}

// Nothing waits that could run, unless the next step looks at it.
void BrokerCore::State::check_ready(const Session& session,
                                    const ReadyQueue::Class& placement_class) const {
    bool is_touched = ready_.is_touched(placement_class.placement->number);
    for (const SessionId& id : session.particular().ancestors) {
        const Session* ancestor = durable_.session(id);
        if (ancestor == nullptr) continue;
        IW_CHECK(ready_.find(placement_class.placement->number, ancestor->ordinal) != nullptr);
        is_touched = is_touched || ready_.is_family_touched(ancestor->ordinal);
    }
    if (is_touched || durable_.restored()) return;
    for (const auto& [name, worker] : durable_.workers()) {
        if (!can_run(worker.registration, session.placement->placement)) continue;
        IW_CHECK(!could_go(session, worker));
    }
}

// The rules of handing out once more, from the tree alone.
bool BrokerCore::State::could_go(const Session& session, const Worker& worker) const {
    if (!is_open(worker)) return false;
    bool is_below_any = false;
    const Session* nearest_here = nullptr;
    for (const SessionId& id : session.particular().ancestors) {
        const Session* ancestor = durable_.session(id);
        if (ancestor == nullptr || !ancestor->is_held()) continue;
        is_below_any = true;
        if (ancestor->progressed().worker == worker.registration.name) nearest_here = ancestor;
    }
    const std::size_t use = use_from_tree(worker);
    if (use < worker.registration.slots) {
        const bool is_paused = pause_of(session.placement->placement) != nullptr;
        const bool is_drained = drain_of(worker) != nullptr;
        return (!is_paused || is_below_any) && (!is_drained || nearest_here != nullptr);
    }
    if (use > worker.registration.slots || nearest_here == nullptr) return false;
    return !lends_slot(*nearest_here, worker);
}

bool BrokerCore::State::lends_slot(const Session& lender, const Worker& worker) const {
    return std::any_of(worker.held.begin(), worker.held.end(), [&](const auto& each) {
        const std::vector<SessionId>& above = each.second->particular().ancestors;
        return std::find(above.begin(), above.end(), *lender.id) != above.end();
    });
}

std::size_t BrokerCore::State::use_from_tree(const Worker& worker) const {
    std::size_t use = presence_.at(worker.registration.name).foreign.size();
    for (const auto& [ordinal, session] : worker.held) {
        if (!lends_slot(*session, worker)) ++use;
    }
    return use;
}

}  // namespace iw::broker
