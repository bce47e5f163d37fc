#include "tests/sim/worker_shell.h"

#include <utility>

#include "common/base/check.h"
#include "common/base/overloaded.h"

namespace iw::sim {

namespace {

worker::CoreConfig config_of(Site& site) {
    worker::CoreConfig config;
    config.name = site.name();
    config.host = site.host().name;
    config.root = site.root();
    config.project = "p";
    config.state_id = site.state_id();
    config.start_count = site.next_start();
    config.boot_id = site.host().boot_id();
    config.slots = site.slots();
    config.agents = {"a", "b"};
    config.seen = site.seen();
    config.sessions_folder = site.root() + "/sessions";
    return config;
}

}  // namespace

WorkerShell::WorkerShell(Parts parts) : parts_(std::move(parts)), core_(config_of(parts_.site)) {}

WorkerShell::~WorkerShell() {
    parts_.network.close(socket_);
}

// ---- Life and death ----------------------------------------------------------------------------

void WorkerShell::start() {
    note("worker starts");
    parts_.site.set_watch(
        {.on_record = [this](AttemptRef attempt) { arrive([this, attempt] { look_at(attempt); }); },
         .on_launcher_gone =
             [this](AttemptRef attempt) { arrive([this, attempt] { launcher_gone(attempt); }); },
         .on_relay =
             [this](const AttemptRef& inside, Request request,
                    std::function<void(Site::Answer)> on_answer) {
                 return relay(inside, std::move(request), std::move(on_answer));
             }});
    connect();
    std::vector<AttemptRef> found;
    for (const auto& [attempt, folder] : parts_.site.disk()) {
        if (folder.is_blank()) continue;
        dispatch(worker::RestoredEvent{parts_.site.snapshot(attempt),
                                       parts_.site.launcher_state(attempt)});
        if (is_dead()) return;
        if (!folder.closed_at) found.push_back(attempt);
    }
    // What appeared between reading and watching.
    for (const AttemptRef& attempt : found)
        arrive([this, attempt] { look_at(attempt); });
    wake();
}

void WorkerShell::kill(const std::string& why) {
    if (is_dead()) return;
    note("worker dies: " + why);
    life_.reset();
    parts_.site.clear_watch();
    parts_.network.close(socket_);
    parts_.on_death();
}

void WorkerShell::shut_down() {
    dispatch(worker::ShutdownEvent{});
    is_ending_ = true;
    later(Duration(1'000), [this] { kill("asked to end"); });
}

void WorkerShell::freeze() {
    is_frozen_ = true;
    note("worker stands still");
    // The transport's heartbeats notice, unless it goes on in time.
    if (parts_.world.one_in(2)) return;
    later(parts_.world.between(15_s, 20_s), [this] {
        if (is_frozen_) parts_.network.cut(parts_.site.host().name);
    });
}

void WorkerShell::thaw() {
    is_frozen_ = false;
    note("worker goes on");
    wake();
}

bool WorkerShell::is_idle() const {
    // What waits to be assigned again, maybe for ever, is not listed.
    return core_.inventory().empty() && core_.linked();
}

std::string WorkerShell::describe() const {
    std::string text = core_.linked() ? "linked" : "not linked";
    for (const AttemptState& attempt : core_.inventory()) {
        text += " " + attempt_name({attempt.session, attempt.fence}) + "=" +
                std::string(name(attempt.phase));
    }
    return text;
}

// ---- The loop ----------------------------------------------------------------------------------

void WorkerShell::later(Duration delay, std::function<void()> what) {
    parts_.world.in(delay, [life = std::weak_ptr<char>(life_), what = std::move(what)] {
        if (!life.expired()) what();
    });
}

void WorkerShell::arrive(std::function<void()> what) {
    if (is_dead()) return;
    arrived_.push_back(std::move(what));
    wake();
}

void WorkerShell::wake() {
    if (is_frozen_ || is_dead() || is_woken_) return;
    is_woken_ = true;
    later(Duration(0), [this, number = ++wake_] {
        if (number == wake_) turn();
    });
}

void WorkerShell::turn() {
    is_woken_ = false;
    if (is_frozen_) return;
    // What waits and the clock are looked at in either order: nobody promises one.
    if (parts_.world.one_in(8)) dispatch(worker::TickEvent{});
    while (!arrived_.empty() && !is_dead()) {
        const std::function<void()> what = std::move(arrived_.front());
        arrived_.pop_front();
        what();
    }
    if (is_dead()) return;
    dispatch(worker::TickEvent{});
    if (!is_dead()) plan();
}

void WorkerShell::plan() {
    if (!arrived_.empty()) return wake();
    const std::optional<Timestamp> deadline = core_.next_deadline();
    if (!deadline || is_ending_) return;
    const Timestamp when = parts_.site.host().clock.when(*deadline);
    later(when - parts_.world.now(), [this, number = ++wake_] {
        if (number == wake_) turn();
    });
}

// The results of actions come before anything else is looked at.
void WorkerShell::dispatch(worker::CoreEvent event) {
    if (is_dead()) return;
    result(std::move(event));
    while (!results_.empty()) {
        worker::CoreEvent next = std::move(results_.front());
        results_.pop_front();
        worker::Actions actions = core_.step(parts_.site.host().clock.read(), std::move(next));
        for (worker::Action& action : actions) {
            if (!perform(action)) return;
        }
    }
}

// False: it died before or after the action.
bool WorkerShell::perform(worker::Action& action) {
    const bool dies = parts_.world.fault_one_in(3'000);
    const bool is_before = dies && parts_.world.one_in(2);
    if (is_before) {
        kill("before an action");
        return false;
    }
    std::visit([this](auto& what) { act(what); }, action);
    if (dies) kill("after an action");
    return !is_dead();
}

std::optional<Error> WorkerShell::disk_error() {
    if (!parts_.world.fault_one_in(300)) return std::nullopt;
    return make_error(ErrorCode::io, "disk is full");
}

// ---- Attempts ----------------------------------------------------------------------------------

void WorkerShell::look_at(const AttemptRef& attempt) {
    if (!parts_.site.disk().contains(attempt)) return;
    const worker::LauncherState launcher = parts_.site.launcher_state(attempt);
    dispatch(worker::SeenEvent{parts_.site.snapshot(attempt)});
    if (launcher == worker::LauncherState::gone) launcher_gone(attempt);
}

void WorkerShell::launcher_gone(const AttemptRef& attempt) {
    if (!parts_.site.disk().contains(attempt) || is_dead()) return;
    dispatch(worker::SeenEvent{parts_.site.snapshot(attempt)});
    if (!parts_.site.disk().at(attempt).end) dispatch(worker::LauncherGoneEvent{attempt});
}

// ---- The link ----------------------------------------------------------------------------------

void WorkerShell::connect() {
    parts_.network.close(socket_);
    expected_.clear();
    socket_ = parts_.network.open(parts_.site.host().name, [this](Payload payload) {
        arrive([this, socket = socket_, message = std::make_shared<Payload>(std::move(payload))] {
            // What else waits belongs to a connection that was given up in the meantime.
            if (socket == socket_) take(std::move(*message));
        });
    });
}

bool WorkerShell::send(Request request, Expected expected, std::optional<AttemptRef> inside) {
    const std::string id = std::to_string(++last_request_);
    if (!parts_.network.send(socket_,
                             Payload{.id = id, .body = std::move(request), .inside = inside}))
        return false;
    expected_[id] = std::move(expected);
    return true;
}

bool WorkerShell::relay(const AttemptRef& inside, Request request,
                        std::function<void(Site::Answer)> on_answer) {
    if (is_dead() || is_frozen_ || !core_.linked()) return false;
    return send(std::move(request), Expected{.on_relay = std::move(on_answer)}, inside);
}

void WorkerShell::take(Payload payload) {
    if (auto* push = std::get_if<Push>(&payload.body)) return take_push(std::move(*push));
    const auto found = expected_.find(payload.id);
    if (found == expected_.end()) return;
    const Expected expected = std::move(found->second);
    expected_.erase(found);
    const bool is_relay = payload.inside.has_value();
    if (auto* reply = std::get_if<Reply>(&payload.body))
        return take_reply(expected, std::move(*reply), is_relay);
    take_error(expected, *std::get_if<ErrorReply>(&payload.body), is_relay);
}

void WorkerShell::take_reply(const Expected& expected, Reply reply, bool is_relay) {
    if (is_relay) {
        dispatch(worker::HeardEvent{});
        if (expected.on_relay) expected.on_relay(std::move(reply));
        return;
    }
    if (auto* welcome = std::get_if<WelcomeReply>(&reply))
        return dispatch(worker::WelcomeEvent{std::move(*welcome)});
    if (auto* heartbeat = std::get_if<HeartbeatReply>(&reply))
        return dispatch(worker::HeartbeatAnsweredEvent{std::move(*heartbeat)});
    if (auto* report = std::get_if<ReportReply>(&reply))
        return dispatch(worker::AcksEvent{std::move(report->acks)});
    if (!std::holds_alternative<GoodbyeReply>(reply)) dispatch(worker::HeardEvent{});
}

void WorkerShell::take_error(const Expected& expected, const ErrorReply& error, bool is_relay) {
    const ErrorCode code = error.error.code;
    if (is_relay) {
        dispatch(worker::HeardEvent{});
        if (expected.on_relay) expected.on_relay(error);
        return;
    }
    if (code == ErrorCode::no_session) return dispatch(worker::NoSessionEvent{});
    if (expected.is_hello) return dispatch(worker::RefusedEvent{error.error});
    if (code == ErrorCode::read_only) return dispatch(worker::ReadOnlyEvent{error.error.message});
    const bool is_of_form = code == ErrorCode::bad_request || code == ErrorCode::too_large;
    if (is_of_form && !expected.reports.empty())
        return dispatch(worker::ReportsRefusedEvent{expected.reports, error.error});
    dispatch(worker::HeardEvent{});
}

void WorkerShell::take_push(Push push) {
    std::visit(
        overloaded{
            [this](AssignPush& body) {
                dispatch(worker::AssignEvent{std::move(body.assignments)});
            },
            [this](StopPush& body) { dispatch(worker::StopEvent{std::move(body.stops)}); },
            [this](ClosePush& body) { dispatch(worker::CloseEvent{std::move(body.outcomes)}); },
            [this](LimitsPush& body) { dispatch(worker::LimitsEvent{std::move(body.limits)}); },
            [this](FollowPush&) { dispatch(worker::HeardEvent{}); }},
        push);
}

void WorkerShell::act(worker::SendHello& action) {
    HelloRequest hello{.role = "worker", .software = "sim", .worker = std::move(action.hello)};
    if (!send(std::move(hello), Expected{.is_hello = true}, std::nullopt))
        result(worker::NotSentEvent{});
}
void WorkerShell::act(worker::SendHeartbeat& action) {
    if (!send(std::move(action.heartbeat), {}, std::nullopt)) result(worker::NotSentEvent{});
}
void WorkerShell::act(worker::SendReports& action) {
    Expected expected;
    for (const Report& report : action.reports)
        expected.reports.push_back({{report.session, report.fence}, report.number});
    if (!send(ReportRequest{std::move(action.reports)}, std::move(expected), std::nullopt))
        result(worker::NotSentEvent{});
}
void WorkerShell::act(worker::SendGoodbye&) {
    if (!send(GoodbyeRequest{}, {}, std::nullopt)) result(worker::NotSentEvent{});
}

// ---- The attempt's folder ----------------------------------------------------------------------

void WorkerShell::act(worker::RecordSeen& action) {
    parts_.site.seen() = std::move(action.seen);
}

void WorkerShell::act(worker::RecordLimits& action) {
    worker::LimitsRecordedEvent event{
        .attempt = action.attempt, .timeout = action.timeout, .error = disk_error()};
    if (!event.error) parts_.site.disk()[action.attempt].timeout = action.timeout;
    result(std::move(event));
}

void WorkerShell::act(worker::AcceptAssignment& action) {
    const AttemptRef attempt{action.assignment.session, action.assignment.fence};
    worker::AcceptedEvent event{.attempt = attempt, .error = disk_error()};
    if (!event.error) {
        AttemptFolder& folder = parts_.site.disk()[attempt];
        if (folder.assignment) event.error = make_error(ErrorCode::conflict, "known already");
        if (!folder.assignment) folder.assignment = std::move(action.assignment);
    }
    result(std::move(event));
}

void WorkerShell::act(worker::TakeClaim& action) {
    if (auto error = disk_error()) {
        return result(
            worker::ClaimedEvent{action.attempt, worker::StartHolder::nobody, std::move(error)});
    }
    AttemptFolder& folder = parts_.site.disk()[action.attempt];
    if (folder.holder == worker::StartHolder::nobody) {
        folder.holder = action.holder;
        folder.holder_reason = action.reason;
        return result(worker::ClaimedEvent{action.attempt, action.holder, std::nullopt});
    }
    const worker::AttemptSnapshot snapshot = parts_.site.snapshot(action.attempt);
    result(worker::ClaimedEvent{action.attempt, snapshot.holder, std::nullopt});
    result(worker::SeenEvent{snapshot});
}

void WorkerShell::act(worker::RecordStop& action) {
    worker::StopRecordedEvent event{.attempt = action.attempt, .error = disk_error()};
    AttemptFolder& folder = parts_.site.disk()[action.attempt];
    if (!event.error && !folder.stop) folder.stop = std::move(action.stop);
    result(std::move(event));
}

void WorkerShell::act(worker::RecordEnd& action) {
    if (auto error = disk_error()) {
        return result(
            worker::WrittenEvent{action.attempt, worker::WrittenFile::end, std::move(error)});
    }
    AttemptFolder& folder = parts_.site.disk()[action.attempt];
    if (!folder.end) folder.end = std::move(action.end);
    result(worker::SeenEvent{parts_.site.snapshot(action.attempt)});
}

void WorkerShell::act(worker::RecordOutcome& action) {
    worker::WrittenEvent event{
        .attempt = action.attempt, .file = worker::WrittenFile::outcome, .error = disk_error()};
    if (!event.error) parts_.site.disk()[action.attempt].outcome = std::move(action.outcome);
    result(std::move(event));
}

void WorkerShell::act(worker::RecordReported& action) {
    AttemptFolder& folder = parts_.site.disk()[action.attempt];
    folder.reported = action.number;
    // The folder is not synced: a power cut may take it back.
    if (parts_.world.one_in(2)) folder.reported_synced = action.number;
}

void WorkerShell::act(worker::RecordClosed& action) {
    if (disk_error()) return;
    parts_.site.disk()[action.attempt].closed_at = parts_.site.host().clock.read().wall;
}

void WorkerShell::act(worker::ForgetAttempt& action) {
    parts_.site.disk().erase(action.attempt);
}

void WorkerShell::act(worker::ReopenAttempt& action) {
    if (!parts_.site.disk().contains(action.attempt)) return;
    worker::AttemptSnapshot snapshot = parts_.site.snapshot(action.attempt);
    snapshot.closed_at.reset();
    snapshot.outcome.reset();
    snapshot.reported = snapshot.started_at ? 1 : 0;
    result(worker::RestoredEvent{std::move(snapshot), worker::LauncherState::not_asked});
}

// ---- Processes and the workspace ---------------------------------------------------------------

void WorkerShell::act(worker::Launch& action) {
    result(parts_.site.launch(action));
}
void WorkerShell::act(worker::CheckSession& action) {
    result(parts_.site.check(action.attempt));
}
void WorkerShell::act(worker::KillSession& action) {
    parts_.site.kill_session(action.attempt.session);
}
void WorkerShell::act(worker::SignalLauncher& action) {
    parts_.site.signal_launcher(action);
}
void WorkerShell::act(worker::SignalTree& action) {
    result(parts_.site.signal_tree(action.attempt, action.signal));
}
void WorkerShell::act(worker::MeasureDisk& action) {
    result(worker::DiskEvent{action.attempt, 1'000});
}
void WorkerShell::act(worker::WriteStarted& action) {
    result(worker::WrittenEvent{action.attempt, worker::WrittenFile::started, disk_error()});
}
void WorkerShell::act(worker::Judge& action) {
    worker::Deliverables deliverables;
    deliverables.success = action.end.exit_code == 0;
    result(worker::JudgedEvent{action.attempt, std::move(deliverables)});
}
void WorkerShell::act(worker::WriteFinal& action) {
    note("final files of " + action.outcome.id.str() + ": " +
         std::string(name(action.outcome.status)));
    worker::WrittenEvent event{action.attempt, worker::WrittenFile::final_files, disk_error()};
    if (!event.error && is_final(action.outcome.status))
        parts_.site.files_written(action.outcome.id);
    result(std::move(event));
}
void WorkerShell::act(worker::NoteSession& action) {
    note(action.text);
}
void WorkerShell::act(worker::Transition& action) {
    parts_.world.explain(parts_.site.name().str(), action.subject + " " + action.from + " -> " +
                                                       action.to + " " + action.why);
}

}  // namespace iw::sim
