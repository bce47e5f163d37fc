#include <algorithm>

#include "common/base/check.h"
#include "worker/core/core_state.h"

// What the facts of an attempt ask for next. At most one action with a result is under way for an
// attempt; called after every step, so each branch must know from the facts that its work is done.

namespace iw::worker {

namespace {

// iexec sends KILL after the grace time by itself; a launcher that has not ended this much later
// hangs.
constexpr Duration kLauncherPatience{30'000};
// What a busy machine may need between tmux's start and the launcher's claim.
constexpr Duration kLauncherOnItsWay{5'000};

}  // namespace

void WorkerCore::State::advance(Attempt& attempt) {
    if (attempt.busy) return;
    attempt.wake.reset();
    if (now_.steady < attempt.retry_at) {
        attempt.wake = attempt.retry_at;
        return;
    }
    if (attempt.facts.end) return advance_ended(attempt);
    if (attempt.timeout_wish == attempt.timeout()) attempt.timeout_wish.reset();
    if (attempt.timeout_wish) {
        return start_action(attempt, RecordLimits{attempt.facts.attempt, *attempt.timeout_wish});
    }
    switch (attempt.facts.holder) {
        case StartHolder::nobody:
            return advance_unclaimed(attempt);
        case StartHolder::launcher:
            return advance_claimed(attempt);
        case StartHolder::declined:
            return advance_declined(attempt);
        case StartHolder::stopped:
            return record_end(attempt, EndFact{.cause = EndCause::stopped,
                                               .exit_code = std::nullopt,
                                               .stop_sent = true,
                                               .reason = attempt.facts.holder_reason,
                                               .evidence = "stopped before the agent was started",
                                               .started_at = std::nullopt,
                                               .ended_at = now_.wall});
    }
}

// ---- Before the start --------------------------------------------------------------------------

void WorkerCore::State::advance_unclaimed(Attempt& attempt) {
    IW_CHECK(attempt.unclaimed());
    const AttemptRef& ref = attempt.facts.attempt;
    if (attempt.facts.outcome && !attempt.stop_wish) {
        attempt.stop_wish = StopFact{.cause = Detail::killed, .reason = "the session has ended"};
    }
    if (attempt.stop_wish) {
        return start_action(attempt,
                            TakeClaim{ref, StartHolder::stopped, attempt.stop_wish->reason});
    }
    const bool overdue =
        attempt.launched && now_.steady - attempt.launched_at > config_.claim_patience;
    if (overdue && !attempt.decline)
        attempt.decline = "its tmux session did not start the launcher";
    const bool stale = attempt.dormant && now_.steady - attempt.dormant_since > config_.closed_kept;
    if (stale && !attempt.decline) attempt.decline = "it was never assigned again";
    if (attempt.decline || attempt.agent_fault) {
        const std::string reason = attempt.decline.value_or(attempt.agent_fault.value_or(""));
        return start_action(attempt, TakeClaim{ref, StartHolder::declined, reason});
    }
    if (attempt.dormant) {
        attempt.wake = attempt.dormant_since + config_.closed_kept + Duration{1};
        return;
    }
    if (attempt.launched) {
        if (!check_session(attempt)) {
            attempt.wake = std::min(attempt.next_check,
                                    attempt.launched_at + config_.claim_patience + Duration{1});
        }
        return;
    }
    if (!may_start(now_.steady)) return make_dormant(attempt);
    if (sibling_is_in_the_way(attempt)) {
        attempt.wake = now_.steady + Duration{1'000};
        return;
    }
    IW_CHECK(attempt.facts.assignment.has_value());
    attempt.launched = true;  // also if it fails: tmux may have begun
    start_action(attempt, Launch{*attempt.facts.assignment, view_of(attempt),
                                 link_.fresh_until() + kLauncherOnItsWay});
}

bool WorkerCore::State::check_session(Attempt& attempt) {
    if (now_.steady < attempt.next_check) return false;
    start_action(attempt, CheckSession{attempt.facts.attempt});
    return true;
}

bool WorkerCore::State::sibling_holds_session(const Attempt& attempt) const {
    const SessionId& id = attempt.facts.attempt.session;
    for (auto it = live_.lower_bound(AttemptRef{id, {}}); it != live_.end(); ++it) {
        if (it->first.session != id) return false;
        if (it->first != attempt.facts.attempt && it->second.holds_session()) return true;
    }
    return false;
}

// Both would be called iw-<session>, or the older one has still to write into the workspace that
// another attempt follows; it is over before long.
bool WorkerCore::State::sibling_is_in_the_way(const Attempt& attempt) const {
    if (sibling_holds_session(attempt)) return true;
    const SessionId& id = attempt.facts.attempt.session;
    for (auto it = live_.lower_bound(AttemptRef{id, {}}); it != live_.end(); ++it) {
        if (it->first.session != id) return false;
        if (it->first != attempt.facts.attempt && it->second.returns()) return true;
    }
    return false;
}

bool WorkerCore::State::is_followed(const Attempt& attempt) const {
    const SessionId& id = attempt.facts.attempt.session;
    for (auto it = live_.upper_bound(attempt.facts.attempt); it != live_.end(); ++it) {
        if (it->first.session != id) return false;
        if (it->second.launched || !it->second.unclaimed()) return true;
    }
    return false;
}

void WorkerCore::State::make_dormant(Attempt& attempt) {
    if (!attempt.dormant)
        note(attempt.facts.attempt, "accepted", "dropped",
             "not started; waits to be assigned again");
    attempt.dormant = true;
    attempt.dormant_since = now_.steady;
    attempt.launched = false;
    attempt.absent = 0;
}

void WorkerCore::State::advance_declined(Attempt& attempt) {
    if (attempt.launched && !attempt.session_killed) kill_session(attempt);
    if (attempt.superseded || attempt.facts.outcome) return advance_ended(attempt);
    if (!attempt.agent_fault) return;  // the report says it all
    record_end(attempt, EndFact{.cause = EndCause::start_failed,
                                .exit_code = std::nullopt,
                                .stop_sent = false,
                                .reason = *attempt.agent_fault,
                                .evidence = "",
                                .started_at = std::nullopt,
                                .ended_at = now_.wall});
}

// ---- While it runs -----------------------------------------------------------------------------

void WorkerCore::State::advance_claimed(Attempt& attempt) {
    const AttemptRef& ref = attempt.facts.attempt;
    if (attempt.facts.started_at && !attempt.started_written) {
        return start_action(attempt, WriteStarted{ref, view_of(attempt)});
    }
    if (attempt.other_boot) {
        return record_end(attempt,
                          lost_end(attempt, "the host was restarted since; no process lives on"));
    }
    // The broker has decided about a session whose agent still runs here.
    if (attempt.facts.outcome && !attempt.facts.stop && !attempt.stop_wish) {
        attempt.stop_wish = StopFact{.cause = Detail::killed, .reason = "the session has ended"};
    }
    const bool to_record = attempt.stop_wish && !attempt.facts.stop;
    if (to_record && now_.steady >= attempt.stop_again) {
        return start_action(attempt, RecordStop{ref, *attempt.stop_wish});
    }
    if (attempt.launcher_gone) return advance_tree(attempt);
    if (attempt.stopping()) return advance_stopping(attempt);
    if (note_timeout(attempt)) return start_action(attempt, RecordStop{ref, *attempt.stop_wish});
    advance_running(attempt);
}

std::optional<Timestamp> WorkerCore::State::times_out_at(const Attempt& attempt) const {
    const Duration timeout = attempt.timeout();
    if (timeout <= Duration{0}) return std::nullopt;
    return attempt.started + timeout;
}

bool WorkerCore::State::note_timeout(Attempt& attempt) {
    const std::optional<Timestamp> end = times_out_at(attempt);
    if (!end || now_.steady < *end) return false;
    const auto seconds = [](Duration duration) {
        return std::to_string(duration.count() / 1000) + "s";
    };
    const SessionId& id = attempt.facts.attempt.session;
    const std::string elapsed = seconds(now_.steady - attempt.started);
    attempt.stop_wish = StopFact{.cause = Detail::timeout, .reason = "Timeout (" + elapsed + ")"};
    emit(NoteSession{id, NoteLevel::warn,
                     "Session timeout: " + id.str() + " (" + elapsed + " > " +
                         seconds(attempt.timeout()) + ")"});
    return true;
}

void WorkerCore::State::advance_running(Attempt& attempt) {
    if (!attempt.facts.started_at) {
        if (check_session(attempt)) return;
        attempt.wake = attempt.next_check;
    } else {
        if (now_.steady >= attempt.next_measure) {
            attempt.next_measure = now_.steady + config_.disk_interval;
            emit(MeasureDisk{attempt.facts.attempt});
        }
        attempt.wake = attempt.next_measure;
    }
    if (const auto end = times_out_at(attempt)) attempt.wake = std::min(*attempt.wake, *end);
}

void WorkerCore::State::advance_stopping(Attempt& attempt) {
    IW_CHECK(attempt.stopping() && !attempt.launcher_gone);
    const AttemptRef& ref = attempt.facts.attempt;
    const bool recorded = attempt.facts.stop.has_value();
    if (!attempt.signalled) {
        attempt.signalled = true;
        attempt.kill_launcher_at = now_.steady + config_.stop_grace + kLauncherPatience;
        emit(SignalLauncher{.attempt = ref, .kill = false, .recorded = recorded});
    } else if (now_.steady >= attempt.kill_launcher_at) {
        attempt.kill_launcher_at = now_.steady + kLauncherPatience;
        emit(SignalLauncher{.attempt = ref, .kill = true, .recorded = recorded});
    }
    // Of a launcher that has not said whom it runs, only tmux tells that it is gone.
    if (!attempt.facts.started_at && check_session(attempt)) return;
    attempt.wake = attempt.kill_launcher_at;
    if (!attempt.facts.started_at) attempt.wake = std::min(*attempt.wake, attempt.next_check);
    if (!recorded) attempt.wake = std::min(*attempt.wake, attempt.stop_again);
}

void WorkerCore::State::advance_tree(Attempt& attempt) {
    IW_CHECK(attempt.launcher_gone && !attempt.facts.end);
    const AttemptRef& ref = attempt.facts.attempt;
    if (!attempt.tree_term_sent) {
        attempt.tree_term_sent = true;
        attempt.tree_kill_at = now_.steady + config_.stop_grace;
        return start_action(attempt, SignalTree{ref, TreeSignal::term});
    }
    if (now_.steady < attempt.tree_next) {
        attempt.wake = attempt.tree_next;
        return;
    }
    if (now_.steady < attempt.tree_kill_at)
        return start_action(attempt, SignalTree{ref, TreeSignal::look});
    ++attempt.tree_kills;
    start_action(attempt, SignalTree{ref, TreeSignal::kill});
}

EndFact WorkerCore::State::lost_end(const Attempt& attempt, const std::string& evidence) const {
    const bool stopped = attempt.stopping();
    const std::optional<StopFact>& stop =
        attempt.facts.stop ? attempt.facts.stop : attempt.stop_wish;
    IW_CHECK(!stopped || stop);
    return EndFact{.cause = stopped ? EndCause::stopped : EndCause::lost,
                   .exit_code = std::nullopt,
                   .stop_sent = stopped,
                   .reason = stopped ? stop->reason : "its launcher ended without an exit record",
                   .evidence = evidence,
                   .started_at = attempt.facts.started_at,
                   .ended_at = now_.wall};
}

void WorkerCore::State::record_end(Attempt& attempt, EndFact end) {
    IW_CHECK(!attempt.facts.end);  // the first record stands
    start_action(attempt, RecordEnd{attempt.facts.attempt, std::move(end)});
}

// ---- After its end -----------------------------------------------------------------------------

void WorkerCore::State::advance_ended(Attempt& attempt) {
    IW_CHECK(attempt.facts.end || attempt.facts.holder == StartHolder::declined);
    const AttemptRef& ref = attempt.facts.attempt;
    const AttemptSnapshot& facts = attempt.facts;
    const bool ran = facts.holder == StartHolder::launcher;
    if (ran && facts.started_at && !attempt.started_written && !facts.outcome) {
        return start_action(attempt, WriteStarted{ref, view_of(attempt)});
    }
    if (!attempt.session_killed && (ran || attempt.launched)) {
        const Timestamp patience = attempt.end_seen + config_.log_patience;
        if (ran && !facts.log_done && now_.steady < patience) {
            attempt.wake = patience;
            return;
        }
        kill_session(attempt);
    }
    const bool told = facts.reported >= 2 || facts.holder == StartHolder::declined;
    if (attempt.superseded && told) return close_locally(attempt);
    if (facts.outcome) {
        if (attempt.final_written && attempt.returns()) return close_locally(attempt);
        if (attempt.final_written) return;
        // What a later attempt shows in the workspace is newer than this return.
        if (attempt.returns() && is_followed(attempt)) {
            attempt.final_written = true;
            return close_locally(attempt);
        }
        const bool was_running = facts.started_at || facts.outcome->started_at;
        const SessionStatus before = was_running ? SessionStatus::running : SessionStatus::created;
        return start_action(attempt, WriteFinal{ref, *facts.outcome, before});
    }
    if (attempt.deliverables) return;
    IW_CHECK(facts.end.has_value());
    const AgentName agent = facts.assignment ? facts.assignment->agent : AgentName{};
    start_action(attempt, Judge{ref, agent, *facts.end});
}

void WorkerCore::State::kill_session(Attempt& attempt) {
    IW_CHECK(!attempt.session_killed);
    attempt.session_killed = true;
    // A later attempt has taken the name over, so this one's is gone already.
    if (!sibling_holds_session(attempt)) emit(KillSession{attempt.facts.attempt});
}

void WorkerCore::State::advance_foreign(const AttemptRef& ref, ForeignEnd& end) {
    if (end.written || end.busy || now_.steady < end.retry_at) return;
    end.busy = true;
    const SessionStatus before =
        end.outcome.started_at ? SessionStatus::running : SessionStatus::created;
    emit(WriteFinal{ref, end.outcome, before});
}

void WorkerCore::State::close_locally(Attempt& attempt) {
    IW_CHECK(!attempt.busy);
    const AttemptRef ref = attempt.facts.attempt;
    note(ref, std::string(name(phase_of(attempt))), "closed",
         attempt.superseded ? "superseded" : "");
    // One record, so that no crash leaves an attempt with nothing to say and not closed.
    emit(RecordClosed{ref});
    const Timestamp until = now_.steady + config_.closed_kept;
    closed_[ref] = until;
    forget_.insert({until, ref});
    live_.erase(ref);
}

}  // namespace iw::worker
