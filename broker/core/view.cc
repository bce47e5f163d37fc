// Sessions and workers as outsiders see them.

#include <algorithm>
#include <set>
#include <utility>

#include "broker/core/state.h"
#include "common/base/check.h"

namespace iw::broker {

namespace {

// Of the attempts of a worker that nobody knows, this many are shown: all workers fit one message.
constexpr std::size_t kUnknownShown = 100;

}  // namespace

std::optional<SessionView> BrokerCore::State::view(const SessionId& id) const {
    const Session* session = durable_.session(id);
    if (session == nullptr) return std::nullopt;
    return view_of(*session);
}

SessionView BrokerCore::State::view_of(const Session& session) const {
    const Particulars& particulars = session.particular();
    const Placement& placement = session.placement->placement;
    const Progress& progress = session.progressed();
    SessionView view;
    view.id = *session.id;
    view.agent = placement.agent;
    view.project = placement.project;
    view.origin = placement.origin;
    view.created_at = session.created_at;
    view.started_at = progress.started_at;
    view.attempt = session.fence.attempt;
    view.generation = session.fence.generation;
    view.worker = progress.worker.str();
    view.host = progress.host;
    view.workspace = progress.workspace;
    view.parent = particulars.parent;
    view.retry_of = particulars.retry_of;
    view.priority = session.priority;
    view.timeout = session.timeout;
    view.attempts_used = session.attempts_used;
    view.attempts_max = session.attempts_max();
    view.on_lost = session.on_lost;
    view.not_before = progress.retry_at ? progress.retry_at : particulars.not_before;
    view.expires_at = particulars.expires_at;
    view.after = particulars.after;
    view.tags = particulars.tags;
    view.metadata = particulars.metadata;
    view.estimate = particulars.estimate;
    view.revision = session.revision;
    const StatusChange state = shown_of(session);
    view.status = state.status;
    view.detail = state.detail;
    if (session.phase == Phase::queued) describe_queued(session, view);
    if (session.is_held()) describe_held(session, view);
    if (session.phase == Phase::closing) {
        view.reason = status_text({progress.ended->status, progress.ended->detail}) +
                      "; its files are being written";
    }
    return view;
}

StatusChange BrokerCore::State::shown_of(const Session& session) const {
    StatusChange state = shown(session);
    if (dependencies_.is_blocked(session)) state.detail = Detail::blocked;
    return state;
}

void BrokerCore::State::describe_queued(const Session& session, SessionView& view) const {
    if (dependencies_.is_blocked(session)) {
        view.reason = blocked_text(session);
        return;
    }
    const bool is_due_later = session.is_due_later();
    if (session.fence.attempt > 0) {
        const std::string why = retrying_text(session);
        if (!is_due_later) describe_ready(session, view);
        if (is_due_later) view.reason = "not before " + format_utc(*view.not_before);
        view.reason = why + ", " + view.reason;
        if (view.detail != Detail::paused) view.detail = Detail::retrying;
        return;
    }
    if (!is_due_later) return describe_ready(session, view);
    view.detail = Detail::delayed;
    view.reason = "until " + format_utc(*view.not_before);
}

std::string BrokerCore::State::blocked_text(const Session& session) const {
    std::string text;
    for (const Dependency& dependency : session.particular().after) {
        const Session* found = durable_.session(dependency.id);
        if (found == nullptr) continue;
        text = "waits for " + dependency.id.str() + " (" + std::string(name(shown(*found).status)) +
               ")";
        break;
    }
    const std::size_t open = dependencies_.open(session);
    if (open > 1) text += " and " + std::to_string(open - 1) + " more";
    if (session.due_at() > time_.steady) {
        text += "; not before " + format_utc(*session.particular().not_before);
    }
    return text;
}

// Why it is here again, and which attempt follows.
std::string BrokerCore::State::retrying_text(const Session& session) const {
    std::string text = session.progressed().last_reason;
    if (!text.empty()) text += "; ";
    if (session.attempts_max() == 1) return text + "another attempt follows";
    return text + "attempt " + std::to_string(session.attempts_used + 1u) + " of " +
           std::to_string(session.attempts_max()) + " follows";
}

void BrokerCore::State::describe_ready(const Session& session, SessionView& view) const {
    view.detail = Detail::queued;
    if (waiting_parents_.contains(session.ordinal)) {
        view.reason = "when all below its earlier attempts have ended";
        return;
    }
    view.reason = held_back_by(session);
    if (!view.reason.empty()) {
        view.detail = Detail::paused;
        return;
    }
    const ReadyQueue::Class* placement_class = ready_.find(session.placement->number);
    IW_CHECK(placement_class != nullptr);
    const std::vector<const Worker*>& eligible = placement_class->eligible;
    const auto reachable = [this](const Worker* worker) { return is_reachable(*worker); };
    if (std::any_of(eligible.begin(), eligible.end(), reachable)) {
        view.reason = "waiting for a slot";
        return;
    }
    view.detail = Detail::no_worker;
    view.reason = "waiting for a worker that " + wanted(session.placement->placement);
    for (const Worker* worker : eligible) {
        if (!presence_.at(worker->registration.name).is_awaited) continue;
        view.reason = "waiting for worker " + worker->registration.name.str() +
                      ", which was started anew and gets the name when its former start has been "
                      "silent for " +
                      format_duration(config_.unreachable_after);
    }
}

void BrokerCore::State::describe_held(const Session& session, SessionView& view) const {
    const Progress& progress = session.progressed();
    const Worker* worker = durable_.worker(progress.worker);
    IW_CHECK(worker != nullptr);
    const std::string named = "worker " + progress.worker.str();
    view.reason = session.phase == Phase::assigned ? "given to " + progress.worker.str() : "";
    if (progress.kill) view.reason = "is being stopped";
    if (is_orphan(session, *worker)) {
        view.reason = named + " has started over without it";
    } else if (worker->state == worker_state::kUnreachable ||
               worker->state == worker_state::kLost) {
        view.reason = named + " is " + worker->state;
        if (progress.kill) view.reason += "; it is stopped as soon as that one is heard again";
    } else {
        const bool waits =
            session.phase == Phase::running && !progress.kill && has_unfinished_child(session);
        if (waits) view.detail = Detail::waiting_on_children;
        return;
    }
    // An attempt that is not known to have started is still CREATED, and that has no such word.
    if (session.phase == Phase::running) view.detail = Detail::unreachable;
}

void BrokerCore::State::apply_outcome(const SessionEnded& ended, SessionView& view) const {
    IW_CHECK(is_final(ended.status));
    view.status = ended.status;
    view.detail = ended.detail;
    view.reason = ended.reason;
    view.kill_reason = ended.kill_reason;
    view.exit_code = ended.exit_code;
    if (ended.started_at) view.started_at = ended.started_at;
    view.completed_at = ended.completed_at;
    if (!ended.workspace.empty()) view.workspace = ended.workspace;
    view.result_status = ended.result_status;
    view.result_size = ended.result_size;
    view.result_sha256 = ended.result_sha256;
    view.deliverables = ended.deliverables;
}

Outcome BrokerCore::State::outcome_of(const Session& session) const {
    IW_CHECK(session.phase == Phase::closing);
    Outcome outcome{.session = view_of(session)};
    apply_outcome(*session.progressed().ended, outcome.session);
    return outcome;
}

std::vector<SessionId> BrokerCore::State::match(std::string_view prefix, std::size_t max) const {
    std::vector<SessionId> ids;
    const auto& sessions = durable_.sessions();
    for (auto each = sessions.lower_bound(SessionId(std::string(prefix)));
         each != sessions.end() && ids.size() < max; ++each) {
        if (!each->first.str().starts_with(prefix)) break;
        ids.push_back(each->first);
    }
    return ids;
}

WorkersReply BrokerCore::State::workers_view() const {
    WorkersReply answer;
    for (const auto& [name, worker] : durable_.workers()) {
        const WorkerRegistered& registration = worker.registration;
        const Presence& presence = presence_.at(name);
        answer.workers.push_back(WorkerView{.name = name,
                                            .host = registration.host,
                                            .root = registration.root,
                                            .project = registration.project,
                                            .state = worker.state,
                                            .slots = registration.slots,
                                            .used = static_cast<std::uint32_t>(used(worker)),
                                            .agents = registration.agents,
                                            .labels = registration.labels,
                                            .software = registration.software,
                                            .start_count = registration.start_count,
                                            .heard_at = presence.heard_wall,
                                            .drain = std::nullopt,
                                            .unknown = {}});
        WorkerView& view = answer.workers.back();
        if (const HoldView* drain = drain_of(worker)) view.drain = *drain;
        for (const AttemptRef& attempt : presence.unknown) {
            if (view.unknown.size() == kUnknownShown) break;
            view.unknown.push_back(attempt);
        }
    }
    return answer;
}

std::vector<std::string> BrokerCore::State::known_agents(std::string_view project) const {
    std::set<std::string> known;
    for (const auto& [name, worker] : durable_.workers()) {
        if (!project.empty() && worker.registration.project != project) continue;
        known.insert(worker.registration.agents.begin(), worker.registration.agents.end());
    }
    return {known.begin(), known.end()};
}

bool BrokerCore::State::is_current(const AttemptRef& inside) const {
    const Session* session = durable_.session(inside.session);
    return session != nullptr && session->is_held() && session->fence == inside.fence;
}

bool BrokerCore::State::is_current(const AttemptRef& inside, const WorkerName& by) const {
    return is_current(inside) && durable_.session(inside.session)->progressed().worker == by;
}

bool BrokerCore::State::may_speak(const Caller& caller) const {
    if (!caller.inside) return true;
    if (caller.relayed_by.empty()) return is_current(*caller.inside);
    return is_current(*caller.inside, caller.relayed_by);
}

}  // namespace iw::broker
