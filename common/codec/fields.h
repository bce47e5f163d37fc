#pragma once

// The fields of every message: name, member, and what a request's field must keep to. These lists
// are the only place that names them in code; common/PROTOCOL.md has the same in prose, and a test
// compares the two. How lists work: common/codec/pack.h. They stand in namespace iw, where the
// structs are, to be found there.

#include <string_view>

#include "common/base/ids.h"
#include "common/base/limits.h"
#include "common/codec/forms.h"
#include "common/codec/pack.h"
#include "common/messages/messages.h"

namespace iw {
namespace codec {

// Ten years, as for durations that people write. Sums with a civil time stay far from overflow.
inline constexpr std::int64_t kDurationMaxMs = 10LL * 365 * 24 * 3600 * 1000;
inline constexpr std::size_t kNameMax = 128;

inline constexpr Rule kAgentRule{.bytes_min = 1,
                                 .form = is_agent_name,
                                 .form_text = "an agent's name: [a-z0-9][a-z0-9_-]{0,63}"};
inline constexpr Rule kNameRule{
    .bytes_min = 1,
    .form = is_plain_name,
    .form_text = "1-128 of [A-Za-z0-9._:@-], not beginning with '-' or '.'"};
// Ids as people give them may be prefixes; those of workers are whole.
inline constexpr Rule kIdRule{.bytes_min = 1, .bytes_max = kNameMax};
inline constexpr Rule kIdListRule{
    .bytes_min = 1, .bytes_max = kNameMax, .count_max = limits::kIdsPerRequestMax};
inline constexpr Rule kSessionRule{
    .bytes_min = 1, .form = is_session_id, .form_text = "a whole session id"};
inline constexpr Rule kKeyRule{.bytes_min = 1, .bytes_max = limits::kKeyMax};
inline constexpr Rule kPromptRule{.bytes_min = 1, .bytes_max = limits::kPromptMax};
inline constexpr Rule kPathRule{.bytes_min = 1,
                                .bytes_max = limits::kPathMax,
                                .form = is_absolute_path,
                                .form_text = "an absolute path without control characters"};
inline constexpr Rule kReasonRule{.bytes_max = limits::kReasonMax};
inline constexpr Rule kMetadataRule{.bytes_max = limits::kMetadataMax,
                                    .form = is_json_object,
                                    .form_text = "the text of a JSON object"};
inline constexpr Rule kSchemaRule{.bytes_max = limits::kSchemaMax,
                                  .form = is_json_object,
                                  .form_text = "the text of a JSON object"};
// Short texts, and lists and maps of them, that are shown on one line.
inline constexpr Rule kLineRule{.bytes_min = 1,
                                .bytes_max = limits::kTagBytesMax,
                                .count_max = limits::kTagsMax,
                                .form = is_line,
                                .form_text = "text without control characters"};
inline constexpr Rule kLabelsRule{.bytes_max = limits::kTagBytesMax,
                                  .count_max = limits::kTagsMax,
                                  .form = is_line,
                                  .form_text = "text without control characters"};
inline constexpr Rule kAgentsRule{.bytes_min = 1,
                                  .count_max = limits::kAgentsPerWorkerMax,
                                  .form = is_agent_name,
                                  .form_text = "an agent's name: [a-z0-9][a-z0-9_-]{0,63}"};
inline constexpr Rule kInventoryRule{.count_max = limits::kInventoryMax};
inline constexpr Rule kPriorityRule{.min = limits::kPriorityMin, .max = limits::kPriorityMax};
inline constexpr Rule kDelayRule{.min = 0, .max = kDurationMaxMs};
inline constexpr Rule kTermRule{.min = 1, .max = kDurationMaxMs};
inline constexpr Rule kRowsRule{.min = 1, .max = limits::kPageRowsMax};
inline constexpr Rule kSlotsRule{.min = 0, .max = limits::kSlotsMax};
inline constexpr Rule kPositiveRule{.min = 1};
inline constexpr Rule kProtocolRule{.min = 1, .max = 1'000'000};
inline constexpr Rule kChunkRule{.bytes_max = limits::kChunkMax};
inline constexpr Rule kShaRule{.form = is_sha256_hex,
                               .form_text = "64 lower-case hexadecimal digits"};

// What an unknown word of a newer broker is read as: never final by mistake, and the plainest of
// its status.
inline constexpr SessionStatus kUnknownStatus = SessionStatus::running;
constexpr Detail plainest_detail(SessionStatus status) {
    switch (status) {
        case SessionStatus::created:
            return Detail::queued;
        case SessionStatus::running:
            return Detail::working;
        case SessionStatus::completed:
            return Detail::done;
        case SessionStatus::failed:
            return Detail::exited;
        case SessionStatus::killed:
            return Detail::killed;
    }
    return Detail::working;
}

// Fixed by kind, so that a worker's repeat is recognised.
constexpr std::uint32_t report_number(const ReportBody& body) {
    constexpr std::uint32_t kNumbers[] = {1, 1, 2, 3};
    static_assert(std::size(kNumbers) == std::variant_size_v<ReportBody>);
    return kNumbers[body.index()];
}

}  // namespace codec

// ---- Shared by several messages
// -------------------------------------------------------------------------

template <typename V, codec::Of<Fence> T>
void fields(V& v, T& fence) {
    v.required("generation", fence.generation);
    v.required("attempt", fence.attempt);
}

template <typename V, codec::Of<Origin> T>
void fields(V& v, T& origin) {
    v.optional("host", origin.host, codec::kNameRule);
    v.required("root", origin.root, codec::kPathRule);
}

template <typename V, codec::Of<Error> T>
void fields(V& v, T& error) {
    v.required("code", error.code);
    v.optional("msg", error.message);
}

template <typename V, codec::Of<AttemptRef> T>
void fields(V& v, T& attempt) {
    v.required("session", attempt.session, codec::kSessionRule);
    v.required("fence", attempt.fence);
}

template <typename V, codec::Of<RetryPolicy> T>
void fields(V& v, T& policy) {
    v.required("attempts_max", policy.attempts_max,
               codec::Rule{.min = 1, .max = limits::kAttemptsMax});
    v.defaulted("backoff", policy.backoff, codec::kTermRule);
    v.defaulted("backoff_max", policy.backoff_max, codec::kTermRule);
    v.optional("causes", policy.causes, codec::Rule{.count_max = 8});
    v.check(policy.backoff <= policy.backoff_max, "backoff", "is above backoff_max");
    v.check(codec::are_retry_causes(policy.causes), "causes",
            "must be of exited, signal, disk-limit, result-missing, result-invalid, timeout");
}

template <typename V, codec::Of<Dependency> T>
void fields(V& v, T& dependency) {
    v.required("id", dependency.id, codec::kSessionRule);
    v.defaulted("on", dependency.on);
}

// All of a submission but its key: what a body hash covers.
template <typename V, codec::Of<Submission> T>
void body_fields(V& v, T& s) {
    v.required("agent", s.agent, codec::kAgentRule);
    v.required("prompt", s.prompt, codec::kPromptRule);
    v.optional("project", s.project, codec::kNameRule);
    v.optional("origin", s.origin);
    v.optional("agent_in_project", s.agent_in_project);
    v.optional("queue_anyway", s.queue_anyway);
    v.optional("priority", s.priority, codec::kPriorityRule);
    v.optional("delay", s.delay, codec::kDelayRule);
    v.optional("expires", s.expires, codec::kTermRule);
    v.defaulted("timeout", s.timeout, codec::kTermRule);
    v.optional("disk_limit", s.disk_limit, codec::kPositiveRule);
    v.defaulted("on_lost", s.on_lost);
    v.optional("retry", s.retry);
    v.optional("after", s.after, codec::Rule{.count_max = limits::kDependenciesMax});
    v.optional("keep_children", s.keep_children);
    v.optional("parent", s.parent, codec::kSessionRule);
    v.optional("retry_of", s.retry_of, codec::kSessionRule);
    v.optional("host", s.host, codec::kNameRule);
    v.optional("require", s.require, codec::kLabelsRule);
    v.optional("tags", s.tags, codec::kLineRule);
    v.optional("metadata", s.metadata, codec::kMetadataRule);
    v.optional("result_schema", s.result_schema, codec::kSchemaRule);
    v.optional("estimate", s.estimate, codec::kTermRule);
}

template <typename V, codec::Of<Submission> T>
void fields(V& v, T& s) {
    v.optional("key", s.key, codec::kKeyRule);
    body_fields(v, s);
}

template <typename V, codec::Of<Delivered> T>
void fields(V& v, T& delivered) {
    v.required("manifest", delivered.manifest, codec::kShaRule);
    v.required("files", delivered.files);
    v.required("bytes", delivered.bytes);
}

template <typename V, codec::Of<SessionView> T>
void fields(V& v, T& s) {
    v.required("id", s.id, codec::kSessionRule);
    v.required("agent", s.agent, codec::kAgentRule);
    v.optional("project", s.project);
    v.optional("origin", s.origin);
    v.word("status", s.status, codec::kUnknownStatus);
    v.word("detail", s.detail, codec::plainest_detail(s.status));
    v.optional("reason", s.reason);
    v.optional("kill_reason", s.kill_reason);
    v.required("created_at", s.created_at);
    v.optional("started_at", s.started_at);
    v.optional("completed_at", s.completed_at);
    v.optional("exit_code", s.exit_code);
    v.optional("attempt", s.attempt);
    v.optional("generation", s.generation);
    v.optional("worker", s.worker);
    v.optional("host", s.host);
    v.optional("workspace", s.workspace);
    v.optional("result_status", s.result_status);
    v.optional("result_size", s.result_size);
    v.optional("result_sha256", s.result_sha256);
    v.optional("parent", s.parent);
    v.optional("retry_of", s.retry_of);
    v.optional("priority", s.priority);
    v.optional("timeout", s.timeout);
    v.optional("attempts_used", s.attempts_used);
    v.defaulted("attempts_max", s.attempts_max);
    v.defaulted("on_lost", s.on_lost);
    v.optional("not_before", s.not_before);
    v.optional("expires_at", s.expires_at);
    v.optional("after", s.after);
    v.optional("tags", s.tags);
    v.optional("metadata", s.metadata);
    v.optional("estimate", s.estimate);
    v.optional("deliverables", s.deliverables);
    v.optional("revision", s.revision);
}

template <typename V, codec::Of<AttemptState> T>
void fields(V& v, T& attempt) {
    v.required("session", attempt.session, codec::kSessionRule);
    v.required("fence", attempt.fence);
    v.required("phase", attempt.phase);
    v.optional("timeout", attempt.timeout, codec::kTermRule);
}

// ---- Client
// ---------------------------------------------------------------------------------------------

template <typename V, codec::Of<SubmitRequest> T>
void fields(V& v, T& request) {
    v.required("sessions", request.sessions,
               codec::Rule{.count_min = 1, .count_max = limits::kSubmitBatchMax});
}
template <typename V, codec::Of<SubmitOutcome> T>
void fields(V& v, T& outcome) {
    v.optional("id", outcome.id);
    v.optional("duplicate", outcome.duplicate);
    v.optional("error", outcome.error);
}
template <typename V, codec::Of<SubmitReply> T>
void fields(V& v, T& reply) {
    v.required("sessions", reply.sessions);
}

template <typename V, codec::Of<StatusRequest> T>
void fields(V& v, T& request) {
    v.required("id", request.id, codec::kIdRule);
    v.optional("exact", request.exact);
}
template <typename V, codec::Of<StatusReply> T>
void fields(V& v, T& reply) {
    v.required("session", reply.session);
    v.optional("seq", reply.seq);
}

template <typename V, codec::Of<ListRequest> T>
void fields(V& v, T& request) {
    v.optional("status", request.status, codec::kLineRule);
    v.optional("agent", request.agent, codec::kLineRule);
    v.optional("project", request.project, codec::kLineRule);
    v.optional("root", request.root, codec::kPathRule);
    v.optional("tag", request.tag, codec::kLineRule);
    v.optional("parent", request.parent, codec::kIdRule);
    v.optional("ids", request.ids, codec::kIdListRule);
    v.optional("after", request.after, codec::kIdRule);
    v.defaulted("rows_max", request.rows_max, codec::kRowsRule);
}
template <typename V, codec::Of<ListReply> T>
void fields(V& v, T& reply) {
    v.required("sessions", reply.sessions);
    v.optional("next", reply.next);
    v.optional("seq", reply.seq);
}

template <typename V, codec::Of<ResultRequest> T>
void fields(V& v, T& request) {
    v.required("id", request.id, codec::kIdRule);
}
template <typename V, codec::Of<ResultReply> T>
void fields(V& v, T& reply) {
    v.required("session", reply.session);
    v.optional("held", reply.held);
    v.optional_bytes("result", reply.result);
}

template <typename V, codec::Of<HoldView> T>
void fields(V& v, T& hold) {
    v.required("scope", hold.scope);
    v.optional("name", hold.name);
    v.optional("principal", hold.principal);
    v.optional("reason", hold.reason);
    v.required("since", hold.since);
    v.optional("until", hold.until);
}

template <typename V, codec::Of<WorkersRequest> T>
void fields(V&, T&) {}
template <typename V, codec::Of<WorkerView> T>
void fields(V& v, T& worker) {
    v.required("name", worker.name);
    v.optional("host", worker.host);
    v.optional("root", worker.root);
    v.optional("project", worker.project);
    v.optional("state", worker.state);
    v.optional("slots", worker.slots);
    v.optional("used", worker.used);
    v.optional("agents", worker.agents);
    v.optional("labels", worker.labels);
    v.optional("software", worker.software);
    v.optional("start_count", worker.start_count);
    v.optional("heard_at", worker.heard_at);
    v.optional("drain", worker.drain);
    v.optional("unknown", worker.unknown);
}
template <typename V, codec::Of<WorkersReply> T>
void fields(V& v, T& reply) {
    v.required("workers", reply.workers);
}

template <typename V, codec::Of<EventsRequest> T>
void fields(V& v, T& request) {
    v.optional("epoch", request.epoch, codec::kLineRule);
    v.optional("after", request.after);
    v.optional("wait", request.wait, codec::Rule{.min = 0, .max = limits::kEventsWaitMax.count()});
    v.defaulted("rows_max", request.rows_max, codec::kRowsRule);
    v.optional("ids", request.ids, codec::kIdListRule);
    v.optional("project", request.project, codec::kLineRule);
    v.optional("agent", request.agent, codec::kLineRule);
}
template <typename V, codec::Of<Event> T>
void fields(V& v, T& event) {
    v.required("seq", event.seq);
    v.required("time", event.time);
    v.required("topic", event.topic);
    v.optional("id", event.id);
    v.optional("revision", event.revision);
    v.optional("agent", event.agent);
    v.optional("project", event.project);
    v.optional("tags", event.tags);
    v.optional("root", event.root);
    v.optional("status", event.status);
    v.optional("detail", event.detail);
    v.optional("attempt", event.attempt);
    v.optional("host", event.host);
    v.optional("reason", event.reason);
    v.optional("result_status", event.result_status);
}
template <typename V, codec::Of<EventsReply> T>
void fields(V& v, T& reply) {
    v.required("epoch", reply.epoch);
    v.required("events", reply.events);
    v.required("next", reply.next);
    v.required("head", reply.head);
    v.optional("gap", reply.gap);
}

template <typename V, codec::Of<KillRequest> T>
void fields(V& v, T& request) {
    v.required("id", request.id, codec::kIdRule);
    v.optional("reason", request.reason, codec::kReasonRule);
    v.optional("exact", request.exact);
    v.optional("keep_children", request.keep_children);
}
template <typename V, codec::Of<KillReply> T>
void fields(V& v, T& reply) {
    v.required("session", reply.session);
    v.optional("already_final", reply.already_final);
    v.optional("descendants", reply.descendants);
}

template <typename V, codec::Of<RetryRequest> T>
void fields(V& v, T& request) {
    v.required("id", request.id, codec::kIdRule);
    v.optional("key", request.key, codec::kKeyRule);
}
template <typename V, codec::Of<RetryReply> T>
void fields(V& v, T& reply) {
    v.required("id", reply.id);
    v.optional("duplicate", reply.duplicate);
}

template <typename V, codec::Of<ExtendRequest> T>
void fields(V& v, T& request) {
    v.required("id", request.id, codec::kIdRule);
    v.optional("timeout", request.timeout, codec::kTermRule);
    v.optional("add", request.add, codec::kTermRule);
    v.optional("exact", request.exact);
    v.check(request.timeout.has_value() != request.add.has_value(), "timeout",
            "or add: exactly one of them is needed");
}
template <typename V, codec::Of<ExtendReply> T>
void fields(V& v, T& reply) {
    v.required("session", reply.session);
}

template <typename V, codec::Of<EditRequest> T>
void fields(V& v, T& request) {
    v.required("id", request.id, codec::kIdRule);
    v.optional("exact", request.exact);
    v.optional("parent", request.parent,
               codec::Rule{.form = codec::is_session_id_or_empty,
                           .form_text = "a whole session id, or empty"});
    v.optional("tags", request.tags, codec::kLineRule);
    v.optional("metadata", request.metadata,
               codec::Rule{.bytes_max = limits::kMetadataMax,
                           .form = codec::is_json_object_or_empty,
                           .form_text = "the text of a JSON object, or empty"});
    v.check(request.parent || request.tags || request.metadata, "parent",
            "tags or metadata: at least one of them is needed");
}
template <typename V, codec::Of<EditReply> T>
void fields(V& v, T& reply) {
    v.required("session", reply.session);
    v.optional("refused", reply.refused);
}

template <typename V, codec::Of<GetRequest> T>
void fields(V& v, T& request) {
    v.required("id", request.id, codec::kSessionRule);
    v.required("blob", request.blob, codec::kShaRule);
    v.optional("offset", request.offset);
}
template <typename V, codec::Of<GetReply> T>
void fields(V& v, T& reply) {
    v.optional_bytes("data", reply.data);
    v.required("size", reply.size);
}

template <typename V, codec::Of<HoldRequest> T>
void fields(V& v, T& request) {
    v.required("scope", request.scope);
    v.optional("name", request.name, codec::kNameRule);
    v.defaulted("on", request.on);
    v.optional("reason", request.reason, codec::kReasonRule);
    v.optional("lasts", request.lasts, codec::kTermRule);
    v.check((request.scope == HoldScope::fleet) == request.name.empty(), "name",
            "is needed for all scopes but fleet, which has none");
}
template <typename V, codec::Of<HoldReply> T>
void fields(V& v, T& reply) {
    v.optional("changed", reply.changed);
    v.optional("hold", reply.hold);
    v.optional("running", reply.running);
}

template <typename V, codec::Of<ConfirmDeadRequest> T>
void fields(V& v, T& request) {
    v.optional("id", request.id, codec::kIdRule);
    v.optional("worker", request.worker, codec::kNameRule);
    v.optional("host", request.host, codec::kNameRule);
    v.required("reason", request.reason,
               codec::Rule{.bytes_min = 1, .bytes_max = limits::kReasonMax});
    const int named = (request.id.empty() ? 0 : 1) + (request.worker.empty() ? 0 : 1) +
                      (request.host.empty() ? 0 : 1);
    v.check(named == 1, "id", "worker or host: exactly one of them is needed");
}
template <typename V, codec::Of<ConfirmDeadReply> T>
void fields(V& v, T& reply) {
    v.optional("sessions", reply.sessions);
}

template <typename V, codec::Of<BackupRequest> T>
void fields(V& v, T& request) {
    v.optional("folder", request.folder, codec::kPathRule);
}
template <typename V, codec::Of<BackupReply> T>
void fields(V& v, T& reply) {
    v.required("folder", reply.folder);
    v.required("seq", reply.seq);
    v.optional("bytes", reply.bytes);
}

template <typename V, codec::Of<ReleaseRequest> T>
void fields(V& v, T& request) {
    v.optional("accept_loss", request.accept_loss);
    v.optional("force", request.force);
    v.optional("reason", request.reason, codec::kReasonRule);
}
template <typename V, codec::Of<ReleaseReply> T>
void fields(V& v, T& reply) {
    v.required("epoch", reply.epoch);
    v.required("generation", reply.generation);
    v.optional("held", reply.held);
}

template <typename V, codec::Of<FleetRequest> T>
void fields(V&, T&) {}
template <typename V, codec::Of<FleetReply> T>
void fields(V& v, T& reply) {
    v.optional("software", reply.software);
    v.required("epoch", reply.epoch);
    v.required("generation", reply.generation);
    v.required("seq", reply.seq);
    v.optional("restored", reply.restored);
    v.optional("restored_why", reply.restored_why);
    v.optional("unheard", reply.unheard);
    v.optional("read_only", reply.read_only);
    v.optional("holds", reply.holds);
    v.optional("queued", reply.queued);
    v.optional("assigned", reply.assigned);
    v.optional("running", reply.running);
    v.optional("closing", reply.closing);
    v.optional("backup_at", reply.backup_at);
    v.optional("backup_folder", reply.backup_folder);
    v.optional("backup_error", reply.backup_error);
    v.optional("blobs_bytes", reply.blobs_bytes);
    v.optional("blobs_max", reply.blobs_max);
    v.optional("disk_free", reply.disk_free);
    v.optional("storage_low", reply.storage_low);
}

// ---- Workers
// --------------------------------------------------------------------------------------------

template <typename V, codec::Of<SeenHead> T>
void fields(V& v, T& seen) {
    v.required("epoch", seen.epoch, codec::kLineRule);
    v.required("seq", seen.seq);
}

template <typename V, codec::Of<WorkerHello> T>
void fields(V& v, T& worker) {
    v.required("name", worker.name, codec::kNameRule);
    v.required("host", worker.host, codec::kNameRule);
    v.required("root", worker.root, codec::kPathRule);
    v.optional("project", worker.project, codec::kNameRule);
    v.required("state_id", worker.state_id, codec::kLineRule);
    v.required("start_count", worker.start_count);
    v.optional("boot_id", worker.boot_id, codec::kLineRule);
    v.required("slots", worker.slots, codec::kSlotsRule);
    v.optional("agents", worker.agents, codec::kAgentsRule);
    v.optional("labels", worker.labels, codec::kLabelsRule);
    v.optional("inventory", worker.inventory, codec::kInventoryRule);
    v.optional("seen", worker.seen);
}

template <typename V, codec::Of<HelloRequest> T>
void fields(V& v, T& request) {
    v.required("role", request.role, codec::kLineRule);
    v.optional("software", request.software, codec::kLineRule);
    v.defaulted("protocol_min", request.protocol_min, codec::kProtocolRule);
    v.defaulted("protocol_max", request.protocol_max, codec::kProtocolRule);
    v.optional("capabilities", request.capabilities, codec::kLineRule);
    v.optional("worker", request.worker);
    v.check(request.role == "client" || request.role == "worker", "role",
            "must be client or worker");
    v.check(request.role != "worker" || request.worker.has_value(), "worker", "is missing");
    v.check(request.protocol_min <= request.protocol_max, "protocol_min", "is above protocol_max");
}
template <typename V, codec::Of<WelcomeReply> T>
void fields(V& v, T& reply) {
    v.optional("software", reply.software);
    v.required("protocol", reply.protocol);
    v.required("epoch", reply.epoch);
    v.required("generation", reply.generation);
    v.required("seq", reply.seq);
    v.required("time", reply.time);
    v.required("heartbeat", reply.heartbeat);
    v.required("unreachable", reply.unreachable);
    v.required("lost", reply.lost);
    v.optional("restored", reply.restored);
    v.optional("limits", reply.limits);
    v.optional("capabilities", reply.capabilities);
}

template <typename V, codec::Of<HeartbeatRequest> T>
void fields(V& v, T& request) {
    v.optional("attempts", request.attempts, codec::kInventoryRule);
    v.optional("agents", request.agents, codec::kAgentsRule);
    v.optional("slots", request.slots, codec::kSlotsRule);
    v.optional("closed", request.closed, codec::kInventoryRule);
    v.optional("closed_all", request.closed_all);
}
template <typename V, codec::Of<LimitChange> T>
void fields(V& v, T& limit) {
    v.required("session", limit.session);
    v.required("fence", limit.fence);
    v.required("timeout", limit.timeout);
}
template <typename V, codec::Of<StopOrder> T>
void fields(V& v, T& stop) {
    v.required("session", stop.session);
    v.required("fence", stop.fence);
    v.word("cause", stop.cause, Detail::killed);
    v.optional("reason", stop.reason);
}
template <typename V, codec::Of<HeartbeatReply> T>
void fields(V& v, T& reply) {
    v.required("time", reply.time);
    v.optional("stops", reply.stops);
    v.optional("limits", reply.limits);
    v.optional("restored", reply.restored);
    v.optional("seq", reply.seq);
}

template <typename V, codec::Of<Assignment> T>
void fields(V& v, T& a) {
    v.required("session", a.session);
    v.required("fence", a.fence);
    v.required("agent", a.agent);
    v.optional("project", a.project);
    v.optional("origin", a.origin);
    v.required("prompt", a.prompt);
    v.required("created_at", a.created_at);
    v.required("timeout", a.timeout);
    v.optional("disk_limit", a.disk_limit);
    v.optional("parent", a.parent);
    v.optional("retry_of", a.retry_of);
    v.optional("priority", a.priority);
    v.optional("tags", a.tags);
    v.optional("metadata", a.metadata);
    v.optional("result_schema", a.result_schema);
}
template <typename V, codec::Of<AssignPush> T>
void fields(V& v, T& push) {
    v.required("assignments", push.assignments);
}
template <typename V, codec::Of<StopPush> T>
void fields(V& v, T& push) {
    v.required("stops", push.stops);
}
template <typename V, codec::Of<LimitsPush> T>
void fields(V& v, T& push) {
    v.required("limits", push.limits);
}
template <typename V, codec::Of<Outcome> T>
void fields(V& v, T& outcome) {
    v.required("session", outcome.session);
}
template <typename V, codec::Of<ClosePush> T>
void fields(V& v, T& push) {
    v.required("outcomes", push.outcomes);
}

template <typename V, codec::Of<FollowPush> T>
void fields(V& v, T& push) {
    v.required("sessions", push.sessions);
}

inline std::string_view kind_name(const StartedReport&) {
    return "started";
}
inline std::string_view kind_name(const DeclinedReport&) {
    return "declined";
}
inline std::string_view kind_name(const EndedReport&) {
    return "ended";
}
inline std::string_view kind_name(const ClosedReport&) {
    return "closed";
}

template <typename V, codec::Of<StartedReport> T>
void fields(V& v, T& report) {
    v.required("started_at", report.started_at);
    v.optional("workspace", report.workspace, codec::kPathRule);
}
template <typename V, codec::Of<DeclinedReport> T>
void fields(V& v, T& report) {
    v.required("cause", report.cause);
    v.defaulted("platform_fault", report.platform_fault);
    v.optional("reason", report.reason, codec::kReasonRule);
}
template <typename V, codec::Of<EndedReport> T>
void fields(V& v, T& report) {
    v.required("cause", report.cause);
    v.optional("success", report.success);
    v.optional("exit_code", report.exit_code);
    v.defaulted("stop_cause", report.stop_cause);
    v.optional("reason", report.reason, codec::kReasonRule);
    v.optional("started_at", report.started_at);
    v.required("ended_at", report.ended_at);
    v.optional("workspace", report.workspace, codec::kPathRule);
    v.optional("result_status", report.result_status, codec::kReasonRule);
    v.optional("result_size", report.result_size);
    v.optional("result_sha256", report.result_sha256, codec::kShaRule);
    v.optional("result_inline", report.result_inline);
    v.optional_bytes("result", report.result, codec::Rule{.bytes_max = limits::kResultInlineMax});
    v.optional("evidence", report.evidence, codec::kReasonRule);
    v.optional("deliverables", report.deliverables);
    v.check(report.stop_cause == Detail::killed || report.stop_cause == Detail::parent_killed ||
                report.stop_cause == Detail::timeout,
            "stop_cause", "must be killed, parent-killed or timeout");
    v.check(!report.result_inline || report.result_size == report.result.size(), "result_size",
            "is not the size of result");
}
template <typename V, codec::Of<ClosedReport> T>
void fields(V&, T&) {}

template <typename V, codec::Of<Report> T>
void fields(V& v, T& report) {
    v.required("session", report.session, codec::kSessionRule);
    v.required("fence", report.fence);
    v.required("number", report.number);
    v.one_of("kind", report.body);
    v.check(report.number == codec::report_number(report.body), "number",
            "is not the number of this kind");
}
template <typename V, codec::Of<ReportRequest> T>
void fields(V& v, T& request) {
    v.required("reports", request.reports,
               codec::Rule{.count_min = 1, .count_max = limits::kReportBatchMax});
}
template <typename V, codec::Of<ReportAck> T>
void fields(V& v, T& ack) {
    v.required("session", ack.session);
    v.required("fence", ack.fence);
    v.required("number", ack.number);
    v.optional("error", ack.error);
    v.optional("outcome", ack.outcome);
}
template <typename V, codec::Of<ReportReply> T>
void fields(V& v, T& reply) {
    v.required("acks", reply.acks);
}

template <typename V, codec::Of<RelayRequest> T>
void fields(V& v, T& request) {
    v.required("session", request.session, codec::kSessionRule);
    v.required("fence", request.fence);
    v.required_bytes("request", request.request, codec::Rule{.bytes_min = 1});
}
template <typename V, codec::Of<RelayReply> T>
void fields(V& v, T& reply) {
    v.required_bytes("reply", reply.reply);
}

template <typename V, codec::Of<PutRequest> T>
void fields(V& v, T& request) {
    v.required("session", request.session, codec::kSessionRule);
    v.required("fence", request.fence);
    v.required("blob", request.blob, codec::kShaRule);
    v.required("size", request.size);
    v.optional("offset", request.offset);
    v.optional_bytes("data", request.data, codec::kChunkRule);
}
template <typename V, codec::Of<PutReply> T>
void fields(V& v, T& reply) {
    v.required("have", reply.have);
}

template <typename V, codec::Of<GoodbyeRequest> T>
void fields(V& v, T& request) {
    v.defaulted("returning", request.returning);
}
template <typename V, codec::Of<GoodbyeReply> T>
void fields(V&, T&) {}

// ---- Refusals
// -------------------------------------------------------------------------------------------

template <typename V, codec::Of<ErrorReply> T>
void fields(V& v, T& reply) {
    fields(v, reply.error);
    // Written for clients in other languages; here it follows from the code.
    bool retryable = is_retryable(reply.error.code);
    v.defaulted("retryable", retryable);
    v.optional("retry_ms", reply.retry);
    v.optional("matches", reply.matches);
}

}  // namespace iw
