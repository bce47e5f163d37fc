// An admin's word that what a silent worker ran is gone for good. Silence alone proves nothing, so
// by default its sessions wait for ever; this is what ends the waiting.

#include <algorithm>
#include <utility>

#include "broker/core/state.h"
#include "common/base/check.h"
#include "common/base/text.h"

namespace iw::broker {

namespace {

Error bad(std::string message) {
    return make_error(ErrorCode::bad_request, std::move(message));
}

std::optional<Error> form_refusal(const ConfirmDeadRequest& request) {
    const int named = (request.id.empty() ? 0 : 1) + (request.worker.empty() ? 0 : 1) +
                      (request.host.empty() ? 0 : 1);
    if (named != 1) return bad("confirm_dead: name one session, one worker or one host");
    if (request.reason.empty()) {
        return bad("reason: is required; say how you know that its processes are gone");
    }
    return std::nullopt;
}

}  // namespace

std::optional<Error> BrokerCore::State::confirm_refusal(const Worker& worker) const {
    if (!worker.is_up()) return std::nullopt;
    const WorkerName& name = worker.registration.name;
    const Duration silence = time_.steady - presence_.at(name).heard_at;
    return make_error(ErrorCode::conflict,
                      "worker " + name.str() + " was heard " + format_elapsed(silence) +
                          " ago, so what it runs can be killed; only what is with a worker that is "
                          "unreachable can be confirmed dead");
}

std::optional<Error> BrokerCore::State::confirm_refusal(const Session& session) const {
    const std::string named = "session " + session.id->str();
    if (session.phase == Phase::closing) {
        return make_error(ErrorCode::conflict, named + " has already ended");
    }
    if (!session.is_held()) {
        return make_error(ErrorCode::conflict,
                          named + " is with no worker: it waits to be handed out; kill it instead");
    }
    const Worker& worker = *durable_.worker(session.progressed().worker);
    // Whoever has the name now has never heard of the attempt.
    if (is_orphan(session, worker)) return std::nullopt;
    return confirm_refusal(worker);
}

Result<std::vector<SessionId>> BrokerCore::State::confirmed_dead(const ConfirmDeadRequest& request,
                                                                 const std::string& evidence) {
    if (!request.id.empty()) {
        const Session* session = durable_.session(SessionId(request.id));
        if (session == nullptr) {
            return make_error(ErrorCode::not_found,
                              "no live session " + printable(request.id, true));
        }
        if (std::optional<Error> error = confirm_refusal(*session)) return *std::move(error);
        if (durable_.restored()) {
            return make_error(ErrorCode::conflict,
                              "the store was restored, and how the attempt went on is not known "
                              "here; confirm its worker dead, or do this after `ictl resume "
                              "--after-restore`");
        }
        return std::vector{*session->id};
    }
    std::vector<const Worker*> workers;
    std::vector<std::string> hosts;
    for (const auto& [name, worker] : durable_.workers()) {
        hosts.push_back(worker.registration.host);
        if (name.str() == request.worker || worker.registration.host == request.host) {
            workers.push_back(&worker);
        }
    }
    if (workers.empty() && !request.worker.empty()) return *unknown_worker(request.worker);
    if (workers.empty()) {
        const std::string near = nearest(request.host, hosts);
        return make_error(ErrorCode::not_found,
                          "no worker on host " + printable(request.host, true) + " is registered" +
                              (near.empty() ? "" : "; did you mean " + near + "?"));
    }
    std::vector<SessionId> ids;
    for (const Worker* worker : workers) {
        if (std::optional<Error> error = confirm_refusal(*worker)) return *std::move(error);
        for (const auto& [ordinal, session] : worker->held)
            ids.push_back(*session->id);
    }
    for (const Worker* worker : workers)
        presence_.at(worker->registration.name).confirmed_dead = evidence;
    return ids;
}

void BrokerCore::State::on(ConfirmDeadEvent event) {
    const Caller& caller = event.caller;
    if (caller.inside) {
        return refuse(caller, ErrorCode::forbidden,
                      "a session may not confirm a loss; ask whoever runs the fleet");
    }
    if (std::optional<Error> error = form_refusal(event.request)) {
        return refuse(caller, error->code, std::move(error->message));
    }
    const std::string evidence =
        "confirmed dead by " + caller.principal + ": " + event.request.reason;
    const Result<std::vector<SessionId>> ids = confirmed_dead(event.request, evidence);
    if (!ids) return refuse(caller, ids.error().code, ids.error().message);
    ConfirmDeadReply answer;
    for (const SessionId& id : *ids) {
        // A restored store may have forgotten that the attempt had ended. Its worker may still come
        // and say so: until the release nothing is lost by an admin's word.
        SessionView view =
            durable_.restored() ? view_of(*durable_.session(id)) : lose_and_show(id, evidence);
        if (durable_.restored()) view.reason += "; lost with `ictl resume --after-restore`";
        // Whoever asks knows the sessions; many of them must fit one message.
        view.metadata.clear();
        view.tags.clear();
        if (answer.sessions.size() < limits::kPageRowsMax) answer.sessions.push_back(view);
    }
    reply(caller, std::move(answer));
}

SessionView BrokerCore::State::lose_and_show(const SessionId& id, const std::string& evidence) {
    const Session& session = *durable_.session(id);
    lose_attempt(session, evidence);
    SessionView view =
        session.phase == Phase::closing ? outcome_of(session).session : view_of(session);
    begin_closing(id);
    // Final only if nobody has files to write.
    const Session* still = durable_.session(id);
    return still == nullptr ? view : view_of(*still);
}

void BrokerCore::State::lose_confirmed(const Worker& worker, const std::string& evidence) {
    std::vector<SessionId> ids;
    for (const auto& [ordinal, session] : worker.held)
        ids.push_back(*session->id);
    for (const SessionId& id : ids)
        lose(*durable_.session(id), evidence);
}

}  // namespace iw::broker
