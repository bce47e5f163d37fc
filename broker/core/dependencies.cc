#include "broker/core/dependencies.h"

#include <algorithm>
#include <set>
#include <utility>

#include "broker/core/state.h"
#include "common/base/check.h"
#include "common/base/text.h"

namespace iw::broker {

namespace {

// A step that fails more dependents than this goes on in the next one: nobody knows how many of
// them an end takes along, and a step holds all its records in memory.
constexpr std::size_t kFailedPerStep = 1000;

const Dependency* dependency_on(const Session& session, const SessionId& id) {
    const std::vector<Dependency>& after = session.particular().after;
    const auto found = std::find_if(after.begin(), after.end(),
                                    [&](const Dependency& each) { return each.id == id; });
    return found == after.end() ? nullptr : &*found;
}

Error waits_for_ever(std::string message) {
    return make_error(ErrorCode::conflict, "after: " + std::move(message));
}

}  // namespace

bool is_met(AfterCondition condition, SessionStatus status) {
    IW_CHECK(is_final(status));
    switch (condition) {
        case AfterCondition::success:
            return status == SessionStatus::completed;
        case AfterCondition::failure:
            return status != SessionStatus::completed;
        case AfterCondition::any_end:
            return true;
    }
    return true;
}

std::string unmet_text(const Dependency& dependency, SessionStatus status) {
    return "needs " + std::string(name(dependency.on)) + " of " + dependency.id.str() +
           ", which is " + std::string(name(status));
}

// ---- The index
// -----------------------------------------------------------------------------------------

void DependencyIndex::block(Session& session, const std::vector<const Session*>& dependencies) {
    IW_CHECK(!dependencies.empty());
    std::vector<std::uint64_t>& open = open_[session.ordinal];
    IW_CHECK(open.empty());
    open.reserve(dependencies.size());
    for (const Session* dependency : dependencies) {
        const bool fresh =
            dependents_[dependency->ordinal].emplace(session.ordinal, &session).second;
        IW_CHECK(fresh);
        open.push_back(dependency->ordinal);
    }
}

void DependencyIndex::unblock(const Session& session) {
    const auto open = open_.find(session.ordinal);
    if (open == open_.end()) return;
    for (const std::uint64_t dependency : open->second) {
        const auto dependents = dependents_.find(dependency);
        IW_CHECK(dependents != dependents_.end());
        const std::size_t erased = dependents->second.erase(session.ordinal);
        IW_CHECK(erased == 1);
        if (dependents->second.empty()) dependents_.erase(dependents);
    }
    open_.erase(open);
}

std::vector<Session*> DependencyIndex::settle(std::uint64_t dependency) {
    std::vector<Session*> free;
    const auto found = dependents_.find(dependency);
    if (found == dependents_.end()) return free;
    for (const auto& [ordinal, session] : found->second) {
        const auto open = open_.find(ordinal);
        IW_CHECK(open != open_.end());
        const std::size_t erased = std::erase(open->second, dependency);
        IW_CHECK(erased == 1);
        if (!open->second.empty()) continue;
        open_.erase(open);
        free.push_back(session);
    }
    dependents_.erase(found);
    return free;
}

std::size_t DependencyIndex::open(const Session& session) const {
    const auto open = open_.find(session.ordinal);
    return open == open_.end() ? 0 : open->second.size();
}

const DependencyIndex::Dependents& DependencyIndex::dependents(const Session& dependency) const {
    static const Dependents kNone;
    const auto found = dependents_.find(dependency.ordinal);
    return found == dependents_.end() ? kNone : found->second;
}

// ---- At the submission
// ---------------------------------------------------------------------------------

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

std::optional<Error> BrokerCore::State::dependency_refusal(const SubmitEvent::Item& item) const {
    const Submission& submission = item.submission;
    if (submission.after.empty()) return std::nullopt;
    if (submission.after.size() > limits::kDependenciesMax) {
        return make_error(ErrorCode::bad_request, "after: names more than 100 sessions");
    }
    std::set<SessionId> named;
    for (const Dependency& dependency : submission.after) {
        if (named.insert(dependency.id).second) continue;
        return make_error(ErrorCode::bad_request,
                          "after: names " + printable(dependency.id.str(), true) + " twice");
    }
    const std::vector<SessionId> unknown = unsettled(submission, item.settled);
    if (!unknown.empty()) {
        return make_error(ErrorCode::not_found,
                          "after: no session " + printable(unknown.front().str(), true));
    }
    return cycle_refusal(submission);
}

// A session that has submitted another one waits for its end as a rule, so what waits for an
// ancestor of the new session would never see that one end.
std::optional<Error> BrokerCore::State::cycle_refusal(const Submission& submission) const {
    if (submission.parent.empty()) return std::nullopt;
    const Session* parent = durable_.session(submission.parent);
    IW_CHECK(parent != nullptr);
    std::vector<SessionId> above = parent->particular().ancestors;
    above.push_back(submission.parent);
    // Found from the ancestors' side: hardly ever does anything wait for them.
    std::map<std::uint64_t, SessionId> waiting;  // by ordinal; the ancestor that it waits for
    for (const SessionId& ancestor : above) {
        const Session* session = durable_.session(ancestor);
        if (session != nullptr) note_waiting(*session, ancestor, waiting);
    }
    for (const Dependency& dependency : submission.after) {
        const std::string& id = dependency.id.str();
        if (std::find(above.begin(), above.end(), dependency.id) != above.end()) {
            return waits_for_ever("session " + id +
                                  " is above the new one, which cannot wait for its end");
        }
        const Session* session = durable_.session(dependency.id);
        if (session == nullptr) continue;
        const auto found = waiting.find(session->ordinal);
        if (found == waiting.end()) continue;
        return waits_for_ever("session " + id + " waits for " + found->second.str() +
                              ", which is above the new one");
    }
    return std::nullopt;
}

void BrokerCore::State::note_waiting(const Session& ancestor, const SessionId& id,
                                     std::map<std::uint64_t, SessionId>& waiting) const {
    std::vector<const Session*> reached{&ancestor};
    while (!reached.empty()) {
        const Session* next = reached.back();
        reached.pop_back();
        for (const auto& [ordinal, session] : dependencies_.dependents(*next)) {
            if (waiting.emplace(ordinal, id).second) reached.push_back(session);
        }
    }
}

// Those that are final already: the others are asked when they become so.
std::string BrokerCore::State::unmet_at_submission(const SubmitEvent::Item& item) const {
    for (const Dependency& dependency : item.submission.after) {
        if (is_live(dependency.id)) continue;
        std::optional<SessionStatus> status = durable_.keys().finished(dependency.id);
        const auto settled = item.settled.find(dependency.id);
        // What is in memory is newer than what was looked up.
        if (!status && settled != item.settled.end()) status = settled->second;
        IW_CHECK(status.has_value());
        if (!is_met(dependency.on, *status)) return unmet_text(dependency, *status);
    }
    return {};
}

// ---- While it waits
// ------------------------------------------------------------------------------------

void BrokerCore::State::begin_waiting(Session& session) {
    if (session.phase != Phase::queued || session.fence.attempt > 0) return;
    std::vector<const Session*> open;
    for (const Dependency& dependency : session.particular().after) {
        const Session* found = durable_.session(dependency.id);
        if (found != nullptr) open.push_back(found);
    }
    if (!open.empty()) dependencies_.block(session, open);
}

bool BrokerCore::State::fail_dependents(const Session& session) {
    const SessionStatus status = session.progressed().ended->status;
    bool is_done = true;
    std::vector<const Session*> unmet;
    for (const auto& [ordinal, dependent] : dependencies_.dependents(session)) {
        const Dependency* dependency = dependency_on(*dependent, *session.id);
        IW_CHECK(dependency != nullptr);
        if (is_met(dependency->on, status)) continue;
        is_done = failed_in_step_ + unmet.size() < kFailedPerStep;
        if (!is_done) break;
        unmet.push_back(dependent);
    }
    failed_in_step_ += unmet.size();
    for (const Session* dependent : unmet) {
        to_close_.push_back(*dependent->id);
        fail_queued(*dependent, Detail::dependency_failed,
                    unmet_text(*dependency_on(*dependent, *session.id), status));
    }
    return is_done;
}

void BrokerCore::State::release_dependents(std::uint64_t ordinal) {
    for (Session* dependent : dependencies_.settle(ordinal)) {
        transition("session=" + dependent->id->str(), "CREATED/blocked",
                   status_text(shown_of(*dependent)), "all that it was to follow has ended");
        enqueue(*dependent);
    }
}

void BrokerCore::State::close_failed() {
    std::set<Origin> owners;
    for (const auto& [id, by] : std::exchange(unfinished_closes_, {})) {
        // Perhaps closed by another way since.
        const Session* session = durable_.session(id);
        if (session != nullptr) close(id, by);
    }
    while (!to_close_.empty()) {
        const Session* session = durable_.session(to_close_.front());
        to_close_.pop_front();
        if (session == nullptr || session->phase != Phase::closing) continue;
        const Origin root = session->progressed().owner;
        const Worker* owner = root.empty() ? nullptr : owner_of(root);
        if (owner != nullptr && is_waited_for(*owner)) {
            owners.insert(root);
            continue;
        }
        close(*session->id, why_nobody(root));
    }
    // One by one they would be as many messages.
    for (const Origin& root : owners) {
        const Worker* owner = owner_of(root);
        push_outcomes(*owner, presence_.at(owner->registration.name));
    }
}

}  // namespace iw::broker
