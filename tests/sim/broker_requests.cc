// How the virtual broker takes each request, in the order and with the looks into the database that
// the real one has.

#include <algorithm>
#include <utility>

#include "common/base/check.h"
#include "common/base/overloaded.h"
#include "common/base/planted.h"
#include "tests/sim/broker_shell.h"

namespace iw::sim {

namespace {

constexpr std::uint32_t kEndedNumber = 2;

bool is_unknown(const ReportAck& ack) {
    return ack.error && ack.error->code == ErrorCode::not_found;
}

broker::BodyHash hash_of(const Submission& submission) {
    std::uint64_t hash = 0xcbf29ce484222325ULL;
    for (const char each : submission.agent.str() + "/" + submission.prompt) {
        hash = (hash ^ static_cast<unsigned char>(each)) * 0x100000001b3ULL;
    }
    broker::BodyHash bytes{};
    for (std::size_t i = 0; i < 8; ++i)
        bytes[i] = static_cast<std::uint8_t>(hash >> (8 * i));
    return bytes;
}

// What the database says about a report whose session the core does not have.
void settle(const Database& database, bool is_start, ReportAck& ack) {
    const std::optional<SessionView> found = database.session(ack.session);
    if (!found) {
        if (is_start) return;
        ack.error = make_error(ErrorCode::stale_fence, "not known here");
        return;
    }
    if (!is_final(found->status)) return;
    if (ack.fence != Fence{found->generation, found->attempt}) {
        ack.error = make_error(ErrorCode::stale_fence, "ended with another attempt");
        return;
    }
    ack.error.reset();
    if (ack.number == kEndedNumber) ack.outcome = Outcome{.session = *found};
}

}  // namespace

broker::Caller BrokerShell::caller(const To& to) const {
    return broker::Caller{
        .peer = to.peer,
        .request = to.request,
        .principal = to.inside ? "session:" + to.inside->session.str() : "uid:1000",
        .inside = to.inside,
        .relayed_by = to.relayed_by};
}

void BrokerShell::reply(const To& to, Answer answer) {
    Payload payload{.id = to.request, .body = {}, .inside = to.inside};
    std::visit([&payload](auto& body) { payload.body = std::move(body); }, answer);
    outgoing_.push_back({to.peer, std::move(payload)});
}

void BrokerShell::refuse(const To& to, ErrorCode code, std::string message) {
    ErrorReply refusal;
    refusal.error = make_error(code, std::move(message));
    reply(to, std::move(refusal));
}

void BrokerShell::handle(Network::Received received) {
    auto* request = std::get_if<Request>(&received.payload.body);
    IW_CHECK(request != nullptr);
    const auto peer = peers_.find(received.peer);
    To to{received.peer, received.payload.id, received.payload.inside, {}};
    if (const auto* greeting = std::get_if<HelloRequest>(request)) return hello(to, *greeting);
    const bool is_workers = to.inside || std::holds_alternative<HeartbeatRequest>(*request) ||
                            std::holds_alternative<ReportRequest>(*request) ||
                            std::holds_alternative<GoodbyeRequest>(*request);
    if (!is_workers) return handle_client(to, std::move(*request));
    // The answer to a relay that is refused as such is the worker's, not the process's inside.
    if (peer == peers_.end()) {
        to.inside.reset();
        return refuse(to, ErrorCode::no_session, "say hello first on this connection");
    }
    if (!to.inside) return handle_worker(to, peer->second, std::move(*request));
    to.relayed_by = peer->second;
    const bool is_change = std::holds_alternative<SubmitRequest>(*request) ||
                           std::holds_alternative<KillRequest>(*request);
    if (is_change && !core_.is_current(*to.inside, to.relayed_by)) {
        return refuse(to, ErrorCode::stale_fence, "this attempt is over");
    }
    handle_client(to, std::move(*request));
}

void BrokerShell::handle_worker(const To& to, const WorkerName& worker, Request request) {
    parts_.oracle.heard(worker, decided_);
    if (auto* heartbeat = std::get_if<HeartbeatRequest>(&request)) {
        return step(to,
                    broker::HeartbeatEvent{
                        .caller = caller(to), .worker = worker, .heartbeat = std::move(*heartbeat)},
                    {});
    }
    if (auto* reports = std::get_if<ReportRequest>(&request))
        return report(to, worker, std::move(*reports));
    step(to, broker::GoodbyeEvent{.caller = caller(to), .worker = worker}, {});
}

void BrokerShell::handle_client(const To& to, Request request) {
    if (auto* body = std::get_if<SubmitRequest>(&request))
        return submit(to, std::move(body->sessions));
    if (const auto* body = std::get_if<RetryRequest>(&request)) return retry(to, *body);
    if (const auto* body = std::get_if<KillRequest>(&request)) return kill_session(to, *body);
    if (const auto* body = std::get_if<StatusRequest>(&request)) return status(to, *body);
    if (const auto* body = std::get_if<ExtendRequest>(&request)) return extend(to, *body);
    if (const auto* body = std::get_if<EditRequest>(&request)) return edit(to, *body);
    if (const auto* body = std::get_if<EventsRequest>(&request)) {
        const std::size_t id = ++last_waiter_;
        waiters_[id] = Waiter{.to = to, .request = *body, .deadline = time_.steady + body->wait};
        return events(id);
    }
    handle_admin(to, request);
}

void BrokerShell::handle_admin(const To& to, const Request& request) {
    if (const auto* body = std::get_if<HoldRequest>(&request)) {
        return step(to, broker::HoldEvent{.caller = caller(to), .request = *body}, {});
    }
    if (const auto* body = std::get_if<ConfirmDeadRequest>(&request)) {
        return step(to, broker::ConfirmDeadEvent{.caller = caller(to), .request = *body}, {});
    }
    const auto* body = std::get_if<ReleaseRequest>(&request);
    IW_CHECK(body != nullptr);
    step(to,
         broker::ReleaseEvent{.caller = caller(to), .force = body->force, .reason = body->reason},
         {});
}

// ---- Workers -----------------------------------------------------------------------------------

void BrokerShell::hello(const To& to, const HelloRequest& request) {
    const WorkerHello& worker = *request.worker;
    bool is_welcome = false;
    const Rewrite welcome = [&](Answer answer) -> std::optional<Answer> {
        auto* body = std::get_if<Reply>(&answer);
        auto* greeting = body == nullptr ? nullptr : std::get_if<WelcomeReply>(body);
        if (greeting == nullptr) return answer;
        is_welcome = true;
        greeting->epoch = parts_.store.epoch;
        greeting->time = time_.wall;
        return answer;
    };
    step(to,
         broker::HelloEvent{.caller = caller(to), .worker = worker, .software = request.software},
         welcome);
    if (!is_welcome) return;
    parts_.oracle.greeted(worker.name, worker.state_id, decided_);
    // An older connection of the worker must say hello again.
    std::erase_if(peers_, [&](const auto& each) { return each.second == worker.name; });
    peers_[to.peer] = worker.name;
    greeted(to.peer, worker.inventory);
}

void BrokerShell::greeted(broker::PeerId peer, const std::vector<AttemptState>& inventory) {
    std::vector<AttemptState> over;
    for (const AttemptState& attempt : inventory) {
        const bool may_run =
            attempt.phase == AttemptPhase::accepted || attempt.phase == AttemptPhase::running;
        if (may_run && !core_.is_live(attempt.session)) over.push_back(attempt);
    }
    if (over.empty()) return;
    ask([this, peer, over](const Database& database) -> std::function<void()> {
        StopPush push;
        for (const AttemptState& attempt : over) {
            const std::optional<SessionView> found = database.session(attempt.session);
            if (!found || !is_final(found->status)) continue;
            push.stops.push_back({.session = attempt.session,
                                  .fence = attempt.fence,
                                  .cause = Detail::killed,
                                  .reason = "superseded"});
        }
        return [this, peer, push] {
            if (!push.stops.empty())
                outgoing_.push_back({peer, Payload{.id = {}, .body = Push(push)}});
        };
    });
}

void BrokerShell::report(const To& to, const WorkerName& worker, ReportRequest request) {
    std::vector<bool> starts;
    for (const Report& each : request.reports) {
        starts.push_back(std::holds_alternative<StartedReport>(each.body));
        const auto* ended = std::get_if<EndedReport>(&each.body);
        if (ended != nullptr && ended->cause == EndCause::lost)
            parts_.oracle.reported_lost({each.session, each.fence});
    }
    const Rewrite fill = [&](Answer answer) -> std::optional<Answer> {
        auto* body = std::get_if<Reply>(&answer);
        auto* acks = body == nullptr ? nullptr : std::get_if<ReportReply>(body);
        if (acks == nullptr || std::ranges::none_of(acks->acks, is_unknown)) return answer;
        fill_acks(to, std::move(*acks), starts);
        return std::nullopt;
    };
    step(to,
         broker::ReportEvent{
             .caller = caller(to), .worker = worker, .reports = std::move(request.reports)},
         fill);
}

void BrokerShell::fill_acks(const To& to, ReportReply answer, const std::vector<bool>& starts) {
    ask([this, to, answer, starts](const Database& database) mutable -> std::function<void()> {
        for (std::size_t i = 0; i < answer.acks.size(); ++i) {
            if (is_unknown(answer.acks[i])) settle(database, starts[i], answer.acks[i]);
        }
        return [this, to, answer] { reply(to, Reply(answer)); };
    });
}

// ---- Submissions -------------------------------------------------------------------------------

void BrokerShell::submit(const To& to, std::vector<Submission> sessions) {
    std::vector<broker::SubmitEvent::Item> items;
    for (Submission& submission : sessions) {
        broker::SubmitEvent::Item item;
        item.body_hash = hash_of(submission);
        item.submission = std::move(submission);
        items.push_back(std::move(item));
    }
    look_up(to, std::move(items), false);
}

// Keys that were seen before, and dependencies that are not live, are looked for in the database.
void BrokerShell::look_up(const To& to, std::vector<broker::SubmitEvent::Item> items,
                          bool is_retry) {
    const std::string principal = caller(to).principal;
    const auto is_old = [&](const broker::SubmitEvent::Item& item) {
        const bool is_known_key = keys_.contains(principal + "/" + item.submission.key);
        return is_known_key || std::ranges::any_of(item.submission.after, [this](const auto& each) {
                   return !core_.is_live(each.id);
               });
    };
    if (std::ranges::none_of(items, is_old)) return create(to, std::move(items), is_retry);
    ask([this, to, items = std::move(items), principal,
         is_retry](const Database& database) mutable -> std::function<void()> {
        for (broker::SubmitEvent::Item& item : items) {
            if (!item.submission.key.empty())
                item.known = database.key(principal + "/" + item.submission.key);
            for (const Dependency& each : item.submission.after) {
                const std::optional<SessionView> found = database.session(each.id);
                if (found && is_final(found->status)) item.settled[each.id] = found->status;
            }
        }
        return [this, to, items, principal, is_retry] {
            // Another request with the key may have been accepted after the look.
            for (const broker::SubmitEvent::Item& item : items) {
                const auto made = unapplied_.find(principal + "/" + item.submission.key);
                const bool is_unapplied =
                    made != unapplied_.end() && made->second > database_.applied();
                if (!item.known && is_unapplied) return look_up(to, items, is_retry);
            }
            create(to, items, is_retry);
        };
    });
}

void BrokerShell::create(const To& to, std::vector<broker::SubmitEvent::Item> items,
                         bool is_retry) {
    const Rewrite as_retry = [](Answer answer) -> std::optional<Answer> {
        auto* body = std::get_if<Reply>(&answer);
        auto* made = body == nullptr ? nullptr : std::get_if<SubmitReply>(body);
        if (made == nullptr) return answer;
        const SubmitOutcome& outcome = made->sessions.at(0);
        if (!outcome.error)
            return Reply(RetryReply{.id = outcome.id, .duplicate = outcome.duplicate});
        ErrorReply refusal;
        refusal.error = *outcome.error;
        return refusal;
    };
    const std::size_t first = records_.size();
    step(to, broker::SubmitEvent{.caller = caller(to), .items = std::move(items)},
         is_retry ? as_retry : Rewrite());
    for (std::size_t i = first; i < records_.size(); ++i) {
        const auto* created = std::get_if<broker::SessionCreated>(&records_[i].body);
        if (created == nullptr) continue;
        // The cache is bounded: now and then a prompt is not in it.
        if (!parts_.world.one_in(5)) prompts_[created->id] = created->submission.prompt;
        if (created->submission.key.empty()) continue;
        const std::string key = created->principal + "/" + created->submission.key;
        keys_.insert(key);
        unapplied_[key] = records_[i].seq;
    }
}

void BrokerShell::retry(const To& to, const RetryRequest& request) {
    ask([this, to, request](const Database& database) -> std::function<void()> {
        const std::optional<SessionView> found = database.session(SessionId(request.id));
        const std::optional<Submission> old = database.submission(SessionId(request.id));
        return [this, to, request, found, old] {
            if (!found) return refuse(to, ErrorCode::not_found, "no session " + request.id);
            if (!is_final(found->status))
                return refuse(to, ErrorCode::conflict, request.id + " has not ended");
            broker::SubmitEvent::Item item;
            item.submission = *old;
            item.submission.key = request.key;
            item.submission.parent = SessionId();
            item.submission.retry_of = found->id;
            item.submission.after.clear();
            item.body_hash = hash_of(item.submission);
            look_up(to, {std::move(item)}, true);
        };
    });
}

// ---- Reading and killing -----------------------------------------------------------------------

void BrokerShell::status(const To& to, const StatusRequest& request) {
    const SessionId id(request.id);
    if (const auto live = core_.view(id, time_)) {
        return reply(to, Reply(StatusReply{.session = *live, .seq = core_.head()}));
    }
    ask([this, to, id](const Database& database) -> std::function<void()> {
        const std::optional<SessionView> found = database.session(id);
        return [this, to, id, found, seq = database.applied()] {
            if (!found) return refuse(to, ErrorCode::not_found, "no session " + id.str());
            if (const auto live = core_.view(id, time_)) {
                return reply(to, Reply(StatusReply{.session = *live, .seq = core_.head()}));
            }
            reply(to, Reply(StatusReply{.session = *found, .seq = seq}));
        };
    });
}

void BrokerShell::kill_session(const To& to, const KillRequest& request) {
    const SessionId id(request.id);
    if (core_.is_live(id)) {
        return step(to,
                    broker::KillEvent{.caller = caller(to),
                                      .id = id,
                                      .reason = request.reason,
                                      .keep_children = request.keep_children},
                    {});
    }
    ask([this, to, request, id](const Database& database) -> std::function<void()> {
        const std::optional<SessionView> found = database.session(id);
        return [this, to, request, id, found] {
            if (!found) return refuse(to, ErrorCode::not_found, "no session " + id.str());
            if (is_final(found->status))
                return reply(to, Reply(KillReply{.session = *found, .already_final = true}));
            kill_session(to, request);
        };
    });
}

void BrokerShell::extend(const To& to, const ExtendRequest& request) {
    const SessionId id(request.id);
    if (!core_.is_live(id)) return refuse(to, ErrorCode::conflict, request.id + " has ended");
    step(to,
         broker::ExtendEvent{
             .caller = caller(to), .id = id, .timeout = request.timeout, .add = request.add},
         {});
}

void BrokerShell::edit(const To& to, const EditRequest& request) {
    const SessionId id(request.id);
    broker::EditEvent event{.caller = caller(to), .request = request};
    if (core_.is_live(id)) return step(to, std::move(event), {});
    ask([this, to, event, id](const Database& database) -> std::function<void()> {
        const std::optional<SessionView> found = database.session(id);
        return [this, to, event, found]() mutable {
            // The database may have been behind the core, which has ended it meanwhile.
            if (found && !is_final(found->status)) return edit(to, event.request);
            event.kept = found;
            step(to, std::move(event), {});
        };
    });
}

void BrokerShell::events(std::size_t id) {
    Waiter& waiter = waiters_.at(id);
    waiter.is_parked = false;
    ask([this, id, request = waiter.request](const Database& database) -> std::function<void()> {
        EventsReply page = database.events(request, parts_.store.epoch);
        if (IW_PLANT(page_skips) && page.events.size() > 2) page.events.erase(page.events.begin());
        return [this, id, page] {
            const auto found = waiters_.find(id);
            if (found == waiters_.end()) return;
            Waiter& waiting = found->second;
            const bool is_empty = page.events.empty() && !page.gap;
            if (!is_empty || time_.steady >= waiting.deadline) {
                reply(waiting.to, Reply(page));
                waiters_.erase(found);
                return;
            }
            waiting.request.after = page.next;
            waiting.request.epoch = page.epoch;
            waiting.last = page;
            waiting.is_parked = true;
            // Something was committed behind the look.
            if (page.next < core_.head()) events(id);
        };
    });
}

}  // namespace iw::sim
