#include "worker/attempt_store/record_json.h"

#include <nlohmann/json.hpp>
#include <stdexcept>
#include <utility>

#include "common/base/text.h"

namespace iw::worker {
namespace {

using Json = nlohmann::json;

// Readable by a person who looks into the folder; text that is not UTF-8 must not make writing
// fail.
std::string dump(const Json& json) {
    return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

// Runs one parser over the text; whatever the library throws ends here.
template <typename T, typename Parse>
Result<T> parse(std::string_view text, Parse&& read) {
    try {
        return read(Json::parse(text));
    } catch (const std::exception& error) {
        return make_error(ErrorCode::io, printable(error.what(), true));
    }
}

[[noreturn]] void refuse(const std::string& what) {
    throw std::runtime_error(what);
}

// ---- Values
// --------------------------------------------------------------------------------------------

// Paths, arguments and variables are bytes and JSON is text: what is not UTF-8 is kept as hex.
Json from_bytes(const std::string& bytes) {
    if (is_utf8(bytes)) return bytes;
    return Json{{"hex", to_hex(bytes)}};
}

int hex_digit(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    refuse("a value of hex digits holds another character");
}

std::string to_bytes(const Json& json) {
    if (json.is_string()) return json.get<std::string>();
    const auto& hex = json.at("hex").get_ref<const std::string&>();
    if (hex.size() % 2 != 0) refuse("a value of hex digits has an odd length");
    std::string bytes;
    for (std::size_t i = 0; i < hex.size(); i += 2) {
        bytes += static_cast<char>(hex_digit(hex[i]) * 16 + hex_digit(hex[i + 1]));
    }
    return bytes;
}

template <typename T>
Json optional_json(const std::optional<T>& value) {
    return value ? Json(*value) : Json(nullptr);
}
Json optional_json(const std::optional<WallTime>& value) {
    return value ? Json(to_ms(*value)) : Json(nullptr);
}

template <typename T>
std::optional<T> read_optional(const Json& json, const char* key) {
    const Json& value = json.at(key);
    if (value.is_null()) return std::nullopt;
    return value.get<T>();
}

std::string read_text(const Json& json, const char* key) {
    return json.at(key).get<std::string>();
}
WallTime read_time(const Json& json, const char* key) {
    return wall_from_ms(json.at(key).get<std::int64_t>());
}
std::optional<WallTime> read_optional_time(const Json& json, const char* key) {
    const auto ms = read_optional<std::int64_t>(json, key);
    return ms ? std::optional(wall_from_ms(*ms)) : std::nullopt;
}

// The value of a word, or an error that names key and word.
template <typename T>
T read_word(const Json& json, const char* key, std::optional<T> (*parse_word)(std::string_view)) {
    const std::string word = read_text(json, key);
    const std::optional<T> value = parse_word(word);
    if (!value) refuse(std::string(key) + " has the unknown value \"" + word + "\"");
    return *value;
}

Json origin_json(const Origin& origin) {
    return Json{{"host", origin.host}, {"root", from_bytes(origin.root)}};
}
Origin read_origin(const Json& json) {
    return Origin{.host = read_text(json, "host"), .root = to_bytes(json.at("root"))};
}

Json fence_json(const Fence& fence) {
    return Json{{"generation", fence.generation}, {"attempt", fence.attempt}};
}
Fence read_fence(const Json& json) {
    return Fence{.generation = json.at("generation").get<std::uint32_t>(),
                 .attempt = json.at("attempt").get<std::uint32_t>()};
}

Json process_json(const io::ProcessId& process) {
    return Json{{"pid", process.pid}, {"start_ticks", process.start_ticks}};
}
io::ProcessId read_process(const Json& json) {
    return io::ProcessId{.pid = json.at("pid").get<pid_t>(),
                         .start_ticks = json.at("start_ticks").get<std::uint64_t>()};
}

std::string_view name(Claim claim) {
    switch (claim) {
        case Claim::launcher:
            return "launcher";
        case Claim::declined:
            return "declined";
        case Claim::stopped:
            return "stopped";
    }
    return "?";
}
std::optional<Claim> parse_claim_word(std::string_view text) {
    for (const Claim claim : {Claim::launcher, Claim::declined, Claim::stopped}) {
        if (name(claim) == text) return claim;
    }
    return std::nullopt;
}

Json delivered_json(const std::optional<Delivered>& delivered) {
    if (!delivered) return nullptr;
    return Json{{"manifest", delivered->manifest},
                {"files", delivered->files},
                {"bytes", delivered->bytes}};
}
std::optional<Delivered> read_delivered(const Json& json, const char* key) {
    const Json value = json.value(key, Json());
    if (value.is_null()) return std::nullopt;
    return Delivered{.manifest = read_text(value, "manifest"),
                     .files = value.at("files").get<std::uint64_t>(),
                     .bytes = value.at("bytes").get<std::uint64_t>()};
}

std::vector<std::string> read_texts(const Json& json, const char* key) {
    return json.at(key).get<std::vector<std::string>>();
}

}  // namespace

// ---- Assignment
// ----------------------------------------------------------------------------------------

std::string to_json(const Assignment& assignment) {
    return dump(Json{{"session", assignment.session.str()},
                     {"fence", fence_json(assignment.fence)},
                     {"agent", assignment.agent.str()},
                     {"project", assignment.project},
                     {"origin", origin_json(assignment.origin)},
                     {"created_at_ms", to_ms(assignment.created_at)},
                     {"timeout_ms", assignment.timeout.count()},
                     {"disk_limit", optional_json(assignment.disk_limit)},
                     {"parent", assignment.parent.str()},
                     {"retry_of", assignment.retry_of.str()},
                     {"priority", assignment.priority},
                     {"tags", assignment.tags},
                     {"metadata", assignment.metadata},
                     {"result_schema", assignment.result_schema}});
}

Result<Assignment> parse_assignment(std::string_view text) {
    return parse<Assignment>(text, [](const Json& json) {
        Assignment assignment;
        assignment.session = SessionId(read_text(json, "session"));
        assignment.fence = read_fence(json.at("fence"));
        assignment.agent = AgentName(read_text(json, "agent"));
        assignment.project = read_text(json, "project");
        assignment.origin = read_origin(json.at("origin"));
        assignment.created_at = read_time(json, "created_at_ms");
        assignment.timeout = Duration(json.at("timeout_ms").get<std::int64_t>());
        assignment.disk_limit = read_optional<std::uint64_t>(json, "disk_limit");
        assignment.parent = SessionId(read_text(json, "parent"));
        assignment.retry_of = SessionId(read_text(json, "retry_of"));
        assignment.priority = json.at("priority").get<int>();
        assignment.tags = read_texts(json, "tags");
        assignment.metadata = read_text(json, "metadata");
        // Records of before there were schemas have none.
        assignment.result_schema = json.value("result_schema", std::string());
        return assignment;
    });
}

// ---- Plan
// ----------------------------------------------------------------------------------------------

std::string to_json(const LaunchPlan& plan) {
    Json argv = Json::array();
    for (const std::string& argument : plan.argv)
        argv.push_back(from_bytes(argument));
    Json environment = Json::object();
    for (const auto& [variable, value] : plan.environment)
        environment[variable] = from_bytes(value);
    return dump(Json{{"session", plan.attempt.session.str()},
                     {"fence", fence_json(plan.attempt.fence)},
                     {"folder", from_bytes(plan.folder)},
                     {"workspace", from_bytes(plan.workspace)},
                     {"argv", std::move(argv)},
                     {"environment", std::move(environment)},
                     {"stdin_file", from_bytes(plan.stdin_file)},
                     {"success", plan.success},
                     {"log_bytes_max", plan.log_bytes_max},
                     {"stop_grace_ms", plan.stop_grace.count()},
                     {"settle_ms", plan.settle.count()},
                     {"start_by_ms", plan.start_by.time_since_epoch().count()}});
}

Result<LaunchPlan> parse_plan(std::string_view text) {
    return parse<LaunchPlan>(text, [](const Json& json) {
        LaunchPlan plan;
        plan.attempt.session = SessionId(read_text(json, "session"));
        plan.attempt.fence = read_fence(json.at("fence"));
        plan.folder = to_bytes(json.at("folder"));
        plan.workspace = to_bytes(json.at("workspace"));
        for (const Json& argument : json.at("argv"))
            plan.argv.push_back(to_bytes(argument));
        for (const auto& [variable, value] : json.at("environment").items()) {
            plan.environment[variable] = to_bytes(value);
        }
        plan.stdin_file = to_bytes(json.at("stdin_file"));
        plan.success = json.value("success", "");
        plan.log_bytes_max = json.at("log_bytes_max").get<std::uint64_t>();
        plan.stop_grace = Duration(json.at("stop_grace_ms").get<std::int64_t>());
        plan.settle = Duration(json.value("settle_ms", plan.settle.count()));
        plan.start_by = Timestamp(Duration(json.value("start_by_ms", std::int64_t{0})));
        return plan;
    });
}

// ---- Claim, process, stop, exit
// ------------------------------------------------------------------------

std::string to_json(const ClaimRecord& record) {
    return dump(Json{{"claim", name(record.claim)}, {"reason", record.reason}});
}

Result<ClaimRecord> parse_claim(std::string_view text) {
    return parse<ClaimRecord>(text, [](const Json& json) {
        return ClaimRecord{.claim = read_word(json, "claim", &parse_claim_word),
                           .reason = read_text(json, "reason")};
    });
}

std::string to_json(const ProcessRecord& record) {
    return dump(Json{{"launcher", process_json(record.launcher)},
                     {"guard", process_json(record.guard)},
                     {"agent", process_json(record.agent)},
                     {"boot_id", record.boot_id},
                     {"started_at_ms", to_ms(record.started_at)}});
}

Result<ProcessRecord> parse_process(std::string_view text) {
    return parse<ProcessRecord>(text, [](const Json& json) {
        // Launchers of earlier versions had no guard.
        const bool guarded = json.contains("guard");
        return ProcessRecord{.launcher = read_process(json.at("launcher")),
                             .guard = guarded ? read_process(json.at("guard")) : io::ProcessId{},
                             .agent = read_process(json.at("agent")),
                             .boot_id = read_text(json, "boot_id"),
                             .started_at = read_time(json, "started_at_ms")};
    });
}

std::string to_json(const StopRecord& record) {
    return dump(Json{
        {"cause", iw::name(record.cause)}, {"reason", record.reason}, {"at_ms", to_ms(record.at)}});
}

Result<StopRecord> parse_stop(std::string_view text) {
    return parse<StopRecord>(text, [](const Json& json) {
        return StopRecord{.cause = read_word(json, "cause", &parse_detail),
                          .reason = read_text(json, "reason"),
                          .at = read_time(json, "at_ms")};
    });
}

std::string to_json(const ExitRecord& record) {
    return dump(Json{{"cause", iw::name(record.cause)},
                     {"exit_code", optional_json(record.exit_code)},
                     {"stop_sent", record.stop_sent},
                     {"hangup", record.hangup},
                     {"reason", record.reason},
                     {"evidence", record.evidence},
                     {"started_at_ms", optional_json(record.started_at)},
                     {"ended_at_ms", to_ms(record.ended_at)},
                     {"swept", record.swept}});
}

Result<ExitRecord> parse_exit(std::string_view text) {
    return parse<ExitRecord>(text, [](const Json& json) {
        ExitRecord record;
        record.cause = read_word(json, "cause", &parse_end_cause);
        record.exit_code = read_optional<int>(json, "exit_code");
        record.stop_sent = json.at("stop_sent").get<bool>();
        record.hangup = json.at("hangup").get<bool>();
        record.reason = read_text(json, "reason");
        record.evidence = read_text(json, "evidence");
        record.started_at = read_optional_time(json, "started_at_ms");
        record.ended_at = read_time(json, "ended_at_ms");
        record.swept = json.at("swept").get<std::uint32_t>();
        return record;
    });
}

std::string limits_json(Duration timeout) {
    return dump(Json{{"timeout_ms", timeout.count()}});
}

Result<Duration> parse_limits(std::string_view text) {
    return parse<Duration>(
        text, [](const Json& json) { return Duration(json.at("timeout_ms").get<std::int64_t>()); });
}

// ---- Verdict
// -------------------------------------------------------------------------------------------

std::string to_json(const JudgedRecord& record) {
    return dump(Json{{"success", record.success},
                     {"reason", record.reason},
                     {"result_status", record.result_status},
                     {"result_size", optional_json(record.result_size)},
                     {"result_sha256", record.result_sha256},
                     {"result_inline", record.result_inline},
                     {"result", from_bytes(record.result)},
                     {"fault", record.fault ? Json(iw::name(*record.fault)) : Json(nullptr)},
                     {"delivered", delivered_json(record.delivered)}});
}

Result<JudgedRecord> parse_judged(std::string_view text) {
    return parse<JudgedRecord>(text, [](const Json& json) {
        JudgedRecord record;
        record.success = json.at("success").get<bool>();
        record.reason = read_text(json, "reason");
        record.result_status = read_text(json, "result_status");
        record.result_size = read_optional<std::uint64_t>(json, "result_size");
        record.result_sha256 = read_text(json, "result_sha256");
        record.result_inline = json.at("result_inline").get<bool>();
        record.result = to_bytes(json.at("result"));
        // Workers of earlier versions wrote neither.
        if (!json.value("fault", Json()).is_null())
            record.fault = read_word(json, "fault", &parse_end_cause);
        record.delivered = read_delivered(json, "delivered");
        return record;
    });
}

std::string log_done_json(std::uint64_t bytes_seen, std::uint64_t bytes_kept) {
    return dump(Json{{"bytes_seen", bytes_seen}, {"bytes_kept", bytes_kept}});
}

// ---- Outcome
// -------------------------------------------------------------------------------------------

std::string to_json(const SessionView& view) {
    return dump(Json{{"id", view.id.str()},
                     {"agent", view.agent.str()},
                     {"project", view.project},
                     {"origin", origin_json(view.origin)},
                     {"status", iw::name(view.status)},
                     {"detail", iw::name(view.detail)},
                     {"reason", view.reason},
                     {"kill_reason", view.kill_reason},
                     {"created_at_ms", to_ms(view.created_at)},
                     {"started_at_ms", optional_json(view.started_at)},
                     {"completed_at_ms", optional_json(view.completed_at)},
                     {"exit_code", optional_json(view.exit_code)},
                     {"attempt", view.attempt},
                     {"generation", view.generation},
                     {"worker", view.worker},
                     {"host", view.host},
                     {"workspace", from_bytes(view.workspace)},
                     {"result_status", view.result_status},
                     {"result_size", optional_json(view.result_size)},
                     {"result_sha256", view.result_sha256},
                     {"parent", view.parent.str()},
                     {"retry_of", view.retry_of.str()},
                     {"priority", view.priority},
                     {"timeout_ms", view.timeout.count()},
                     {"tags", view.tags},
                     {"metadata", view.metadata},
                     {"deliverables", delivered_json(view.deliverables)},
                     {"revision", view.revision}});
}

Result<SessionView> parse_outcome(std::string_view text) {
    return parse<SessionView>(text, [](const Json& json) {
        SessionView view;
        view.id = SessionId(read_text(json, "id"));
        view.agent = AgentName(read_text(json, "agent"));
        view.project = read_text(json, "project");
        view.origin = read_origin(json.at("origin"));
        view.status = read_word(json, "status", &parse_session_status);
        view.detail = read_word(json, "detail", &parse_detail);
        view.reason = read_text(json, "reason");
        view.kill_reason = read_text(json, "kill_reason");
        view.created_at = read_time(json, "created_at_ms");
        view.started_at = read_optional_time(json, "started_at_ms");
        view.completed_at = read_optional_time(json, "completed_at_ms");
        view.exit_code = read_optional<int>(json, "exit_code");
        view.attempt = json.at("attempt").get<std::uint32_t>();
        view.generation = json.at("generation").get<std::uint32_t>();
        view.worker = read_text(json, "worker");
        view.host = read_text(json, "host");
        view.workspace = to_bytes(json.at("workspace"));
        view.result_status = read_text(json, "result_status");
        view.result_size = read_optional<std::uint64_t>(json, "result_size");
        view.result_sha256 = read_text(json, "result_sha256");
        view.parent = SessionId(read_text(json, "parent"));
        view.retry_of = SessionId(read_text(json, "retry_of"));
        view.priority = json.at("priority").get<int>();
        view.timeout = Duration(json.at("timeout_ms").get<std::int64_t>());
        view.tags = read_texts(json, "tags");
        view.metadata = read_text(json, "metadata");
        view.deliverables = read_delivered(json, "deliverables");
        view.revision = json.at("revision").get<std::uint64_t>();
        return view;
    });
}

}  // namespace iw::worker
