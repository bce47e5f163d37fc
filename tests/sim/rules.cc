#include "tests/sim/rules.h"

#include <algorithm>
#include <set>

namespace iw::sim {

void Rules::fail(std::string what) {
    if (!violation_) violation_ = std::move(what);
}

void Rules::committed(const broker::Record& record) {
    std::visit([this](const auto& body) { on(body); }, record.body);
}

void Rules::on(const broker::SessionCreated& body) {
    Known known{.submission = body.submission, .above = {}};
    if (const auto parent = sessions_.find(body.submission.parent); parent != sessions_.end()) {
        known.above = parent->second.above;
        known.above.push_back(body.submission.parent);
    }
    sessions_.emplace(body.id, std::move(known));
}

void Rules::on(const broker::WorkerRegistered& body) {
    workers_[body.name] = {body.state_id, body.slots};
    for (auto& [id, known] : sessions_) {
        if (known.is_held && states_[id] == body.state_id) known.worker = body.name;
    }
}

void Rules::on(const broker::SessionEdited& body) {
    if (!body.parent) return;
    Known& known = sessions_.at(body.id);
    if (known.ended) fail("edit: " + body.id.str() + " was over and got another parent");
    const std::size_t depth = known.above.size();
    known.above = body.ancestors;
    if (known.above.empty() != body.parent->empty() ||
        (!known.above.empty() && known.above.back() != *body.parent)) {
        fail("edit: the ancestors of " + body.id.str() + " do not end with its parent");
    }
    for (auto& [id, each] : sessions_) {
        if (each.above.size() <= depth || each.above[depth] != body.id) continue;
        std::vector<SessionId> above = known.above;
        above.insert(above.end(), each.above.begin() + static_cast<std::ptrdiff_t>(depth),
                     each.above.end());
        each.above = std::move(above);
    }
    if (std::count(known.above.begin(), known.above.end(), body.id) > 0)
        fail("edit: " + body.id.str() + " is below itself");
}

void Rules::on(const broker::AttemptAssigned& body) {
    Known& known = sessions_.at(body.id);
    // Once it was given out, also before a restore, its dependencies had been met.
    if (body.fence.attempt == 1) check_after(body.id, known);
    known.worker = body.worker;
    check_holds(body.id, known);
    known.is_held = true;
    states_[body.id] = workers_[body.worker].first;
    check_room(body.worker);
}

void Rules::on(const broker::AttemptAdopted& body) {
    Known& known = sessions_.at(body.id);
    known.is_held = true;
    known.worker = body.worker;
    states_[body.id] = workers_[body.worker].first;
}

// ---- Room --------------------------------------------------------------------------------------

// Each held session with a held descendant there lends its slot to one descendant.
void Rules::check_room(const WorkerName& worker) {
    std::size_t held = 0;
    std::set<SessionId> lenders;
    for (const auto& [id, known] : sessions_) {
        if (!known.is_held || known.worker != worker) continue;
        ++held;
        for (const SessionId& above : known.above) {
            const Known& lender = sessions_.at(above);
            if (lender.is_held && lender.worker == worker) lenders.insert(above);
        }
    }
    if (held - lenders.size() > workers_[worker].second) {
        fail("room: more sessions at " + worker.str() + " than it has slots");
    }
}

bool Rules::is_of_held(const Known& known, const WorkerName* at) const {
    return std::any_of(known.above.begin(), known.above.end(), [&](const SessionId& above) {
        const Known& each = sessions_.at(above);
        return each.is_held && (at == nullptr || each.worker == *at);
    });
}

// ---- Holds -------------------------------------------------------------------------------------

bool Rules::is_held(HoldScope scope, const std::string& name) const {
    const auto found = holds_.find({scope, name});
    return found != holds_.end() && found->second;
}

void Rules::check_holds(const SessionId& id, const Known& known) {
    const bool is_paused =
        is_held(HoldScope::fleet, "") || is_held(HoldScope::agent, known.submission.agent.str());
    if (is_paused && !is_of_held(known, nullptr)) fail("hold: " + id.str() + " is paused");
    const bool is_drained = is_held(HoldScope::worker, known.worker.str());
    if (is_drained && !is_of_held(known, &known.worker))
        fail("hold: " + id.str() + " was given to " + known.worker.str() + ", which is drained");
}

// ---- Dependencies ------------------------------------------------------------------------------

std::optional<bool> Rules::is_met(const Dependency& dependency) const {
    const Known& other = sessions_.at(dependency.id);
    if (!other.ended) return std::nullopt;
    const bool is_success = other.ended == SessionStatus::completed;
    if (dependency.on == AfterCondition::any_end) return true;
    return is_success == (dependency.on == AfterCondition::success);
}

void Rules::check_after(const SessionId& id, const Known& known) {
    for (const Dependency& dependency : known.submission.after) {
        if (is_met(dependency) != true || !sessions_.at(dependency.id).is_closed)
            fail("after: " + id.str() + " was given out before " + dependency.id.str() + " let it");
    }
}

// ---- Retries -----------------------------------------------------------------------------------

void Rules::on(const broker::AttemptReturned& body) {
    Known& known = sessions_.at(body.id);
    known.is_held = false;
    if (body.platform_fault) return;
    ++known.used;
    const std::optional<RetryPolicy>& retry = known.submission.retry;
    if (!retry || known.used >= retry->attempts_max)
        return fail("retry: " + body.id.str() + " is tried more often than was asked");
    const bool is_named =
        std::find(retry->causes.begin(), retry->causes.end(), body.cause) != retry->causes.end();
    const bool is_usual = retry->causes.empty() && body.cause != Detail::timeout;
    if (!is_named && !is_usual)
        fail("retry: " + body.id.str() + " is tried again for a cause that was not asked for");
    if (!body.retry_at) fail("retry: " + body.id.str() + " is tried again at once");
}

void Rules::on(const broker::SessionEnded& body) {
    Known& known = sessions_.at(body.id);
    known.is_held = false;
    known.ended = body.status;
    const std::vector<Dependency>& after = known.submission.after;
    const bool is_unmet = std::any_of(after.begin(), after.end(),
                                      [this](const auto& each) { return is_met(each) == false; });
    if (body.detail == Detail::dependency_failed && !is_unmet)
        fail("after: " + body.id.str() + " was given up although what it waits for may yet be");
    const std::optional<RetryPolicy>& retry = known.submission.retry;
    const bool could_go_on = retry && !known.is_killed && retry->causes.empty() &&
                             (body.detail == Detail::exited || body.detail == Detail::signal) &&
                             known.used + 1 < retry->attempts_max;
    if (could_go_on) fail("retry: " + body.id.str() + " is not tried again");
}

}  // namespace iw::sim
