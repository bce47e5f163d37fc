// Wishes to end a session, with all that is below it or without. What is with no worker ends at
// once; the rest is asked of the worker, again and again, until it reports the end.

#include <utility>

#include "broker/core/state.h"
#include "common/base/check.h"

namespace iw::broker {

namespace {

// Of a longer reason the descendants' records say nothing: there may be thousands of them.
constexpr std::size_t kReasonRepeatedMax = 200;

}  // namespace

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
        const SessionId& killer = caller.inside->session;
        if (*session->id == killer || !is_own(*session, killer)) {
            return refuse(caller, ErrorCode::forbidden,
                          "session " + event.id.str() + " was not submitted inside " +
                              killer.str() + ", which may kill its own only");
        }
    }
    // Its outcome is decided, and a normal end leaves what is below it alone.
    if (session->phase == Phase::closing) {
        return reply(caller, KillReply{.session = view_of(*session)});
    }
    Cascade cascade{.root = event.id,
                    .rest = {},
                    .reason = "session " + event.id.str() + " above it was killed",
                    .principal = caller.principal,
                    .kill = std::nullopt};
    if (!event.reason.empty() && event.reason.size() <= kReasonRepeatedMax) {
        cascade.reason += ": " + event.reason;
    }
    if (!event.keep_children) {
        for (const auto& [ordinal, below] : durable_.descendants().below(event.id)) {
            if (can_be_killed(*below)) cascade.rest.push_back(*below->id);
        }
    }
    cascade.kill = std::move(event);
    cascades_.push_back(std::move(cascade));
    run_cascades();
}

void BrokerCore::State::kill_root(const Cascade& cascade) {
    IW_CHECK(cascade.kill.has_value());
    const Caller& caller = cascade.kill->caller;
    const Session* session = durable_.session(cascade.root);
    if (session == nullptr || session->phase == Phase::closing) {
        return refuse(caller, ErrorCode::conflict,
                      "session " + cascade.root.str() + " ended by itself while the " +
                          std::to_string(cascade.killed) + " below it were killed");
    }
    KillReply answer;
    answer.descendants = cascade.killed;
    // Nobody has to be asked: there is no process, and there will be none.
    if (session->phase == Phase::queued) {
        end_queued(*session, Detail::killed, cascade.kill->reason);
        answer.session = outcome_of(*session).session;
        begin_closing(cascade.root);
        // Where nobody has files to write it is final and gone by now, and the outcome is all there
        // is.
        if (is_live(cascade.root)) answer.session = view_of(*session);
        return reply(caller, std::move(answer));
    }
    if (!session->is_kill_wished()) {
        emit(KillWished{.id = cascade.root,
                        .principal = caller.principal,
                        .cause = Detail::killed,
                        .reason = cascade.kill->reason});
        IW_CHECK(session->is_kill_wished());
        send_stop(*session);
    }
    answer.session = view_of(*session);
    reply(caller, std::move(answer));
}

}  // namespace iw::broker
