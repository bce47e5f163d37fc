// Wishes to end a session. What is with no worker ends at once; the rest is asked of the worker,
// again and again, until it reports the end.

#include <algorithm>
#include <utility>

#include "broker/core/state.h"
#include "common/base/check.h"

namespace iw::broker {

void BrokerCore::State::on(KillEvent event) {
    const Caller& caller = event.caller;
    const Session* session = durable_.session(event.id);
    if (session == nullptr) {
        return refuse(caller, ErrorCode::not_found, "no live session " + event.id.str());
    }
    if (caller.inside) {
        if (!may_speak(caller)) {
            return refuse(caller, ErrorCode::stale_fence,
                          "attempt " + attempt_name(*caller.inside) +
                              " is not the current one of its session; nothing was killed");
        }
        const std::vector<SessionId>& above = session->particular().ancestors;
        if (std::find(above.begin(), above.end(), caller.inside->session) == above.end()) {
            return refuse(caller, ErrorCode::forbidden,
                          "session " + event.id.str() + " is not below " +
                              caller.inside->session.str() + ", which may kill its own only");
        }
    }
    KillReply answer;
    // Nobody has to be asked: there is no process, and there will be none.
    if (session->phase == Phase::queued) {
        end_queued(*session, Detail::killed, event.reason);
        answer.session = outcome_of(*session).session;
        begin_closing(event.id);
        // Where nobody has files to write it is final and gone by now, and the outcome is all there
        // is.
        if (is_live(event.id)) answer.session = view_of(*session);
        return reply(caller, std::move(answer));
    }
    if (session->is_held() && !session->is_kill_wished()) {
        emit(KillWished{.id = event.id,
                        .principal = caller.principal,
                        .cause = Detail::killed,
                        .reason = event.reason});
        IW_CHECK(session->is_kill_wished());
        send_stop(*session);
    }
    answer.session = view_of(*session);
    reply(caller, std::move(answer));
}

}  // namespace iw::broker
