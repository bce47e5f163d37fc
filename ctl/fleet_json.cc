#include "ctl/fleet_json.h"

#include <nlohmann/json.hpp>

#include "ctl/dry_run.h"
#include "ctl/json.h"

namespace iw::ctl {
namespace {

using Json = nlohmann::ordered_json;

std::string dump(const Json& json) {
    return safe_json(json.dump(2, ' ', false, Json::error_handler_t::replace)) + "\n";
}

std::string dump_line(const Json& json) {
    return safe_json(json.dump(-1, ' ', false, Json::error_handler_t::replace)) + "\n";
}

Json or_null(const std::string& text) {
    return text.empty() ? Json(nullptr) : Json(text);
}

Json or_null(const std::optional<WallTime>& time) {
    return time ? Json(format_utc(*time)) : Json(nullptr);
}

template <typename Ids>
Json texts(const Ids& ids) {
    Json rows = Json::array();
    for (const auto& id : ids)
        rows.push_back(id.str());
    return rows;
}

Json to_json(const HoldView& hold) {
    return Json{{"scope", std::string(name(hold.scope))},
                {"name", or_null(hold.name)},
                {"principal", hold.principal},
                {"reason", or_null(hold.reason)},
                {"since", format_utc(hold.since)},
                {"until", or_null(hold.until)}};
}

Json restored(const FleetReply& fleet) {
    if (!fleet.restored) return nullptr;
    return Json{{"why", fleet.restored_why}, {"unheard", texts(fleet.unheard)}};
}

Json unknown_attempts(const std::vector<WorkerView>& workers) {
    Json rows = Json::array();
    for (const WorkerView& worker : workers) {
        for (const AttemptRef& attempt : worker.unknown) {
            rows.push_back(Json{{"worker", worker.name.str()},
                                {"session_id", attempt.session.str()},
                                {"generation", attempt.fence.generation},
                                {"attempt", attempt.fence.attempt}});
        }
    }
    return rows;
}

Json chances_json(const std::vector<WorkerChance>& chances) {
    Json rows = Json::array();
    for (const WorkerChance& chance : chances) {
        rows.push_back(
            Json{{"name", chance.name}, {"can_run", chance.can_run}, {"why", chance.why}});
    }
    return rows;
}

}  // namespace

std::string fleet_json(const FleetReply& fleet, const std::vector<WorkerView>& workers) {
    Json holds = Json::array();
    for (const HoldView& hold : fleet.holds)
        holds.push_back(to_json(hold));
    Json sessions{{"queued", fleet.queued},
                  {"assigned", fleet.assigned},
                  {"running", fleet.running},
                  {"closing", fleet.closing}};
    Json backup{{"at", or_null(fleet.backup_at)},
                {"folder", or_null(fleet.backup_folder)},
                {"error", or_null(fleet.backup_error)}};
    Json disk{{"free", fleet.disk_free}, {"storage_low", fleet.storage_low}};
    Json blobs{{"bytes", fleet.blobs_bytes}, {"max", fleet.blobs_max}};
    return dump(Json{{"software", fleet.software},
                     {"epoch", fleet.epoch},
                     {"generation", fleet.generation},
                     {"seq", fleet.seq},
                     {"read_only", or_null(fleet.read_only)},
                     {"restored", restored(fleet)},
                     {"sessions", std::move(sessions)},
                     {"holds", std::move(holds)},
                     {"unknown_attempts", unknown_attempts(workers)},
                     {"backup", std::move(backup)},
                     {"blobs", std::move(blobs)},
                     {"disk", std::move(disk)}});
}

std::string holds_json(const std::vector<HoldAnswer>& answers) {
    Json rows = Json::array();
    for (const HoldAnswer& answer : answers) {
        Json row{{"scope", std::string(name(answer.request.scope))},
                 {"name", or_null(answer.request.name)},
                 {"on", answer.reply.hold.has_value()},
                 {"changed", answer.reply.changed}};
        const HoldView hold = answer.reply.hold.value_or(HoldView{});
        row["principal"] = or_null(hold.principal);
        row["reason"] = or_null(hold.reason);
        row["since"] = answer.reply.hold ? Json(format_utc(hold.since)) : Json(nullptr);
        row["until"] = or_null(hold.until);
        row["running"] = texts(answer.reply.running);
        rows.push_back(std::move(row));
    }
    return dump(Json{{"holds", std::move(rows)}});
}

std::string event_json(const Event& event, const std::string& epoch) {
    return dump_line(Json{{"epoch", epoch},
                          {"seq", event.seq},
                          {"time", format_utc(event.time)},
                          {"topic", event.topic},
                          {"session_id", or_null(event.id.str())},
                          {"revision", event.revision},
                          {"agent", or_null(event.agent)},
                          {"project", or_null(event.project)},
                          {"tags", event.tags},
                          {"root", or_null(event.root)},
                          {"status", or_null(event.status)},
                          {"detail", or_null(event.detail)},
                          {"attempt", event.attempt},
                          {"host", or_null(event.host)},
                          {"reason", or_null(event.reason)},
                          {"result_status", or_null(event.result_status)}});
}

std::string gap_json(const EventsReply& page) {
    return dump_line(Json{{"gap", true}, {"epoch", page.epoch}, {"next", page.next}});
}

std::string dry_run_json(const DryRun& run) {
    Json values = Json::array();
    for (const SubmissionValue& value : run.values) {
        values.push_back(
            Json{{"name", value.name}, {"value", value.value}, {"origin", value.origin}});
    }
    return dump(Json{{"values", std::move(values)},
                     {"warnings", run.warnings},
                     {"notes", run.notes},
                     {"workers", chances_json(run.workers)},
                     {"refusal", run.refusal ? Json(run.refusal->message) : Json(nullptr)}});
}

std::string explanation_json(const Explanation& explanation) {
    const SessionView& session = explanation.session;
    return dump(Json{{"session_id", session.id.str()},
                     {"status", std::string(name(session.status))},
                     {"detail", std::string(name(session.detail))},
                     {"reason", or_null(session.reason)},
                     {"notes", explanation.notes},
                     {"workers", chances_json(explanation.workers)}});
}

std::string backup_json(const BackupReply& backup) {
    return dump(Json{{"folder", backup.folder}, {"seq", backup.seq}, {"bytes", backup.bytes}});
}

}  // namespace iw::ctl
