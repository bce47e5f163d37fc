#include "broker/core/durable_state.h"

#include <algorithm>
#include <utility>

#include "common/base/check.h"

namespace iw::broker {

namespace {

Particulars particulars_of(const Submission& submission) {
    Particulars particulars;
    particulars.parent = submission.parent;
    particulars.retry_of = submission.retry_of;
    particulars.retry = submission.retry;
    particulars.after = submission.after;
    particulars.keep_children = submission.keep_children;
    particulars.tags = submission.tags;
    particulars.metadata = submission.metadata;
    particulars.disk_limit = submission.disk_limit.value_or(kNoDiskLimit);
    particulars.estimate = submission.estimate;
    return particulars;
}

bool has_particulars(const Submission& submission) {
    return !submission.parent.empty() || !submission.retry_of.empty() || !submission.tags.empty() ||
           !submission.metadata.empty() || submission.retry || !submission.after.empty() ||
           submission.keep_children || submission.disk_limit || submission.estimate;
}

}  // namespace

bool is_orphan(const Session& session, const Worker& worker) {
    const std::string& state_id = session.progressed().state_id;
    return !state_id.empty() && state_id != worker.registration.state_id;
}

bool is_of(const Session& session, const Worker& worker) {
    const Progress& progress = session.progressed();
    if (progress.state_id.empty()) return progress.worker == worker.registration.name;
    return progress.state_id == worker.registration.state_id;
}

DurableState::DurableState(std::uint32_t generation) : generation_(generation) {
    IW_CHECK(generation >= 1);
}

const Worker* DurableState::worker(const WorkerName& name) const {
    const auto found = workers_.find(name);
    return found == workers_.end() ? nullptr : &found->second;
}

Session* DurableState::session(const SessionId& id) {
    const auto found = sessions_.find(id);
    return found == sessions_.end() ? nullptr : &found->second;
}

const Session* DurableState::session(const SessionId& id) const {
    const auto found = sessions_.find(id);
    return found == sessions_.end() ? nullptr : &found->second;
}

// ---- Recovery
// -------------------------------------------------------------------------------------------

void DurableState::restore(const LiveState& state) {
    IW_CHECK(head_ == 0);
    IW_CHECK(sessions_.empty());
    head_ = state.seq;
    generation_ = state.generation;
    IW_CHECK(generation_ >= 1);
    ids_.restore(state.id_second, state.newest_ids);
    // Workers first: the sessions name them.
    for (const WorkerRegistered& registered : state.workers) {
        workers_[registered.name].registration = registered;
    }
    for (const auto& [name, noted] : state.worker_states) {
        const auto worker = workers_.find(name);
        IW_CHECK(worker != workers_.end());
        worker->second.state = noted;
    }
    epoch_ = state.epoch;
    if (state.restored) restored_ = state.restored_why;
    for (const HoldView& hold : state.holds)
        holds_[{hold.scope, hold.name}] = hold;
    for (const LiveSession& live : state.sessions)
        restore(live);
}

// The key is left to the database, which alone knows the hash of the body behind it.
void DurableState::restore(const LiveSession& live) {
    Session& session = create(live.id, live.submission, live.ancestors);
    session.created_at = live.created_at;
    session.revision = static_cast<std::uint32_t>(live.revision);
    session.fence = live.fence;
    session.platform_faults = static_cast<std::uint8_t>(live.platform_faults);
    session.attempts_used = static_cast<std::uint8_t>(live.attempts_used);
    if (live.parent_fence) session.particulars_made().parent_fence = live.parent_fence;
    const std::vector<SessionId>& above = session.particular().ancestors;
    const bool is_whole = std::all_of(
        above.begin(), above.end(), [this](const SessionId& id) { return sessions_.contains(id); });
    if (!is_whole) late_.push_back(&session);
    link(session);
    if (live.inside_links) session.particulars_made().inside_links = *live.inside_links;
    if (live.not_before) session.particulars_made().not_before = live.not_before;
    if (live.expires_at) session.particulars_made().expires_at = live.expires_at;
    if (live.fence.attempt > 0 || live.ended || live.kill) {
        Progress& progress = session.progress_made();
        progress.worker = live.worker;
        progress.host = live.host;
        progress.state_id = live.worker_state_id;
        const Worker* worker = this->worker(live.worker);
        if (progress.state_id.empty() && worker != nullptr) {
            progress.state_id = worker->registration.state_id;
        }
        progress.started_at = live.started_at;
        progress.workspace = live.workspace;
        progress.last_reason = live.last_reason;
        progress.retry_at = live.retry_at;
        progress.failed_by_itself = live.failed_by_itself;
        progress.kill = live.kill;
    }
    if (live.ended) {
        session.progress->ended = std::make_unique<SessionEnded>(*live.ended);
        enter(session, Phase::closing);
        begin_closing(session);
        return;
    }
    if (!live.assigned) return;
    IW_CHECK(live.fence.attempt > 0);
    enter(session, live.started_at ? Phase::running : Phase::assigned);
    hold(session);
}

Session& DurableState::create(const SessionId& id, const Submission& submission,
                              const std::vector<SessionId>& ancestors) {
    // Ids grow with time, so the end is where nearly all of them go.
    const std::size_t before = sessions_.size();
    const auto entry = sessions_.try_emplace(sessions_.end(), id);
    IW_CHECK(sessions_.size() == before + 1);
    Session& session = entry->second;
    session.id = &entry->first;
    session.placement = placements_.join(submission);
    session.ordinal = next_ordinal_++;
    session.timeout = submission.timeout;
    session.priority = static_cast<std::int8_t>(submission.priority);
    session.on_lost = submission.on_lost;
    if (has_particulars(submission)) session.particulars_made() = particulars_of(submission);
    if (!ancestors.empty()) session.particulars_made().ancestors = ancestors;
    // A record of before they were stated.
    if (ancestors.empty() && !submission.parent.empty()) {
        std::vector<SessionId>& found = session.particulars_made().ancestors;
        const Session* parent = this->session(submission.parent);
        if (parent != nullptr) found = parent->particular().ancestors;
        found.push_back(submission.parent);
    }
    for (const SessionId& ancestor : session.particular().ancestors) {
        if (sessions_.contains(ancestor)) descendants_.add(ancestor, session);
    }
    ++counts_[static_cast<std::size_t>(Phase::queued)];
    return session;
}

// Of a session that comes from the database, it tells; what is above a parent that is gone cannot
// be found here.
void DurableState::link(Session& session) {
    if (session.particular().ancestors.empty()) {
        if (session.particulars) session.particulars->inside_links = 0;
        return;
    }
    Particulars& particulars = session.particulars_made();
    const std::size_t last = particulars.ancestors.size() - 1;
    const Session* parent = this->session(particulars.ancestors[last]);
    const auto own = static_cast<std::uint16_t>(1u << last);
    particulars.inside_links = parent == nullptr ? static_cast<std::uint16_t>(own - 1u)
                                                 : parent->particular().inside_links;
    if (particulars.parent_fence) particulars.inside_links |= own;
}

void DurableState::link_late() {
    for (Session* session : std::exchange(late_, {})) {
        for (const SessionId& ancestor : session->particular().ancestors) {
            const bool is_missing =
                sessions_.contains(ancestor) && !descendants_.contains(ancestor, *session);
            if (is_missing) descendants_.add(ancestor, *session);
        }
    }
}

// ---- Records
// --------------------------------------------------------------------------------------------

// A record was decided by a step that knew this state, so one that does not fit means that the
// journal is not this state's, or that the core has a fault. Neither may go on.
void DurableState::apply(const Record& record) {
    IW_CHECK(record.seq == head_ + 1);
    link_late();
    std::visit([&](const auto& body) { on(record, body); }, record.body);
    head_ = record.seq;
}

Session& DurableState::advance(const SessionId& id, const RecordBody& body) {
    Session* session = this->session(id);
    IW_CHECK(session != nullptr);
    const std::optional<Phase> next = phase_after(session->phase, body);
    IW_CHECK(next.has_value());
    enter(*session, *next);
    ++session->revision;
    return *session;
}

void DurableState::enter(Session& session, Phase phase) {
    std::size_t& before = counts_[static_cast<std::size_t>(session.phase)];
    IW_CHECK(before > 0);
    --before;
    ++counts_[static_cast<std::size_t>(phase)];
    session.phase = phase;
}

void DurableState::on(const Record& record, const SessionCreated& created) {
    Session& session = create(created.id, created.submission, created.ancestors);
    ids_.note(created.id, created.submission.agent);
    session.created_at = record.time;
    session.revision = 1;
    if (created.not_before) session.particulars_made().not_before = created.not_before;
    if (created.expires_at) session.particulars_made().expires_at = created.expires_at;
    if (created.parent_fence) session.particulars_made().parent_fence = created.parent_fence;
    link(session);
    if (created.submission.key.empty()) return;
    session.key =
        keys_.add(created.principal, created.submission.key, *session.id, created.body_hash);
}

void DurableState::on(const Record& record, const AttemptAssigned& assigned) {
    Session& session = advance(assigned.id, record.body);
    IW_CHECK(assigned.fence > session.fence);
    IW_CHECK(workers_.contains(assigned.worker));
    session.fence = assigned.fence;
    Progress& progress = session.progress_made();
    progress.worker = assigned.worker;
    progress.host = assigned.host;
    progress.state_id = workers_[assigned.worker].registration.state_id;
    progress.started_at.reset();
    hold(session);
}

void DurableState::on(const Record& record, const AttemptStarted& started) {
    Session& session = advance(started.id, record.body);
    IW_CHECK(started.fence == session.fence);
    session.progress->started_at = started.started_at;
    session.progress->workspace = started.workspace;
}

void DurableState::on(const Record& record, const AttemptReturned& returned) {
    Session& session = advance(returned.id, record.body);
    IW_CHECK(returned.fence == session.fence);
    let_go(session);
    session.progress->started_at.reset();
    session.progress->last_reason = returned.reason;
    session.progress->retry_at = returned.retry_at;
    session.progress->failed_by_itself = !returned.platform_fault;
    // The bound is the step's to keep: the last fault ends the session instead of returning it.
    if (returned.platform_fault) ++session.platform_faults;
    if (!returned.platform_fault) ++session.attempts_used;
    IW_CHECK(session.platform_faults < limits::kPlatformFaultsMax);
}

void DurableState::on(const Record& record, const SessionEnded& ended) {
    Session* session = this->session(ended.id);
    IW_CHECK(session != nullptr);
    // Before the phase changes: the slot is free from here on, whatever the files still need.
    if (session->is_held()) let_go(*session);
    advance(ended.id, record.body);
    IW_CHECK(is_final(ended.status));
    IW_CHECK(ended.fence == session->fence);
    if (is_attempt_used(ended)) ++session->attempts_used;
    Progress& progress = session->progress_made();
    auto kept = std::make_unique<SessionEnded>();
    // All but the result, which is up to a MiB and which only the database hands out.
    *kept = SessionEnded{.id = ended.id,
                         .fence = ended.fence,
                         .status = ended.status,
                         .detail = ended.detail,
                         .reason = ended.reason,
                         .kill_reason = ended.kill_reason,
                         .exit_code = ended.exit_code,
                         .started_at = ended.started_at,
                         .completed_at = ended.completed_at,
                         .workspace = ended.workspace,
                         .result_status = ended.result_status,
                         .result_size = ended.result_size,
                         .result_sha256 = ended.result_sha256,
                         .result_inline = ended.result_inline,
                         .result = {},
                         .evidence = {},
                         .deliverables = ended.deliverables};
    progress.ended = std::move(kept);
    begin_closing(*session);
}

void DurableState::on(const Record& record, const SessionClosed& closed) {
    const Session& session = advance(closed.id, record.body);
    const auto group = closing_.find(session.progressed().owner);
    IW_CHECK(group != closing_.end());
    const std::size_t erased = group->second.erase(session.ordinal);
    IW_CHECK(erased == 1);
    if (group->second.empty()) closing_.erase(group);
    --counts_[static_cast<std::size_t>(Phase::closing)];
    // The database may not have seen the session's end yet; until then its key is answered here.
    keys_.finish(closed.id, session.key, session.progressed().ended->status);
    descendants_.remove(session);
    placements_.leave(session.placement);
    sessions_.erase(closed.id);
}

void DurableState::on(const Record& record, const KillWished& wished) {
    Session& session = advance(wished.id, record.body);
    IW_CHECK(!session.is_kill_wished());
    session.progress_made().kill = wished;
}

void DurableState::on(const Record& record, const ReportSuperseded& superseded) {
    Session& session = advance(superseded.id, record.body);
    std::vector<ReportSuperseded>& kept = session.progress_made().superseded;
    // The bound is the step's to keep, and memory's: an older one may have written more.
    if (kept.size() >= kSupersededMax) return;
    // All but the result, which only the database hands out.
    ReportSuperseded& own = kept.emplace_back();
    own.id = superseded.id;
    own.fence = superseded.fence;
    own.number = superseded.number;
    own.what = superseded.what;
    own.worker = superseded.worker;
}

void DurableState::on(const Record&, const WorkerRegistered& registered) {
    IW_CHECK(!registered.name.empty());
    Worker& worker = workers_[registered.name];
    worker.registration = registered;
    take_over(worker);
}

void DurableState::on(const Record&, const WorkerNoted& noted) {
    const auto worker = workers_.find(noted.name);
    IW_CHECK(worker != workers_.end());
    worker->second.state = noted.state;
}

void DurableState::on(const Record& record, const TimeoutChanged& changed) {
    advance(changed.id, record.body).timeout = changed.timeout;
}

void DurableState::on(const Record& record, const HoldChanged& changed) {
    const HoldKey key{changed.scope, changed.name};
    if (!changed.on) {
        holds_.erase(key);
        return;
    }
    holds_[key] = HoldView{.scope = changed.scope,
                           .name = changed.name,
                           .principal = changed.principal,
                           .reason = changed.reason,
                           .since = record.time,
                           .until = changed.until};
}

void DurableState::on(const Record&, const EpochBegun& begun) {
    IW_CHECK(begun.generation > generation_);
    generation_ = begun.generation;
    epoch_ = begun.epoch;
    restored_.reset();
    if (begun.hold) restored_ = begun.reason;
}

void DurableState::on(const Record&, const RestoreReleased&) {
    restored_.reset();
}

void DurableState::on(const Record& record, const AttemptAdopted& adopted) {
    Session* before = session(adopted.id);
    IW_CHECK(before != nullptr);
    IW_CHECK(workers_.contains(adopted.worker));
    if (before->is_held()) let_go(*before);
    Session& session = advance(adopted.id, record.body);
    IW_CHECK(adopted.fence >= session.fence);
    session.fence = adopted.fence;
    Progress& progress = session.progress_made();
    progress.worker = adopted.worker;
    progress.host = adopted.host;
    progress.state_id = workers_[adopted.worker].registration.state_id;
    progress.started_at.reset();
    hold(session);
}

void DurableState::on(const Record& record, const SessionEdited& edited) {
    // What is final is a row of the database and nothing else.
    if (session(edited.id) == nullptr) return;
    Session& session = advance(edited.id, record.body);
    if (edited.tags) session.particulars_made().tags = *edited.tags;
    if (edited.metadata) session.particulars_made().metadata = *edited.metadata;
    if (edited.parent) move_family(session, edited);
}

void DurableState::move_family(Session& session, const SessionEdited& edited) {
    std::vector<Session*> moved;
    for (const SessionId& id : edited.below) {
        moved.push_back(this->session(id));
        IW_CHECK(moved.back() != nullptr);
    }
    leave_family(session);
    for (Session* each : moved)
        leave_family(*each);
    Particulars& own = session.particulars_made();
    const std::size_t depth = own.ancestors.size();
    own.parent = *edited.parent;
    own.parent_fence.reset();
    own.ancestors = edited.ancestors;
    link(session);
    join_family(session);
    for (Session* each : moved) {
        Particulars& particulars = each->particulars_made();
        std::vector<SessionId> above = edited.ancestors;
        above.insert(above.end(),
                     particulars.ancestors.begin() + static_cast<std::ptrdiff_t>(depth),
                     particulars.ancestors.end());
        particulars.ancestors = std::move(above);
        // What is between the session and this one stays as it came to be.
        const auto kept = particulars.inside_links >> depth << edited.ancestors.size();
        particulars.inside_links = static_cast<std::uint16_t>(own.inside_links | kept);
        join_family(*each);
    }
}

void DurableState::leave_family(Session& session) {
    descendants_.leave(session);
    if (session.is_held()) workers_.at(session.progressed().worker).lending.remove(session);
}

void DurableState::join_family(Session& session) {
    for (const SessionId& ancestor : session.particular().ancestors) {
        if (sessions_.contains(ancestor)) descendants_.add(ancestor, session);
    }
    if (session.is_held()) workers_.at(session.progressed().worker).lending.add(session);
}

// ---- What follows from them
// -----------------------------------------------------------------------------

void DurableState::hold(Session& session) {
    const auto worker = workers_.find(session.progressed().worker);
    IW_CHECK(worker != workers_.end());
    const bool fresh = worker->second.held.emplace(session.ordinal, &session).second;
    IW_CHECK(fresh);
    worker->second.lending.add(session);
}

void DurableState::let_go(Session& session) {
    const auto worker = workers_.find(session.progressed().worker);
    IW_CHECK(worker != workers_.end());
    const std::size_t erased = worker->second.held.erase(session.ordinal);
    IW_CHECK(erased == 1);
    worker->second.lending.remove(session);
}

// The database does the same to its rows, so that a restored session is with the same name.
void DurableState::take_over(Worker& worker) {
    const WorkerRegistered& registration = worker.registration;
    if (registration.state_id.empty()) return;
    for (auto& [name, other] : workers_) {
        if (name == registration.name) continue;
        for (auto held = other.held.begin(); held != other.held.end();) {
            Session& session = *held->second;
            if (session.progress->state_id != registration.state_id) {
                ++held;
                continue;
            }
            session.progress->worker = registration.name;
            session.progress->host = registration.host;
            other.lending.remove(session);
            worker.lending.add(session);
            worker.held.insert(other.held.extract(held++));
        }
    }
}

// A session without an origin has its workspace at the worker that ran it.
Origin DurableState::owner_of(const Session& session) const {
    if (!session.placement->placement.origin.empty()) return session.placement->placement.origin;
    const Worker* worker = this->worker(session.progressed().worker);
    return worker == nullptr ? Origin{} : worker->root();
}

void DurableState::begin_closing(Session& session) {
    session.progress_made().owner = owner_of(session);
    const bool fresh = closing_[session.progress->owner].emplace(session.ordinal, &session).second;
    IW_CHECK(fresh);
}

}  // namespace iw::broker
