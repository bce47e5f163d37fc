#include <algorithm>

#include "common/base/check.h"
#include "common/base/text.h"
#include "worker/core/core_state.h"

// What the broker says, and what is said to it.

namespace iw::worker {

namespace {

// A report message stays well under limits::kMessageMax: the results in it and this much for all
// the rest.
constexpr std::size_t kReportBytesMax = 3u << 20;
constexpr std::size_t kReportOverhead = 8u << 10;

std::size_t size_of(const Report& report) {
    const auto* ended = std::get_if<EndedReport>(&report.body);
    return kReportOverhead + (ended != nullptr ? ended->result.size() + ended->evidence.size() : 0);
}

}  // namespace

// ---- Link --------------------------------------------------------------------------------------

bool WorkerCore::State::hear() {
    // The silence is measured before this message counts: one that waited in the buffer of a frozen
    // worker says nothing about now, and the broker may have given the session away since.
    if (link_.heard(now_.steady)) return true;
    lose_link("the broker was not heard in time");
    return false;
}

void WorkerCore::State::lose_link(const std::string& why) {
    link_.lost(now_.steady);
    emit(Reconnect{});
    emit(Transition{.subject = "link", .from = "up", .to = "down", .why = why});
    for (auto& [ref, attempt] : live_) {
        if (attempt.unclaimed() && !attempt.launched && !attempt.busy) make_dormant(attempt);
    }
}

void WorkerCore::State::tick_link() {
    switch (link_.due(now_.steady)) {
        case Link::Step::nothing:
            return;
        case Link::Step::hello:
            send_hello();
            return;
        case Link::Step::heartbeat:
            send_heartbeat();
            return;
        case Link::Step::give_up_greeting:
            link_.greeting_given_up(now_.steady);
            emit(Reconnect{});
            return;
        case Link::Step::lost:
            lose_link("the broker is silent");
            send_hello();
            return;
    }
}

void WorkerCore::State::send_hello() {
    link_.hello_sent(now_.steady);
    offer_sent_ = offer_;
    emit(SendHello{WorkerHello{.name = config_.name,
                               .host = config_.host,
                               .root = config_.root,
                               .project = config_.project,
                               .state_id = config_.state_id,
                               .start_count = config_.start_count,
                               .boot_id = config_.boot_id,
                               .slots = config_.slots,
                               .agents = config_.agents,
                               .labels = config_.labels,
                               .inventory = inventory(),
                               .seen = seen_}});
}

void WorkerCore::State::send_heartbeat() {
    link_.heartbeat_sent(now_.steady);
    HeartbeatRequest heartbeat{
        .attempts = inventory(), .agents = {}, .slots = {}, .closed = {}, .closed_all = false};
    // Repeated until an answer shows that it arrived.
    if (offer_known_ != offer_) {
        heartbeat.agents = config_.agents;
        heartbeat.slots = config_.slots;
    }
    offer_sent_ = offer_;
    list_closed(heartbeat);
    emit(SendHeartbeat{std::move(heartbeat)});
}

void WorkerCore::State::on(WelcomeEvent event) {
    if (!link_.welcomed(now_.steady, now_.wall, event.welcome)) {
        hear();
        return;
    }
    offer_known_ = offer_sent_;
    refused_.clear();
    writable_again();
    restored_ = event.welcome.restored;
    closed_all_ = false;
    closed_next_.reset();
    closed_sent_.reset();
    // Another epoch counts anew.
    const SeenHead head{.epoch = event.welcome.epoch, .seq = event.welcome.seq};
    next_seen_.reset();
    if (seen_ && seen_->epoch != head.epoch) next_seen_ = head;
    if (!seen_) {
        seen_ = head;
        record_seen();
    }
    see(head.seq);
    emit(Transition{.subject = "link",
                    .from = "down",
                    .to = "up",
                    .why = "welcomed, epoch " + event.welcome.epoch});
}

void WorkerCore::State::on(RefusedEvent event) {
    link_.refused(now_.steady);
    if (refused_ == event.error.message) return;
    refused_ = event.error.message;
    emit(Transition{.subject = "link", .from = "greeting", .to = "refused", .why = refused_});
}

// Nothing is lost by it: what runs goes on, what has ended stays in its folder and is reported
// once the broker takes reports again.
void WorkerCore::State::on(ReadOnlyEvent event) {
    if (!hear()) return;
    if (read_only_.empty()) {
        emit(Transition{.subject = "link", .from = "up", .to = "read-only", .why = event.reason});
    }
    read_only_ = event.reason.empty() ? "the broker is read-only" : event.reason;
}

void WorkerCore::State::writable_again() {
    if (read_only_.empty()) return;
    read_only_.clear();
    emit(Transition{.subject = "link", .from = "read-only", .to = "up", .why = ""});
    for (auto& [ref, attempt] : live_) {
        for (SendState& sent : attempt.sent)
            sent.repeat_now();
    }
    for (auto& [ref, end] : foreign_)
        end.sent.repeat_now();
}

// ---- What the broker had, and what it may have lost --------------------------------------------

void WorkerCore::State::see(Seq seq) {
    if (next_seen_) {
        next_seen_->seq = std::max(next_seen_->seq, seq);
        return;
    }
    IW_CHECK(seen_.has_value());
    seen_->seq = std::max(seen_->seq, seq);
    if (now_.steady - seen_recorded_at_ >= config_.seen_interval) record_seen();
}

// What a worker has closed is asked for by the epoch that its hello names. So it stays with the old
// one, over restarts of either side, until the new one has it all.
void WorkerCore::State::enter_epoch() {
    if (!next_seen_) return;
    IW_CHECK(seen_.has_value() && seen_->epoch != next_seen_->epoch);
    seen_ = std::exchange(next_seen_, std::nullopt);
    record_seen();
}

void WorkerCore::State::record_seen() {
    if (!seen_) return;
    const bool same = seen_recorded_ && seen_recorded_->epoch == seen_->epoch &&
                      seen_recorded_->seq == seen_->seq;
    if (same) return;
    seen_recorded_ = seen_;
    seen_recorded_at_ = now_.steady;
    emit(RecordSeen{*seen_});
}

void WorkerCore::State::list_closed(HeartbeatRequest& heartbeat) {
    if (!restored_) return;
    auto next = closed_next_ ? closed_.upper_bound(*closed_next_) : closed_.begin();
    closed_sent_ = closed_next_.value_or(AttemptRef{});
    while (next != closed_.end() && heartbeat.closed.size() < limits::kInventoryMax) {
        const AttemptRef& ref = next->first;
        heartbeat.closed.push_back({.session = ref.session,
                                    .fence = ref.fence,
                                    .phase = AttemptPhase::closed,
                                    .timeout = std::nullopt});
        closed_sent_ = ref;
        ++next;
    }
    closed_sent_end_ = next == closed_.end();
    heartbeat.closed_all = closed_all_ || closed_sent_end_;
}

void WorkerCore::State::closed_listed() {
    if (!restored_ || !closed_sent_) return;
    closed_next_ = closed_sent_end_ ? std::nullopt : closed_sent_;
    closed_sent_.reset();
    closed_all_ = closed_all_ || closed_sent_end_;
    // The broker holds everything until it has heard them all: the next page at once.
    if (!closed_all_) link_.heartbeat_soon(now_.steady);
}

// ---- Answers of the link -----------------------------------------------------------------------

void WorkerCore::State::on(NoSessionEvent) {
    link_.no_session(now_.steady);
}

void WorkerCore::State::on(NotSentEvent) {
    if (link_.not_sent(now_.steady)) emit(Reconnect{});
}

void WorkerCore::State::on(HeardEvent) {
    hear();
}

void WorkerCore::State::on(HeartbeatAnsweredEvent event) {
    if (!hear()) return;
    if (to_ms(event.reply.time) > 0) link_.clock(now_.steady, event.reply.time);
    offer_known_ = offer_sent_;
    writable_again();
    closed_listed();
    if (event.reply.restored && !restored_) closed_all_ = false;
    restored_ = event.reply.restored;
    if (link_.up()) see(event.reply.seq);
    if (!restored_) enter_epoch();
    for (const StopOrder& order : event.reply.stops)
        wish_stop(order);
    for (const LimitChange& change : event.reply.limits)
        change_limit(change);
}

// ---- Assignments, stops, closes ----------------------------------------------------------------

void WorkerCore::State::on(AssignEvent event) {
    // Without a welcome of its own an assignment is from before; the broker sends it again.
    if (!hear() || !may_start(now_.steady)) return;
    // On record before anything is done that a broker with less would know nothing of.
    record_seen();
    for (Assignment& assignment : event.assignments)
        assign(std::move(assignment));
}

void WorkerCore::State::assign(Assignment assignment) {
    const AttemptRef ref{assignment.session, assignment.fence};
    if (ref.fence.attempt == 0 || reopening_.contains(ref)) return;
    if (closed_.contains(ref)) return reopen(ref);
    if (Attempt* known = find(ref)) {
        // Started at most once: a known attempt is answered with its state. Only one that was never
        // launched is taken up again.
        for (SendState& sent : known->sent)
            sent.repeat_now();
        known->dormant = false;
        // Whoever assigns what runs has no record of its start.
        const AttemptSnapshot& facts = known->facts;
        if (facts.reported == 1 && facts.started_at && !facts.end) known->facts.reported = 0;
        if (known->facts.assignment || known->busy) return;
    }
    Attempt& attempt = live_[ref];
    attempt.facts.attempt = ref;
    if (attempt.decline || attempt.stop_wish || !attempt.unclaimed()) return;
    // Whoever gives new work has heard all, and could lose the record of it.
    enter_epoch();
    attempt.facts.assignment = assignment;
    attempt.facts.assignment->prompt.clear();
    note(ref, "", "accepted", "");
    start_action(attempt, AcceptAssignment{std::move(assignment)});
}

// Whoever asks for a closed attempt has lost its end: it is reported once more.
void WorkerCore::State::reopen(const AttemptRef& ref) {
    IW_CHECK(!live_.contains(ref));
    forget_.erase({closed_.at(ref), ref});
    closed_.erase(ref);
    reopening_.insert(ref);
    emit(ReopenAttempt{ref});
}

void WorkerCore::State::on(LimitsEvent event) {
    if (!hear()) return;
    for (const LimitChange& change : event.limits)
        change_limit(change);
}

// Of another attempt than the one that is meant nothing changes; the broker repeats what heartbeats
// do not confirm.
void WorkerCore::State::change_limit(const LimitChange& change) {
    Attempt* attempt = find(AttemptRef{change.session, change.fence});
    if (attempt == nullptr || !attempt->facts.assignment || change.timeout < Duration{0}) return;
    const AttemptPhase phase = phase_of(*attempt);
    if (phase != AttemptPhase::accepted && phase != AttemptPhase::running) return;
    attempt->timeout_wish.reset();
    if (attempt->timeout() != change.timeout || attempt->busy)
        attempt->timeout_wish = change.timeout;
}

void WorkerCore::State::on(StopEvent event) {
    if (!hear()) return;
    for (const StopOrder& order : event.stops)
        wish_stop(order);
}

void WorkerCore::State::wish_stop(const StopOrder& order) {
    const AttemptRef ref{order.session, order.fence};
    if (ref.fence.attempt == 0 || reopening_.contains(ref)) return;
    if (closed_.contains(ref)) return reopen(ref);
    // An unknown attempt too: its assignment may still be under way, and must find the start taken.
    Attempt& attempt = live_[ref];
    attempt.facts.attempt = ref;
    if (attempt.facts.end || attempt.facts.outcome || attempt.facts.holder == StartHolder::declined)
        return;
    if (attempt.facts.stop || attempt.stop_wish) return;
    attempt.stop_wish = StopFact{.cause = order.cause, .reason = order.reason};
}

void WorkerCore::State::on(CloseEvent event) {
    if (!hear()) return;
    for (Outcome& outcome : event.outcomes)
        close(std::move(outcome));
}

void WorkerCore::State::close(Outcome outcome) {
    const AttemptRef ref{outcome.session.id, {outcome.session.generation, outcome.session.attempt}};
    Attempt* attempt = find(ref);
    if (attempt == nullptr) {
        ForeignEnd& end = foreign_[ref];
        if (end.outcome.id.empty()) end.outcome = std::move(outcome.session);
        end.sent.repeat_now();
        return;
    }
    attempt->sent[2].repeat_now();
    if (attempt->facts.outcome || attempt->busy) return;
    start_action(*attempt, RecordOutcome{ref, outcome.session});
    attempt->facts.outcome = std::move(outcome.session);
}

// ---- Reports -----------------------------------------------------------------------------------

Report WorkerCore::State::make_report(const Attempt& attempt, std::uint32_t number) const {
    IW_CHECK(report_due(attempt, number));
    const AttemptRef& ref = attempt.facts.attempt;
    Report report{
        .session = ref.session, .fence = ref.fence, .number = number, .body = ClosedReport{}};
    if (number == 2) report.body = ended_report(attempt, clock_offset(), workspace_of(attempt));
    if (number == 1 && attempt.facts.started_at) {
        report.body = StartedReport{.started_at = *attempt.facts.started_at + clock_offset(),
                                    .workspace = workspace_of(attempt)};
    } else if (number == 1) {
        report.body =
            DeclinedReport{.cause = Detail::start_failed,
                           .platform_fault = true,
                           .reason = short_line(attempt.facts.holder_reason, limits::kReasonMax)};
    }
    return report;
}

void WorkerCore::State::send_reports() {
    if (!link_.up() || !read_only_.empty()) return;
    SendReports batch;
    std::size_t bytes = 0;
    const auto add = [&](Report report, bool alone) {
        if (alone) return emit(SendReports{{std::move(report)}});
        const std::size_t size = size_of(report);
        const bool full =
            batch.reports.size() == limits::kReportBatchMax || bytes + size > kReportBytesMax;
        if (full && !batch.reports.empty()) {
            emit(std::exchange(batch, {}));
            bytes = 0;
        }
        bytes += size;
        batch.reports.push_back(std::move(report));
    };
    for (auto& [ref, attempt] : live_) {
        for (std::uint32_t number = 1; number <= 3; ++number) {
            SendState& sent = attempt.sent[number - 1];
            if (!report_due(attempt, number) || !sent.due(link_.serial(), now_.steady)) continue;
            add(make_report(attempt, number), sent.alone);
            sent.sent(link_.serial(), now_.steady);
        }
    }
    for (auto& [ref, end] : foreign_) {
        if (!end.written || !end.sent.due(link_.serial(), now_.steady)) continue;
        add(Report{.session = ref.session, .fence = ref.fence, .number = 3, .body = ClosedReport{}},
            end.sent.alone);
        end.sent.sent(link_.serial(), now_.steady);
    }
    if (!batch.reports.empty()) emit(std::move(batch));
}

void WorkerCore::State::on(AcksEvent event) {
    if (!hear()) return;
    for (ReportAck& ack : event.acks)
        take_ack(std::move(ack));
}

void WorkerCore::State::on(ReportsRefusedEvent event) {
    if (!hear()) return;
    const bool alone = event.reports.size() == 1;
    for (const ReportRef& report : event.reports) {
        IW_CHECK(report.number >= 1 && report.number <= 3);
        SendState* sent = nullptr;
        if (Attempt* attempt = find(report.attempt)) {
            sent = &attempt->sent[report.number - 1];
        } else if (const auto found = foreign_.find(report.attempt); found != foreign_.end()) {
            sent = &found->second.sent;
        }
        if (sent == nullptr || !sent->refuse(alone, now_.steady)) continue;
        note(report.attempt, "report " + std::to_string(report.number),
             std::string(name(event.error.code)), event.error.message);
    }
}

void WorkerCore::State::take_ack(ReportAck ack) {
    const AttemptRef ref{ack.session, ack.fence};
    Attempt* attempt = find(ref);
    if (attempt == nullptr) {
        // Whatever the answer is: the files are written, and a broker that wants more asks again.
        if (ack.number == 3) foreign_.erase(ref);
        return;
    }
    if (ack.error) return take_bad_ack(*attempt, ack);
    if (!report_due(*attempt, ack.number)) return;
    attempt->superseded = false;  // a restored broker may take back what it had adopted
    if (ack.number == 2 && ack.outcome) {
        if (attempt->busy) return;  // repeated later
        SessionView& outcome = ack.outcome->session;
        // A return comes without, where many share an acknowledgement.
        if (outcome.metadata.empty() && attempt->facts.assignment)
            outcome.metadata = attempt->facts.assignment->metadata;
        start_action(*attempt, RecordOutcome{ref, outcome});
        attempt->facts.outcome = std::move(outcome);
        return;
    }
    attempt->facts.reported = ack.number;
    const bool goes_on = ack.number == 1 && attempt->facts.started_at;
    if (goes_on) {
        emit(RecordReported{ref, ack.number});
        return;
    }
    // Declined, closed, or ended and put back into the queue: nothing is left to be said.
    close_locally(*attempt);
}

void WorkerCore::State::take_bad_ack(Attempt& attempt, const ReportAck& ack) {
    const bool final_word = ack.error->code == ErrorCode::stale_fence ||
                            ack.error->code == ErrorCode::gone ||
                            (ack.error->code == ErrorCode::conflict && attempt.facts.end) ||
                            (ack.error->code == ErrorCode::not_found && attempt.superseded);
    note(attempt.facts.attempt, "report " + std::to_string(ack.number),
         std::string(name(ack.error->code)), ack.error->message);
    // Anything else may be answered otherwise later; the report stays due.
    if (!final_word || !report_due(attempt, ack.number)) return;
    attempt.facts.reported = ack.number;
    supersede(attempt, ack.error->message);
}

// What still runs of it is stopped. Its files stay where they are: in the workspace until a later
// attempt starts in it, which moves them to attempts/<n>/ like those of any earlier one.
void WorkerCore::State::supersede(Attempt& attempt, const std::string& why) {
    if (!attempt.superseded) {
        const AttemptRef& ref = attempt.facts.attempt;
        emit(NoteSession{ref.session, NoteLevel::warn,
                         "Attempt " + std::to_string(ref.fence.attempt) + " of " +
                             ref.session.str() + " is superseded (" + why + "); its files stay"});
    }
    attempt.superseded = true;
    const bool may_run = attempt.facts.holder == StartHolder::launcher && !attempt.facts.end;
    if (may_run && !attempt.facts.stop && !attempt.stop_wish) {
        attempt.stop_wish =
            StopFact{.cause = Detail::killed, .reason = "another attempt took over"};
    }
}

}  // namespace iw::worker
