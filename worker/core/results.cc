#include <algorithm>

#include "worker/core/core_state.h"

// Results of actions. Each ends the action that was under way for its attempt; what comes next
// follows from the facts (advance.cc).

namespace iw::worker {

namespace {

constexpr Duration kCheckPauseFirst{5'000};
constexpr Duration kCheckPauseLast{30'000};
constexpr Duration kStopPauseFirst{1'000};
constexpr Duration kStopPauseLast{60'000};
constexpr Duration kTreePauseFirst{100};
constexpr Duration kTreePauseLast{2'000};
// A process that outlives this many SIGKILLs is stuck in the kernel; the report says so and goes
// out.
constexpr int kTreeKillsMax = 5;

}  // namespace

void WorkerCore::State::on(AcceptedEvent event) {
    Attempt* attempt = find_idle(event.attempt);
    if (attempt == nullptr) return;
    // Known on disk already is as good as accepted.
    if (!event.error || event.error->code == ErrorCode::conflict) return attempt->succeed();
    attempt->facts.assignment.reset();
    attempt->decline = "the assignment could not be recorded: " + event.error->message;
}

void WorkerCore::State::on(LaunchedEvent event) {
    Attempt* attempt = find_idle(event.attempt);
    if (attempt == nullptr) return;
    switch (event.outcome) {
        case LaunchOutcome::launched:
            attempt->launched = true;
            attempt->launched_at = now_.steady;
            attempt->check_pause = kCheckPauseFirst;
            attempt->next_check = now_.steady + kCheckPauseFirst;
            return;
        case LaunchOutcome::withheld:
            // What comes next follows from the silence that made it so.
            attempt->launched = false;
            return;
        case LaunchOutcome::platform_fault:
            attempt->decline = event.reason;
            return;
        case LaunchOutcome::agent_fault:
            attempt->agent_fault = event.reason;
            return;
    }
}

void WorkerCore::State::on(ClaimedEvent event) {
    Attempt* attempt = find_idle(event.attempt);
    if (attempt == nullptr) return;
    if (event.error) {
        note(event.attempt, "", "", "the start could not be taken: " + event.error->message);
        return attempt->fail(now_.steady);
    }
    attempt->succeed();
    if (event.holder == StartHolder::nobody || !attempt->unclaimed()) return;
    attempt->facts.holder = event.holder;
    attempt->dormant = false;
    if (event.holder == StartHolder::launcher) {
        // The launcher was faster: the attempt runs, and a decline has come too late.
        attempt->decline.reset();
        attempt->agent_fault.reset();
        attempt->launched = true;
        attempt->next_check = now_.steady + kCheckPauseFirst;
        return;
    }
    if (event.holder == StartHolder::declined) {
        attempt->facts.holder_reason = attempt->decline.value_or(attempt->agent_fault.value_or(""));
        note(event.attempt, "accepted", "declined", attempt->facts.holder_reason);
        return;
    }
    if (attempt->stop_wish) attempt->facts.stop = std::exchange(attempt->stop_wish, std::nullopt);
}

void WorkerCore::State::on(StopRecordedEvent event) {
    Attempt* attempt = find_idle(event.attempt);
    if (attempt == nullptr || !attempt->stop_wish) return;
    if (event.error) {
        if (!attempt->stop_unrecorded)
            note(event.attempt, "", "", "the stop could not be recorded: " + event.error->message);
        // A full disk is often the reason for the stop: it is carried out all the same, and written
        // down as soon as there is room.
        attempt->stop_unrecorded = true;
        attempt->stop_pause = next_pause(attempt->stop_pause, kStopPauseFirst, kStopPauseLast);
        attempt->stop_again = now_.steady + attempt->stop_pause;
        return;
    }
    attempt->stop_unrecorded = false;
    note(event.attempt, std::string(name(phase_of(*attempt))), "stopping",
         attempt->stop_wish->reason);
    attempt->facts.stop = std::exchange(attempt->stop_wish, std::nullopt);
}

void WorkerCore::State::on(LimitsRecordedEvent event) {
    Attempt* attempt = find_idle(event.attempt);
    if (attempt == nullptr || !attempt->timeout_wish) return;
    if (event.error) {
        // The heartbeats go on stating the old one, so the broker sends the change again.
        note(event.attempt, "", "", "the timeout could not be recorded: " + event.error->message);
        attempt->timeout_wish.reset();
        return;
    }
    const auto seconds = [](Duration duration) { return std::to_string(duration.count() / 1000); };
    emit(NoteSession{event.attempt.session, NoteLevel::info,
                     "Run timeout of " + event.attempt.session.str() + ": " +
                         seconds(attempt->timeout()) + "s → " + seconds(event.timeout) + "s"});
    attempt->facts.timeout = event.timeout;
    if (*attempt->timeout_wish == event.timeout) attempt->timeout_wish.reset();
    if (link_.up()) link_.heartbeat_soon(now_.steady);
}

void WorkerCore::State::on(SessionCheckedEvent event) {
    Attempt* attempt = find_idle(event.attempt);
    if (attempt == nullptr) return;
    attempt->check_pause = next_pause(attempt->check_pause, kCheckPauseFirst, kCheckPauseLast);
    attempt->next_check = now_.steady + attempt->check_pause;
    if (event.presence == Presence::unknown) return;
    attempt->absent = event.presence == Presence::absent ? attempt->absent + 1 : 0;
    if (attempt->absent == 0) return;
    // One answer may have met a session that is about to appear; two that agree count.
    if (attempt->absent == 1) {
        attempt->next_check = now_.steady + Duration{1'000};
        return;
    }
    if (attempt->unclaimed()) return make_dormant(*attempt);
    attempt->launcher_gone = true;
}

void WorkerCore::State::on(TreeEvent event) {
    Attempt* attempt = find_idle(event.attempt);
    if (attempt == nullptr || attempt->facts.end) return;
    // Not being able to look is never "gone": whoever was not seen has not been killed in vain.
    if (!event.whole) attempt->tree_kills = 0;
    const bool gone = event.whole && event.left == 0;
    if (gone || attempt->tree_kills >= kTreeKillsMax) {
        const std::string left =
            event.left == 0 ? "" : std::to_string(event.left) + " processes could not be ended; ";
        return record_end(*attempt, lost_end(*attempt, left + event.evidence));
    }
    attempt->tree_pause = next_pause(attempt->tree_pause, kTreePauseFirst, kTreePauseLast);
    attempt->tree_next = now_.steady + attempt->tree_pause;
}

void WorkerCore::State::on(WrittenEvent event) {
    const auto foreign = foreign_.find(event.attempt);
    if (foreign != foreign_.end() && event.file == WrittenFile::final_files &&
        !live_.contains(event.attempt)) {
        ForeignEnd& end = foreign->second;
        end.busy = false;
        end.written = !event.error;
        end.retry_pause = next_pause(end.retry_pause, Duration{1'000}, Duration{60'000});
        end.retry_at = now_.steady + end.retry_pause;
        return;
    }
    Attempt* attempt = find_idle(event.attempt);
    if (attempt == nullptr) return;
    if (event.error) note(event.attempt, "", "", "writing failed: " + event.error->message);
    switch (event.file) {
        case WrittenFile::started:
            // What people see in the workspace must not hold up what the broker has to know.
            attempt->started_written = true;
            return;
        case WrittenFile::end:
            break;
        case WrittenFile::outcome:
            // Without the record the end is reported again, and answered by the same outcome.
            if (event.error) attempt->facts.outcome.reset();
            break;
        case WrittenFile::final_files:
            attempt->final_written = !event.error;
            break;
    }
    if (event.error) return attempt->fail(now_.steady);
    attempt->succeed();
}

void WorkerCore::State::on(JudgedEvent event) {
    if (Attempt* attempt = find_idle(event.attempt))
        attempt->deliverables = std::move(event.deliverables);
}

void WorkerCore::State::on(DiskEvent event) {
    Attempt* attempt = find(event.attempt);
    if (attempt != nullptr && !attempt->facts.end) note_disk(*attempt, event.bytes);
}

void WorkerCore::State::note_disk(Attempt& attempt, std::uint64_t bytes) {
    const SessionId& id = attempt.facts.attempt.session;
    std::uint64_t limit = config_.disk_limit;
    if (attempt.facts.assignment && attempt.facts.assignment->disk_limit) {
        limit = *attempt.facts.assignment->disk_limit;
    }
    const std::string megabytes = std::to_string(bytes / 1'000'000) + " MB";
    if (bytes > limit && !attempt.facts.stop && !attempt.stop_wish) {
        const std::string over = megabytes + " > " + std::to_string(limit / 1'000'000) + " MB";
        attempt.stop_wish =
            StopFact{.cause = Detail::disk_limit, .reason = "Disk limit (" + over + ")"};
        emit(NoteSession{id, NoteLevel::warn,
                         "Session disk limit: " + id.str() + " (" + over + ")"});
        return;
    }
    if (bytes > config_.disk_warning && !attempt.disk_warned) {
        attempt.disk_warned = true;
        emit(NoteSession{id, NoteLevel::warn,
                         "Session disk usage: " + id.str() + " (" + megabytes + ")"});
    }
}

}  // namespace iw::worker
