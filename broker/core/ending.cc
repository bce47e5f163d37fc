// How attempts and sessions end: what each cause makes of a session.

#include <algorithm>
#include <utility>

#include "broker/core/retrying.h"
#include "broker/core/state.h"
#include "common/base/check.h"

namespace iw::broker {

namespace {

// What the worker says of its clock stays between the session's creation and this moment.
WallTime plausible(WallTime stated, WallTime created, WallTime present) {
    return std::max(created, std::min(stated, present));
}

// A peer may state any word; only these are causes of a stop.
Detail stop_detail(Detail stated) {
    const bool known = stated == Detail::parent_killed || stated == Detail::timeout;
    return known ? stated : Detail::killed;
}

// The success rule is the agent's profile's, which its worker has; the core takes its word.
void judge_exit(const EndedReport& report, SessionEnded& ended) {
    if (report.success) {
        ended.status = SessionStatus::completed;
        ended.detail = Detail::done;
        return;
    }
    ended.status = SessionStatus::failed;
    ended.detail = Detail::exited;
    if (ended.reason.empty()) {
        ended.reason = report.exit_code ? "exit code " + std::to_string(*report.exit_code)
                                        : std::string("exit code not known");
    }
}

// The stop was recorded before it was sent, so whatever code the agent then left with counts for
// nothing.
void judge_stop(const Session& session, const EndedReport& report, SessionEnded& ended) {
    ended.status = SessionStatus::killed;
    ended.detail = stop_detail(report.stop_cause);
    ended.kill_reason = std::exchange(ended.reason, {});
    const std::optional<KillWished>& wish = session.progressed().kill;
    if (ended.kill_reason.empty() && wish) ended.kill_reason = wish->reason;
}

void fail(SessionEnded& ended, Detail detail, std::string_view reason) {
    ended.status = SessionStatus::failed;
    ended.detail = detail;
    if (ended.reason.empty()) ended.reason = reason;
}

// Status, detail and reasons of a session whose attempt ended like this. `reason` is the worker's
// so far.
void judge(const Session& session, const EndedReport& report, SessionEnded& ended) {
    switch (report.cause) {
        case EndCause::exited:
            return judge_exit(report, ended);
        case EndCause::signal:
            return fail(ended, Detail::signal, "ended by a signal");
        case EndCause::stopped:
            return judge_stop(session, report, ended);
        case EndCause::start_failed:
            return fail(ended, Detail::start_failed, "could not be started");
        case EndCause::lost:
            return fail(ended, Detail::lost, "its process is gone without a record of its end");
        case EndCause::disk_limit:
            return fail(ended, Detail::disk_limit, "over its disk limit");
        case EndCause::result_missing:
            return fail(ended, Detail::result_missing, "left no result.json");
        case EndCause::result_invalid:
            return fail(ended, Detail::result_invalid, "its result.json does not fit the schema");
    }
    fail(ended, Detail::exited, "ended for an unknown cause");
}

void take_result(EndedReport& report, SessionEnded& ended) {
    ended.result_status = std::move(report.result_status);
    ended.result_size = report.result_size;
    ended.result_sha256 = std::move(report.result_sha256);
    ended.result_inline = report.result_inline;
    ended.result = std::move(report.result);
    ended.deliverables = std::move(report.deliverables);
}

}  // namespace

void BrokerCore::State::end_queued(const Session& session, Detail detail, std::string kill_reason) {
    IW_CHECK(session.phase == Phase::queued);
    SessionEnded ended;
    ended.id = *session.id;
    ended.fence = session.fence;
    ended.status = SessionStatus::killed;
    ended.detail = detail;
    ended.kill_reason = std::move(kill_reason);
    ended.completed_at = std::max(time_.wall, session.created_at);
    emit(std::move(ended));
}

void BrokerCore::State::fail_queued(const Session& session, Detail detail, std::string reason) {
    IW_CHECK(session.phase == Phase::queued);
    SessionEnded ended;
    ended.id = *session.id;
    ended.fence = session.fence;
    ended.status = SessionStatus::failed;
    ended.detail = detail;
    ended.reason = std::move(reason);
    ended.completed_at = std::max(time_.wall, session.created_at);
    emit(std::move(ended));
}

void BrokerCore::State::end_attempt(const Session& session, EndedReport& report) {
    IW_CHECK(session.is_held());
    // A session that ran shows it, even if its start was never reported by itself.
    if (session.phase == Phase::assigned && report.started_at) {
        emit(AttemptStarted{
            .id = *session.id,
            .fence = session.fence,
            .started_at = plausible(*report.started_at, session.created_at, time_.wall),
            .workspace = report.workspace});
    }
    const Progress& progress = session.progressed();
    SessionEnded ended;
    ended.id = *session.id;
    ended.fence = session.fence;
    ended.reason = std::move(report.reason);
    judge(session, report, ended);
    ended.exit_code = report.exit_code;
    ended.started_at = progress.started_at;
    ended.completed_at = plausible(report.ended_at, session.created_at, time_.wall);
    // Two clocks of a host may disagree; a session never ends before it started.
    if (ended.started_at) ended.completed_at = std::max(ended.completed_at, *ended.started_at);
    ended.workspace = report.workspace.empty() ? progress.workspace : std::move(report.workspace);
    ended.evidence = std::move(report.evidence);
    if (retry_attempt(session, ended)) return;
    take_result(report, ended);
    emit(std::move(ended));
}

void BrokerCore::State::fail_attempt(const Session& session, Detail detail, std::string reason,
                                     std::string evidence) {
    IW_CHECK(session.is_held());
    const Progress& progress = session.progressed();
    SessionEnded ended;
    ended.id = *session.id;
    ended.fence = session.fence;
    ended.status = SessionStatus::failed;
    ended.detail = detail;
    ended.reason = std::move(reason);
    ended.started_at = progress.started_at;
    ended.completed_at = std::max(time_.wall, session.created_at);
    ended.workspace = progress.workspace;
    ended.evidence = std::move(evidence);
    emit(std::move(ended));
}

void BrokerCore::State::return_attempt(const Session& session, Detail cause, std::string reason,
                                       std::string evidence) {
    IW_CHECK(session.is_held());
    const std::optional<KillWished>& wish = session.progressed().kill;
    if (wish) {
        // It would only be given out to be stopped again.
        SessionEnded ended;
        ended.id = *session.id;
        ended.fence = session.fence;
        ended.status = SessionStatus::killed;
        ended.detail = wish->cause;
        ended.kill_reason = wish->reason;
        ended.reason = std::move(reason);
        ended.started_at = session.progressed().started_at;
        ended.completed_at = std::max(time_.wall, session.created_at);
        ended.workspace = session.progressed().workspace;
        ended.evidence = std::move(evidence);
        return emit(std::move(ended));
    }
    const std::uint32_t faults = session.platform_faults + 1u;
    if (faults >= limits::kPlatformFaultsMax) {
        const Detail detail = cause == Detail::lost ? Detail::lost : Detail::start_failed;
        reason += " (" + std::to_string(faults) + " times)";
        return fail_attempt(session, detail, std::move(reason), std::move(evidence));
    }
    AttemptReturned returned;
    returned.id = *session.id;
    returned.fence = session.fence;
    returned.cause = cause;
    returned.reason = std::move(reason);
    returned.evidence = std::move(evidence);
    give_back(session, kRetryDelay * faults, std::move(returned));
}

void BrokerCore::State::lose_attempt(const Session& session, const std::string& evidence) {
    const std::string reason = "lost on worker " + session.progressed().worker.str();
    if (session.on_lost == OnLost::requeue) {
        return return_attempt(session, Detail::lost, reason, evidence);
    }
    fail_attempt(session, Detail::lost, reason, evidence);
}

void BrokerCore::State::send_stop(const Session& session) {
    const std::optional<KillWished>& wish = session.progressed().kill;
    IW_CHECK(wish.has_value());
    const WorkerName& name = session.progressed().worker;
    const Worker* worker = durable_.worker(name);
    IW_CHECK(worker != nullptr);
    const Presence& presence = presence_.at(name);
    if (!presence.peer || is_orphan(session, *worker)) return;
    StopPush stop;
    stop.stops.push_back(StopOrder{.session = *session.id,
                                   .fence = session.fence,
                                   .cause = wish->cause,
                                   .reason = wish->reason});
    push(presence, std::move(stop));
}

}  // namespace iw::broker
