// What a restore changes about the promises: what is newer than the backup is gone, and still
// nothing may run a second time.

#include "tests/sim/oracle.h"

#include <algorithm>

namespace iw::sim {

void Oracle::broker_clock_set(Duration by) {
    for (auto& [id, known] : sessions_) {
        if (known.expires) *known.expires -= std::max(by, Duration(0));
    }
}

void Oracle::on(const broker::AttemptAdopted& body, Timestamp) {
    Known& known = sessions_.at(body.id);
    if (!is_restored_ || body.fence < known.fence) fail("P3: a stale attempt was adopted");
    known.fence = body.fence;
    known.is_held = true;
    known.worker = body.worker;
    known.state_id = workers_[body.worker].state_id;
}

void Oracle::on(const broker::RestoreReleased& body, Timestamp) {
    is_forced_ = is_forced_ || body.reason == kForced;
}

void Oracle::told_unknown(const SessionId& id) {
    if (!is_forgotten(id)) fail("P1: " + id.str() + " was acknowledged and is not known any more");
}

void Oracle::restored(std::size_t kept) {
    is_restored_ = true;
    for (const auto& [id, known] : sessions_)
        forgotten_.insert(id);
    for (std::size_t i = kept; i < records_.size(); ++i) {
        const auto* body = std::get_if<broker::AttemptAssigned>(&records_[i].record.body);
        if (body != nullptr) forgotten_attempts_.insert({body->id, body->fence});
    }
    records_.resize(kept);
    for (auto* map : {&keys_, &created_keys_})
        map->clear();
    sessions_.clear();
    workers_.clear();
    history_.clear();
    rules_ = Rules();
    is_replaying_ = true;
    for (const Committed& each : records_)
        committed(each.record, each.decided);
    is_replaying_ = false;
    returned_.clear();
}

// What went on or succeeded without the restored store's knowledge is found out, not run again.
void Oracle::check_second_run(const AttemptRef& attempt) {
    if (is_forced_) return;
    for (const auto& [other, agent] : agents_) {
        const bool is_older =
            other.session == attempt.session && other.fence.generation < attempt.fence.generation;
        if (!is_older || returned_.contains(other) || confirmed_.contains(other)) continue;
        const bool has_succeeded =
            !agent.is_alive && agent.how == End::by_itself && agent.code == 0;
        if (agent.is_alive || (has_succeeded && !disturbed_.contains(other)))
            fail("P3: " + attempt.session.str() + " runs a second time after a restore");
    }
}

}  // namespace iw::sim
