// Reports about attempts. Each is acknowledged once its record is on disk, and again when it is
// repeated; what is not from the holder of the current attempt is kept for the record and changes
// nothing.

#include <algorithm>
#include <utility>

#include "broker/core/state.h"
#include "common/base/check.h"
#include "common/base/overloaded.h"
#include "common/base/planted.h"
#include "common/base/text.h"

namespace iw::broker {

namespace {

// An acknowledgement of many ends stays below the limit of a message; other outcomes follow in
// pushes.
constexpr std::size_t kOutcomeBytesMax = 2u << 20;
constexpr std::size_t kOutcomeBytesFixed = 16u << 10;
// Also when no more fits and every further one is a return, which goes without its metadata then.
static_assert(kOutcomeBytesMax + limits::kMetadataMax +
                  limits::kReportBatchMax * kOutcomeBytesFixed <
              limits::kMessageMax);

std::uint32_t number_of(const ReportBody& body) {
    return std::visit(overloaded{
                          [](const StartedReport&) { return 1u; },
                          [](const DeclinedReport&) { return 1u; },
                          [](const EndedReport&) { return 2u; },
                          [](const ClosedReport&) { return 3u; },
                      },
                      body);
}

std::string_view kind_of(const ReportBody& body) {
    return std::visit(overloaded{
                          [](const StartedReport&) { return "started"; },
                          [](const DeclinedReport&) { return "declined"; },
                          [](const EndedReport&) { return "ended"; },
                          [](const ClosedReport&) { return "closed"; },
                      },
                      body);
}

// The attempt before the newest one, which failed by itself: its end was reported, or there would
// be no next one.
bool is_of_retried(const Session& session, Fence fence) {
    return session.progressed().failed_by_itself && fence.attempt + 1 == session.fence.attempt &&
           fence.generation <= session.fence.generation;
}

bool is_end(const ReportBody& body) {
    return std::holds_alternative<EndedReport>(body) ||
           std::holds_alternative<DeclinedReport>(body);
}

Detail return_cause(Detail stated) {
    return stated == Detail::lost || stated == Detail::disk_limit ? stated : Detail::start_failed;
}

}  // namespace

void BrokerCore::State::on(ReportEvent event) {
    Presence* presence = present(event.caller, event.worker);
    if (presence == nullptr) return;
    if (event.reports.empty() || event.reports.size() > limits::kReportBatchMax) {
        return refuse(event.caller, ErrorCode::bad_request, "reports: 1 to 100 at once");
    }
    heard(event.worker, *presence);
    const Worker& worker = *durable_.worker(event.worker);
    outcome_bytes_ = 0;
    ReportReply answer;
    std::vector<SessionId> ended;
    bool is_closed = false;
    for (Report& report : event.reports) {
        answer.acks.push_back(handle(worker, report));
        is_closed = is_closed || std::holds_alternative<ClosedReport>(report.body);
        ended.push_back(std::move(report.session));
    }
    reply(event.caller, std::move(answer));
    // After the acknowledgements, so that an outcome in one of them is not pushed besides.
    for (const SessionId& id : ended)
        begin_closing(id);
    if (is_closed) push_outcomes(worker, *presence);
}

ReportAck BrokerCore::State::handle(const Worker& worker, Report& report) {
    ReportAck ack{.session = report.session,
                  .fence = report.fence,
                  .number = report.number,
                  .error = std::nullopt,
                  .outcome = std::nullopt};
    if (report.number != number_of(report.body)) {
        ack.error = make_error(ErrorCode::bad_request,
                               "number: of a report " + std::string(kind_of(report.body)) + " is " +
                                   std::to_string(number_of(report.body)));
        return ack;
    }
    Presence& presence = presence_.at(worker.registration.name);
    // An attempt that was not the worker's own has ended, too, and its room is free.
    if (is_end(report.body)) {
        const AttemptRef ref{.session = report.session, .fence = report.fence};
        if (presence.foreign.erase(ref) > 0) ready_.touch(worker);
    }
    const Session* session = durable_.session(report.session);
    const bool is_close = std::holds_alternative<ClosedReport>(report.body);
    if (session == nullptr) {
        // The files of a session that is final are written: that is all a `closed` says.
        if (is_close) return ack;
        ack.error = make_error(ErrorCode::not_found,
                               "no live session " + printable(report.session.str(), true));
        return ack;
    }
    if (is_close) {
        handle_closed(worker, *session, report, ack);
        return ack;
    }
    // Its acknowledgement was lost, and nothing is left to be said of that attempt.
    if (is_of_retried(*session, report.fence)) return ack;
    const bool is_current = report.fence == session->fence && is_of(*session, worker);
    if (!is_current && !IW_PLANT(stale_report_counts)) {
        supersede(worker, *session, report, "not the current attempt", ack);
    } else if (std::holds_alternative<StartedReport>(report.body)) {
        handle_started(*session, report, ack);
    } else if (std::holds_alternative<DeclinedReport>(report.body)) {
        handle_declined(*session, report, ack);
    } else {
        handle_ended(worker, *session, report, ack);
    }
    return ack;
}

void BrokerCore::State::handle_started(const Session& session, Report& report, ReportAck& ack) {
    const auto* started = std::get_if<StartedReport>(&report.body);
    IW_CHECK(started != nullptr);
    switch (session.phase) {
        case Phase::assigned:
            emit(AttemptStarted{.id = *session.id,
                                .fence = session.fence,
                                .started_at = std::max(session.created_at,
                                                       std::min(started->started_at, time_.wall)),
                                .workspace = started->workspace});
            return;
        case Phase::running:
        case Phase::closing:
            return;  // a repeat
        case Phase::queued: {
            const Worker& worker = *durable_.worker(session.progressed().worker);
            return supersede(worker, session, report, "the attempt was taken back before", ack);
        }
    }
}

void BrokerCore::State::handle_declined(const Session& session, Report& report, ReportAck& ack) {
    const auto* declined = std::get_if<DeclinedReport>(&report.body);
    IW_CHECK(declined != nullptr);
    const WorkerName name = session.progressed().worker;
    switch (session.phase) {
        case Phase::assigned: {
            std::string reason = declined->reason;
            if (reason.empty()) reason = "worker " + name.str() + " could not start it";
            if (declined->platform_fault) {
                return return_attempt(session, return_cause(declined->cause), std::move(reason),
                                      {});
            }
            return fail_attempt(session, Detail::start_failed, std::move(reason), {});
        }
        case Phase::queued:
        case Phase::closing:
            return;  // a repeat
        case Phase::running:
            return supersede(*durable_.worker(name), session, report,
                             "declined although it had started", ack);
    }
}

void BrokerCore::State::handle_ended(const Worker& worker, const Session& session, Report& report,
                                     ReportAck& ack) {
    auto* ended = std::get_if<EndedReport>(&report.body);
    IW_CHECK(ended != nullptr);
    const bool is_lost = ended->cause == EndCause::lost;
    if (session.phase == Phase::queued && !is_lost && !session.progressed().failed_by_itself) {
        return supersede(worker, session, report, "the attempt was taken back before", ack);
    }
    if (session.is_held()) {
        if (is_lost && session.on_lost == OnLost::requeue) {
            const std::string evidence = ended->evidence;
            lose_attempt(session, evidence.empty() ? ended->reason : evidence);
        } else {
            end_attempt(session, *ended);
        }
    }
    if (session.phase == Phase::closing) give_outcome(worker, session, ack);
    // Now, or before, and this is a repeat.
    if (session.phase == Phase::queued) give_return(session, ack);
}

// In the acknowledgement: it saves the owner the way there and back of a push. A runner that is not
// the owner shows it in the files that it still has.
void BrokerCore::State::give_outcome(const Worker& worker, const Session& session, ReportAck& ack) {
    IW_CHECK(session.phase == Phase::closing);
    if (!fits_ack(session)) return;
    if (session.progressed().owner == worker.root()) {
        Presence& presence = presence_.at(worker.registration.name);
        presence.sent[session.ordinal] = presence.beat;
    }
    ack.outcome = outcome_of(session);
}

void BrokerCore::State::give_return(const Session& session, ReportAck& ack) {
    IW_CHECK(session.phase == Phase::queued);
    ack.outcome = Outcome{.session = view_of(session)};
    // No push follows a return: without the view its workspace would go on showing RUNNING. The
    // workspace has the metadata already.
    if (!fits_ack(session)) ack.outcome->session.metadata.clear();
}

bool BrokerCore::State::fits_ack(const Session& session) {
    const std::size_t bytes = session.particular().metadata.size() + kOutcomeBytesFixed;
    if (outcome_bytes_ + bytes > kOutcomeBytesMax) return false;
    outcome_bytes_ += bytes;
    return true;
}

void BrokerCore::State::handle_closed(const Worker& worker, const Session& session, Report& report,
                                      ReportAck& ack) {
    // The fence of the view, or 0 for one that never started.
    const bool is_fence = report.fence == session.fence || report.fence.attempt == 0;
    if (!is_fence || (session.phase != Phase::closing && session.fence.attempt > 0)) {
        return supersede(worker, session, report, "closed although it has not ended", ack);
    }
    if (session.phase != Phase::closing) {
        ack.error =
            make_error(ErrorCode::conflict, "session " + session.id->str() + " has not ended");
        return;
    }
    // The runner is done with its own copy; the files are where they are read when the owner says
    // so.
    const bool is_owner = session.progressed().owner == worker.root();
    if (!is_owner && !IW_PLANT(runner_closes)) return;
    close(*session.id, worker.registration.name.str());
}

void BrokerCore::State::supersede(const Worker& worker, const Session& session, Report& report,
                                  std::string what, ReportAck& ack) {
    ack.error = make_error(
        ErrorCode::stale_fence,
        "attempt " + attempt_name({.session = *session.id, .fence = report.fence}) + ": " + what +
            "; the current one is " + std::to_string(session.fence.attempt));
    const std::vector<ReportSuperseded>& kept = session.progressed().superseded;
    const bool is_kept = std::any_of(kept.begin(), kept.end(), [&](const ReportSuperseded& each) {
        return each.fence == report.fence && each.number == report.number;
    });
    if (is_kept || kept.size() >= kSupersededMax) return;
    ReportSuperseded superseded;
    superseded.id = *session.id;
    superseded.fence = report.fence;
    superseded.number = report.number;
    superseded.worker = worker.registration.name;
    superseded.what = std::string(kind_of(report.body)) + " by worker " +
                      worker.registration.name.str() + ": " + what;
    // What the attempt made of its work is nobody's outcome, but may be all there is of it.
    if (auto* ended = std::get_if<EndedReport>(&report.body)) {
        superseded.cause = name(ended->cause);
        superseded.exit_code = ended->exit_code;
        if (ended->result_inline && ended->result.size() <= limits::kResultInlineMax) {
            superseded.result = std::move(ended->result);
        }
    }
    emit(std::move(superseded));
}

}  // namespace iw::broker
