#include "broker/session_requests.h"

#include <optional>
#include <string>
#include <utility>

namespace iw::broker {
namespace {

struct FoundResult {
    FoundSession found;
    std::optional<ResultReply> result;
};

Result<FoundResult> find_result(Database& database, const std::string& id) {
    Result<FoundSession> found = find_session(database, id, false);
    if (!found.ok()) return found.error();
    FoundResult answer{.found = std::move(found).value(), .result = {}};
    if (!answer.found.session) return answer;
    Result<std::optional<ResultReply>> result = database.result(answer.found.session->id);
    if (!result.ok()) return result.error();
    answer.result = std::move(result).value();
    return answer;
}

Answer has_ended(const SessionView& ended) {
    return refuse(ErrorCode::conflict, "session " + ended.id.str() + " has ended (" +
                                           std::string(name(ended.status)) +
                                           "); there is nothing left to change");
}

}  // namespace

// The database does not know why a session waits or whether its worker is silent; the core does. It
// may be ahead of the page, so a row that has moved on since stays as the page has it.
void SessionRequests::overlay(SessionView& session) const {
    const std::optional<SessionView> live = core_.view(session.id, turn_.now());
    if (live && live->status == session.status) session = *live;
}

void SessionRequests::status(const Requester& who, const StatusRequest& request) {
    if (const auto live = core_.view(SessionId(request.id), turn_.now())) {
        return turn_.reply(who.to, Reply(StatusReply{.session = *live, .seq = core_.head()}));
    }
    database_.ask<FoundSession>(
        [request](Database& database) { return find_session(database, request.id, request.exact); },
        [this, who, id = request.id](Result<FoundSession> found) {
            if (!found.ok()) return turn_.reply(who.to, question_failed(found.error()));
            if (!found->session) return turn_.reply(who.to, no_single_session(id, *found));
            // What the core shows now includes all up to its head; what the database found does so
            // only up to what it had applied.
            if (const auto live = core_.view(found->session->id, turn_.now())) {
                return turn_.reply(who.to,
                                   Reply(StatusReply{.session = *live, .seq = core_.head()}));
            }
            turn_.reply(who.to, Reply(StatusReply{.session = *found->session, .seq = found->seq}));
        });
}

void SessionRequests::list(const Requester& who, ListRequest request) {
    database_.ask<ListReply>(
        [request = std::move(request)](Database& database) { return database.list(request); },
        [this, who](Result<ListReply> page) {
            if (!page.ok()) return turn_.reply(who.to, question_failed(page.error()));
            for (SessionView& session : page->sessions) {
                if (!is_final(session.status)) overlay(session);
            }
            turn_.reply(who.to, Reply(std::move(page).value()));
        });
}

void SessionRequests::result(const Requester& who, const ResultRequest& request) {
    database_.ask<FoundResult>(
        [id = request.id](Database& database) { return find_result(database, id); },
        [this, who, id = request.id](Result<FoundResult> answer) {
            if (!answer.ok()) return turn_.reply(who.to, question_failed(answer.error()));
            if (!answer->result) return turn_.reply(who.to, no_single_session(id, answer->found));
            if (!is_final(answer->result->session.status)) overlay(answer->result->session);
            turn_.reply(who.to, Reply(std::move(*answer->result)));
        });
}

// ---- Changing ----------------------------------------------------------------------------------

void SessionRequests::change(const Requester& who, Target target) {
    if (core_.is_live(SessionId(target.id)))
        return turn_.step(core_, who, target.event(SessionId(target.id)), {});
    database_.ask<FoundSession>(
        [id = target.id, exact = target.exact](Database& database) {
            return find_session(database, id, exact);
        },
        [this, who, target](Result<FoundSession> found) {
            change_found(who, target, std::move(found));
        });
}

void SessionRequests::change_found(const Requester& who, Target target,
                                   Result<FoundSession> found) {
    if (!found.ok()) return turn_.reply(who.to, question_failed(found.error()));
    if (!found->session) return turn_.reply(who.to, no_single_session(target.id, *found));
    const SessionView& session = *found->session;
    if (is_final(session.status)) {
        std::variant<Answer, CoreEvent> over = target.over(session);
        if (auto* event = std::get_if<CoreEvent>(&over))
            return turn_.step(core_, who, std::move(*event), {});
        return turn_.reply(who.to, std::move(*std::get_if<Answer>(&over)));
    }
    if (core_.is_live(session.id)) return turn_.step(core_, who, target.event(session.id), {});
    // It ended while the database was looking: the next look, behind that end, sees it.
    change(who, std::move(target));
}

void SessionRequests::kill(const Requester& who, const KillRequest& request) {
    const auto event = [caller = caller_of(who), request](const SessionId& id) -> CoreEvent {
        return KillEvent{.caller = caller,
                         .id = id,
                         .reason = request.reason,
                         .keep_children = request.keep_children};
    };
    const auto over = [](const SessionView& ended) -> Answer {
        return Reply(KillReply{.session = ended, .already_final = true});
    };
    change(who, {.id = request.id, .exact = request.exact, .event = event, .over = over});
}

void SessionRequests::extend(const Requester& who, const ExtendRequest& request) {
    const auto event = [caller = caller_of(who), request](const SessionId& id) -> CoreEvent {
        return ExtendEvent{
            .caller = caller, .id = id, .timeout = request.timeout, .add = request.add};
    };
    change(who, {.id = request.id, .exact = request.exact, .event = event, .over = has_ended});
}

void SessionRequests::edit(const Requester& who, const EditRequest& request) {
    const auto event = [caller = caller_of(who), request](const SessionId& id) {
        EditEvent edited{.caller = caller, .request = request};
        edited.request.id = id.str();
        return edited;
    };
    const auto over = [event](const SessionView& ended) -> CoreEvent {
        EditEvent edited = event(ended.id);
        edited.kept = ended;
        return edited;
    };
    change(who, {.id = request.id, .exact = request.exact, .event = event, .over = over});
}

void SessionRequests::confirm_dead(const Requester& who, const ConfirmDeadRequest& request) {
    const auto event = [caller = caller_of(who), request](const SessionId& id) -> CoreEvent {
        ConfirmDeadEvent confirmed{.caller = caller, .request = request};
        confirmed.request.id = id.str();
        return confirmed;
    };
    change(who, {.id = request.id, .exact = false, .event = event, .over = has_ended});
}

}  // namespace iw::broker
