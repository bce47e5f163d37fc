#pragma once

// Every message of the wire as a plain struct; common/PROTOCOL.md says in prose what each means,
// and common/codec turns them into bytes. Times are milliseconds since 1970 UTC on the broker's
// clock; durations are milliseconds; sizes are bytes. Nothing here has behaviour.

#include <compare>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "common/base/ids.h"
#include "common/base/limits.h"
#include "common/base/result.h"
#include "common/base/statuses.h"
#include "common/base/time.h"

namespace iw {

inline constexpr int kProtocolVersion = 1;

// Where a session's project stands: which workspace it has follows from this alone.
struct Origin {
    std::string host;
    std::string root;  // absolute path of the project's root on that host

    bool empty() const { return root.empty(); }
    auto operator<=>(const Origin&) const = default;
    bool operator==(const Origin&) const = default;
};

// ---- Client: submit
// -------------------------------------------------------------------------------------

// When an attempt that failed by itself is followed by another one. What the platform failed (not
// started, host lost) is counted apart and not ruled here.
struct RetryPolicy {
    std::uint32_t attempts_max = 1;  // 1 to limits::kAttemptsMax, the first one included
    Duration backoff = limits::kBackoffDefault;         // before the second attempt; doubles
    Duration backoff_max = limits::kBackoffMaxDefault;  // and stops growing here
    // exited, signal, disk-limit, result-missing, result-invalid, timeout; empty: all but timeout
    std::vector<Detail> causes;
};

// Start only once that session is final, and only if it ended like this.
struct Dependency {
    SessionId id;
    AfterCondition on = AfterCondition::success;
};

struct Submission {
    std::string
        key;  // idempotency key, 1-128 bytes; empty: none (a repeat would be a second session)
    AgentName agent;
    std::string prompt;   // UTF-8, 1 byte to limits::kPromptMax
    std::string project;  // name; empty: any worker that offers the agent
    Origin origin;        // empty: the workspace stands at the worker that runs it
    bool agent_in_project =
        false;  // the submitter saw agents/<agent>/ in the project: queue, do not refuse
    bool queue_anyway = false;  // queue although no worker offers the agent
    int priority = 0;
    Duration delay{0};                // start no earlier than this from acceptance
    std::optional<Duration> expires;  // give up if not started within this from acceptance
    Duration timeout = limits::kRunTimeoutDefault;  // run time of one attempt
    std::optional<std::uint64_t>
        disk_limit;  // bytes the workspace may hold; over it FAILED (disk-limit)
    OnLost on_lost = OnLost::wait;
    std::optional<RetryPolicy> retry;  // none: one attempt
    std::vector<Dependency> after;     // at most limits::kDependenciesMax
    // Unfinished children of an attempt live on when the next attempt starts.
    bool keep_children = false;
    SessionId parent;    // vouched for by the worker's local socket, or empty
    SessionId retry_of;  // set by the broker's `retry`
    std::string host;    // run on this host only; empty: any
    std::map<std::string, std::string> require;  // labels a worker must have
    std::vector<std::string> tags;
    std::string metadata;       // JSON text of an object, or empty
    std::string result_schema;  // JSON Schema that result.json must fit, or empty
    // How long an attempt is thought to run: a hint for people, nothing follows from it here.
    std::optional<Duration> estimate;
};

struct SubmitRequest {
    std::vector<Submission>
        sessions;  // 1 to limits::kSubmitBatchMax; each accepted or refused by itself
};
struct SubmitOutcome {
    SessionId id;            // empty when refused
    bool duplicate = false;  // the key was known: this is the session it made
    std::optional<Error> error;
};
struct SubmitReply {
    std::vector<SubmitOutcome> sessions;  // in the order of the request
};

// ---- Client: reading
// ------------------------------------------------------------------------------------

// What travelled of an attempt's deliverables: the blob of its manifest, and what that lists.
struct Delivered {
    std::string manifest;  // SHA-256 in hex, the blob's name
    std::uint64_t files = 0;
    std::uint64_t bytes = 0;  // of all files together

    bool operator==(const Delivered&) const = default;
};

// A session as everybody outside sees it.
struct SessionView {
    SessionId id;
    AgentName agent;
    std::string project;
    Origin origin;
    SessionStatus status = SessionStatus::created;
    Detail detail = Detail::queued;
    std::string reason;       // why it waits, or why it ended; for people
    std::string kill_reason;  // of KILLED only
    WallTime created_at;
    std::optional<WallTime> started_at;  // of the current attempt
    std::optional<WallTime> completed_at;
    std::optional<int> exit_code;  // 128+n for a signal
    std::uint32_t attempt = 0;     // current fence
    std::uint32_t generation = 0;
    std::string worker;         // that holds or ran the current attempt
    std::string host;           // of that worker
    std::string workspace;      // absolute path on the origin's host; empty until known
    std::string result_status;  // `.status` of the session's result.json
    std::optional<std::uint64_t> result_size;
    std::string result_sha256;  // hex
    SessionId parent;
    SessionId retry_of;
    int priority = 0;
    Duration timeout{0};
    std::uint32_t attempts_used = 0;  // that count against attempts_max
    std::uint32_t attempts_max = 1;
    OnLost on_lost = OnLost::wait;
    std::optional<WallTime> not_before;  // delayed, or the next attempt's back-off
    std::optional<WallTime> expires_at;
    std::vector<Dependency> after;
    std::vector<std::string> tags;
    std::string metadata;
    std::optional<Duration> estimate;
    std::optional<Delivered> deliverables;  // of the attempt that counts; none: nothing travelled
    std::uint64_t revision = 0;             // raised by every record about the session
};

struct StatusRequest {
    std::string id;      // full id or unique prefix
    bool exact = false;  // full ids only
};
struct StatusReply {
    SessionView session;
    Seq seq =
        0;  // head of the journal: a cursor for `events` that misses nothing after this answer
};

struct ListRequest {
    std::vector<SessionStatus> status;  // empty: all
    std::string agent;
    std::string project;
    std::string root;  // origin's root
    std::string tag;
    SessionId parent;
    std::vector<SessionId> ids;
    SessionId after;  // page cursor: rows after this id in the order of creation
    std::uint32_t rows_max = limits::kPageRowsMax;
};
struct ListReply {
    std::vector<SessionView> sessions;  // oldest first
    SessionId next;                     // cursor of the next page; empty: that was all
    Seq seq = 0;
};

struct ResultRequest {
    std::string id;
};
struct ResultReply {
    SessionView session;
    bool held = false;   // the bytes are in `result`
    std::string result;  // result.json as the agent wrote it, when it exists and is at most
                         // kResultInlineMax
};

// A pause, or a worker's drain, as it stands.
struct HoldView {
    HoldScope scope = HoldScope::fleet;
    std::string name;  // of the project, agent or worker; empty: the fleet
    std::string principal;
    std::string reason;
    WallTime since;
    std::optional<WallTime> until;  // lifts by itself then
};

struct WorkersRequest {};
struct WorkerView {
    WorkerName name;
    std::string host;
    std::string root;
    std::string project;
    std::string state;  // "up", "unreachable", "lost", "away" (said goodbye)
    std::uint32_t slots = 0;
    // Slots in use: unfinished attempts, less those that run on a slot lent by their parent.
    std::uint32_t used = 0;
    std::vector<std::string> agents;
    std::map<std::string, std::string> labels;
    std::string software;
    std::uint64_t start_count = 0;
    std::optional<WallTime> heard_at;
    std::optional<HoldView> drain;
    // Runs although no session here knows of it: from before a restore, or another broker's. After
    // a restore also what it has finished of sessions that came after the backup. At most 100.
    std::vector<AttemptRef> unknown;
};
struct WorkersReply {
    std::vector<WorkerView> workers;
};

struct EventsRequest {
    std::string epoch;  // of the cursor; empty: whatever epoch the broker has
    Seq after = 0;
    Duration wait{0};  // hold the answer until there is an event, up to limits::kEventsWaitMax
    std::uint32_t rows_max = limits::kPageRowsMax;
    std::vector<SessionId> ids;  // only these sessions; empty: all
    std::string project;
    std::string agent;
};
// Self-contained; never prompt or result.
struct Event {
    Seq seq = 0;
    WallTime time;
    std::string topic;  // "session.<status>.<agent>.<id>" or "worker.<state>.<name>"
    SessionId id;       // empty for events of workers
    std::uint64_t revision = 0;
    std::string agent;
    std::string project;
    std::vector<std::string> tags;
    std::string root;
    std::string status;  // the five words; of a worker: its state
    std::string detail;
    std::uint32_t attempt = 0;
    std::string host;
    std::string reason;
    std::string result_status;
};
struct EventsReply {
    std::string epoch;
    std::vector<Event> events;
    Seq next = 0;  // cursor for the next request
    Seq head = 0;  // newest record of the broker
    bool gap =
        false;  // the cursor is from another epoch or older than what is kept: events are missing
};

// ---- Client: changing
// -----------------------------------------------------------------------------------

struct KillRequest {
    std::string id;
    std::string reason;
    bool exact = false;
    bool keep_children = false;  // its descendants live on
};
struct KillReply {
    SessionView session;
    bool already_final = false;     // it had ended before; nothing was done
    std::uint32_t descendants = 0;  // that were killed with it
};
struct RetryRequest {
    std::string id;
    std::string key;
};
struct RetryReply {
    SessionId id;
    bool duplicate = false;
};
// Another run timeout for a live session; the attempt that runs is told at once.
struct ExtendRequest {
    std::string id;
    std::optional<Duration> timeout;  // the new one, counted from the start of an attempt
    std::optional<Duration> add;      // or this much more than now
    bool exact = false;
};
struct ExtendReply {
    SessionView session;
};
// What scripts may edit in a session's state.json. What is left out stays as it is.
struct EditRequest {
    std::string id;
    bool exact = false;
    std::optional<SessionId> parent;  // empty: none any more
    std::optional<std::vector<std::string>> tags;
    std::optional<std::string> metadata;  // JSON text of an object; empty: none any more
};
struct EditReply {
    SessionView session;
    // What was not taken, one sentence each; the other parts were.
    std::vector<std::string> refused;
};
// A piece of a file that travelled with a session, or of its manifest.
struct GetRequest {
    std::string id;    // full
    std::string blob;  // SHA-256 in hex
    std::uint64_t offset = 0;
};
struct GetReply {
    std::string data;        // at most limits::kChunkMax; empty at the end
    std::uint64_t size = 0;  // of the whole blob
};
// Lays a hold on something, changes it, or lifts it. Nothing that runs is touched.
struct HoldRequest {
    HoldScope scope = HoldScope::fleet;
    std::string name;  // of the project, agent or worker; not for the fleet
    bool on = true;
    std::string reason;
    std::optional<Duration> lasts;  // lifts by itself after this
};
struct HoldReply {
    bool changed = false;            // false: it was so already
    std::optional<HoldView> hold;    // as it stands now; none: lifted
    std::vector<SessionId> running;  // of a drained worker: what it still runs
};
// An admin's word that a silent worker's processes are gone for good.
struct ConfirmDeadRequest {
    std::string id;      // this session's attempt only; or
    std::string worker;  // all of this worker; or
    std::string host;    // all of this host's workers
    std::string reason;
};
struct ConfirmDeadReply {
    std::vector<SessionView> sessions;  // as they stand after it
};
struct BackupRequest {
    std::string folder;  // absolute; empty: the broker's own
};
struct BackupReply {
    std::string folder;
    Seq seq = 0;
    std::uint64_t bytes = 0;
};
// Ends what a restore began, or accepts that a store has lost what others have seen.
struct ReleaseRequest {
    bool accept_loss =
        false;           // of a read-only broker: begin a new epoch, which holds as after a restore
    bool force = false;  // although workers have not been heard since
    std::string reason;
};
struct ReleaseReply {
    std::string epoch;
    std::uint32_t generation = 0;
    bool held = false;  // still: this began an epoch
};
struct FleetRequest {};
struct FleetReply {
    std::string software;
    std::string epoch;
    std::uint32_t generation = 0;
    Seq seq = 0;
    bool restored = false;  // nothing is assigned until an admin says so
    std::string restored_why;
    std::vector<WorkerName> unheard;  // registered, not heard since the restore
    std::string read_only;            // why nothing changes; empty: it is not
    std::vector<HoldView> holds;      // pauses and drains
    std::uint64_t queued = 0;
    std::uint64_t assigned = 0;
    std::uint64_t running = 0;
    std::uint64_t closing = 0;
    std::optional<WallTime> backup_at;  // of the newest good backup
    std::string backup_folder;
    std::string backup_error;       // of the newest try, when it failed
    std::uint64_t blobs_bytes = 0;  // that the files of sessions take, and may take
    std::uint64_t blobs_max = 0;
    std::uint64_t disk_free = 0;
    bool storage_low = false;  // submissions are refused
};

// ---- Workers
// --------------------------------------------------------------------------------------------

// Where an attempt is, as its worker knows it.
enum class AttemptPhase {
    accepted = 1,  // recorded, not started
    running = 2,   // start record and process exist
    ended = 3,     // exit record exists; report not yet acknowledged
    closing = 4,   // outcome received; final files not yet reported
    closed = 5,    // final files reported and acknowledged
    declined = 6,  // will never be started here
};
std::string_view name(AttemptPhase phase);
std::optional<AttemptPhase> parse_attempt_phase(std::string_view text);

struct AttemptState {
    SessionId session;
    Fence fence;
    AttemptPhase phase = AttemptPhase::accepted;
    std::optional<Duration> timeout;  // that the worker enforces; of accepted and running ones
};

// The newest record of an epoch that a peer knows the broker to have had.
struct SeenHead {
    std::string epoch;
    Seq seq = 0;
};

struct WorkerHello {
    WorkerName name;
    std::string host;
    std::string root;
    std::string project;
    std::string state_id;  // made with the state directory
    std::uint64_t start_count = 0;
    std::string boot_id;
    std::uint32_t slots = 0;
    std::vector<std::string> agents;
    std::map<std::string, std::string> labels;
    std::vector<AttemptState> inventory;  // all but closed ones
    std::optional<SeenHead> seen;         // of the epoch that it last belonged to
};

struct HelloRequest {
    std::string role;  // "client" or "worker"
    std::string software;
    int protocol_min = kProtocolVersion;
    int protocol_max = kProtocolVersion;
    std::vector<std::string> capabilities;
    std::optional<WorkerHello> worker;
};
struct WelcomeReply {
    std::string software;
    int protocol = kProtocolVersion;
    std::string epoch;  // made with the database, and anew by a restore
    std::uint32_t generation = 0;
    Seq seq = 0;
    WallTime time;  // the broker's clock
    Duration heartbeat{0};
    Duration unreachable{0};
    Duration lost{0};
    bool restored = false;  // list closed attempts, too: the broker may not know that they ran
    std::map<std::string, std::uint64_t> limits;
    std::vector<std::string> capabilities;
};

struct HeartbeatRequest {
    std::vector<AttemptState> attempts;              // all but closed ones
    std::optional<std::vector<std::string>> agents;  // when they changed
    std::optional<std::uint32_t> slots;              // when they changed
    // While the broker says that it was restored: attempts closed here and still on record, as many
    // a message as limits::kInventoryMax, all of them again and again in turns.
    std::vector<AttemptState> closed;
    bool closed_all = false;  // with this message every one has been listed once
};
// A change of an attempt's run timeout.
struct LimitChange {
    SessionId session;
    Fence fence;
    Duration timeout{0};
};
struct StopOrder {
    SessionId session;
    Fence fence;
    Detail cause = Detail::killed;  // killed, parent_killed
    std::string reason;
};
struct HeartbeatReply {
    WallTime time;
    std::vector<StopOrder> stops;     // wishes not yet reported done, repeated each time
    std::vector<LimitChange> limits;  // where the attempt's timeout is not the session's
    bool restored = false;
    Seq seq = 0;  // head of the journal
};

// broker -> worker, `assign`
struct Assignment {
    SessionId session;
    Fence fence;
    AgentName agent;
    std::string project;
    Origin origin;
    std::string prompt;
    WallTime created_at;
    Duration timeout{0};
    std::optional<std::uint64_t> disk_limit;
    SessionId parent;
    SessionId retry_of;
    int priority = 0;
    std::vector<std::string> tags;
    std::string metadata;
    std::string result_schema;
};
struct AssignPush {
    std::vector<Assignment> assignments;
};
// broker -> worker, `stop`
struct StopPush {
    std::vector<StopOrder> stops;
};
// broker -> worker, `limits`
struct LimitsPush {
    std::vector<LimitChange> limits;
};
// What the broker decided about a session's end, for the files that its owner writes. broker ->
// worker, `close`, and inside the acknowledgement of an `ended` report.
struct Outcome {
    SessionView session;  // with the final status, detail, reason, completed_at
};
struct ClosePush {
    std::vector<Outcome> outcomes;
};
// broker -> owner, `follow`: live sessions of its origin that do not run with it.
struct FollowPush {
    std::vector<SessionView> sessions;
};

// worker -> broker. Numbers are fixed by kind, so that a repeat is recognised: 1 started or
// declined, 2 ended, 3 closed.
struct StartedReport {
    WallTime started_at;
    std::string workspace;
};
struct DeclinedReport {
    Detail cause = Detail::start_failed;
    bool platform_fault =
        true;  // the worker could not; false: the session cannot be started anywhere
    std::string reason;
};
// How an attempt ended: what the launcher recorded, judged by the worker against the success rule.
enum class EndCause {
    exited = 1,          // by itself, with an exit code
    signal = 2,          // by a signal that we did not send
    stopped = 3,         // after a stop was recorded and sent
    start_failed = 4,    // the agent's command could not be started
    lost = 5,            // no process and no exit record, or the terminal died under it
    disk_limit = 6,      // the workspace, or what should travel of it, was too large
    result_missing = 7,  // there is a result schema, and no result.json
    result_invalid = 8,  // result.json does not fit the result schema
};
std::string_view name(EndCause cause);
std::optional<EndCause> parse_end_cause(std::string_view text);

struct EndedReport {
    EndCause cause = EndCause::exited;
    bool success = false;                // the agent's success rule holds
    std::optional<int> exit_code;        // 128+n for a signal
    Detail stop_cause = Detail::killed;  // of `stopped`: killed, parent_killed, timeout
    std::string reason;                  // for people
    std::optional<WallTime> started_at;
    WallTime ended_at;
    std::string workspace;
    std::string result_status;
    std::optional<std::uint64_t> result_size;  // none: there is no result.json
    std::string result_sha256;
    bool result_inline = false;  // the bytes are in `result`
    std::string result;
    std::string evidence;                   // for `lost`: what was looked at
    std::optional<Delivered> deliverables;  // put to the broker before this report
};
struct ClosedReport {};

using ReportBody = std::variant<StartedReport, DeclinedReport, EndedReport, ClosedReport>;
struct Report {
    SessionId session;
    Fence fence;
    std::uint32_t number = 0;
    ReportBody body;
};
struct ReportRequest {
    std::vector<Report> reports;  // 1 to limits::kReportBatchMax
};
struct ReportAck {
    SessionId session;
    Fence fence;
    std::uint32_t number = 0;
    std::optional<Error>
        error;  // STALE_FENCE: kept for the record, changes nothing; do not send it again
    std::optional<Outcome>
        outcome;  // of an `ended` report: write the final files, then report `closed`; one that
                  // shows CREATED says that another attempt follows: write that, report nothing
};
struct ReportReply {
    std::vector<ReportAck> acks;
};

// A request that a process inside a session made on its worker's local socket.
struct RelayRequest {
    SessionId session;
    Fence fence;
    std::string request;  // a whole encoded request frame
};
struct RelayReply {
    std::string reply;  // a whole encoded reply frame
};

// A piece of a blob: of a file of the attempt, or of its manifest.
struct PutRequest {
    SessionId session;
    Fence fence;
    std::string blob;  // SHA-256 in hex
    std::uint64_t size = 0;
    std::uint64_t offset = 0;
    std::string data;  // at most limits::kChunkMax; empty: asks how much is there
};
struct PutReply {
    std::uint64_t have = 0;  // bytes there are of it; all of them: verified and on disk
};

struct GoodbyeRequest {
    bool returning = true;
};
struct GoodbyeReply {};

// ---- Frames
// ---------------------------------------------------------------------------------------------

using Request = std::variant<HelloRequest, SubmitRequest, StatusRequest, ListRequest, ResultRequest,
                             WorkersRequest, EventsRequest, KillRequest, RetryRequest,
                             HeartbeatRequest, ReportRequest, RelayRequest, GoodbyeRequest,
                             ExtendRequest, HoldRequest, ConfirmDeadRequest, BackupRequest,
                             ReleaseRequest, FleetRequest, EditRequest, GetRequest, PutRequest>;
using Reply =
    std::variant<WelcomeReply, SubmitReply, StatusReply, ListReply, ResultReply, WorkersReply,
                 EventsReply, KillReply, RetryReply, HeartbeatReply, ReportReply, RelayReply,
                 GoodbyeReply, ExtendReply, HoldReply, ConfirmDeadReply, BackupReply, ReleaseReply,
                 FleetReply, EditReply, GetReply, PutReply>;
using Push = std::variant<AssignPush, StopPush, ClosePush, LimitsPush, FollowPush>;

struct RequestFrame {
    std::string id;  // chosen by the requester, 1 to limits::kRequestIdMax bytes, echoed
    Request body;
};
struct ErrorReply {
    Error error;
    Duration retry{0};                 // of a retryable error: not before this
    std::vector<std::string> matches;  // AMBIGUOUS: the ids; UNKNOWN_AGENT: the known names
};
struct ReplyFrame {
    std::string id;
    std::variant<Reply, ErrorReply> body;
};
struct PushFrame {
    Push body;
};

// The verb of a request or push, as PROTOCOL.md names it. A reply carries the verb of its request.
std::string_view verb(const Request& request);
std::string_view verb(const Reply& reply);
std::string_view verb(const Push& push);

}  // namespace iw
