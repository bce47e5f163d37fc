#pragma once

// What must be done after a step, in this order, each action to its end (files synced) before the
// next. Where an event is named, the shell hands it back as the result; until then the core asks
// nothing more about that attempt. A crash between any two actions is fine: the next start
// continues from the files.

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "common/messages/messages.h"
#include "worker/core/event.h"

namespace iw::worker {

// ---- To the broker -----------------------------------------------------------------------------

struct SendHello {
    WorkerHello hello;
};
// Throw the connection away, with what waits in it, and make a new one.
struct Reconnect {};
struct SendHeartbeat {
    HeartbeatRequest heartbeat;
};
struct SendReports {
    std::vector<Report> reports;
};
struct SendGoodbye {};
// Keep what the broker is known to have had, synced, before the actions that follow.
struct RecordSeen {
    SeenHead seen;
};

// ---- Attempt folder ----------------------------------------------------------------------------

// -> AcceptedEvent
struct AcceptAssignment {
    Assignment assignment;  // with its prompt
};
// Take the exclusive start so that nobody runs the attempt. -> ClaimedEvent
struct TakeClaim {
    AttemptRef attempt;
    StartHolder holder = StartHolder::declined;  // declined or stopped
    std::string reason;
};
// -> StopRecordedEvent
struct RecordStop {
    AttemptRef attempt;
    StopFact stop;
};
// Another run timeout, synced before it counts. -> LimitsRecordedEvent
struct RecordLimits {
    AttemptRef attempt;
    Duration timeout{0};
};
// The worker's own exit record. -> SeenEvent (whatever record stands then), or WrittenEvent with an
// error
struct RecordEnd {
    AttemptRef attempt;
    EndFact end;
};
// -> WrittenEvent(outcome)
struct RecordOutcome {
    AttemptRef attempt;
    SessionView outcome;
};
struct RecordReported {
    AttemptRef attempt;
    std::uint32_t number = 0;
};
struct RecordClosed {
    AttemptRef attempt;
};
// Remove the folder of a closed attempt.
struct ForgetAttempt {
    AttemptRef attempt;
};
// Read a closed attempt again, to report its end once more. -> RestoredEvent, not closed, without
// outcome, and only its start reported
struct ReopenAttempt {
    AttemptRef attempt;
};

// ---- Processes ---------------------------------------------------------------------------------

// Workspace, plan, local socket, tmux session. -> LaunchedEvent
struct Launch {
    Assignment assignment;  // without its prompt: that stands in the attempt's folder
    SessionView view;
    // On the core's clock: what has not claimed the start by then must not run any more.
    Timestamp start_by;
};
// -> SessionCheckedEvent
struct CheckSession {
    AttemptRef attempt;
};
struct KillSession {
    AttemptRef attempt;
};
// Asks the launcher to stop its agent, or ends a launcher that does not answer.
struct SignalLauncher {
    AttemptRef attempt;
    bool kill = false;
    bool recorded = true;  // false: the stop could not be written down, so the signal has to do
};
// The processes of an attempt without a launcher. -> TreeEvent
enum class TreeSignal { term, kill, look };
struct SignalTree {
    AttemptRef attempt;
    TreeSignal signal = TreeSignal::term;
};
// -> DiskEvent
struct MeasureDisk {
    AttemptRef attempt;
};

// ---- Workspace ---------------------------------------------------------------------------------

// Times below are on the broker's clock. -> WrittenEvent(started)
struct WriteStarted {
    AttemptRef attempt;
    SessionView view;
};
// Result and success rule. -> JudgedEvent
struct Judge {
    AttemptRef attempt;
    AgentName agent;
    EndFact end;
};
// Last lines of the logs, final state.json; of an outcome that shows CREATED, that another attempt
// follows. -> WrittenEvent(final_files)
struct WriteFinal {
    AttemptRef attempt;
    SessionView outcome;
    SessionStatus before = SessionStatus::running;
};
enum class NoteLevel { info, warn };
// A line for people: in session.log and logs/orchestrator.log.
struct NoteSession {
    SessionId session;
    NoteLevel level = NoteLevel::info;
    std::string text;
};
// A transition, for the worker's own log.
struct Transition {
    std::string subject;  // "attempt=<name>" or "link"
    std::string from;
    std::string to;
    std::string why;
};

using Action =
    std::variant<SendHello, Reconnect, SendHeartbeat, SendReports, SendGoodbye, RecordSeen,
                 AcceptAssignment, TakeClaim, RecordStop, RecordLimits, RecordEnd, RecordOutcome,
                 RecordReported, RecordClosed, ForgetAttempt, ReopenAttempt, Launch, CheckSession,
                 KillSession, SignalLauncher, SignalTree, MeasureDisk, WriteStarted, Judge,
                 WriteFinal, NoteSession, Transition>;
using Actions = std::vector<Action>;

}  // namespace iw::worker
