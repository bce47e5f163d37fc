#include "worker/core/attempt.h"

#include <algorithm>

#include "common/base/check.h"
#include "common/base/limits.h"
#include "common/base/text.h"

namespace iw::worker {

namespace {

constexpr Duration kRepeatFirst{10'000};
constexpr Duration kRepeatLast{60'000};
constexpr Duration kRefusedPause{600'000};
constexpr Duration kRetryFirst{1'000};
constexpr Duration kRetryLast{60'000};

}  // namespace

Duration next_pause(Duration pause, Duration first, Duration last) {
    IW_CHECK(first > Duration{0} && first <= last);
    return pause < first ? first : std::min(pause * 2, last);
}

void SendState::sent(std::uint64_t current_link, Timestamp now) {
    IW_CHECK(current_link > 0);  // nothing is sent before a welcome
    // Over a new connection the first repeat comes early again.
    pause = next_pause(link == current_link ? pause : Duration{0}, kRepeatFirst, kRepeatLast);
    link = current_link;
    next_at = now + pause;
}

bool SendState::refuse(bool was_alone, Timestamp now) {
    alone = true;
    repeat_now();
    if (was_alone) refused_until = now + kRefusedPause;
    return was_alone;
}

bool Attempt::holds_session() const {
    return !session_killed && (launched || facts.holder == StartHolder::launcher);
}

Duration Attempt::timeout() const {
    if (facts.timeout) return *facts.timeout;
    return facts.assignment ? facts.assignment->timeout : limits::kRunTimeoutDefault;
}

void Attempt::fail(Timestamp now) {
    retry_pause = next_pause(retry_pause, kRetryFirst, kRetryLast);
    retry_at = now + retry_pause;
}

void Attempt::succeed() {
    retry_pause = Duration{0};
    retry_at = Timestamp{};
}

AttemptPhase phase_of(const Attempt& attempt) {
    const AttemptSnapshot& facts = attempt.facts;
    if (facts.closed_at) return AttemptPhase::closed;
    if (facts.outcome) return AttemptPhase::closing;
    if (facts.end || facts.holder == StartHolder::stopped) return AttemptPhase::ended;
    if (facts.holder == StartHolder::declined) {
        return attempt.agent_fault ? AttemptPhase::ended : AttemptPhase::declined;
    }
    return facts.started_at ? AttemptPhase::running : AttemptPhase::accepted;
}

bool report_due(const Attempt& attempt, std::uint32_t number) {
    IW_CHECK(number >= 1 && number <= 3);
    const AttemptSnapshot& facts = attempt.facts;
    if (facts.reported >= number) return false;
    // Of a superseded attempt its end is still told, for the record; of a returned one no more.
    if (number == 3) {
        return !attempt.superseded && !attempt.returns() && facts.outcome && attempt.final_written;
    }
    if (facts.outcome) return false;
    if (number == 2) return facts.end && attempt.deliverables;
    if (facts.started_at) return attempt.started_written;
    return facts.holder == StartHolder::declined && !facts.end && !attempt.agent_fault;
}

EndedReport ended_report(const Attempt& attempt, Duration clock_offset,
                         const std::string& workspace) {
    IW_CHECK(attempt.facts.end.has_value());
    const EndFact& end = *attempt.facts.end;
    EndedReport report;
    report.cause = end.cause;
    report.reason = end.reason;
    report.exit_code = end.exit_code;
    // Which came first decides: a stop that was sent before the end makes it a stop, whatever the
    // exit code.
    const std::optional<StopFact>& known =
        attempt.facts.stop ? attempt.facts.stop : attempt.stop_wish;
    if (end.stop_sent && known) {
        const StopFact& stop = *known;
        const bool disk = stop.cause == Detail::disk_limit;
        report.cause = disk ? EndCause::disk_limit : EndCause::stopped;
        report.stop_cause = disk ? Detail::killed : stop.cause;
        report.reason = stop.reason;
    }
    const std::optional<WallTime> started =
        end.started_at ? end.started_at : attempt.facts.started_at;
    if (started) report.started_at = *started + clock_offset;
    report.ended_at = end.ended_at + clock_offset;
    report.workspace = workspace;
    report.evidence = end.evidence;
    if (attempt.deliverables) {
        const Deliverables& deliverables = *attempt.deliverables;
        report.success = report.cause == EndCause::exited && deliverables.success;
        if (report.reason.empty() && !report.success) report.reason = deliverables.reason;
        const bool by_itself = report.cause == EndCause::exited || report.cause == EndCause::signal;
        if (deliverables.fault && by_itself) {
            report.cause = *deliverables.fault;
            report.success = false;
            report.reason = deliverables.reason;
        }
        report.deliverables = deliverables.delivered;
        report.result_status = deliverables.result_status;
        report.result_size = deliverables.result_size;
        report.result_sha256 = deliverables.result_sha256;
        report.result_inline = deliverables.result_inline;
        report.result = deliverables.result;
    }
    // A report that breaks the form of the wire would be refused for ever.
    for (std::string* text : {&report.reason, &report.evidence, &report.result_status})
        *text = short_line(*text, limits::kReasonMax);
    return report;
}

}  // namespace iw::worker
