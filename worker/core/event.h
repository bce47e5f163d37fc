#pragma once

// What can happen to the worker's core: everything from outside comes in as one of these. The shell
// performs an action and, where the action says so, answers with the event of its result.

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "common/base/ids.h"
#include "common/base/result.h"
#include "common/base/statuses.h"
#include "common/base/time.h"
#include "common/messages/messages.h"

namespace iw::worker {

// Who holds the exclusive start of an attempt.
enum class StartHolder { nobody, launcher, declined, stopped };

struct StopFact {
    Detail cause = Detail::killed;  // killed, parent_killed, timeout, disk_limit
    std::string reason;
};

// How an attempt ended, as its exit record has it. Times are of this machine's wall clock.
struct EndFact {
    EndCause cause = EndCause::exited;
    std::optional<int> exit_code;  // 128+n for a signal
    bool stop_sent = false;        // a stop signal went out before the agent ended
    std::string reason;
    std::string evidence;
    std::optional<WallTime> started_at;
    WallTime ended_at;
};

// What the files of an attempt say, reduced to what decisions need.
struct AttemptSnapshot {
    AttemptRef attempt;
    std::optional<Assignment> assignment;  // prompt empty
    StartHolder holder = StartHolder::nobody;
    std::string holder_reason;
    std::optional<WallTime> started_at;  // the agent runs or ran; this machine's wall clock
    // The same on the core's own clock, where the machine can tell: no step of the wall clock then
    // moves the run time.
    std::optional<Timestamp> started;
    std::optional<Duration> timeout;  // as changed last; none: as assigned
    std::optional<StopFact> stop;
    std::optional<EndFact> end;
    bool log_done = false;
    std::optional<SessionView> outcome;
    std::uint32_t reported = 0;         // highest report number acknowledged
    std::optional<WallTime> closed_at;  // this machine's wall clock
};

// What the machine says about the launcher of an attempt with a process record and without an exit
// record.
enum class LauncherState { not_asked, alive, gone, other_boot };

// ---- From the shell: what is found on disk and in the machine ----------------------------------

// Once for each attempt on disk, before any other event, and as the answer to ReopenAttempt. What
// it leads to comes with the next event.
struct RestoredEvent {
    AttemptSnapshot snapshot;
    LauncherState launcher = LauncherState::not_asked;
};
// Files of an attempt appeared.
struct SeenEvent {
    AttemptSnapshot snapshot;
};
// The launcher's process is gone and no exit record is there.
struct LauncherGoneEvent {
    AttemptRef attempt;
};
// What this worker offers has changed.
struct OfferEvent {
    std::optional<std::vector<std::string>> agents;  // sorted
    std::optional<std::uint32_t> slots;
};
struct ShutdownEvent {};
struct TickEvent {};

struct ReportRef {
    AttemptRef attempt;
    std::uint32_t number = 0;
};

// ---- From the broker ---------------------------------------------------------------------------

struct WelcomeEvent {
    WelcomeReply welcome;
};
// The answer to hello was an error.
struct RefusedEvent {
    Error error;
};
// The broker does not know this connection.
struct NoSessionEvent {};
struct HeartbeatAnsweredEvent {
    HeartbeatReply reply;
};
struct AcksEvent {
    std::vector<ReportAck> acks;
};
// The broker refused a whole message of reports for its form.
struct ReportsRefusedEvent {
    std::vector<ReportRef> reports;
    Error error;
};
struct AssignEvent {
    std::vector<Assignment> assignments;
};
struct StopEvent {
    std::vector<StopOrder> stops;
};
struct CloseEvent {
    std::vector<Outcome> outcomes;
};
struct LimitsEvent {
    std::vector<LimitChange> limits;
};
// A heartbeat or reports were answered READ_ONLY: the broker lives and takes nothing.
struct ReadOnlyEvent {
    std::string reason;
};
// Any other message: it says that the broker lives.
struct HeardEvent {};
// A message could not be handed to the transport: nobody is connected.
struct NotSentEvent {};

// ---- Results of actions ------------------------------------------------------------------------

struct AcceptedEvent {
    AttemptRef attempt;
    std::optional<Error> error;
};
enum class LaunchOutcome {
    launched,        // a tmux session exists and will try to claim the start
    withheld,        // it took so long that nothing may be started any more; nothing was
    platform_fault,  // this worker could not; another one may
    agent_fault,     // the session cannot be started anywhere
};
struct LaunchedEvent {
    AttemptRef attempt;
    LaunchOutcome outcome = LaunchOutcome::launched;
    std::string reason;
};
// Who holds the start after TakeClaim; an error: nobody could be written down.
struct ClaimedEvent {
    AttemptRef attempt;
    StartHolder holder = StartHolder::nobody;
    std::optional<Error> error;
};
struct StopRecordedEvent {
    AttemptRef attempt;
    std::optional<Error> error;
};
struct LimitsRecordedEvent {
    AttemptRef attempt;
    Duration timeout{0};  // as asked for
    std::optional<Error> error;
};
// unknown: tmux could not be asked, which is never taken for absent.
enum class Presence { present, absent, unknown };
struct SessionCheckedEvent {
    AttemptRef attempt;
    Presence presence = Presence::unknown;
};
struct TreeEvent {
    AttemptRef attempt;
    std::size_t left = 0;  // processes of the attempt that live
    std::string evidence;  // what was looked at
    bool whole = true;     // false: not every process could be looked at
};
enum class WrittenFile { started, end, outcome, final_files };
struct WrittenEvent {
    AttemptRef attempt;
    WrittenFile file = WrittenFile::started;
    std::optional<Error> error;
};
// result.json and the verdict of the success rule.
struct Deliverables {
    bool success = false;
    std::string reason;
    std::string result_status;
    std::optional<std::uint64_t> result_size;
    std::string result_sha256;
    bool result_inline = false;
    std::string result;
    // What the verdict found against an agent that ended by itself: disk_limit, result_missing,
    // result_invalid. It replaces the cause of the end, with `reason`.
    std::optional<EndCause> fault;
    std::optional<Delivered> delivered;  // what the broker has of an attempt that ran away
};
struct JudgedEvent {
    AttemptRef attempt;
    Deliverables deliverables;
};
struct DiskEvent {
    AttemptRef attempt;
    std::uint64_t bytes = 0;
};

using CoreEvent =
    std::variant<RestoredEvent, SeenEvent, LauncherGoneEvent, OfferEvent, ShutdownEvent, TickEvent,
                 WelcomeEvent, RefusedEvent, NoSessionEvent, HeartbeatAnsweredEvent, AcksEvent,
                 ReportsRefusedEvent, AssignEvent, StopEvent, CloseEvent, LimitsEvent,
                 ReadOnlyEvent, HeardEvent, NotSentEvent, AcceptedEvent, LaunchedEvent,
                 ClaimedEvent, StopRecordedEvent, LimitsRecordedEvent, SessionCheckedEvent,
                 TreeEvent, WrittenEvent, JudgedEvent, DiskEvent>;

}  // namespace iw::worker
