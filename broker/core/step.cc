// The machinery of a step: deciding a fact, answering, and keeping schedules in line with durable
// state.

#include <algorithm>
#include <utility>

#include "broker/core/retrying.h"
#include "broker/core/state.h"
#include "common/base/check.h"
#include "common/base/overloaded.h"

namespace iw::broker {

namespace {

// What the log says about a record besides the change of status.
std::string why_of(const RecordBody& body) {
    return std::visit(
        overloaded{
            [](const SessionCreated& created) { return "submitted by " + created.principal; },
            [](const AttemptAssigned& assigned) {
                return "attempt " + std::to_string(assigned.fence.attempt) + " given to " +
                       assigned.worker.str();
            },
            [](const AttemptStarted&) { return std::string("started"); },
            [](const AttemptReturned& returned) { return returned.reason; },
            [](const SessionEnded& ended) {
                std::string why = status_text({ended.status, ended.detail});
                const std::string& text = ended.reason.empty() ? ended.kill_reason : ended.reason;
                return text.empty() ? why : why + ": " + text;
            },
            [](const SessionClosed& closed) { return "closed by " + closed.by; },
            [](const KillWished& wished) { return "kill wished by " + wished.principal; },
            [](const ReportSuperseded& superseded) { return superseded.what; },
            [](const WorkerRegistered&) { return std::string(); },
            [](const WorkerNoted& noted) { return noted.evidence; },
            [](const TimeoutChanged& changed) {
                return "timeout " + format_duration(changed.timeout) + " by " + changed.principal;
            },
            [](const HoldChanged& changed) { return changed.reason; },
            [](const EpochBegun& begun) { return begun.reason; },
            [](const RestoreReleased& released) { return released.reason; },
            [](const AttemptAdopted& adopted) {
                return "attempt " + std::to_string(adopted.fence.attempt) + " found at " +
                       adopted.worker.str();
            },
            [](const SessionEdited& edited) { return "edited by " + edited.principal; },
        },
        body);
}

}  // namespace

void BrokerCore::State::emit(RecordBody body) {
    const SessionId* id = session_of(body);
    Session* before = id == nullptr ? nullptr : durable_.session(*id);
    std::string from;
    std::vector<SessionId> above;
    if (before != nullptr) {
        from = status_text(shown_of(*before));
        // A closed session is gone after this, and with it what its outcome was.
        if (std::holds_alternative<SessionClosed>(body)) {
            note_session(body, from, before);
            above = before->particular().ancestors;
            ready_.forget_family(*before);
        }
        unschedule(*before);
    }
    const Worker* holder = before != nullptr && before->is_held()
                               ? durable_.worker(before->progressed().worker)
                               : nullptr;
    actions_.records.push_back(
        Record{.seq = durable_.head() + 1, .time = time_.wall, .body = std::move(body)});
    const Record& record = actions_.records.back();
    durable_.apply(record);
    const SessionId* now_id = session_of(record.body);
    Session* after = now_id == nullptr ? nullptr : durable_.session(*now_id);
    for (const SessionId& ancestor : above)
        child_is_final(ancestor);
    if (after == nullptr) return;
    if (before == nullptr) begin_schedule(*after, run_time_ms());
    const bool is_adopted = std::holds_alternative<AttemptAdopted>(record.body);
    if (holder != nullptr && (!after->is_held() || is_adopted)) released(*holder, after->ordinal);
    if (std::holds_alternative<AttemptReturned>(record.body)) returned_.push_back(*after->id);
    if (holder == nullptr && after->is_held()) ready_.touch_family(*after);
    refresh_schedule(*after);
    note_change(*after);
    note_session(record.body, from, after);
}

void BrokerCore::State::released(const Worker& worker, std::uint64_t ordinal) {
    Presence& presence = presence_.at(worker.registration.name);
    presence.sent.erase(ordinal);
    presence.orphans.erase(ordinal);
    presence.owed.erase(ordinal);
    ready_.touch(worker);
}

void BrokerCore::State::note_session(const RecordBody& body, const std::string& from,
                                     const Session* after) {
    IW_CHECK(after != nullptr);
    std::string to = status_text(shown_of(*after));
    if (std::holds_alternative<SessionClosed>(body)) {
        const SessionEnded& ended = *after->progressed().ended;
        to = status_text({ended.status, ended.detail});
    }
    if (from == to && std::holds_alternative<ReportSuperseded>(body)) to = "report-superseded";
    transition("session=" + after->id->str(), from, std::move(to), why_of(body));
}

void BrokerCore::State::transition(std::string subject, std::string from, std::string to,
                                   std::string why) {
    actions_.transitions.push_back(Transition{.subject = std::move(subject),
                                              .from = std::move(from),
                                              .to = std::move(to),
                                              .why = std::move(why)});
}

void BrokerCore::State::reply(const Caller& caller, Reply body) {
    actions_.outgoing.push_back(
        SendReply{.peer = caller.peer, .request = caller.request, .body = std::move(body)});
}

void BrokerCore::State::refuse(const Caller& caller, ErrorCode code, std::string message) {
    ErrorReply refusal;
    refusal.error = make_error(code, std::move(message));
    actions_.outgoing.push_back(
        SendReply{.peer = caller.peer, .request = caller.request, .body = std::move(refusal)});
}

void BrokerCore::State::push(const Presence& presence, Push body) {
    IW_CHECK(presence.peer.has_value());
    actions_.outgoing.push_back(SendPush{.peer = *presence.peer, .body = std::move(body)});
}

// ---- Schedules
// ------------------------------------------------------------------------------------------

std::int64_t BrokerCore::State::run_time_ms() const {
    return (time_.steady.time_since_epoch() + run_offset_).count();
}

// Due times are put on the steady clock here and never looked up on the wall clock again, so that
// setting the clock neither starts nor ends anything.
void BrokerCore::State::begin_schedule(Session& session, std::int64_t accepted_ms) {
    const Particulars& particulars = session.particular();
    session.order = accepted_ms - session.priority * limits::kAgeingPerPriority.count();
    // After a start with a clock that was set back, a delay is still never longer than it was asked
    // for.
    if (particulars.not_before) {
        const Duration asked = *particulars.not_before - session.created_at;
        const Duration delay = std::min(*particulars.not_before - time_.wall, asked);
        if (delay > Duration(0)) session.set_due_at(time_.steady + delay);
        session.order += asked.count();
    }
    // The clock may have been set meanwhile, but no back-off grows by that.
    if (const std::optional<WallTime>& retry_at = session.progressed().retry_at) {
        const Duration delay = std::min(*retry_at - time_.wall, retry_delay_max(session));
        if (delay > Duration(0)) session.set_due_at(time_.steady + delay);
    }
    if (particulars.expires_at) {
        const Duration asked = *particulars.expires_at - session.created_at;
        session.set_expire_at(time_.steady + std::min(*particulars.expires_at - time_.wall, asked));
    }
    begin_waiting(session);
}

void BrokerCore::State::unschedule(Session& session) {
    if (session.phase != Phase::queued) return;
    if (session.can_expire() && expiry_.contains(session.expire_at(), session)) {
        expiry_.clear(session.expire_at(), session);
    }
    if (session.is_due_later() && due_.contains(session.due_at(), session)) {
        due_.clear(session.due_at(), session);
        return;
    }
    if (waiting_parents_.erase(session.ordinal) > 0) return;
    if (ready_.contains(session)) ready_.remove(session, durable_);
}

void BrokerCore::State::refresh_schedule(Session& session) {
    if (session.phase != Phase::queued) return dependencies_.unblock(session);
    // What started once was in time, however often it is handed out again.
    if (session.has_started()) session.set_expire_at(Deadlines::kNoExpiry);
    if (session.can_expire()) expiry_.set(session.expire_at(), session);
    if (!dependencies_.is_blocked(session)) enqueue(session);
}

void BrokerCore::State::enqueue(Session& session) {
    if (session.due_at() > time_.steady) return due_.set(session.due_at(), session);
    session.set_due_at(Deadlines::kNoDue);
    if (waits_for_children(session)) {
        waiting_parents_[session.ordinal] = &session;
        return;
    }
    ready_.add(session, durable_);
}

}  // namespace iw::broker
