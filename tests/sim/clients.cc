#include "tests/sim/clients.h"

#include <algorithm>
#include <utility>

#include "common/base/check.h"

namespace iw::sim {

namespace {

constexpr Duration kPatienceMin = 4_s;
constexpr Duration kPatienceMax = 12_s;
const std::string kHost = "desk";

bool is_to_be_repeated(ErrorCode code) {
    return code == ErrorCode::rate_limited || code == ErrorCode::storage_low ||
           code == ErrorCode::read_only || code == ErrorCode::shutting_down ||
           code == ErrorCode::no_session || code == ErrorCode::internal;
}

}  // namespace

Client::Client(Parts parts, std::string name) : parts_(parts), name_(std::move(name)) {
    connect();
}

Client::~Client() {
    parts_.network.close(socket_);
}

void Client::connect() {
    parts_.network.close(socket_);
    socket_ = parts_.network.open(kHost, [this](Payload payload) { take(std::move(payload)); });
}

void Client::call(Request request, std::function<void(const Answer&)> done) {
    IW_CHECK(call_ == nullptr);
    ++serial_;
    call_ = std::make_shared<Call>(Call{.request = std::move(request), .done = std::move(done)});
    send();
}

void Client::send() {
    World& world = parts_.world;
    const std::uint64_t serial = serial_;
    const std::string id = std::to_string(serial) + "." + std::to_string(++call_->tries);
    const bool is_sent = parts_.network.send(
        socket_, Payload{.id = id, .body = call_->request, .inside = std::nullopt});
    // Requests for events are held until there is one.
    Duration patience = world.between(kPatienceMin, kPatienceMax);
    if (const auto* events = std::get_if<EventsRequest>(&call_->request)) patience += events->wait;
    if (!is_sent) patience = world.between(Duration(50), 2_s);
    world.in(patience, [this, serial, tries = call_->tries, is_sent] {
        if (call_ == nullptr || serial != serial_ || tries != call_->tries) return;
        // The old connection may still deliver what was sent on it.
        if (is_sent && parts_.world.one_in(2)) connect();
        send();
    });
}

void Client::take(Payload payload) {
    const bool is_current =
        call_ != nullptr && payload.id.starts_with(std::to_string(serial_) + ".");
    if (!is_current) return;
    Answer answer;
    if (auto* reply = std::get_if<Reply>(&payload.body)) answer = std::move(*reply);
    if (auto* error = std::get_if<ErrorReply>(&payload.body)) {
        if (is_to_be_repeated(error->error.code)) return;  // when patience ends
        answer = std::move(*error);
    }
    const std::shared_ptr<Call> call = std::exchange(call_, nullptr);
    call->done(answer);
}

void Client::rest(std::function<void()> what) {
    World& world = parts_.world;
    const Duration most = world.one_in(3) ? 120_s : 15_s;
    world.in(world.between(Duration(1), most), std::move(what));
}

std::optional<SessionId> Client::some_session() {
    const std::vector<SessionId>& ids = parts_.book.acknowledged;
    if (ids.empty()) return std::nullopt;
    return ids[parts_.world.below(ids.size())];
}

// ---- Submitting --------------------------------------------------------------------------------

void Submitter::start() {
    rest([this] { submit(); });
}

Submission Submitter::submission() {
    World& world = parts_.world;
    Submission submission;
    submission.key = name() + "-" + std::to_string(++last_key_);
    submission.agent = AgentName(world.one_in(3) ? "b" : "a");
    submission.prompt = parts_.plans.make(2).prompt;
    submission.queue_anyway = true;
    submission.priority = static_cast<int>(world.below(21)) - 10;
    submission.on_lost = static_cast<OnLost>(1 + world.below(3));
    submission.timeout = world.one_in(4) ? world.between(2_s, 120_s) : 3'600_s;
    if (world.one_in(6)) submission.delay = world.between(1_s, 120_s);
    if (world.one_in(6)) submission.expires = world.between(1_s, 300_s);
    if (world.one_in(2))
        submission.origin = parts_.book.roots[world.below(parts_.book.roots.size())];
    // With it any worker may run what is from the root of another one.
    if (world.one_in(2)) submission.project = "p";
    if (world.one_in(8)) submission.tags = {"t"};
    const std::optional<SessionId> other = some_session();
    if (other && world.one_in(10)) submission.parent = *other;
    const std::optional<SessionId> before = some_session();
    if (before && world.one_in(6)) {
        submission.after.push_back(
            {.id = *before, .on = static_cast<AfterCondition>(1 + world.below(3))});
    }
    submission.keep_children = world.one_in(6);
    if (!world.one_in(3)) return submission;
    submission.retry = RetryPolicy{.attempts_max = 1 + static_cast<std::uint32_t>(world.below(4)),
                                   .backoff = world.between(1_s, 20_s),
                                   .backoff_max = world.between(20_s, 120_s),
                                   .causes = {}};
    if (world.one_in(3)) submission.retry->causes = {Detail::exited, Detail::timeout};
    return submission;
}

void Submitter::submit() {
    if (left_ == 0) return;
    World& world = parts_.world;
    // One and the same request again, long after it was answered.
    if (repeated_ && world.one_in(5)) {
        const SubmitRequest request = *repeated_;
        return call(request, [this, request](const Answer& answer) { submitted(request, answer); });
    }
    SubmitRequest request;
    for (std::uint64_t count = world.one_in(4) ? 3 : 1; count > 0; --count)
        request.sessions.push_back(submission());
    if (!repeated_ || world.one_in(2)) repeated_ = request;
    --left_;
    call(request, [this, request](const Answer& answer) { submitted(request, answer); });
}

void Submitter::submitted(const SubmitRequest& request, const Answer& answer) {
    const auto* reply = std::get_if<Reply>(&answer);
    const auto* made = reply == nullptr ? nullptr : std::get_if<SubmitReply>(reply);
    for (std::size_t i = 0; made != nullptr && i < made->sessions.size(); ++i) {
        const SubmitOutcome& outcome = made->sessions[i];
        if (outcome.error) continue;
        parts_.oracle.acknowledged("uid:1000/" + request.sessions[i].key, outcome.id);
        auto& ids = parts_.book.acknowledged;
        if (std::find(ids.begin(), ids.end(), outcome.id) == ids.end()) ids.push_back(outcome.id);
    }
    rest([this] { submit(); });
}

// ---- Meddling ----------------------------------------------------------------------------------

void Meddler::start() {
    rest([this] { meddle(); });
}

void Meddler::meddle() {
    if (left_ == 0) return;
    --left_;
    const std::optional<SessionId> id = some_session();
    if (!id) return rest([this] { meddle(); });
    switch (parts_.world.below(6)) {
        case 0:
            return kill(*id);
        case 1:
            return retry(*id);
        case 2:
        case 3:
            return edit(*id);
        default:
            return ask(*id);
    }
}

void Meddler::kill(const SessionId& id) {
    parts_.oracle.kill_asked(id);
    parts_.world.note(name(), "kills " + id.str());
    call(KillRequest{.id = id.str(), .reason = "enough"}, [this, id](const Answer& answer) {
        if (const auto* error = std::get_if<ErrorReply>(&answer)) {
            if (error->error.code == ErrorCode::not_found) parts_.oracle.told_unknown(id);
        }
        rest([this] { meddle(); });
    });
}

void Meddler::retry(const SessionId& id) {
    const std::string key = name() + "-" + std::to_string(++last_key_);
    call(RetryRequest{.id = id.str(), .key = key}, [this, id, key](const Answer& answer) {
        const auto* reply = std::get_if<Reply>(&answer);
        const auto* made = reply == nullptr ? nullptr : std::get_if<RetryReply>(reply);
        if (made != nullptr) parts_.oracle.acknowledged("uid:1000/" + key, made->id);
        if (const auto* error = std::get_if<ErrorReply>(&answer)) {
            if (error->error.code == ErrorCode::not_found) parts_.oracle.told_unknown(id);
        }
        rest([this] { meddle(); });
    });
}

void Meddler::edit(const SessionId& id) {
    World& world = parts_.world;
    EditRequest request{.id = id.str()};
    if (world.one_in(3)) request.tags = {"late"};
    if (!request.tags || world.one_in(2)) request.parent = some_session();
    if (request.parent && world.one_in(4)) request.parent = SessionId();
    call(request, [this, id](const Answer& answer) {
        if (const auto* error = std::get_if<ErrorReply>(&answer)) {
            if (error->error.code == ErrorCode::not_found) parts_.oracle.told_unknown(id);
        }
        rest([this] { meddle(); });
    });
}

void Meddler::ask(const SessionId& id) {
    call(StatusRequest{.id = id.str(), .exact = true}, [this, id](const Answer& answer) {
        const auto* reply = std::get_if<Reply>(&answer);
        const auto* found = reply == nullptr ? nullptr : std::get_if<StatusReply>(reply);
        if (found != nullptr) parts_.oracle.told(id, found->session.status);
        if (const auto* error = std::get_if<ErrorReply>(&answer)) {
            if (error->error.code == ErrorCode::not_found) parts_.oracle.told_unknown(id);
        }
        rest([this] { meddle(); });
    });
}

// ---- Administering -----------------------------------------------------------------------------

void Admin::start() {
    rest([this] { act(); });
}

void Admin::act() {
    if (left_ == 0) return;
    --left_;
    World& world = parts_.world;
    const std::optional<SessionId> id = some_session();
    Request request = hold();
    if (id && world.one_in(3)) request = extension(*id);
    if (world.one_in(4)) request = confirmation();
    world.note(name(), verb(request));
    call(std::move(request), [this](const Answer&) { rest([this] { act(); }); });
}

// Each lifts by itself, so that nothing waits for ever.
Request Admin::hold() {
    World& world = parts_.world;
    HoldRequest request{.reason = "looking into it", .lasts = world.between(1_s, 400_s)};
    switch (world.below(4)) {
        case 0:
            request.scope = HoldScope::fleet;
            break;
        case 1:
            request.scope = HoldScope::agent;
            request.name = world.one_in(2) ? "a" : "b";
            break;
        default:
            request.scope = HoldScope::worker;
            request.name = parts_.book.workers[world.below(parts_.book.workers.size())].str();
    }
    request.on = !world.one_in(4);
    if (!request.on) request.lasts.reset();
    return request;
}

Request Admin::extension(const SessionId& id) {
    ExtendRequest request{.id = id.str()};
    if (parts_.world.one_in(2)) request.timeout = parts_.world.between(5_s, 600_s);
    if (!request.timeout) request.add = parts_.world.between(5_s, 600_s);
    return request;
}

Request Admin::confirmation() {
    const WorkerName& worker = parts_.book.workers[parts_.world.below(parts_.book.workers.size())];
    parts_.oracle.death_confirmed(worker);
    return ConfirmDeadRequest{.worker = worker.str(), .reason = "saw it burn"};
}

void Releaser::start() {
    look();
}

void Releaser::look() {
    if (!parts_.book.is_restored) return rest([this] { look(); });
    // Somebody who is refused may lose patience.
    const bool is_forced = is_refused_ && parts_.world.one_in(6);
    const std::string reason = is_forced ? kForced : "all is there";
    call(ReleaseRequest{.force = is_forced, .reason = reason}, [this](const Answer& answer) {
        const auto* error = std::get_if<ErrorReply>(&answer);
        parts_.world.note(name(), error == nullptr ? "released" : error->error.message);
        // When the first answer was lost, the second says that nothing is held back.
        const bool is_over = error == nullptr || error->error.message.starts_with("nothing is");
        is_refused_ = !is_over;
        if (is_over) parts_.book.is_restored = false;
        rest([this] { look(); });
    });
}

// ---- Watching ----------------------------------------------------------------------------------

void Watcher::start() {
    watch();
}

void Watcher::watch() {
    request_.wait = parts_.world.one_in(3) ? Duration(0) : 30_s;
    request_.rows_max = parts_.world.one_in(2) ? 5 : 500;
    if (is_picky_ && request_.ids.empty()) {
        const std::optional<SessionId> id = some_session();
        if (!id) return rest([this] { watch(); });
        request_.ids = {*id};
    }
    call(request_, [this](const Answer& answer) {
        const auto* reply = std::get_if<Reply>(&answer);
        const auto* page = reply == nullptr ? nullptr : std::get_if<EventsReply>(reply);
        if (page == nullptr) return rest([this] { watch(); });
        parts_.oracle.page(name(), request_, *page);
        request_.after = page->next;
        request_.epoch = page->epoch;
        if (request_.wait > Duration(0)) return watch();
        rest([this] { watch(); });
    });
}

}  // namespace iw::sim
