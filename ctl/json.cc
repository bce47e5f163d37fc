#include "ctl/json.h"

#include <nlohmann/json.hpp>

#include "common/base/limits.h"
#include "common/base/text.h"
#include "common/workspace/workspace.h"
#include "ctl/render.h"

namespace iw::ctl {
namespace {

using Json = nlohmann::ordered_json;

std::string dump(const Json& json) {
    return safe_json(json.dump(2, ' ', false, Json::error_handler_t::replace)) + "\n";
}

Json text_or_null(const std::string& text) {
    return text.empty() ? Json(nullptr) : Json(text);
}

Json to_json(const SeenSession& session, WallTime now) {
    return Json::parse(workspace::state_json(session.view, session.tmux_active, now), nullptr,
                       false);
}

Json to_json(const HoldView& hold) {
    return Json{{"principal", hold.principal},
                {"reason", text_or_null(hold.reason)},
                {"since", format_utc(hold.since)},
                {"until", hold.until ? Json(format_utc(*hold.until)) : Json(nullptr)}};
}

Json estimate_json(const SessionView& view) {
    return view.estimate ? Json(view.estimate->count() / 1000) : Json(nullptr);
}

Json to_json(const std::vector<SeenSession>& sessions, WallTime now) {
    Json rows = Json::array();
    for (const SeenSession& session : sessions)
        rows.push_back(to_json(session, now));
    return rows;
}

}  // namespace

// Outside its strings a document is ASCII without DEL, so that bytes can be looked at one by one.
std::string safe_json(std::string_view json) {
    constexpr std::string_view kHex = "0123456789abcdef";
    std::string safe;
    safe.reserve(json.size());
    for (std::size_t i = 0; i < json.size(); ++i) {
        unsigned char byte = static_cast<unsigned char>(json[i]);
        const bool leads = byte == 0xC2 && i + 1 < json.size();
        const unsigned char next = leads ? static_cast<unsigned char>(json[i + 1]) : 0;
        const bool is_c1 = next >= 0x80 && next <= 0x9F;
        if (byte != 0x7F && !is_c1) {
            safe += json[i];
            continue;
        }
        if (is_c1) {
            byte = next;
            ++i;
        }
        safe += "\\u00";
        safe += kHex[byte >> 4];
        safe += kHex[byte & 0xF];
    }
    return safe;
}

std::string session_json(const SeenSession& session, WallTime now) {
    return safe_json(workspace::state_json(session.view, session.tmux_active, now));
}

std::string details_json(const SeenSession& session, WallTime now) {
    const SessionView& view = session.view;
    const auto time = [](const std::optional<WallTime>& at) {
        return at ? Json(format_utc(*at)) : Json(nullptr);
    };
    Json after = Json::array();
    for (const Dependency& dependency : view.after) {
        after.push_back(
            Json{{"session_id", dependency.id.str()}, {"on", std::string(name(dependency.on))}});
    }
    Json json = to_json(session, now);
    json["attempts_used"] = view.attempts_used;
    json["attempts_max"] = view.attempts_max;
    json["timeout_seconds"] = view.timeout.count() / 1000;
    json["estimate_seconds"] = estimate_json(view);
    json["overdue"] = is_overdue(view, now);
    json["on_lost"] = std::string(name(view.on_lost));
    json["not_before"] = time(view.not_before);
    json["expires_at"] = time(view.expires_at);
    json["after"] = std::move(after);
    return dump(json);
}

std::string sessions_json(const std::vector<SeenSession>& sessions, WallTime now) {
    return dump(Json{{"sessions", to_json(sessions, now)}});
}

std::string list_json(const std::vector<SeenSession>& sessions, Seq seq, WallTime now) {
    Json overdue = Json::array();
    for (const SeenSession& session : sessions) {
        if (is_overdue(session.view, now)) overdue.push_back(session.view.id.str());
    }
    return dump(
        Json{{"sessions", to_json(sessions, now)}, {"overdue", std::move(overdue)}, {"seq", seq}});
}

std::string wait_json(const std::vector<SeenSession>& sessions, const WaitSummary& summary,
                      WallTime now) {
    Json ended = Json::array();
    for (const SessionId& id : summary.ended)
        ended.push_back(id.str());
    return dump(Json{{"sessions", to_json(sessions, now)},
                     {"ended", std::move(ended)},
                     {"timed_out", summary.timed_out},
                     {"exit_code", summary.exit_code}});
}

std::string workers_json(const std::vector<WorkerView>& workers) {
    Json rows = Json::array();
    for (const WorkerView& worker : workers) {
        Json unknown = Json::array();
        for (const AttemptRef& attempt : worker.unknown) {
            unknown.push_back(Json{{"session_id", attempt.session.str()},
                                   {"generation", attempt.fence.generation},
                                   {"attempt", attempt.fence.attempt}});
        }
        Json row{
            {"name", worker.name.str()},
            {"host", worker.host},
            {"root", text_or_null(worker.root)},
            {"project", text_or_null(worker.project)},
            {"state", worker.state},
            {"slots", worker.slots},
            {"used", worker.used},
            {"agents", worker.agents},
            {"labels", worker.labels},
            {"software", worker.software},
            {"start_count", worker.start_count},
            {"heard_at", worker.heard_at ? Json(format_utc(*worker.heard_at)) : Json(nullptr)}};
        row["drain"] = worker.drain ? to_json(*worker.drain) : Json(nullptr);
        row["unknown"] = std::move(unknown);
        rows.push_back(std::move(row));
    }
    return dump(Json{{"workers", rows}});
}

std::string submitted_json(const Submitted& submitted) {
    return dump(Json{{"session_id", submitted.id.str()},
                     {"duplicate", submitted.duplicate},
                     {"key", submitted.key},
                     {"workspace", text_or_null(submitted.workspace)},
                     {"tmux_session", tmux_session_name(submitted.id)}});
}

std::string config_json(const std::map<std::string, io::ConfigValue>& values, bool origins) {
    Json json = Json::object();
    for (const auto& [key, value] : values) {
        json[key] =
            origins ? Json{{"value", value.value}, {"origin", value.origin}} : Json(value.value);
    }
    return dump(json);
}

std::string fields_json(const std::vector<std::pair<std::string, std::string>>& fields) {
    Json json = Json::object();
    for (const auto& [field, value] : fields)
        json[field] = text_or_null(value);
    return dump(json);
}

std::string results_json(const std::vector<ResultRow>& rows) {
    std::string text = "{";
    for (const ResultRow& row : rows) {
        const auto field = [&text](std::string_view name, const std::string& value, bool last) {
            text += "    " + Json(name).dump() + ": " + value + (last ? "\n" : ",\n");
        };
        const auto quoted = [](const std::string& value) {
            return text_or_null(value).dump(-1, ' ', false, Json::error_handler_t::replace);
        };
        const bool has_problem = !row.problem.empty();
        text += (text.size() == 1 ? "\n  " : ",\n  ") + Json(row.session.id.str()).dump() + ": {\n";
        field("status", quoted(std::string(name(row.session.status))), false);
        field("result_status", quoted(row.session.result_status), false);
        field("result", has_problem ? "null" : std::string(trim(row.result)), false);
        field("file", quoted(row.file), !has_problem);
        if (has_problem) field("problem", quoted(row.problem), true);
        text += "  }";
    }
    return safe_json(text + (rows.empty() ? "}\n" : "\n}\n"));
}

bool is_json(std::string_view text) {
    return Json::accept(text);
}

std::string timeouts_json(const std::vector<TimeoutChange>& changes) {
    Json rows = Json::array();
    for (const TimeoutChange& change : changes) {
        rows.push_back(Json{{"session_id", change.id.str()},
                            {"timeout_before_seconds", change.before.count() / 1000},
                            {"timeout_seconds", change.after.count() / 1000}});
    }
    return dump(Json{{"changes", std::move(rows)}});
}

std::string archive_json(const std::vector<ArchiveOutcome>& outcomes,
                         const std::vector<UpkeepOutcome>& upkeep, bool dry_run) {
    const auto word = [dry_run](ArchiveOutcome::Kind kind) {
        switch (kind) {
            case ArchiveOutcome::Kind::moved:
                return dry_run ? "would-move" : "moved";
            case ArchiveOutcome::Kind::there_already:
                return "there-already";
            case ArchiveOutcome::Kind::refused:
                return "refused";
        }
        return "";
    };
    Json rows = Json::array();
    for (const ArchiveOutcome& outcome : outcomes) {
        rows.push_back(Json{{"session_id", outcome.id.str()},
                            {"outcome", word(outcome.kind)},
                            {"folder", text_or_null(outcome.folder)},
                            {"reason", text_or_null(outcome.why)}});
    }
    Json kept_up = Json::array();
    for (const UpkeepOutcome& outcome : upkeep) {
        kept_up.push_back(Json{{"session_id", outcome.id.str()},
                               {"done", outcome.done},
                               {"bytes", outcome.bytes},
                               {"problem", text_or_null(outcome.problem)}});
    }
    return dump(
        Json{{"sessions", std::move(rows)}, {"archive", std::move(kept_up)}, {"dry_run", dry_run}});
}

std::string kills_json(const std::vector<KillOutcome>& outcomes) {
    Json rows = Json::array();
    for (const KillOutcome& outcome : outcomes) {
        const SessionView& session = outcome.session;
        const char* word = outcome.confirmed ? "ended" : "wished";
        if (outcome.already_final) word = "already-terminated";
        rows.push_back(Json{{"session_id", session.id.str()},
                            {"outcome", word},
                            {"status", std::string(name(session.status))},
                            {"detail", std::string(name(session.detail))},
                            {"reason", text_or_null(session.reason)},
                            {"kill_reason", text_or_null(session.kill_reason)},
                            {"descendants", outcome.descendants}});
    }
    return dump(Json{{"sessions", std::move(rows)}});
}

std::string retries_json(const std::vector<Retried>& retries) {
    Json rows = Json::array();
    for (const Retried& retried : retries) {
        rows.push_back(Json{{"session_id", retried.id.str()},
                            {"retry_of", retried.of.str()},
                            {"key", retried.key}});
    }
    return dump(Json{{"sessions", std::move(rows)}});
}

std::string made_json(const std::string& root, const std::vector<std::string>& files) {
    return dump(Json{{"root", root}, {"made", files}});
}

std::string checks_json(const std::vector<CheckLine>& checks) {
    Json rows = Json::array();
    bool ok = true;
    for (const CheckLine& check : checks) {
        ok = ok && check.state != "fail";
        rows.push_back(Json{{"name", check.name},
                            {"state", check.state},
                            {"text", check.text},
                            {"next_step", text_or_null(check.next_step)}});
    }
    return dump(Json{{"ok", ok}, {"checks", rows}});
}

Status check_metadata(std::string_view text) {
    if (text.size() > limits::kMetadataMax) {
        return make_error(ErrorCode::bad_request, "--metadata has " + std::to_string(text.size()) +
                                                      " bytes; at most 65536");
    }
    if (!Json::parse(text, nullptr, false).is_object()) {
        return make_error(ErrorCode::bad_request,
                          "--metadata is not a JSON object; write it as in '{\"issue\": \"A-1\"}'");
    }
    return Done{};
}

}  // namespace iw::ctl
