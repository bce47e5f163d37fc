#pragma once

// One of each message with every field set, for the golden frames and the mutations of the fuzz
// test.

#include <string>
#include <utility>
#include <vector>

#include "common/codec/codec.h"
#include "common/messages/messages.h"

namespace iw::samples {

inline const std::string kId = "20251118-153042-grafana-agent";
inline const std::string kParent = "20251118-153000-planner";
inline constexpr Fence kFence{.generation = 1, .attempt = 2};
inline const std::string kSha = std::string(32, 'a') + std::string(32, '0');

inline WallTime at(std::int64_t second) {
    return wall_from_ms(1'763'479'805'123 + second * 1000);
}

inline std::vector<Dependency> dependencies() {
    return {{.id = SessionId("20251118-120000-builder"), .on = AfterCondition::failure},
            {.id = SessionId("20251118-120001-linter"), .on = AfterCondition::success},
            {.id = SessionId("20251118-120002-cleaner"), .on = AfterCondition::any_end}};
}

inline Submission submission() {
    return {.key = "key-1",
            .agent = AgentName("grafana-agent"),
            .prompt = "Check the dashboards.\r\n`$(touch pwned)` \xf0\x9f\x9a\x80",
            .project = "monitoring",
            .origin = {.host = "alpha", .root = "/srv/monitoring"},
            .agent_in_project = true,
            .queue_anyway = true,
            .priority = -10,
            .delay = Duration(1500),
            .expires = Duration(3'600'000),
            .timeout = Duration(1'800'000),
            .disk_limit = 500u << 20,
            .on_lost = OnLost::requeue,
            .retry = RetryPolicy{.attempts_max = 3,
                                 .backoff = Duration(2000),
                                 .backoff_max = Duration(60'000),
                                 .causes = {Detail::exited, Detail::timeout}},
            .after = dependencies(),
            .keep_children = true,
            .parent = SessionId(kParent),
            .retry_of = SessionId("20251117-010101-grafana-agent-2"),
            .host = "beta.example",
            .require = {{"gpu", "none"}, {"os", "debian"}},
            .tags = {"nightly", "caf\xc3\xa9"},
            .metadata = R"({"ticket": 17, "nested": {"a": [1, 2.5e3, null, true, "\u00e9"]}})",
            .result_schema = R"({"type": "object", "required": ["status"]})",
            .estimate = Duration(300'000)};
}

inline Delivered delivered() {
    return {.manifest = kSha, .files = 3, .bytes = 52'428'800};
}

inline SessionView view() {
    return {.id = SessionId(kId),
            .agent = AgentName("grafana-agent"),
            .project = "monitoring",
            .origin = {.host = "alpha", .root = "/srv/monitoring"},
            .status = SessionStatus::killed,
            .detail = Detail::timeout,
            .reason = "ran into its timeout",
            .kill_reason = "Timeout (1850s)",
            .created_at = at(0),
            .started_at = at(2),
            .completed_at = at(1852),
            .exit_code = 143,
            .attempt = 2,
            .generation = 1,
            .worker = "alpha-monitoring",
            .host = "alpha",
            .workspace = "/srv/monitoring/docs/.scratch/sessions/" + kId,
            .result_status = "failure",
            .result_size = 1234,
            .result_sha256 = kSha,
            .parent = SessionId(kParent),
            .retry_of = SessionId("20251117-010101-grafana-agent-2"),
            .priority = 5,
            .timeout = Duration(1'800'000),
            .attempts_used = 2,
            .attempts_max = 3,
            .on_lost = OnLost::fail,
            .not_before = at(1),
            .expires_at = at(3600),
            .after = dependencies(),
            .tags = {"nightly"},
            .metadata = "{}",
            .estimate = Duration(300'000),
            .deliverables = delivered(),
            .revision = 7};
}

inline AttemptState attempt() {
    return {.session = SessionId(kId),
            .fence = kFence,
            .phase = AttemptPhase::closing,
            .timeout = Duration(1'800'000)};
}

inline LimitChange limit() {
    return {.session = SessionId(kId), .fence = kFence, .timeout = Duration(3'600'000)};
}

inline HoldView hold() {
    return {.scope = HoldScope::worker,
            .name = "alpha-monitoring",
            .principal = "uid:0",
            .reason = "new disks",
            .since = at(1),
            .until = at(7200)};
}

inline StopOrder stop() {
    return {.session = SessionId(kId),
            .fence = kFence,
            .cause = Detail::parent_killed,
            .reason = "enough"};
}

inline HelloRequest worker_hello() {
    return {.role = "worker",
            .software = "iworker 0.1.0",
            .protocol_min = 1,
            .protocol_max = 3,
            .capabilities = {"adopt"},
            .worker = WorkerHello{.name = WorkerName("alpha-monitoring"),
                                  .host = "alpha",
                                  .root = "/srv/monitoring",
                                  .project = "monitoring",
                                  .state_id = "5f0c",
                                  .start_count = 3,
                                  .boot_id = "b001",
                                  .slots = 5,
                                  .agents = {"claude", "grafana-agent"},
                                  .labels = {{"os", "debian"}},
                                  .inventory = {attempt()},
                                  .seen = SeenHead{.epoch = "e1", .seq = 41}}};
}

inline Report ended() {
    return {.session = SessionId(kId),
            .fence = kFence,
            .number = 2,
            .body = EndedReport{.cause = EndCause::stopped,
                                .success = true,
                                .exit_code = 143,
                                .stop_cause = Detail::timeout,
                                .reason = "Timeout (1850s)",
                                .started_at = at(2),
                                .ended_at = at(1852),
                                .workspace = "/srv/monitoring/docs/.scratch/sessions/" + kId,
                                .result_status = "failure",
                                .result_size = 3,
                                .result_sha256 = kSha,
                                .result_inline = true,
                                .result = std::string("{\xff}"),  // bytes: need not be text
                                .evidence = "exit record of launcher 4711",
                                .deliverables = delivered()}};
}

inline std::vector<Report> reports() {
    return {
        Report{.session = SessionId(kId),
               .fence = kFence,
               .number = 1,
               .body = StartedReport{.started_at = at(2), .workspace = "/srv/monitoring/w"}},
        Report{.session = SessionId(kId),
               .fence = kFence,
               .number = 1,
               .body = DeclinedReport{.cause = Detail::start_failed,
                                      .platform_fault = false,
                                      .reason = "claude: not executable"}},
        ended(),
        Report{.session = SessionId(kId), .fence = kFence, .number = 3, .body = ClosedReport{}}};
}

inline std::vector<Request> requests() {
    Submission plain;
    plain.agent = AgentName("tester");
    plain.prompt = "x";
    return {
        worker_hello(),
        SubmitRequest{.sessions = {submission(), plain}},
        StatusRequest{.id = "20251118-15", .exact = true},
        ListRequest{.status = {SessionStatus::created, SessionStatus::running},
                    .agent = "grafana-agent",
                    .project = "monitoring",
                    .root = "/srv/monitoring",
                    .tag = "nightly",
                    .parent = SessionId(kParent),
                    .ids = {SessionId(kId)},
                    .after = SessionId(kParent),
                    .rows_max = 20},
        ResultRequest{.id = kId},
        WorkersRequest{},
        EventsRequest{.epoch = "e1",
                      .after = 41,
                      .wait = Duration(30'000),
                      .rows_max = 100,
                      .ids = {SessionId(kId)},
                      .project = "monitoring",
                      .agent = "grafana-agent"},
        KillRequest{.id = kId, .reason = "enough", .exact = true, .keep_children = true},
        RetryRequest{.id = kId, .key = "key-2"},
        HeartbeatRequest{.attempts = {attempt()},
                         .agents = std::vector<std::string>{"claude"},
                         .slots = 0,
                         .closed = {attempt()},
                         .closed_all = true},
        ReportRequest{.reports = reports()},
        RelayRequest{
            .session = SessionId(kId), .fence = kFence, .request = std::string("\x81\xa1v\x01")},
        GoodbyeRequest{.returning = false},
        ExtendRequest{.id = kId, .add = Duration(600'000), .exact = true},
        HoldRequest{.scope = HoldScope::project,
                    .name = "monitoring",
                    .on = false,
                    .reason = "the network is back",
                    .lasts = Duration(3'600'000)},
        ConfirmDeadRequest{.host = "alpha", .reason = "its power supply burnt"},
        BackupRequest{.folder = "/backups/alpha"},
        ReleaseRequest{.accept_loss = true, .force = true, .reason = "the disk is gone"},
        FleetRequest{},
        EditRequest{.id = kId,
                    .exact = true,
                    .parent = SessionId(),
                    .tags = std::vector<std::string>{"late"},
                    .metadata = R"({"ticket": 18})"},
        GetRequest{.id = kId, .blob = kSha, .offset = 1'048'576},
        PutRequest{.session = SessionId(kId),
                   .fence = kFence,
                   .blob = kSha,
                   .size = 1'048'580,
                   .offset = 1'048'576,
                   .data = std::string("\0\xff\n\x01", 4)},
    };
}

inline Event event() {
    return {.seq = 42,
            .time = at(3),
            .topic = "session.killed.grafana-agent." + kId,
            .id = SessionId(kId),
            .revision = 7,
            .agent = "grafana-agent",
            .project = "monitoring",
            .tags = {"nightly"},
            .root = "/srv/monitoring",
            .status = "KILLED",
            .detail = "timeout",
            .attempt = 2,
            .host = "alpha",
            .reason = "ran into its timeout",
            .result_status = "failure"};
}

inline WorkerView worker() {
    return {.name = WorkerName("alpha-monitoring"),
            .host = "alpha",
            .root = "/srv/monitoring",
            .project = "monitoring",
            .state = "up",
            .slots = 5,
            .used = 2,
            .agents = {"claude"},
            .labels = {{"os", "debian"}},
            .software = "iworker 0.1.0",
            .start_count = 3,
            .heard_at = at(1),
            .drain = hold(),
            .unknown = {AttemptRef{.session = SessionId(kParent), .fence = kFence}}};
}

inline FleetReply fleet() {
    return {.software = "ibroker 0.1.0",
            .epoch = "e2",
            .generation = 2,
            .seq = 42,
            .restored = true,
            .restored_why = "restored from /backups/alpha",
            .unheard = {WorkerName("beta-monitoring")},
            .read_only = "worker alpha-monitoring has seen record 50",
            .holds = {hold(), HoldView{.scope = HoldScope::fleet, .since = at(2)}},
            .queued = 1,
            .assigned = 2,
            .running = 3,
            .closing = 4,
            .backup_at = at(-86'400),
            .backup_folder = "/backups/alpha/backup-1",
            .backup_error = "no room",
            .blobs_bytes = 5u << 20,
            .blobs_max = 20ULL << 30,
            .disk_free = 1u << 30,
            .storage_low = true};
}

inline std::vector<Reply> replies() {
    const Error stale = make_error(ErrorCode::stale_fence, "attempt 1 is over");
    return {
        WelcomeReply{.software = "ibroker 0.1.0",
                     .protocol = 1,
                     .epoch = "e1",
                     .generation = 1,
                     .seq = 41,
                     .time = at(1),
                     .heartbeat = limits::kHeartbeatInterval,
                     .unreachable = limits::kUnreachableAfter,
                     .lost = limits::kLostAfter,
                     .restored = true,
                     .limits = announced_limits(),
                     .capabilities = {"events"}},
        SubmitReply{.sessions = {SubmitOutcome{.id = SessionId(kId), .duplicate = true},
                                 SubmitOutcome{.error = make_error(ErrorCode::unknown_agent,
                                                                   "no such agent")}}},
        StatusReply{.session = view(), .seq = 42},
        ListReply{.sessions = {view(), SessionView{.id = SessionId(kParent),
                                                   .agent = AgentName("planner")}},
                  .next = SessionId(kId),
                  .seq = 42},
        ResultReply{.session = view(), .held = true, .result = std::string("{\0}", 3)},
        WorkersReply{.workers = {worker()}},
        EventsReply{.epoch = "e1", .events = {event()}, .next = 42, .head = 44, .gap = true},
        KillReply{.session = view(), .already_final = true, .descendants = 4},
        RetryReply{.id = SessionId(kId), .duplicate = true},
        HeartbeatReply{
            .time = at(1), .stops = {stop()}, .limits = {limit()}, .restored = true, .seq = 42},
        ReportReply{
            .acks = {ReportAck{
                         .session = SessionId(kId), .fence = kFence, .number = 1, .error = stale},
                     ReportAck{.session = SessionId(kId),
                               .fence = kFence,
                               .number = 2,
                               .outcome = Outcome{.session = view()}}}},
        RelayReply{.reply = std::string("\x81\xa1v\x01")},
        GoodbyeReply{},
        ExtendReply{.session = view()},
        HoldReply{.changed = true, .hold = hold(), .running = {SessionId(kId)}},
        ConfirmDeadReply{.sessions = {view()}},
        BackupReply{.folder = "/backups/alpha/backup-1", .seq = 42, .bytes = 4096},
        ReleaseReply{.epoch = "e2", .generation = 2, .held = true},
        fleet(),
        EditReply{.session = view(), .refused = {"parent: no session " + kParent}},
        GetReply{.data = std::string("\0\xff\n\x01", 4), .size = 1'048'580},
        PutReply{.have = 1'048'580},
    };
}

inline std::vector<Push> pushes() {
    return {
        AssignPush{
            .assignments = {Assignment{.session = SessionId(kId),
                                       .fence = kFence,
                                       .agent = AgentName("grafana-agent"),
                                       .project = "monitoring",
                                       .origin = {.host = "alpha", .root = "/srv/monitoring"},
                                       .prompt = "Check the dashboards.",
                                       .created_at = at(0),
                                       .timeout = Duration(1'800'000),
                                       .disk_limit = 500u << 20,
                                       .parent = SessionId(kParent),
                                       .retry_of = SessionId("20251117-010101-grafana-agent-2"),
                                       .priority = 5,
                                       .tags = {"nightly"},
                                       .metadata = "{}",
                                       .result_schema = R"({"type": "object"})"}}},
        StopPush{.stops = {stop()}},
        ClosePush{.outcomes = {Outcome{.session = view()}}},
        LimitsPush{.limits = {limit()}},
        FollowPush{.sessions = {view()}},
    };
}

inline ErrorReply refusal() {
    return {.error =
                make_error(ErrorCode::ambiguous, "2 sessions begin with 2025; give more of the id"),
            .retry = Duration(500),
            .matches = {kId, kParent}};
}

// Every frame with the name of its golden file.
struct Named {
    std::string name;
    std::string bytes;
    bool request = false;
};
inline std::vector<Named> frames() {
    std::vector<Named> all;
    for (const Request& body : requests()) {
        const RequestFrame frame{.id = "r1", .body = body};
        all.push_back({"request-" + std::string(verb(body)), encode(frame), true});
    }
    for (const Reply& body : replies()) {
        const ReplyFrame frame{.id = "r1", .body = body};
        all.push_back({"reply-" + std::string(verb(body)), encode(frame, verb(body))});
    }
    for (const Push& body : pushes()) {
        all.push_back({"push-" + std::string(verb(body)), encode(PushFrame{.body = body})});
    }
    all.push_back({"error", encode(ReplyFrame{.id = "r1", .body = refusal()}, "status")});
    return all;
}

// The bytes of what a frame is decoded to; empty when it is refused.
inline std::string encoded_again(std::string_view bytes, bool request) {
    if (request) {
        const auto decoded = decode_request(bytes);
        const auto* frame = std::get_if<RequestFrame>(&decoded);
        return frame == nullptr ? std::string() : encode(*frame);
    }
    const Result<Incoming> decoded = decode_incoming(bytes);
    if (!decoded) return {};
    if (const auto* push = std::get_if<PushFrame>(&*decoded)) return encode(*push);
    const auto& reply = std::get<ReplyFrame>(*decoded);
    const auto* ok = std::get_if<Reply>(&reply.body);
    return encode(reply, ok == nullptr ? "status" : verb(*ok));
}

}  // namespace iw::samples
