#include "worker/core/worker_core.h"

#include <algorithm>

#include "common/base/check.h"
#include "common/base/planted.h"
#include "worker/core/core_state.h"

namespace iw::worker {

namespace {

void take_earlier(std::optional<Timestamp>& deadline, std::optional<Timestamp> other) {
    if (other && (!deadline || *other < *deadline)) deadline = other;
}

}  // namespace

// ---- One step ----------------------------------------------------------------------------------

Actions WorkerCore::State::step(Now now, CoreEvent event) {
    IW_CHECK(!started_ || now.steady >= now_.steady);
    now_ = now;
    actions_.clear();
    if (!started_) {
        started_ = true;
        link_.start(now.steady);
    }
    const bool restoring = std::holds_alternative<RestoredEvent>(event);
    std::visit([this](auto& what) { on(std::move(what)); }, event);
    // Nothing is said or done before all of them are known.
    if (restoring) return std::exchange(actions_, {});
    tick_link();
    // Attempts that are over leave the map while it is walked, hence the copy of the keys.
    std::vector<AttemptRef> refs;
    refs.reserve(live_.size());
    for (const auto& [ref, attempt] : live_)
        refs.push_back(ref);
    for (const AttemptRef& ref : refs) {
        if (Attempt* attempt = find(ref)) advance(*attempt);
    }
    for (auto& [ref, end] : foreign_)
        advance_foreign(ref, end);
    send_reports();
    forget_old();
    check_invariants();
    return std::exchange(actions_, {});
}

std::optional<Timestamp> WorkerCore::State::next_deadline() const {
    std::optional<Timestamp> deadline = link_.deadline();
    const bool reporting = link_.up() && read_only_.empty();
    for (const auto& [ref, attempt] : live_) {
        if (!attempt.busy) take_earlier(deadline, attempt.wake);
        for (std::uint32_t number = 1; reporting && number <= 3; ++number) {
            const SendState& sent = attempt.sent[number - 1];
            if (report_due(attempt, number))
                take_earlier(deadline, std::max(sent.next_at, sent.refused_until));
        }
    }
    for (const auto& [ref, end] : foreign_) {
        if (end.busy) continue;
        if (!end.written) take_earlier(deadline, end.retry_at);
        if (end.written && reporting)
            take_earlier(deadline, std::max(end.sent.next_at, end.sent.refused_until));
    }
    if (!forget_.empty()) take_earlier(deadline, forget_.begin()->first);
    return deadline;
}

// ---- Events of the shell -----------------------------------------------------------------------

void WorkerCore::State::on(RestoredEvent event) {
    const AttemptRef ref = event.snapshot.attempt;
    if (event.snapshot.closed_at) {
        const Timestamp until =
            now_.steady + config_.closed_kept - (now_.wall - *event.snapshot.closed_at);
        closed_[ref] = until;
        forget_.insert({until, ref});
        return;
    }
    Attempt attempt;
    attempt.facts.attempt = ref;
    attempt.reopened = reopening_.erase(ref) > 0;
    merge(attempt, std::move(event.snapshot));
    // Made by a crash in the middle of accepting: nothing was promised, so nothing is known.
    if (attempt.unclaimed() && !attempt.facts.assignment) return;
    attempt.started_written = attempt.facts.reported >= 1;
    // Whether tmux was asked before the crash is not on disk: look before starting anything, and
    // end a session whose start was taken while its launcher was on the way.
    attempt.launched = attempt.facts.holder != StartHolder::launcher;
    attempt.launched_at = now_.steady;
    attempt.next_check = now_.steady;
    attempt.launcher_gone = event.launcher == LauncherState::gone || IW_PLANT(adopts_nobody);
    attempt.other_boot = event.launcher == LauncherState::other_boot;
    note(ref, "", std::string(name(phase_of(attempt))), "found on disk");
    live_.insert_or_assign(ref, std::move(attempt));
}

void WorkerCore::State::on(SeenEvent event) {
    Attempt* attempt = find(event.snapshot.attempt);
    if (attempt == nullptr) return;
    // RecordEnd is answered by what then stands on disk.
    if (event.snapshot.end) attempt->busy = false;
    if (attempt->reopened) {
        event.snapshot.outcome.reset();
        event.snapshot.reported = 0;
    }
    merge(*attempt, std::move(event.snapshot));
}

void WorkerCore::State::merge(Attempt& attempt, AttemptSnapshot snapshot) {
    AttemptSnapshot& facts = attempt.facts;
    const AttemptPhase before = phase_of(attempt);
    if (snapshot.assignment && !facts.assignment) {
        facts.assignment = std::move(snapshot.assignment);
        facts.assignment->prompt.clear();  // stands on disk
    }
    if (snapshot.holder != StartHolder::nobody && facts.holder == StartHolder::nobody) {
        facts.holder = snapshot.holder;
        facts.holder_reason = snapshot.holder_reason;
        attempt.dormant = false;
        attempt.next_check = now_.steady + Duration{5'000};
        attempt.started = now_.steady;
    }
    if (snapshot.started_at && !facts.started_at) {
        facts.started_at = snapshot.started_at;
        const Duration since = std::max(now_.wall - *snapshot.started_at, Duration{0});
        attempt.started = std::min(snapshot.started.value_or(now_.steady - since), now_.steady);
        attempt.next_measure = now_.steady + config_.disk_interval;
    }
    if (snapshot.timeout && !facts.timeout) facts.timeout = snapshot.timeout;
    if (snapshot.stop && !facts.stop) {
        attempt.stop_unrecorded = false;
        facts.stop = std::move(snapshot.stop);
        attempt.stop_wish.reset();
    }
    if (snapshot.end && !facts.end) {
        facts.end = std::move(snapshot.end);
        attempt.end_seen = now_.steady;
    }
    facts.log_done = facts.log_done || snapshot.log_done;
    if (snapshot.outcome && !facts.outcome) facts.outcome = std::move(snapshot.outcome);
    facts.reported = std::max(facts.reported, snapshot.reported);
    const AttemptPhase after = phase_of(attempt);
    if (before != after)
        note(facts.attempt, std::string(name(before)), std::string(name(after)), "");
}

void WorkerCore::State::on(LauncherGoneEvent event) {
    Attempt* attempt = find(event.attempt);
    if (attempt != nullptr && !attempt->facts.end) attempt->launcher_gone = true;
}

void WorkerCore::State::on(OfferEvent event) {
    const bool agents = event.agents && *event.agents != config_.agents;
    const bool slots = event.slots && *event.slots != config_.slots;
    if (!agents && !slots) return;
    if (agents) config_.agents = std::move(*event.agents);
    if (slots) config_.slots = *event.slots;
    ++offer_;
    if (link_.up()) link_.heartbeat_soon(now_.steady);
}

void WorkerCore::State::on(ShutdownEvent) {
    shutting_down_ = true;
    record_seen();
    if (link_.up()) emit(SendGoodbye{});
    link_.close();
}

void WorkerCore::State::on(TickEvent) {}

// ---- Small parts -------------------------------------------------------------------------------

void WorkerCore::State::forget_old() {
    while (!forget_.empty() && forget_.begin()->first <= now_.steady) {
        const AttemptRef ref = forget_.begin()->second;
        forget_.erase(forget_.begin());
        IW_CHECK(closed_.erase(ref) == 1);
        emit(ForgetAttempt{ref});
    }
}

Attempt* WorkerCore::State::find(const AttemptRef& ref) {
    const auto found = live_.find(ref);
    return found == live_.end() ? nullptr : &found->second;
}

Attempt* WorkerCore::State::find_idle(const AttemptRef& ref) {
    Attempt* attempt = find(ref);
    if (attempt != nullptr) attempt->busy = false;
    return attempt;
}

void WorkerCore::State::start_action(Attempt& attempt, Action action) {
    IW_CHECK(!attempt.busy);
    attempt.busy = true;
    attempt.wake.reset();
    emit(std::move(action));
}

void WorkerCore::State::note(const AttemptRef& ref, std::string from, std::string to,
                             std::string why) {
    emit(Transition{.subject = "attempt=" + attempt_name(ref),
                    .from = std::move(from),
                    .to = std::move(to),
                    .why = std::move(why)});
}

std::string WorkerCore::State::workspace_of(const Attempt& attempt) const {
    // A stop for an attempt that was never assigned here says nothing about where its files are.
    if (!attempt.facts.assignment) return "";
    return config_.sessions_folder + "/" + attempt.facts.attempt.session.str();
}

SessionView WorkerCore::State::view_of(const Attempt& attempt) const {
    SessionView view;
    view.id = attempt.facts.attempt.session;
    view.attempt = attempt.facts.attempt.fence.attempt;
    view.generation = attempt.facts.attempt.fence.generation;
    view.worker = config_.name.str();
    view.host = config_.host;
    view.workspace = workspace_of(attempt);
    if (attempt.facts.started_at) {
        view.status = SessionStatus::running;
        view.detail = Detail::working;
        view.started_at = *attempt.facts.started_at + clock_offset();
    } else {
        view.detail = Detail::assigned;
    }
    if (!attempt.facts.assignment) return view;
    const Assignment& assignment = *attempt.facts.assignment;
    view.agent = assignment.agent;
    view.project = assignment.project;
    view.origin =
        assignment.origin.empty() ? Origin{config_.host, config_.root} : assignment.origin;
    view.created_at = assignment.created_at;
    view.parent = assignment.parent;
    view.retry_of = assignment.retry_of;
    view.priority = assignment.priority;
    view.timeout = attempt.timeout();
    view.tags = assignment.tags;
    view.metadata = assignment.metadata;
    return view;
}

std::optional<SessionView> WorkerCore::State::view(const AttemptRef& ref, Now now) const {
    const auto found = live_.find(ref);
    if (found == live_.end() || !found->second.facts.assignment) return std::nullopt;
    SessionView view = view_of(found->second);
    if (found->second.facts.started_at) {
        view.started_at = *found->second.facts.started_at + (link_.broker_time(now) - now.wall);
    }
    return view;
}

std::vector<AttemptState> WorkerCore::State::inventory() const {
    std::vector<AttemptState> list;
    for (const auto& [ref, attempt] : live_) {
        // Not on disk, or waiting to be assigned once more: the broker must not take it for held.
        if (attempt.unclaimed() && (attempt.dormant || !attempt.facts.assignment)) continue;
        if (list.size() == limits::kInventoryMax) break;
        const AttemptPhase phase = phase_of(attempt);
        const bool timed = phase == AttemptPhase::accepted || phase == AttemptPhase::running;
        std::optional<Duration> timeout;
        if (timed && attempt.facts.assignment) timeout = attempt.timeout();
        list.push_back(
            {.session = ref.session, .fence = ref.fence, .phase = phase, .timeout = timeout});
    }
    return list;
}

WorkerCore::Counts WorkerCore::State::counts() const {
    Counts counts;
    counts.closed = closed_.size();
    for (const auto& [ref, attempt] : live_) {
        const AttemptPhase phase = phase_of(attempt);
        if (phase == AttemptPhase::accepted) ++counts.accepted;
        if (phase == AttemptPhase::running) ++counts.running;
        if (phase != AttemptPhase::accepted && phase != AttemptPhase::running) ++counts.ended;
    }
    return counts;
}

// ---- Outside -----------------------------------------------------------------------------------

WorkerCore::WorkerCore(CoreConfig config) : state_(std::make_unique<State>(std::move(config))) {}
WorkerCore::~WorkerCore() = default;
WorkerCore::WorkerCore(WorkerCore&&) noexcept = default;
WorkerCore& WorkerCore::operator=(WorkerCore&&) noexcept = default;

Actions WorkerCore::step(Now now, CoreEvent event) {
    return state_->step(now, std::move(event));
}
std::optional<Timestamp> WorkerCore::next_deadline() const {
    return state_->next_deadline();
}
bool WorkerCore::linked() const {
    return state_->link().up();
}
bool WorkerCore::may_start(Now now) const {
    return state_->may_start(now.steady);
}
WallTime WorkerCore::broker_time(Now now) const {
    return state_->link().broker_time(now);
}
bool WorkerCore::is_known(const AttemptRef& attempt) const {
    return state_->is_known(attempt);
}
std::optional<SessionView> WorkerCore::view(const AttemptRef& attempt, Now now) const {
    return state_->view(attempt, now);
}
std::vector<AttemptState> WorkerCore::inventory() const {
    return state_->inventory();
}
WorkerCore::Counts WorkerCore::counts() const {
    return state_->counts();
}

}  // namespace iw::worker
