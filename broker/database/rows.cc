#include "broker/database/rows.h"

#include <nlohmann/json.hpp>

namespace iw::broker {
namespace {

using Json = nlohmann::json;

// Text from records is UTF-8, as the codec has checked. Should it ever not be, a mark is better
// than an exception.
std::string dump(const Json& json) {
    return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

Json parse(std::string_view text) {
    return Json::parse(text, nullptr, false);
}

// A column that is not what we wrote is damage that SQLite did not see; nothing here may throw.
template <typename T>
T number_in(const Json& json, const char* key) {
    const auto found = json.find(key);
    if (found == json.end() || !found->is_number_integer()) return T{};
    return found->get<T>();
}

void read_submission(sqlite::RowReader& reader, Submission& submission) {
    std::string require;
    std::string tags;
    reader.take_all(submission.agent, submission.project, submission.origin.host,
                    submission.origin.root, submission.agent_in_project, submission.queue_anyway,
                    submission.priority, submission.delay, submission.expires, submission.timeout,
                    submission.disk_limit, submission.on_lost, submission.parent,
                    submission.retry_of, submission.host, require, tags, submission.key,
                    submission.metadata, submission.estimate);
    submission.require = unpack_map(require);
    submission.tags = unpack_list(tags);
}

// What came with retries, dependencies and families; empty in most rows.
void read_relations(sqlite::RowReader& reader, LiveSession& session) {
    std::string retry;
    std::string dependencies;
    std::string ancestors;
    std::optional<std::uint32_t> generation;
    std::uint32_t attempt = 0;
    Submission& submission = session.submission;
    reader.take_all(session.attempts_used, session.retry_at, session.failed_by_itself, retry,
                    dependencies, submission.keep_children, ancestors, generation, attempt);
    submission.retry = unpack_retry(retry);
    submission.after = unpack_dependencies(dependencies);
    session.ancestors = unpack_ids(ancestors);
    if (generation) session.parent_fence = Fence{.generation = *generation, .attempt = attempt};
}

void read_kill(sqlite::RowReader& reader, LiveSession& session) {
    std::optional<Detail> cause;
    reader.take(cause);
    KillWished wished{.id = session.id, .principal = {}, .cause = Detail::killed, .reason = {}};
    reader.take_all(wished.principal, wished.reason);
    if (!cause) return;
    wished.cause = *cause;
    session.kill = std::move(wished);
}

void read_outcome(sqlite::RowReader& reader, LiveSession& session) {
    std::optional<SessionStatus> outcome;
    reader.take(outcome);
    // Most rows of a long queue have none: the columns behind it are then not worth a look.
    if (!outcome) return;
    SessionEnded& ended = session.ended.emplace();
    ended.id = session.id;
    ended.status = *outcome;
    reader.take_all(ended.detail, ended.fence.generation, ended.fence.attempt, ended.reason,
                    ended.kill_reason, ended.exit_code, ended.started_at, ended.completed_at,
                    ended.workspace, ended.result_status, ended.result_size, ended.result_sha256,
                    ended.result_inline, ended.evidence);
    Delivered delivered;
    reader.take_all(delivered.manifest, delivered.files, delivered.bytes);
    if (!delivered.manifest.empty()) ended.deliverables = std::move(delivered);
}

void show_outcome(const SessionEnded& ended, SessionView& view) {
    view.reason = ended.reason;
    view.kill_reason = ended.kill_reason;
    view.completed_at = ended.completed_at;
    view.exit_code = ended.exit_code;
    if (ended.started_at) view.started_at = ended.started_at;
    if (!ended.workspace.empty()) view.workspace = ended.workspace;
    view.result_status = ended.result_status;
    view.result_size = ended.result_size;
    view.result_sha256 = ended.result_sha256;
    view.deliverables = ended.deliverables;
}

}  // namespace

const char* const kSessionColumns =
    "s.number, s.status, s.detail, s.closed_at, s.id, s.principal, s.created_at, s.not_before, "
    "s.expires_at, s.revision, s.generation, s.attempt, s.assigned, s.worker, s.host, "
    "s.worker_state_id, s.started_at, s.workspace, s.platform_faults, s.last_reason, "
    "s.agent, s.project, s.origin_host, s.origin_root, s.agent_in_project, s.queue_anyway, "
    "s.priority, s.delay, s.expires, s.timeout, s.disk_limit, s.on_lost, s.parent, s.retry_of, "
    "s.wanted_host, s.require, s.tags, s.key, s.metadata, s.estimate, "
    "s.attempts_used, s.retry_at, s.failed_by_itself, s.retry, s.dependencies, s.keep_children, "
    "s.ancestors, "
    "s.parent_generation, s.parent_attempt, "
    "s.kill_cause, s.kill_principal, s.kill_reason, "
    "s.outcome, s.outcome_detail, s.ended_generation, s.ended_attempt, s.reason, "
    "s.outcome_kill_reason, s.exit_code, s.ended_started_at, s.completed_at, s.ended_workspace, "
    "s.result_status, s.result_size, s.result_sha256, s.result_inline, s.evidence, "
    "s.manifest, s.delivered_files, s.delivered_bytes";

const char* const kPlainColumns =
    "s.number, s.id, s.principal, s.created_at, s.revision, s.agent, s.project, s.origin_host, "
    "s.origin_root, s.agent_in_project, s.queue_anyway, s.priority, s.timeout, s.on_lost, s.key";

LiveSession read_plain(const sqlite::Statement& row) {
    LiveSession session;
    Submission& submission = session.submission;
    sqlite::RowReader(row, 1).take_all(
        session.id, session.principal, session.created_at, session.revision, submission.agent,
        submission.project, submission.origin.host, submission.origin.root,
        submission.agent_in_project, submission.queue_anyway, submission.priority,
        submission.timeout, submission.on_lost, submission.key);
    return session;
}

std::uint64_t fnv1a(std::uint64_t hash, std::string_view text) {
    for (const char c : text) {
        hash ^= static_cast<unsigned char>(c);
        hash *= 0x100000001b3ULL;
    }
    return hash;
}

std::int64_t content_digest(std::string_view text) {
    return static_cast<std::int64_t>(fnv1a(kFnvStart, text));
}

std::int64_t content_digest(std::string_view prompt, std::string_view result_schema) {
    return static_cast<std::int64_t>(fnv1a(fnv1a(kFnvStart, prompt), result_schema));
}

SessionRow read_session(const sqlite::Statement& row, int first_column) {
    SessionRow result;
    LiveSession& session = result.session;
    sqlite::RowReader reader(row, first_column);
    reader.take_all(result.number, result.status, result.detail, result.closed_at, session.id,
                    session.principal, session.created_at, session.not_before, session.expires_at,
                    session.revision, session.fence.generation, session.fence.attempt,
                    session.assigned, session.worker, session.host, session.worker_state_id,
                    session.started_at, session.workspace, session.platform_faults,
                    session.last_reason);
    read_submission(reader, session.submission);
    read_relations(reader, session);
    read_kill(reader, session);
    read_outcome(reader, session);
    return result;
}

SessionView make_view(const SessionRow& row) {
    const LiveSession& session = row.session;
    const Submission& submission = session.submission;
    SessionView view;
    view.id = session.id;
    view.agent = submission.agent;
    view.project = submission.project;
    view.origin = submission.origin;
    view.status = row.status;
    view.detail = row.detail;
    view.reason = session.last_reason;
    view.created_at = session.created_at;
    view.started_at = session.started_at;
    view.attempt = session.fence.attempt;
    view.generation = session.fence.generation;
    view.worker = session.worker.str();
    view.host = session.host;
    view.workspace = session.workspace;
    view.parent = submission.parent;
    view.retry_of = submission.retry_of;
    view.priority = submission.priority;
    view.timeout = submission.timeout;
    view.attempts_used = session.attempts_used;
    if (submission.retry) view.attempts_max = submission.retry->attempts_max;
    view.on_lost = submission.on_lost;
    view.not_before = session.retry_at ? session.retry_at : session.not_before;
    view.expires_at = session.expires_at;
    view.after = submission.after;
    view.tags = submission.tags;
    view.metadata = submission.metadata;
    view.estimate = submission.estimate;
    view.revision = session.revision;
    if (row.closed_at && session.ended) show_outcome(*session.ended, view);
    return view;
}

std::string pack_list(const std::vector<std::string>& list) {
    return list.empty() ? std::string() : dump(Json(list));
}

std::vector<std::string> unpack_list(std::string_view text) {
    std::vector<std::string> list;
    if (text.empty()) return list;
    const Json json = parse(text);
    if (!json.is_array()) return list;
    for (const Json& item : json) {
        if (item.is_string()) list.push_back(item.get<std::string>());
    }
    return list;
}

std::string pack_map(const std::map<std::string, std::string>& map) {
    return map.empty() ? std::string() : dump(Json(map));
}

std::map<std::string, std::string> unpack_map(std::string_view text) {
    std::map<std::string, std::string> map;
    if (text.empty()) return map;
    const Json json = parse(text);
    if (!json.is_object()) return map;
    for (const auto& [key, value] : json.items()) {
        if (value.is_string()) map[key] = value.get<std::string>();
    }
    return map;
}

std::string pack_ids(const std::vector<SessionId>& ids) {
    std::vector<std::string> texts;
    texts.reserve(ids.size());
    for (const SessionId& id : ids)
        texts.push_back(id.str());
    return pack_list(texts);
}

std::vector<SessionId> unpack_ids(std::string_view text) {
    std::vector<SessionId> ids;
    for (std::string& id : unpack_list(text))
        ids.emplace_back(std::move(id));
    return ids;
}

std::string pack_retry(const std::optional<RetryPolicy>& policy) {
    if (!policy) return {};
    Json causes = Json::array();
    for (const Detail cause : policy->causes)
        causes.push_back(static_cast<int>(cause));
    return dump({{"max", policy->attempts_max},
                 {"backoff", policy->backoff.count()},
                 {"backoff_max", policy->backoff_max.count()},
                 {"causes", std::move(causes)}});
}

std::optional<RetryPolicy> unpack_retry(std::string_view text) {
    if (text.empty()) return std::nullopt;
    const Json json = parse(text);
    RetryPolicy policy;
    policy.attempts_max = number_in<std::uint32_t>(json, "max");
    policy.backoff = Duration(number_in<std::int64_t>(json, "backoff"));
    policy.backoff_max = Duration(number_in<std::int64_t>(json, "backoff_max"));
    const auto causes = json.find("causes");
    if (causes == json.end() || !causes->is_array()) return policy;
    for (const Json& cause : *causes) {
        if (cause.is_number_integer()) policy.causes.push_back(Detail{cause.get<int>()});
    }
    return policy;
}

std::string pack_dependencies(const std::vector<Dependency>& dependencies) {
    if (dependencies.empty()) return {};
    Json list = Json::array();
    for (const Dependency& each : dependencies)
        list.push_back({{"id", each.id.str()}, {"on", static_cast<int>(each.on)}});
    return dump(list);
}

std::vector<Dependency> unpack_dependencies(std::string_view text) {
    std::vector<Dependency> dependencies;
    if (text.empty()) return dependencies;
    const Json json = parse(text);
    if (!json.is_array()) return dependencies;
    for (const Json& each : json) {
        const auto id = each.find("id");
        if (id == each.end() || !id->is_string()) continue;
        dependencies.push_back({.id = SessionId(id->get<std::string>()),
                                .on = AfterCondition{number_in<int>(each, "on")}});
    }
    return dependencies;
}

}  // namespace iw::broker
