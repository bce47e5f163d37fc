#include <signal.h>

#include <utility>

#include "common/base/version.h"
#include "common/io/logging.h"
#include "common/io/system_clock.h"
#include "worker/attempt_facts.h"
#include "worker/process_tree.h"
#include "worker/worker_server.h"

// How each action of the core is performed.

namespace iw::worker {
namespace {

std::optional<Error> error_of(const Status& status) {
    if (status) return std::nullopt;
    return status.error();
}

// Failures here repeat work after a restart and lose nothing.
void log_failure(const Status& status, const AttemptRef& attempt) {
    if (status) return;
    io::log(io::LogLevel::warn, "not recorded",
            {{"attempt", attempt_name(attempt)}, {"error", status.error().message}});
}

}  // namespace

// ---- To the broker -----------------------------------------------------------------------------

void WorkerServer::send(Request request) {
    if (!link_.send(std::move(request))) result(NotSentEvent{});
}

void WorkerServer::act(SendHello& action) {
    HelloRequest hello;
    hello.role = "worker";
    hello.software = "native-orchestrator/" + std::string(kVersion);
    hello.worker = std::move(action.hello);
    send(std::move(hello));
}

void WorkerServer::act(Reconnect&) {
    const Status opened = link_.reconnect();
    if (!opened)
        io::log(io::LogLevel::error, "cannot connect", {{"error", opened.error().message}});
}

void WorkerServer::act(SendHeartbeat& action) {
    send(std::move(action.heartbeat));
}
void WorkerServer::act(SendReports& action) {
    send(ReportRequest{std::move(action.reports)});
}
void WorkerServer::act(SendGoodbye&) {
    send(GoodbyeRequest{.returning = true});
}

void WorkerServer::act(RecordSeen& action) {
    const Status saved = save_seen(options_.state_dir, action.seen);
    if (saved) return;
    io::log(io::LogLevel::warn, "not recorded", {{"error", saved.error().message}});
}

// ---- Attempt folder ----------------------------------------------------------------------------

void WorkerServer::act(AcceptAssignment& action) {
    const AttemptRef attempt{action.assignment.session, action.assignment.fence};
    const Status accepted = parts_.store.accept(action.assignment);
    if (io::exists(parts_.store.folder(attempt))) watch_attempt(attempt);
    result(AcceptedEvent{attempt, error_of(accepted)});
}

void WorkerServer::act(TakeClaim& action) {
    const AttemptRef& attempt = action.attempt;
    const bool declined = action.holder == StartHolder::declined;
    const Status taken =
        parts_.store.claim(attempt, declined ? Claim::declined : Claim::stopped, action.reason);
    if (taken) return result(ClaimedEvent{attempt, action.holder, std::nullopt});
    if (taken.error().code != ErrorCode::conflict) {
        return result(ClaimedEvent{attempt, StartHolder::nobody, taken.error()});
    }
    if (parts_.store.is_start_garbled(attempt)) {
        // Whoever took it can never be asked: what may run of it is ended, and it is lost.
        io::log(io::LogLevel::error, "the start record cannot be read; the attempt is given up",
                {{"attempt", attempt_name(attempt)}});
        result(ClaimedEvent{attempt, StartHolder::launcher, std::nullopt});
        return result(LauncherGoneEvent{attempt});
    }
    const Result<AttemptFacts> facts = parts_.store.examine(attempt);
    if (!facts) return result(ClaimedEvent{attempt, StartHolder::nobody, facts.error()});
    const AttemptSnapshot snapshot = snapshot_of(*facts, parts_.store.folder(attempt), boot_id_);
    result(ClaimedEvent{attempt, snapshot.holder, std::nullopt});
    result(SeenEvent{snapshot});
}

void WorkerServer::act(RecordStop& action) {
    const Status wrote =
        parts_.store.write_stop(action.attempt, stop_record_of(action.stop, io::wall_now()));
    result(StopRecordedEvent{action.attempt, error_of(wrote)});
}

void WorkerServer::act(RecordLimits& action) {
    const Status wrote = parts_.store.write_limits(action.attempt, action.timeout);
    result(LimitsRecordedEvent{action.attempt, action.timeout, error_of(wrote)});
}

void WorkerServer::act(RecordEnd& action) {
    const Status wrote = parts_.store.write_exit(action.attempt, exit_record_of(action.end));
    if (!wrote && wrote.error().code != ErrorCode::conflict) {
        return result(WrittenEvent{action.attempt, WrittenFile::end, wrote.error()});
    }
    const Result<AttemptFacts> facts = parts_.store.examine(action.attempt);
    if (!facts) return result(WrittenEvent{action.attempt, WrittenFile::end, facts.error()});
    AttemptSnapshot snapshot = snapshot_of(*facts, parts_.store.folder(action.attempt), boot_id_);
    // A record that stands and cannot be read says nothing: then the end is as this worker has it.
    if (!snapshot.end) snapshot.end = action.end;
    result(SeenEvent{std::move(snapshot)});
}

void WorkerServer::act(RecordOutcome& action) {
    const Status wrote = parts_.store.write_outcome(action.attempt, action.outcome);
    result(WrittenEvent{action.attempt, WrittenFile::outcome, error_of(wrote)});
}

void WorkerServer::act(RecordReported& action) {
    log_failure(parts_.store.write_reported(action.attempt, action.number), action.attempt);
}

void WorkerServer::act(RecordClosed& action) {
    log_failure(parts_.store.write_closed(action.attempt), action.attempt);
    unwatch_attempt(action.attempt);
    sockets_.close(action.attempt);
    keeper_.leave(action.attempt);
}

void WorkerServer::act(ForgetAttempt& action) {
    runner_.remove_away(action.attempt);
    log_failure(parts_.store.remove(action.attempt), action.attempt);
}

void WorkerServer::act(ReopenAttempt& action) {
    const Result<AttemptFacts> facts = parts_.store.examine(action.attempt);
    if (!facts || !facts->error.empty()) return reopen_broken(action.attempt, facts);
    AttemptSnapshot snapshot = snapshot_of(*facts, parts_.store.folder(action.attempt), boot_id_);
    snapshot.closed_at.reset();
    // Who asks has lost the end, and decides about it anew. Its start was reported long ago.
    snapshot.outcome.reset();
    snapshot.reported = snapshot.started_at ? 1 : 0;
    result(RestoredEvent{std::move(snapshot), LauncherState::not_asked});
}

// Part of it, or all, cannot be read any more. It did run to its end, so it is never started again;
// that its end is lost is what there is to report.
void WorkerServer::reopen_broken(const AttemptRef& attempt, const Result<AttemptFacts>& facts) {
    const std::string why = facts ? facts->error : facts.error().message;
    io::log(io::LogLevel::error, "the end of an attempt cannot be told any more",
            {{"attempt", attempt_name(attempt)}, {"error", why}});
    if (!facts) static_cast<void>(parts_.store.claim(attempt, Claim::stopped, why));
    AttemptSnapshot snapshot;
    if (facts) snapshot = snapshot_of(*facts, parts_.store.folder(attempt), boot_id_);
    snapshot.attempt = attempt;
    snapshot.holder = StartHolder::launcher;
    snapshot.closed_at.reset();
    snapshot.outcome.reset();
    snapshot.reported = 1;
    result(RestoredEvent{std::move(snapshot), LauncherState::gone});
}

// ---- Processes ---------------------------------------------------------------------------------

void WorkerServer::act(Launch& action) {
    result(runner_.launch(action));
    watch_tmux();
}

void WorkerServer::act(CheckSession& action) {
    result(runner_.check(action.attempt));
}

void WorkerServer::act(KillSession& action) {
    log_failure(parts_.tmux.kill_session(action.attempt.session), action.attempt);
    sockets_.close(action.attempt);
}

void WorkerServer::act(SignalLauncher& action) {
    // While the disk is full there may be no record of the launcher either.
    const std::vector<io::ProcessId> launchers = find_launchers(
        action.attempt, options_.state_dir, parts_.store.read_process(action.attempt));
    int number = action.recorded ? SIGTERM : kStopSignal;
    if (action.kill) number = SIGKILL;
    for (const io::ProcessId& launcher : launchers) {
        // Only the one that hangs: its guard takes over.
        if (io::send_signal(launcher, number) && action.kill) return;
    }
    // Its end may have been missed.
    if (launchers.empty()) look_at(action.attempt);
}

void WorkerServer::act(SignalTree& action) {
    const TreeLook look = find_tree(action.attempt, project_.workspace(action.attempt.session),
                                    parts_.store.read_process(action.attempt));
    if (action.signal != TreeSignal::look) {
        const int number = action.signal == TreeSignal::kill ? SIGKILL : SIGTERM;
        for (const io::ProcessId& process : look.processes)
            io::send_signal(process, number);
    }
    result(TreeEvent{action.attempt, look.processes.size(), look.evidence, look.whole});
}

void WorkerServer::act(MeasureDisk& action) {
    result(runner_.measure(action.attempt));
    // What was missed while nothing could be read is found now, for as long as nobody would say it
    // again.
    look_at(action.attempt);
}

// ---- Workspace ---------------------------------------------------------------------------------

void WorkerServer::act(WriteStarted& action) {
    result(runner_.write_started(action, broker_now()));
    keeper_.follow(action.attempt);
}
void WorkerServer::act(NoteSession& action) {
    runner_.note(action, broker_now());
}

void WorkerServer::act(Transition& action) {
    io::log(io::LogLevel::info, action.subject,
            {{"from", action.from}, {"to", action.to}, {"why", action.why}});
}

}  // namespace iw::worker
