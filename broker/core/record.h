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

// The attempt is over and the session is back in the queue: its worker declined it, or it was lost
// and its policy is requeue.
struct AttemptReturned {
    SessionId id;
    Fence fence;
    Detail cause = Detail::start_failed;
    bool platform_fault = true;  // counted apart from attempts used
    std::string reason;
    std::string evidence;
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

using RecordBody =
    std::variant<SessionCreated, AttemptAssigned, AttemptStarted, AttemptReturned, SessionEnded,
                 SessionClosed, KillWished, ReportSuperseded, WorkerRegistered, WorkerNoted>;

struct Record {
    Seq seq = 0;
    WallTime time;
    RecordBody body;
};

// The number of a body's kind on disk: explicit, never reused.
std::uint8_t kind(const RecordBody& body);
// Snake-case name of the kind, for logs and tools.
std::string_view name(const RecordBody& body);
// The session the record is about; null for records of workers.
const SessionId* session_of(const RecordBody& body);

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
    Submission submission;  // prompt empty
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
    std::string last_reason;  // of the last AttemptReturned
    std::optional<KillWished> kill;
    std::optional<SessionEnded> ended;  // result empty; not closed yet
};

struct LiveState {
    Seq seq = 0;
    std::string epoch;
    std::uint32_t generation = 1;
    WallTime id_second;                 // newest second used in an id
    std::vector<LiveSession> sessions;  // in order of creation
    std::vector<WorkerRegistered> workers;
    // As last noted, by WorkerNoted; "up" where none is stated.
    std::map<WorkerName, std::string> worker_states;
};

}  // namespace iw::broker
