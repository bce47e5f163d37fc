#pragma once

// A live session in memory, and the one table of what may happen to it. A million of these wait in
// a full queue, so what only few need stands behind pointers and the prompt is never kept.

#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "broker/core/record.h"
#include "common/base/ids.h"
#include "common/base/statuses.h"
#include "common/base/time.h"

namespace iw::broker {

struct PlacementClass;

enum class Phase : std::uint8_t {
    queued,    // no attempt; delayed or to be retried, too
    assigned,  // an attempt is given out and not known to have started
    running,
    closing,  // the outcome is decided, the last files are not written
};
inline constexpr std::size_t kPhases = 4;

// The phase after a record of this kind; nothing: the record is illegal there. A session that is
// closed leaves memory, which is not a phase: see DurableState::apply.
std::optional<Phase> phase_after(Phase phase, const RecordBody& body);

inline constexpr std::size_t kSupersededMax = 16;

// Of a session that waits, on the steady clock. Set by steps and by BrokerCore::started, never by a
// record.
struct Deadlines {
    static constexpr Timestamp kNoDue{Duration::min()};
    static constexpr Timestamp kNoExpiry{Duration::max()};
    Timestamp due_at = kNoDue;        // not handed out before
    Timestamp expire_at = kNoExpiry;  // given up when still queued then
};

inline constexpr std::uint64_t kNoDiskLimit = std::numeric_limits<std::uint64_t>::max();

// What a submission may say besides, and what follows from it; most say none of it.
struct Particulars {
    std::optional<WallTime> not_before;
    std::optional<WallTime> expires_at;
    SessionId parent;
    SessionId retry_of;
    // From the root down to the parent. Parents may be final and gone while their descendants live.
    std::vector<SessionId> ancestors;
    std::optional<Fence> parent_fence;  // the attempt of the parent that submitted it
    // Bit i: what is below ancestors[i] on the way here was submitted from inside an attempt of it.
    std::uint16_t inside_links = 0;
    std::optional<RetryPolicy> retry;
    std::vector<Dependency> after;
    bool keep_children = false;
    std::vector<std::string> tags;
    std::string metadata;
    std::uint64_t disk_limit = kNoDiskLimit;
    std::optional<Duration> estimate;
    Deadlines deadlines;
};

// What became of it so far; a session that only waits has none of it.
struct Progress {
    WorkerName worker;     // holds or held the attempt of `fence`
    std::string host;      // of that worker at that time
    std::string state_id;  // of that worker at that time
    std::optional<WallTime> started_at;
    std::string workspace;
    std::string last_reason;           // of the last AttemptReturned
    std::optional<WallTime> retry_at;  // likewise
    bool failed_by_itself = false;     // likewise: no fault of the platform, so it was reported
    std::optional<KillWished> kill;
    std::unique_ptr<SessionEnded> ended;  // without the bytes of the result
    Origin owner;                         // of the workspace, once ended; empty: nobody's
    // Reports already kept as superseded, at most kSupersededMax: a peer that repeats itself or
    // makes up fences must fill neither journal nor memory.
    std::vector<ReportSuperseded> superseded;
};

struct Session {
    const SessionId* id = nullptr;  // the key in the table of sessions
    PlacementClass* placement =
        nullptr;                       // agent, project, origin, requirements; shared by all alike
    const std::string* key = nullptr;  // in the index of keys; null: submitted without one
    std::unique_ptr<Particulars> particulars;
    std::unique_ptr<Progress> progress;
    WallTime created_at;
    std::uint64_t ordinal = 0;  // order of creation
    // In the queue, smaller is earlier: acceptance or due time less the worth of priority. Set
    // like the deadlines.
    std::int64_t order = 0;
    Fence fence;  // of the newest attempt
    Duration timeout{0};
    std::uint32_t revision = 0;
    std::int8_t priority = 0;
    std::uint8_t platform_faults = 0;
    std::uint8_t attempts_used = 0;  // that count against the retry policy
    Phase phase : 4 = Phase::queued;
    OnLost on_lost : 4 = OnLost::wait;

    // Read access that does not care whether there is any.
    const Particulars& particular() const;
    const Progress& progressed() const;
    // Write access; makes it when there is none.
    Particulars& particulars_made();
    Progress& progress_made();

    // Setting back to none makes nothing.
    void set_due_at(Timestamp due_at);
    void set_expire_at(Timestamp expire_at);
    Timestamp due_at() const { return particular().deadlines.due_at; }
    Timestamp expire_at() const { return particular().deadlines.expire_at; }
    bool is_due_later() const { return due_at() != Deadlines::kNoDue; }
    bool can_expire() const { return expire_at() != Deadlines::kNoExpiry; }

    // Attempts that the retry policy allows; one where there is none.
    std::uint32_t attempts_max() const;

    // An attempt is out and unfinished.
    bool is_held() const { return phase == Phase::assigned || phase == Phase::running; }
    // This attempt or an earlier one. A workspace is made by starting alone, and stays.
    bool has_started() const {
        return progressed().started_at.has_value() || !progressed().workspace.empty();
    }
    bool is_kill_wished() const { return progressed().kill.has_value(); }
};

static_assert(sizeof(Session) <= 88, "a million of these wait in a full queue");

// Whether it is the session with that id, or below it.
bool is_at_or_below(const Session& session, const SessionId& top);
// Whether it is the session with that id, or was submitted inside it, or inside such a one: what an
// attempt of it may rule over. Whom somebody else has put below it is not its own.
bool is_own(const Session& session, const SessionId& top);
// What records alone say that the session shows.
StatusChange shown(const Session& session);
// "CREATED/queued".
std::string status_text(StatusChange shown);

}  // namespace iw::broker
