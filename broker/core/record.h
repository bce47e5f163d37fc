#pragma once

// The durable facts. A step of the core decides records, and one function applies them:
// BrokerCore::apply, which recovery uses too. The journal keeps them, the database projects them. A
// record says what happened in full, so that the database needs no rules of its own.
// broker/STORE.md tells how to change one.

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "common/base/ids.h"
#include "common/base/statuses.h"
#include "common/base/time.h"
#include "common/messages/messages.h"

namespace iw::broker {

// Who asked: "uid:1000", or "session:<id>" for a process inside a session. Keys are per principal.
using Principal = std::string;

// SHA-256 over the canonical encoding of a submission without its key: another body under the same
// key is refused.
using BodyHash = std::array<std::uint8_t, 32>;

struct SessionCreated {
    SessionId id;
    Principal principal;
    BodyHash body_hash{};
    Submission submission;  // whole, with its prompt
    std::optional<WallTime> not_before;
    std::optional<WallTime> expires_at;
    std::optional<Fence> parent_fence;  // the attempt of the parent that submitted it from inside
    std::vector<SessionId> ancestors;   // from the root down to the parent
};

struct AttemptAssigned {
    SessionId id;
    Fence fence;
    WorkerName worker;
    std::string host;
};

struct AttemptStarted {
    SessionId id;
    Fence fence;
    WallTime started_at;
    std::string workspace;
};

// The attempt is over and the session is back in the queue: its worker declined it, it was lost and
// its policy is requeue, or it failed and its policy allows another attempt.
struct AttemptReturned {
    SessionId id;
    Fence fence;
    Detail cause = Detail::start_failed;
    bool platform_fault = true;  // counted apart from attempts used
    std::string reason;
    std::string evidence;
    std::optional<WallTime> retry_at;  // the next attempt starts no earlier
    std::optional<int> exit_code;
};

// The outcome is decided and can no longer change. The session shows it as final only after
// SessionClosed.
struct SessionEnded {
    SessionId id;
    Fence fence;  // attempt 0: it never started
    SessionStatus status = SessionStatus::failed;
    Detail detail = Detail::exited;
    std::string reason;
    std::string kill_reason;
    std::optional<int> exit_code;
    std::optional<WallTime> started_at;
    WallTime completed_at;
    std::string workspace;
    std::string result_status;
    std::optional<std::uint64_t> result_size;
    std::string result_sha256;
    bool result_inline = false;
    std::string result;
    std::string evidence;
    std::optional<Delivered> deliverables;
};

// The owner of the workspace has written its last files there (or is not waited for): now it is
// final.
struct SessionClosed {
    SessionId id;
    std::string by;  // a worker's name, or why nobody is waited for
};

// Somebody wants the session to end. Repeated to its worker until the end is reported.
struct KillWished {
    SessionId id;
    Principal principal;
    Detail cause = Detail::killed;
    std::string reason;
};

// A report whose fence is not the session's current one, or that contradicts an accepted one. Kept,
// changes nothing.
struct ReportSuperseded {
    SessionId id;
    Fence fence;
    std::uint32_t number = 0;
    std::string what;
    WorkerName worker;
    std::string cause;  // of an `ended` report: EndCause's word
    std::optional<int> exit_code;
    std::string result;  // its result.json where the report held it; the core keeps none of it
};

struct WorkerRegistered {
    WorkerName name;
    std::string host;
    std::string root;
    std::string project;
    std::string state_id;
    std::string boot_id;
    std::uint64_t start_count = 0;
    std::uint32_t slots = 0;
    std::vector<std::string> agents;
    std::map<std::string, std::string> labels;
    std::string software;
};

// What the broker noticed about a worker: "up", "unreachable", "lost", "away". Shown and published;
// moves nothing by itself.
struct WorkerNoted {
    WorkerName name;
    std::string state;
    std::string evidence;
};

// Another run timeout, for the attempt that runs and for those that follow.
struct TimeoutChanged {
    SessionId id;
    Duration timeout{0};
    Principal principal;
};

// A pause or drain begins, is changed, or ends.
struct HoldChanged {
    HoldScope scope = HoldScope::fleet;
    std::string name;  // of the project, agent or worker; empty: the fleet
    bool on = true;
    Principal principal;  // "broker": its own deadline came
    std::string reason;
    std::optional<WallTime> until;
};

// The store was brought back from a backup, or an admin accepted that it has lost something. Every
// fence from here on is above all that were given out before.
struct EpochBegun {
    std::string epoch;
    std::uint32_t generation = 0;
    bool hold = true;  // nothing is assigned until RestoreReleased
    std::string reason;
    Principal principal;
};
struct RestoreReleased {
    Principal principal;
    std::string reason;
};

// After a restore: a worker has an attempt of the session at or above what is known here. It holds
// the session now, whatever became of it there; the worker's reports tell.
struct AttemptAdopted {
    SessionId id;
    Fence fence;
    WorkerName worker;
    std::string host;
};

// What scripts have edited in a session's state.json, as far as it was taken. Of a final session
// only the database knows.
struct SessionEdited {
    SessionId id;
    Principal principal;
    std::optional<SessionId> parent;   // empty: none any more
    std::vector<SessionId> ancestors;  // with `parent`: from the root down to it
    std::vector<SessionId> below;      // likewise: the live sessions below, which move along
    std::optional<std::vector<std::string>> tags;
    std::optional<std::string> metadata;  // empty: none any more
};

using RecordBody = std::variant<SessionCreated, AttemptAssigned, AttemptStarted, AttemptReturned,
                                SessionEnded, SessionClosed, KillWished, ReportSuperseded,
                                WorkerRegistered, WorkerNoted, TimeoutChanged, HoldChanged,
                                EpochBegun, RestoreReleased, AttemptAdopted, SessionEdited>;

struct Record {
    Seq seq = 0;
    WallTime time;
    RecordBody body;
};

// The number of a body's kind on disk: explicit, never reused.
std::uint8_t kind(const RecordBody& body);
// Snake-case name of the kind, for logs and tools.
std::string_view name(const RecordBody& body);
// The session the record is about; null for records of workers and of the fleet.
const SessionId* session_of(const RecordBody& body);

// Whether the end is one of an attempt that ran and counts against the retry policy. What the
// platform failed (not started, host lost) does not, nor does an end in the queue.
bool is_attempt_used(const SessionEnded& ended);

// Whether a crash must not keep the first of two neighbours without the second: a session whose
// dependency can never be met is created and ended by two records, and without the second one
// nothing would tell that it must not start.
bool is_bound(const Record& before, const Record& after);

// What a session shows once the record is applied; nothing where it does not change. For
// SessionClosed the answer is the outcome that SessionEnded stated, so the caller passes it.
struct StatusChange {
    SessionStatus status;
    Detail detail;
};
std::optional<StatusChange> status_after(const RecordBody& body,
                                         std::optional<StatusChange> outcome, SessionStatus before);

// A live session as the database hands it back after a start: what the records up to
// `LiveState::seq` made of it, without prompt and result.
struct LiveSession {
    SessionId id;
    Principal principal;
    Submission submission;  // prompt and result schema empty
    WallTime created_at;
    std::optional<WallTime> not_before;
    std::optional<WallTime> expires_at;
    std::uint64_t revision = 0;
    Fence fence;
    bool assigned = false;  // the attempt of `fence` is unfinished
    WorkerName worker;
    std::string host;
    // `state_id` that the worker was registered under when the attempt was assigned; empty: not
    // known, taken for the one it has now. Another one means that its current process has never
    // heard of the attempt.
    std::string worker_state_id;
    std::optional<WallTime> started_at;
    std::string workspace;
    std::uint32_t platform_faults = 0;
    // AttemptReturned without a platform's fault, and an end for which is_attempt_used holds.
    std::uint32_t attempts_used = 0;
    std::optional<WallTime> retry_at;  // of the last AttemptReturned
    bool failed_by_itself = false;     // likewise: platform_fault is false
    std::optional<Fence> parent_fence;
    std::vector<SessionId> ancestors;  // from the root down to the parent
    // Bit i: what is below ancestors[i] on the way here was submitted from inside an attempt of it;
    // also where that is final and was forgotten since. None: there are no ancestors.
    std::optional<std::uint16_t> inside_links;
    std::string last_reason;  // of the last AttemptReturned
    std::optional<KillWished> kill;
    std::optional<SessionEnded> ended;  // result empty; not closed yet
};

struct LiveState {
    Seq seq = 0;
    std::string epoch;
    std::uint32_t generation = 1;
    WallTime id_second;                 // newest second used in an id
    std::vector<SessionId> newest_ids;  // all that were made in it, of sessions long over, too
    std::vector<LiveSession> sessions;  // in order of creation
    std::vector<WorkerRegistered> workers;
    // As last noted, by WorkerNoted; "up" where none is stated.
    std::map<WorkerName, std::string> worker_states;
    std::vector<HoldView> holds;
    bool restored = false;  // an EpochBegun with hold, not released
    std::string restored_why;
};

}  // namespace iw::broker
