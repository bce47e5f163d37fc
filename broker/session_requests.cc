#include "broker/session_requests.h"

#include <optional>
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

void SessionRequests::wish(const Requester& who, const SessionId& id, const std::string& reason) {
    turn_.step(core_, who, KillEvent{.caller = caller_of(who), .id = id, .reason = reason}, {});
}

void SessionRequests::kill(const Requester& who, const KillRequest& request) {
    if (core_.is_live(SessionId(request.id)))
        return wish(who, SessionId(request.id), request.reason);
    database_.ask<FoundSession>(
        [request](Database& database) { return find_session(database, request.id, request.exact); },
        [this, who, request](Result<FoundSession> found) {
            kill_found(who, request, std::move(found));
        });
}

void SessionRequests::kill_found(const Requester& who, const KillRequest& request,
                                 Result<FoundSession> found) {
    if (!found.ok()) return turn_.reply(who.to, question_failed(found.error()));
    if (!found->session) return turn_.reply(who.to, no_single_session(request.id, *found));
    const SessionView& session = *found->session;
    if (is_final(session.status)) {
        return turn_.reply(who.to, Reply(KillReply{.session = session, .already_final = true}));
    }
    if (core_.is_live(session.id)) return wish(who, session.id, request.reason);
    // It ended while the database was looking: the next look, behind that end, sees it.
    kill(who, request);
}

}  // namespace iw::broker
