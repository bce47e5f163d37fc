#include "common/workspace/state_file.h"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <optional>

#include "common/base/text.h"
#include "common/workspace/edits.h"
#include "common/workspace/workspace.h"

namespace iw::workspace {
namespace {

using Json = nlohmann::ordered_json;

// Fields that scripts may set; all others show what the broker says.
constexpr std::array kShared = {"parent_session", "tags", "metadata"};

Json parse(std::string_view text) {
    Json json = Json::parse(text, nullptr, /*allow_exceptions=*/false);
    return json.is_object() ? json : Json::object();
}

Json time_or_null(const std::optional<WallTime>& time) {
    return time ? Json(format_utc(*time)) : Json(nullptr);
}

Json text_or_null(const std::string& text) {
    return text.empty() ? Json(nullptr) : Json(text);
}

std::string dump(const Json& json) {
    // Bytes that are not UTF-8 cannot come from us; a script's own must not make the writer throw.
    return json.dump(2, ' ', /*ensure_ascii=*/false, Json::error_handler_t::replace) + "\n";
}

Json to_json(const SessionView& session, bool tmux_active, WallTime now) {
    const WallTime end = session.completed_at.value_or(now);
    const std::int64_t elapsed =
        std::max<std::int64_t>(0, (end - session.created_at).count() / 1000);
    Json metadata = Json::parse(session.metadata, nullptr, false);
    const std::string workspace = workspace_of(session);
    const bool has_workspace = !workspace.empty();
    return Json{
        {"session_id", session.id.str()},
        {"agent", session.agent.str()},
        {"status", name(session.status)},
        {"detail", name(session.detail)},
        {"created_at", format_utc(session.created_at)},
        {"started_at", time_or_null(session.started_at)},
        {"completed_at", time_or_null(session.completed_at)},
        {"elapsed_seconds", elapsed},
        {"exit_code", session.exit_code ? Json(*session.exit_code) : Json(nullptr)},
        {"reason", text_or_null(session.reason)},
        {"kill_reason", text_or_null(session.kill_reason)},
        {"tmux_session", tmux_session_name(session.id)},
        {"tmux_active", tmux_active},
        {"host", text_or_null(session.host)},
        {"attempt", session.attempt},
        {"workspace", text_or_null(workspace)},
        {"task_prompt_file", has_workspace ? Json(workspace + "/prompt.md") : Json(nullptr)},
        {"result_file", has_workspace ? Json(workspace + "/result.json") : Json(nullptr)},
        {"result_status", text_or_null(session.result_status)},
        {"parent_session", text_or_null(session.parent.str())},
        {"retry_of", text_or_null(session.retry_of.str())},
        {"tags", session.tags},
        {"metadata", metadata.is_object() ? std::move(metadata) : Json::object()},
    };
}

std::string text_of(const Json& json, const char* field) {
    const auto found = json.find(field);
    return found != json.end() && found->is_string() ? found->get<std::string>() : std::string();
}

std::optional<WallTime> time_of(const Json& json, const char* field) {
    return parse_utc(text_of(json, field));
}

// Of the kind that the field has; what a script may have meant by another one cannot be told.
bool is_of_kind(const std::string& field, const Json& value) {
    if (field == "tags") return value.is_array();
    if (field == "metadata") return value.is_object();
    return value.is_null() || value.is_string();
}

// Fields of `old` that are not ours.
void keep_unknown(Json& state, const Json& old) {
    for (const auto& [field, value] : old.items()) {
        if (!state.contains(field)) state[field] = value;
    }
}

bool is_text_of_at_most(const Json& value, std::size_t max) {
    return value.is_string() && value.get_ref<const std::string&>().size() <= max;
}

void read_parent(const Json& value, const SharedFields& known, ForeignEdit& edit) {
    if (value.is_null()) {
        if (!known.parent.empty()) edit.parent = SessionId();
        return;
    }
    const std::string text = value.is_string() ? value.get<std::string>() : value.dump();
    if (value.is_string() && text == known.parent.str()) return;
    if (value.is_string() && is_session_id(text)) {
        edit.parent = SessionId(text);
        return;
    }
    edit.refused.push_back(
        "parent_session: " +
        (text.empty() ? "it is empty"
                      : "\"" + printable(text.substr(0, 200), true) + "\" is no session id"));
}

void read_tags(const Json& value, const SharedFields& known, ForeignEdit& edit) {
    const bool fits = value.is_array() && value.size() <= limits::kTagsMax &&
                      std::ranges::all_of(value, [](const Json& tag) {
                          return is_text_of_at_most(tag, limits::kTagBytesMax) &&
                                 !tag.get_ref<const std::string&>().empty();
                      });
    if (!fits) {
        edit.refused.push_back("tags: it is no list of at most " +
                               std::to_string(limits::kTagsMax) + " texts of 1 to " +
                               std::to_string(limits::kTagBytesMax) + " bytes");
        return;
    }
    auto tags = value.get<std::vector<std::string>>();
    if (tags != known.tags) edit.tags = std::move(tags);
}

void read_metadata(const Json& value, const SharedFields& known, ForeignEdit& edit) {
    using Plain = nlohmann::json;  // in which the order of keys makes no difference
    const std::string text = value.dump(-1, ' ', false, Json::error_handler_t::replace);
    if (!value.is_object() || text.size() > limits::kMetadataMax) {
        edit.refused.push_back("metadata: it is no object of at most " +
                               std::to_string(limits::kMetadataMax) + " bytes");
        return;
    }
    Plain before = Plain::parse(known.metadata, nullptr, /*allow_exceptions=*/false);
    if (!before.is_object()) before = Plain::object();
    if (Plain::parse(text, nullptr, false) == before) return;
    edit.metadata = value.empty() ? std::string() : text;
}

}  // namespace

std::string merge_state_json(const SessionView& session, bool tmux_active, WallTime now,
                             std::string_view kept) {
    Json state = to_json(session, tmux_active, now);
    const Json old = parse(kept);
    for (const char* field : kShared) {
        const auto found = old.find(field);
        if (found != old.end() && is_of_kind(field, *found)) state[field] = *found;
    }
    keep_unknown(state, old);
    return dump(state);
}

std::string state_json_of(const SessionView& session, bool tmux_active, WallTime now,
                          std::string_view kept) {
    Json state = to_json(session, tmux_active, now);
    keep_unknown(state, parse(kept));
    return dump(state);
}

bool is_state_object(std::string_view json) {
    return Json::parse(json, nullptr, /*allow_exceptions=*/false).is_object();
}

std::optional<ForeignEdit> foreign_edit(std::string_view json, const SharedFields& known) {
    const Json state = Json::parse(json, nullptr, /*allow_exceptions=*/false);
    if (!state.is_object()) return std::nullopt;
    ForeignEdit edit;
    const auto read = [&](const char* field, auto&& reader) {
        const auto found = state.find(field);
        if (found != state.end()) reader(*found, known, edit);
    };
    read("parent_session", read_parent);
    read("tags", read_tags);
    read("metadata", read_metadata);
    return edit;
}

SharedFields shared_of(const SessionView& session) {
    return {.parent = session.parent, .tags = session.tags, .metadata = session.metadata};
}

void set_shared(SessionView& session, const SharedFields& fields) {
    session.parent = fields.parent;
    session.tags = fields.tags;
    session.metadata = fields.metadata;
}

SharedFields apply(SharedFields fields, const ForeignEdit& edit) {
    if (edit.parent) fields.parent = *edit.parent;
    if (edit.tags) fields.tags = *edit.tags;
    if (edit.metadata) fields.metadata = *edit.metadata;
    return fields;
}

void merge_into(ForeignEdit& edit, const ForeignEdit& later) {
    if (later.parent) edit.parent = later.parent;
    if (later.tags) edit.tags = later.tags;
    if (later.metadata) edit.metadata = later.metadata;
    edit.refused.insert(edit.refused.end(), later.refused.begin(), later.refused.end());
}

ForeignEdit without(ForeignEdit edit, const SharedFields& known) {
    if (edit.parent == known.parent) edit.parent.reset();
    if (edit.tags == known.tags) edit.tags.reset();
    if (edit.metadata == known.metadata) edit.metadata.reset();
    return edit;
}

bool shows_session(std::string_view json, const SessionView& session, bool tmux_active,
                   WallTime now) {
    using Plain = nlohmann::json;
    Plain shown = Plain::parse(json, nullptr, /*allow_exceptions=*/false);
    if (!shown.is_object()) return false;
    Plain wanted = Plain::parse(state_json_of(session, tmux_active, now, json));
    if (!is_final(session.status)) {
        shown.erase("elapsed_seconds");
        wanted.erase("elapsed_seconds");
    }
    return shown == wanted;
}

EditRequest edit_request(const SessionId& id, const ForeignEdit& edit) {
    return EditRequest{.id = id.str(),
                       .exact = true,
                       .parent = edit.parent,
                       .tags = edit.tags,
                       .metadata = edit.metadata};
}

std::string state_json(const SessionView& session, bool tmux_active, WallTime now) {
    return dump(to_json(session, tmux_active, now));
}

std::string mark_stale(std::string_view json) {
    Json state = parse(json);
    state["stale"] = true;
    return dump(state);
}

bool shows_outcome(std::string_view json, const SessionView& outcome) {
    const Json state = parse(json);
    return text_of(state, "status") == name(outcome.status) &&
           text_of(state, "completed_at") == format_utc(outcome.completed_at.value_or(WallTime{}));
}

Result<SessionView> view_from_state(std::string_view json) {
    const Json state = parse(json);
    SessionView view;
    view.id = SessionId(text_of(state, "session_id"));
    view.agent = AgentName(text_of(state, "agent"));
    const auto status = parse_session_status(text_of(state, "status"));
    const auto created = time_of(state, "created_at");
    if (!is_session_id(view.id.str()) || !status || !created) {
        return make_error(ErrorCode::bad_request,
                          "not a state.json: session_id, status or created_at is missing");
    }
    view.status = *status;
    view.created_at = *created;
    view.detail = parse_detail(text_of(state, "detail")).value_or(Detail::done);
    view.started_at = time_of(state, "started_at");
    view.completed_at = time_of(state, "completed_at");
    view.reason = text_of(state, "reason");
    view.kill_reason = text_of(state, "kill_reason");
    view.host = text_of(state, "host");
    view.workspace = text_of(state, "workspace");
    view.result_status = text_of(state, "result_status");
    view.parent = SessionId(text_of(state, "parent_session"));
    view.retry_of = SessionId(text_of(state, "retry_of"));
    if (const auto code = state.find("exit_code"); code != state.end() && code->is_number_integer())
        view.exit_code = code->get<int>();
    if (const auto number = state.find("attempt");
        number != state.end() && number->is_number_unsigned())
        view.attempt = number->get<std::uint32_t>();
    if (const auto tags = state.find("tags"); tags != state.end() && tags->is_array()) {
        for (const Json& tag : *tags) {
            if (tag.is_string()) view.tags.push_back(tag.get<std::string>());
        }
    }
    if (const auto metadata = state.find("metadata");
        metadata != state.end() && metadata->is_object())
        view.metadata = metadata->dump(-1, ' ', false, Json::error_handler_t::replace);
    return view;
}

}  // namespace iw::workspace
