// Another run timeout for a live session. The worker enforces it alone; here it is recorded, sent
// at once, and sent again until the worker's own list shows it.

#include <algorithm>
#include <utility>

#include "broker/core/state.h"
#include "common/base/check.h"
#include "common/base/text.h"

namespace iw::broker {

namespace {

constexpr Duration kTimeoutMin{1};
constexpr Duration kTimeoutMax{10LL * 366 * 24 * 3600 * 1000};

// The timeout that is asked for, or what is wrong with the request.
Result<Duration> wanted_timeout(const ExtendEvent& event, Duration present) {
    const auto bad = [](std::string message) {
        return make_error(ErrorCode::bad_request, std::move(message));
    };
    if (event.timeout.has_value() == event.add.has_value()) {
        return bad("extend: give either timeout or add");
    }
    if (event.add && (*event.add < kTimeoutMin || *event.add > kTimeoutMax)) {
        return bad("add: is not between 1 ms and 10 years");
    }
    const Duration wanted = event.timeout ? *event.timeout : present + *event.add;
    if (wanted < kTimeoutMin || wanted > kTimeoutMax) {
        return bad("timeout: is not between 1 ms and 10 years");
    }
    return wanted;
}

}  // namespace

void BrokerCore::State::on(ExtendEvent event) {
    const Caller& caller = event.caller;
    if (!may_speak(caller)) {
        return refuse(caller, ErrorCode::stale_fence,
                      "attempt " + attempt_name(*caller.inside) +
                          " is not the current one of its session; nothing was changed");
    }
    const Session* session = durable_.session(event.id);
    const std::string named = "session " + printable(event.id.str(), true);
    if (session == nullptr && !durable_.keys().is_finished(event.id)) {
        return refuse(caller, ErrorCode::not_found, "no live " + named);
    }
    if (session == nullptr || session->phase == Phase::closing) {
        return refuse(caller, ErrorCode::conflict, named + " has already ended");
    }
    if (caller.inside && !is_own(*session, caller.inside->session)) {
        return refuse(caller, ErrorCode::forbidden,
                      named + " was not submitted inside " + caller.inside->session.str() +
                          ", which may extend itself and its own only");
    }
    const Result<Duration> wanted = wanted_timeout(event, session->timeout);
    if (!wanted) return refuse(caller, wanted.error().code, wanted.error().message);
    // A repeat changes nothing, but is sent on all the same: the worker may have missed the first.
    if (*wanted != session->timeout) {
        emit(TimeoutChanged{.id = event.id, .timeout = *wanted, .principal = caller.principal});
    }
    if (session->is_held()) send_limit(*session);
    reply(caller, ExtendReply{.session = view_of(*session)});
}

void BrokerCore::State::send_limit(const Session& session) {
    IW_CHECK(session.is_held());
    const WorkerName& name = session.progressed().worker;
    const Presence& presence = presence_.at(name);
    if (!presence.peer || is_orphan(session, *durable_.worker(name))) return;
    LimitsPush message;
    message.limits.push_back(
        LimitChange{.session = *session.id, .fence = session.fence, .timeout = session.timeout});
    push(presence, std::move(message));
}

// A worker of before timeouts could change states none, and is left alone.
std::vector<LimitChange> BrokerCore::State::limit_changes(
    const Worker& worker, const std::vector<AttemptState>& inventory) const {
    std::vector<LimitChange> changes;
    for (const AttemptState& attempt : inventory) {
        if (!attempt.timeout) continue;
        const Session* session = durable_.session(attempt.session);
        if (session == nullptr || !session->is_held() || session->fence != attempt.fence) continue;
        if (!is_of(*session, worker) || session->timeout == *attempt.timeout) continue;
        changes.push_back(LimitChange{
            .session = attempt.session, .fence = attempt.fence, .timeout = session->timeout});
    }
    return changes;
}

}  // namespace iw::broker
