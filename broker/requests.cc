#include "broker/requests.h"

#include <utility>

#include "common/base/overloaded.h"
#include "common/codec/codec.h"
#include "common/io/logging.h"

namespace iw::broker {
namespace {

constexpr Duration kCrowdedRetry{1'000};

Answer bad_frame_answer(const BadFrame& bad) {
    return ErrorReply{.error = bad.error, .retry = Duration(0), .matches = {}};
}

}  // namespace

Requests::Requests(Parts parts, CoreConfig leases)
    : parts_(parts),
      leases_(leases),
      sessions_(parts.core, parts.database, parts.turn),
      reports_(parts.core, parts.database, parts.turn) {}

Requests::Needs Requests::needs_of(const Request& request) {
    return std::visit(
        overloaded{
            [](const HelloRequest&) { return Needs{}; },
            [](const SubmitRequest&) { return Needs{.change = true}; },
            [](const StatusRequest&) { return Needs{.database = true}; },
            [](const ListRequest&) { return Needs{.database = true}; },
            [](const ResultRequest&) { return Needs{.database = true}; },
            [](const WorkersRequest&) { return Needs{.database = true}; },
            [](const EventsRequest&) { return Needs{.database = true}; },
            [](const KillRequest&) { return Needs{.change = true, .database = true}; },
            [](const RetryRequest&) { return Needs{.change = true, .database = true}; },
            [](const HeartbeatRequest&) { return Needs{.worker = true}; },
            [](const ReportRequest&) { return Needs{.worker = true}; },
            [](const RelayRequest&) { return Needs{.worker = true}; },
            [](const GoodbyeRequest&) { return Needs{.worker = true}; },
            [](const ExtendRequest&) { return Needs{.change = true, .database = true}; },
            [](const HoldRequest&) { return Needs{.admin = true}; },
            [](const ConfirmDeadRequest&) { return Needs{.database = true, .admin = true}; },
            [](const BackupRequest&) { return Needs{.database = true, .admin = true}; },
            [](const ReleaseRequest&) { return Needs{.admin = true}; },
            [](const FleetRequest&) { return Needs{}; },
            [](const EditRequest&) { return Needs{.change = true, .database = true}; },
            [](const GetRequest&) { return Needs{}; },
            [](const PutRequest&) { return Needs{.worker = true}; },
        },
        request);
}

void Requests::forbid(const Requester& who, std::string why) {
    parts_.turn.reply(who.to, refuse(ErrorCode::forbidden, std::move(why)));
}

bool Requests::is_crowded(const Requester& who, const Needs& needs) {
    if (!needs.database || !parts_.database.is_crowded()) return false;
    parts_.turn.reply(
        who.to, refuse(ErrorCode::rate_limited,
                       "too many questions wait for the broker's database; ask again in a moment",
                       kCrowdedRetry));
    return true;
}

// ---- From a peer -------------------------------------------------------------------------------

void Requests::handle(const Peer& peer, std::string_view frame) {
    Requester who{.to = {.peer = peer.id, .request = {}, .verb = {}, .inner = {}},
                  .principal = peer.principal,
                  .inside = {},
                  .relayed_by = {}};
    std::variant<RequestFrame, BadFrame> decoded = decode_request(frame);
    if (const auto* bad = std::get_if<BadFrame>(&decoded)) {
        who.to.request = bad->id;
        who.to.verb = bad->verb;
        io::log(io::LogLevel::debug, "bad frame",
                {{"principal", peer.principal}, {"error", bad->error.message}});
        return parts_.turn.reply(who.to, bad_frame_answer(*bad));
    }
    auto& request = *std::get_if<RequestFrame>(&decoded);
    who.to.request = request.id;
    who.to.verb = std::string(verb(request.body));
    if (peer.principal.empty()) {
        return parts_.turn.reply(
            who.to, refuse(ErrorCode::unauthorized, "the broker cannot tell who you are"));
    }
    pass(peer, who, std::move(request.body));
}

void Requests::pass(const Peer& peer, const Requester& who, Request request) {
    if (const auto* greeting = std::get_if<HelloRequest>(&request)) return hello(who, *greeting);
    if (peer.role == PeerRole::unknown) {
        return parts_.turn.reply(
            who.to, refuse(ErrorCode::no_session, "say hello first on this connection"));
    }
    const Needs needs = needs_of(request);
    if (is_crowded(who, needs)) return;
    if (!needs.worker) return pass_client(who, std::move(request));
    if (peer.role != PeerRole::worker) {
        return forbid(who, who.to.verb + " is for workers; this connection said hello as a client");
    }
    pass_worker(peer, who, std::move(request));
}

void Requests::pass_client(const Requester& who, Request request) {
    if (auto* submit = std::get_if<SubmitRequest>(&request)) {
        return parts_.submissions.submit(who, std::move(*submit));
    }
    if (const auto* retry = std::get_if<RetryRequest>(&request))
        return parts_.submissions.retry(who, *retry);
    if (const auto* kill = std::get_if<KillRequest>(&request)) return sessions_.kill(who, *kill);
    if (const auto* status = std::get_if<StatusRequest>(&request))
        return sessions_.status(who, *status);
    if (auto* list = std::get_if<ListRequest>(&request))
        return sessions_.list(who, std::move(*list));
    if (const auto* result = std::get_if<ResultRequest>(&request))
        return sessions_.result(who, *result);
    if (auto* events = std::get_if<EventsRequest>(&request))
        return parts_.events.request(who, std::move(*events));
    if (const auto* extend = std::get_if<ExtendRequest>(&request))
        return sessions_.extend(who, *extend);
    if (const auto* edit = std::get_if<EditRequest>(&request)) return sessions_.edit(who, *edit);
    if (const auto* get = std::get_if<GetRequest>(&request)) return parts_.blobs.get(who, *get);
    pass_admin(who, request);
}

void Requests::pass_admin(const Requester& who, const Request& request) {
    if (std::holds_alternative<FleetRequest>(request)) {
        parts_.admin.fleet(who);
    } else if (std::holds_alternative<WorkersRequest>(request)) {
        parts_.admin.workers(who);
    } else if (const auto* hold = std::get_if<HoldRequest>(&request)) {
        parts_.admin.hold(who, *hold);
    } else if (const auto* dead = std::get_if<ConfirmDeadRequest>(&request)) {
        if (dead->id.empty()) {
            parts_.admin.confirm_dead(who, *dead);
        } else {
            sessions_.confirm_dead(who, *dead);
        }
    } else if (const auto* backup = std::get_if<BackupRequest>(&request)) {
        parts_.admin.backup(who, *backup);
    } else {
        const auto* release = std::get_if<ReleaseRequest>(&request);
        IW_CHECK(release != nullptr);
        parts_.admin.release(who, *release);
    }
}

void Requests::pass_worker(const Peer& peer, const Requester& who, Request request) {
    const Caller caller = caller_of(who);
    const WorkerName worker = peer.worker;
    if (const auto* relayed = std::get_if<RelayRequest>(&request))
        return relay(who, worker, *relayed);
    if (auto* heartbeat = std::get_if<HeartbeatRequest>(&request)) {
        HeartbeatEvent event{
            .caller = caller, .worker = worker, .heartbeat = std::move(*heartbeat)};
        return parts_.turn.step(parts_.core, who, std::move(event), {});
    }
    if (auto* report = std::get_if<ReportRequest>(&request))
        return reports_.report(who, worker, std::move(*report));
    if (auto* put = std::get_if<PutRequest>(&request))
        return parts_.blobs.put(who, worker, std::move(*put));
    IW_CHECK(std::holds_alternative<GoodbyeRequest>(request));
    parts_.turn.step(parts_.core, who, GoodbyeEvent{.caller = caller, .worker = worker}, {});
}

// ---- Hello -------------------------------------------------------------------------------------

void Requests::hello(const Requester& who, const HelloRequest& request) {
    if (auto refused = check_versions(request))
        return parts_.turn.reply(who.to, std::move(*refused));
    if (request.role == "worker") return hello_worker(who, request);
    if (request.role != "client") {
        return parts_.turn.reply(
            who.to, refuse(ErrorCode::bad_request, "hello: role must be client or worker"));
    }
    Peer* peer = parts_.peers.find(who.to.peer);
    if (peer != nullptr && peer->role == PeerRole::unknown) peer->role = PeerRole::client;
    parts_.turn.reply(who.to, Reply(own_welcome()));
}

WelcomeReply Requests::own_welcome() const {
    return make_welcome(parts_.core, leases_, parts_.turn.now());
}

void Requests::hello_worker(const Requester& who, const HelloRequest& request) {
    if (!request.worker) {
        return parts_.turn.reply(
            who.to, refuse(ErrorCode::bad_request, "hello: role worker needs the field worker"));
    }
    // The core decides whether the name is free; only then is this connection the worker's.
    const WorkerName name = request.worker->name;
    const Turn::Rewrite welcome = [&](Answer answer) -> std::optional<Answer> {
        const auto* reply = std::get_if<Reply>(&answer);
        const auto* of_core = reply == nullptr ? nullptr : std::get_if<WelcomeReply>(reply);
        if (of_core == nullptr) return answer;
        parts_.peers.set_worker(who.to.peer, name);
        reports_.greeted(who.to.peer, request.worker->inventory);
        WelcomeReply whole = own_welcome();
        // One that comes after the release is asked for what it has closed all the same.
        whole.restored = of_core->restored;
        return Reply(std::move(whole));
    };
    if (request.worker->seen) parts_.admin.compare_heads(name, *request.worker->seen);
    HelloEvent event{
        .caller = caller_of(who), .worker = *request.worker, .software = request.software};
    parts_.turn.step(parts_.core, who, std::move(event), welcome);
}

// ---- From inside a session ---------------------------------------------------------------------

void Requests::relay(const Requester& outer, const WorkerName& worker,
                     const RelayRequest& request) {
    Requester who{.to = outer.to,
                  .principal = "session:" + request.session.str(),
                  .inside = AttemptRef{.session = request.session, .fence = request.fence},
                  .relayed_by = worker};
    std::variant<RequestFrame, BadFrame> decoded = decode_request(request.request);
    if (const auto* bad = std::get_if<BadFrame>(&decoded)) {
        who.to.inner = ReplyTo::Inner{.request = bad->id, .verb = bad->verb};
        return parts_.turn.reply(who.to, bad_frame_answer(*bad));
    }
    auto& inner = *std::get_if<RequestFrame>(&decoded);
    who.to.inner = ReplyTo::Inner{.request = inner.id, .verb = std::string(verb(inner.body))};
    pass_relayed(who, std::move(inner.body));
}

void Requests::pass_relayed(const Requester& who, Request request) {
    if (const auto* greeting = std::get_if<HelloRequest>(&request)) {
        if (greeting->role != "client")
            return forbid(who, "inside a session only the role client is allowed");
        if (auto refused = check_versions(*greeting))
            return parts_.turn.reply(who.to, std::move(*refused));
        return parts_.turn.reply(who.to, Reply(own_welcome()));
    }
    const Needs needs = needs_of(request);
    if (needs.worker)
        return forbid(who, who.to.inner->verb + " is for workers, not for what runs in a session");
    if (needs.admin)
        return forbid(who, who.to.inner->verb + " is for people, not for what runs in a session");
    if (needs.change && !parts_.core.is_current(*who.inside, who.relayed_by)) {
        return parts_.turn.reply(
            who.to,
            refuse(ErrorCode::stale_fence, "this attempt of session " + who.inside->session.str() +
                                               " is over; it can read, but not change anything"));
    }
    if (is_crowded(who, needs)) return;
    pass_client(who, std::move(request));
}

}  // namespace iw::broker
