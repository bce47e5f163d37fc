#include "broker/database/projection.h"

#include <algorithm>
#include <string>
#include <utility>

#include "broker/database/rows.h"
#include "common/base/overloaded.h"

namespace iw::broker {

using sqlite::Statement;

// Prepared once: at thousands of records a second, compiling SQL would be most of the work.
struct Projection::Statements {
    Statement find;
    Statement create;
    Statement add_prompt;
    Statement add_key;
    Statement assign;
    Statement add_attempt;
    Statement start;
    Statement start_attempt;
    Statement give_back;
    Statement end_attempt;
    Statement end;
    Statement add_result;
    Statement close;
    Statement wish_kill;
    Statement revise;
    Statement add_superseded;
    Statement set_timeout;
    Statement adopt_attempt;
    Statement edit;
    Statement set_parent;
    Statement find_ancestors;
    Statement set_ancestors;
    Statement find_worker;
    Statement register_worker;
    Statement take_over;
    Statement note_worker;
    Statement lay_hold;
    Statement lift_hold;
    Statement begin_epoch;
    Statement add_epoch;
    Statement release;
    Statement add_event;
    Statement audit;
};

namespace {

constexpr const char* kFind =
    "SELECT number, status, detail, revision, generation, attempt, assigned, host, outcome, "
    "outcome_detail, reason, outcome_kill_reason, result_status FROM sessions WHERE id = ?";
constexpr const char* kCreate =
    "INSERT INTO sessions(number, id, principal, created_at, not_before, expires_at, agent, "
    "project, origin_host, origin_root, agent_in_project, queue_anyway, priority, delay, expires, "
    "timeout, disk_limit, on_lost, parent, retry_of, wanted_host, require, tags, key, status, "
    "detail, metadata, retry, dependencies, keep_children, parent_generation, parent_attempt, "
    "ancestors, is_plain, estimate) "
    "VALUES(?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)";
constexpr const char* kAssign =
    "UPDATE sessions SET revision = ?, status = ?, detail = ?, generation = ?, attempt = ?, "
    "assigned = 1, worker = ?, host = ?, started_at = NULL, worker_state_id = "
    "coalesce((SELECT state_id FROM workers WHERE name = ?), '') WHERE number = ?";
constexpr const char* kAddAttempt =
    "INSERT INTO attempts(session, generation, attempt, worker, host, assigned_at) "
    "VALUES(?,?,?,?,?,?)";
constexpr const char* kStart =
    "UPDATE sessions SET revision = ?, status = ?, detail = ?, started_at = ?, workspace = ? "
    "WHERE number = ?";
constexpr const char* kStartAttempt =
    "UPDATE attempts SET started_at = ?, workspace = ? "
    "WHERE session = ? AND generation = ? AND attempt = ?";
constexpr const char* kGiveBack =
    "UPDATE sessions SET revision = ?, status = ?, detail = ?, assigned = 0, started_at = NULL, "
    "platform_faults = platform_faults + ?, attempts_used = attempts_used + ?, last_reason = ?, "
    "retry_at = ?, failed_by_itself = ? WHERE number = ?";
constexpr const char* kEndAttempt =
    "UPDATE attempts SET over_at = ?, cause = ?, platform_fault = ?, reason = ?, evidence = ?, "
    "exit_code = ? WHERE session = ? AND generation = ? AND attempt = ?";
constexpr const char* kEnd =
    "UPDATE sessions SET revision = ?, status = ?, detail = ?, assigned = 0, outcome = ?, "
    "outcome_detail = ?, ended_generation = ?, ended_attempt = ?, reason = ?, "
    "outcome_kill_reason = ?, exit_code = ?, ended_started_at = ?, completed_at = ?, "
    "ended_workspace = ?, result_status = ?, result_size = ?, result_sha256 = ?, "
    "result_inline = ?, evidence = ?, attempts_used = attempts_used + ?, manifest = ?, "
    "delivered_files = ?, delivered_bytes = ? WHERE number = ?";
constexpr const char* kClose =
    "UPDATE sessions SET revision = ?, status = ?, detail = ?, closed_at = ?, closed_by = ? "
    "WHERE number = ?";
constexpr const char* kWishKill =
    "UPDATE sessions SET revision = ?, status = ?, detail = ?, kill_cause = ?, "
    "kill_principal = ?, kill_reason = ? WHERE number = ?";
constexpr const char* kAddSuperseded =
    "INSERT INTO superseded(seq, session, time, generation, attempt, report, worker, what, cause, "
    "exit_code, result) VALUES(?,?,?,?,?,?,?,?,?,?,?)";
constexpr const char* kSetTimeout =
    "UPDATE sessions SET revision = ?, timeout = ? WHERE number = ?";
// The attempt may be one that was over here, or one that the restored state never heard of.
constexpr const char* kAdoptAttempt =
    "INSERT INTO attempts(session, generation, attempt, worker, host, assigned_at) "
    "VALUES(?,?,?,?,?,?) ON CONFLICT DO UPDATE SET worker = excluded.worker, host = excluded.host, "
    "started_at = NULL, over_at = NULL, cause = NULL, platform_fault = NULL, exit_code = NULL, "
    "reason = '', evidence = ''";
constexpr const char* kEdit =
    "UPDATE sessions SET revision = ?, tags = coalesce(?, tags), "
    "metadata = coalesce(?, metadata), is_plain = 0 WHERE number = ?";
constexpr const char* kSetParent =
    "UPDATE sessions SET parent = ?, ancestors = ?, parent_generation = NULL, "
    "parent_attempt = NULL WHERE number = ?";
constexpr const char* kLayHold =
    "INSERT OR REPLACE INTO holds(scope, name, principal, reason, since, until) "
    "VALUES(?,?,?,?,?,?)";
constexpr const char* kBeginEpoch =
    "UPDATE meta SET epoch = ?, generation = ?, restored = ?, restored_why = ?";
constexpr const char* kAddEpoch =
    "INSERT INTO epochs(seq, time, epoch, generation, reason, principal) VALUES(?,?,?,?,?,?)";
constexpr const char* kRegisterWorker =
    "INSERT INTO workers(name, host, root, project, state_id, boot_id, start_count, slots, agents, "
    "labels, software, registered_at, state, state_at, evidence) "
    "VALUES(?,?,?,?,?,?,?,?,?,?,?,?,'up',?,'') ON CONFLICT DO UPDATE SET host = excluded.host, "
    "root = excluded.root, project = excluded.project, state_id = excluded.state_id, "
    "boot_id = excluded.boot_id, start_count = excluded.start_count, slots = excluded.slots, "
    "agents = excluded.agents, labels = excluded.labels, software = excluded.software, "
    "registered_at = excluded.registered_at";
// A state directory that starts under another name brings its attempts along.
constexpr const char* kTakeOver =
    "UPDATE sessions SET worker = ?, host = ? WHERE closed_at IS NULL AND assigned = 1 "
    "AND worker_state_id = ? AND worker_state_id <> '' AND worker <> ?";
constexpr const char* kAddEvent =
    "INSERT INTO events(seq, time, session, worker, revision, status, detail, state, attempt, "
    "host, reason, result_status, scope) VALUES(?,?,?,?,?,?,?,?,?,?,?,?,?)";

// A session as it stands before the record.
struct Before {
    Seq number = 0;
    SessionStatus status = SessionStatus::created;
    Detail detail = Detail::queued;
    std::uint64_t revision = 0;
    Fence fence;
    bool assigned = false;
    std::string host;
    std::optional<StatusChange> outcome;
    std::string reason;
    std::string kill_reason;
    std::string result_status;
};

// Nothing: there is no such session.
Result<std::optional<Before>> find_session(Statement& find, const SessionId& id) {
    const sqlite::ResetLater reset_later(find);
    find.bind_all(id);
    const Result<bool> row = find.step();
    if (!row) return row.error();
    if (!*row) return std::optional<Before>();
    Before before;
    std::optional<SessionStatus> outcome;
    std::optional<Detail> detail;
    sqlite::RowReader(find, 0).take_all(
        before.number, before.status, before.detail, before.revision, before.fence.generation,
        before.fence.attempt, before.assigned, before.host, outcome, detail, before.reason,
        before.kill_reason, before.result_status);
    if (outcome && detail) before.outcome = StatusChange{*outcome, *detail};
    return std::optional(std::move(before));
}

// What a record changes for outsiders.
struct Change {
    Seq session = 0;
    std::uint64_t revision = 1;
    StatusChange shown{SessionStatus::created, Detail::queued};
    std::uint32_t attempt = 0;
    std::string host;
    std::string reason;
    std::string result_status;
};

// "by uid:0: new disks; until 2025-11-18T15:30:42Z", for people.
std::string by_whom(const Principal& principal, const std::string& reason,
                    const std::optional<WallTime>& until) {
    std::string text = "by " + principal;
    if (!reason.empty()) text += ": " + reason;
    if (until) text += "; until " + format_utc(*until);
    return text;
}

// Whether it says nothing but what the columns of a plain session hold (rows.h).
bool is_plain(const SessionCreated& created) {
    const Submission& s = created.submission;
    const bool has_times = created.not_before || created.expires_at || s.expires ||
                           s.delay != Duration(0) || s.disk_limit;
    const bool has_family = created.parent_fence || !created.ancestors.empty() ||
                            !s.parent.empty() || !s.retry_of.empty() || s.keep_children;
    const bool has_wishes = s.retry || !s.after.empty() || !s.host.empty() || !s.require.empty();
    const bool has_words = !s.tags.empty() || !s.metadata.empty() || s.estimate;
    return !has_times && !has_family && !has_wishes && !has_words;
}

std::string_view word_of(const HoldChanged& changed) {
    if (changed.scope == HoldScope::worker) return changed.on ? "drained" : "undrained";
    return changed.on ? "paused" : "resumed";
}

// What a deed upon a hold is called in the audit.
std::string_view deed_of(const HoldChanged& changed) {
    if (changed.scope == HoldScope::worker) return changed.on ? "drain" : "undrain";
    return changed.on ? "pause" : "resume";
}

// Writes the rows of one record; made for it and gone with it.
class Step {
  public:
    Step(Projection::Statements& statements, const Record& record)
        : sql_(statements), record_(record) {}

    Status of_session(const SessionId& id);
    Status on(const SessionCreated& created);
    Status on(const WorkerRegistered& registered);
    Status on(const WorkerNoted& noted);
    Status on(const HoldChanged& changed);
    Status on(const EpochBegun& begun);
    Status on(const RestoreReleased& released);

  private:
    Status on(const AttemptAssigned& assigned);
    Status on(const AttemptStarted& started);
    Status on(const AttemptReturned& returned);
    Status on(const SessionEnded& ended);
    Status on(const SessionClosed& closed);
    Status on(const KillWished& wished);
    Status on(const ReportSuperseded& superseded);
    Status on(const TimeoutChanged& changed);
    Status on(const AttemptAdopted& adopted);
    Status on(const SessionEdited& edited);

    Status move_family(const SessionEdited& edited);
    Status add_event();
    // Of the fleet, or of a project, agent or worker of that name.
    Status add_event_of(HoldScope scope, const std::string& name, std::string_view state,
                        const std::string& host, const std::string& reason);
    Status take_attempt_on(const AttemptAdopted& adopted);

    Projection::Statements& sql_;
    const Record& record_;
    Before before_;
    Change change_;
};

Status Step::of_session(const SessionId& id) {
    Result<std::optional<Before>> found = find_session(sql_.find, id);
    if (!found) return found.error();
    // An edited session may be past its retention by now.
    if (!*found && std::holds_alternative<SessionEdited>(record_.body)) return Done{};
    if (!*found) {
        return make_error(ErrorCode::internal, "record " + std::to_string(record_.seq) + " (" +
                                                   std::string(name(record_.body)) +
                                                   ") is about session " + id.str() +
                                                   ", which the database does not have");
    }
    before_ = std::move(**found);
    const auto shown = status_after(record_.body, before_.outcome, before_.status);
    change_ = {.session = before_.number,
               .revision = before_.revision + 1,
               .shown = shown.value_or(StatusChange{before_.status, before_.detail}),
               .attempt = before_.fence.attempt,
               .host = before_.host,
               .reason = {},
               .result_status = {}};
    return std::visit(overloaded{[this](const AttemptAssigned& body) { return on(body); },
                                 [this](const AttemptStarted& body) { return on(body); },
                                 [this](const AttemptReturned& body) { return on(body); },
                                 [this](const SessionEnded& body) { return on(body); },
                                 [this](const SessionClosed& body) { return on(body); },
                                 [this](const KillWished& body) { return on(body); },
                                 [this](const ReportSuperseded& body) { return on(body); },
                                 [this](const TimeoutChanged& body) { return on(body); },
                                 [this](const AttemptAdopted& body) { return on(body); },
                                 [this](const SessionEdited& body) { return on(body); },
                                 [](const auto&) -> Status { return Done{}; }},
                      record_.body);
}

Status Step::on(const SessionCreated& created) {
    const Submission& s = created.submission;
    const auto shown = status_after(record_.body, std::nullopt, SessionStatus::created);
    change_ = {.session = record_.seq,
               .revision = 1,
               .shown = shown.value_or(StatusChange{SessionStatus::created, Detail::queued}),
               .attempt = 0,
               .host = {},
               .reason = {},
               .result_status = {}};
    std::optional<std::uint32_t> parent_generation;
    std::optional<std::uint32_t> parent_attempt;
    if (created.parent_fence) {
        parent_generation = created.parent_fence->generation;
        parent_attempt = created.parent_fence->attempt;
    }
    Status done = sql_.create.run(
        record_.seq, created.id, created.principal, record_.time, created.not_before,
        created.expires_at, s.agent, s.project, s.origin.host, s.origin.root, s.agent_in_project,
        s.queue_anyway, s.priority, s.delay, s.expires, s.timeout, s.disk_limit, s.on_lost,
        s.parent, s.retry_of, s.host, pack_map(s.require), pack_list(s.tags), s.key,
        change_.shown.status, change_.shown.detail, s.metadata, pack_retry(s.retry),
        pack_dependencies(s.after), s.keep_children, parent_generation, parent_attempt,
        pack_ids(created.ancestors), is_plain(created), s.estimate);
    if (!done) return done;
    done = sql_.add_prompt.run(record_.seq, s.prompt, s.result_schema,
                               content_digest(s.prompt, s.result_schema));
    if (!done) return done;
    if (!s.key.empty()) {
        const std::string_view hash(reinterpret_cast<const char*>(created.body_hash.data()),
                                    created.body_hash.size());
        done = sql_.add_key.run(created.principal, s.key, record_.seq, sqlite::Blob{hash});
        if (!done) return done;
    }
    done = sql_.audit.run(record_.seq, record_.time, created.principal, "submit", created.id, "");
    if (!done) return done;
    return add_event();
}

Status Step::on(const AttemptAssigned& assigned) {
    const Fence& fence = assigned.fence;
    Status done = sql_.assign.run(change_.revision, change_.shown.status, change_.shown.detail,
                                  fence.generation, fence.attempt, assigned.worker, assigned.host,
                                  assigned.worker, before_.number);
    if (!done) return done;
    done = sql_.add_attempt.run(before_.number, fence.generation, fence.attempt, assigned.worker,
                                assigned.host, record_.time);
    if (!done) return done;
    change_.attempt = fence.attempt;
    change_.host = assigned.host;
    return add_event();
}

Status Step::on(const AttemptStarted& started) {
    Status done = sql_.start.run(change_.revision, change_.shown.status, change_.shown.detail,
                                 started.started_at, started.workspace, before_.number);
    if (!done) return done;
    done = sql_.start_attempt.run(started.started_at, started.workspace, before_.number,
                                  started.fence.generation, started.fence.attempt);
    if (!done) return done;
    return add_event();
}

Status Step::on(const AttemptReturned& returned) {
    Status done =
        sql_.give_back.run(change_.revision, change_.shown.status, change_.shown.detail,
                           returned.platform_fault, !returned.platform_fault, returned.reason,
                           returned.retry_at, !returned.platform_fault, before_.number);
    if (!done) return done;
    done = sql_.end_attempt.run(record_.time, returned.cause, returned.platform_fault,
                                returned.reason, returned.evidence, returned.exit_code,
                                before_.number, returned.fence.generation, returned.fence.attempt);
    if (!done) return done;
    change_.reason = returned.reason;
    return add_event();
}

Status Step::on(const SessionEnded& ended) {
    const Delivered delivered = ended.deliverables.value_or(Delivered{});
    Status done =
        sql_.end.run(change_.revision, change_.shown.status, change_.shown.detail, ended.status,
                     ended.detail, ended.fence.generation, ended.fence.attempt, ended.reason,
                     ended.kill_reason, ended.exit_code, ended.started_at, ended.completed_at,
                     ended.workspace, ended.result_status, ended.result_size, ended.result_sha256,
                     ended.result_inline, ended.evidence, is_attempt_used(ended),
                     delivered.manifest, delivered.files, delivered.bytes, before_.number);
    if (!done) return done;
    if (ended.result_inline) {
        done = sql_.add_result.run(before_.number, sqlite::Blob{ended.result},
                                   content_digest(ended.result));
        if (!done) return done;
    }
    // A session that ended in the queue has at most an earlier attempt, whose own end is written
    // already.
    if (before_.assigned) {
        done = sql_.end_attempt.run(record_.time, ended.detail, false, ended.reason, ended.evidence,
                                    ended.exit_code, before_.number, ended.fence.generation,
                                    ended.fence.attempt);
        if (!done) return done;
    }
    change_.reason = ended.reason;
    change_.result_status = ended.result_status;
    return add_event();
}

Status Step::on(const SessionClosed& closed) {
    const Status done = sql_.close.run(change_.revision, change_.shown.status, change_.shown.detail,
                                       record_.time, closed.by, before_.number);
    if (!done) return done;
    change_.reason = before_.reason.empty() ? before_.kill_reason : before_.reason;
    change_.result_status = before_.result_status;
    return add_event();
}

Status Step::on(const KillWished& wished) {
    Status done = sql_.wish_kill.run(change_.revision, change_.shown.status, change_.shown.detail,
                                     wished.cause, wished.principal, wished.reason, before_.number);
    if (!done) return done;
    done = sql_.audit.run(record_.seq, record_.time, wished.principal, "kill", wished.id,
                          wished.reason);
    if (!done) return done;
    change_.reason = wished.reason;
    return add_event();
}

// Nothing that outsiders see but the revision; kept beside the deeds of people, where one looks for
// the odd.
Status Step::on(const ReportSuperseded& superseded) {
    Status done = sql_.revise.run(change_.revision, before_.number);
    if (!done) return done;
    done = sql_.add_superseded.run(
        record_.seq, before_.number, record_.time, superseded.fence.generation,
        superseded.fence.attempt, superseded.number, superseded.worker, superseded.what,
        superseded.cause, superseded.exit_code, sqlite::Blob{superseded.result});
    if (!done) return done;
    const std::string remark = "attempt " + std::to_string(superseded.fence.generation) + "-" +
                               std::to_string(superseded.fence.attempt) + ", report " +
                               std::to_string(superseded.number) + ": " + superseded.what;
    return sql_.audit.run(record_.seq, record_.time, "", "superseded", superseded.id, remark);
}

Status Step::on(const TimeoutChanged& changed) {
    Status done = sql_.set_timeout.run(change_.revision, changed.timeout, before_.number);
    if (!done) return done;
    const std::string remark = "timeout " + format_duration(changed.timeout);
    done =
        sql_.audit.run(record_.seq, record_.time, changed.principal, "extend", changed.id, remark);
    if (!done) return done;
    change_.reason = remark + ", " + by_whom(changed.principal, "", std::nullopt);
    return add_event();
}

Status Step::on(const AttemptAdopted& adopted) {
    const Fence& fence = adopted.fence;
    Status done = sql_.assign.run(change_.revision, change_.shown.status, change_.shown.detail,
                                  fence.generation, fence.attempt, adopted.worker, adopted.host,
                                  adopted.worker, before_.number);
    if (!done) return done;
    done = take_attempt_on(adopted);
    if (!done) return done;
    change_.attempt = fence.attempt;
    change_.host = adopted.host;
    change_.reason = "taken on from " + adopted.worker.str() + " after a restore";
    return add_event();
}

Status Step::take_attempt_on(const AttemptAdopted& adopted) {
    const Fence& fence = adopted.fence;
    if (before_.assigned && before_.fence != fence) {
        const Status over = sql_.end_attempt.run(
            record_.time, std::nullopt, true,
            "a later attempt was found at " + adopted.worker.str() + " after a restore", "",
            std::nullopt, before_.number, before_.fence.generation, before_.fence.attempt);
        if (!over) return over;
    }
    return sql_.adopt_attempt.run(before_.number, fence.generation, fence.attempt, adopted.worker,
                                  adopted.host, record_.time);
}

Status Step::on(const SessionEdited& edited) {
    std::optional<std::string> tags;
    if (edited.tags) tags = pack_list(*edited.tags);
    Status done = sql_.edit.run(change_.revision, tags, edited.metadata, before_.number);
    if (!done) return done;
    std::string parts = edited.parent ? " parent" : "";
    if (edited.tags) parts += " tags";
    if (edited.metadata) parts += " metadata";
    done = sql_.audit.run(record_.seq, record_.time, edited.principal, "edit", edited.id,
                          "edited:" + parts);
    if (!done) return done;
    if (edited.parent) done = move_family(edited);
    // Of a final session nothing is news.
    if (!done || is_final(before_.status)) return done;
    change_.reason = "edited" + parts + ", " + by_whom(edited.principal, "", std::nullopt);
    return add_event();
}

// Those below keep what is between them and the session.
Status Step::move_family(const SessionEdited& edited) {
    Status done = sql_.set_parent.run(*edited.parent, pack_ids(edited.ancestors), before_.number);
    for (const SessionId& id : edited.below) {
        if (!done) return done;
        std::vector<SessionId> above;
        {
            const sqlite::ResetLater reset_later(sql_.find_ancestors);
            sql_.find_ancestors.bind_all(id);
            const Result<bool> row = sql_.find_ancestors.step();
            if (!row) return row.error();
            if (!*row) continue;
            above = unpack_ids(sql_.find_ancestors.text(0));
        }
        const auto own = std::find(above.begin(), above.end(), edited.id);
        std::vector<SessionId> moved = edited.ancestors;
        moved.insert(moved.end(), own, above.end());
        done = sql_.set_ancestors.run(pack_ids(moved), id);
    }
    return done;
}

Status Step::on(const HoldChanged& changed) {
    Status done = Done{};
    if (changed.on) {
        done = sql_.lay_hold.run(changed.scope, changed.name, changed.principal, changed.reason,
                                 record_.time, changed.until);
    } else {
        done = sql_.lift_hold.run(changed.scope, changed.name);
    }
    if (!done) return done;
    const std::string of = std::string(name(changed.scope)) + " " + changed.name;
    done = sql_.audit.run(record_.seq, record_.time, changed.principal, deed_of(changed), "",
                          of + ": " + changed.reason);
    if (!done) return done;
    return add_event_of(changed.scope, changed.name, word_of(changed), "",
                        by_whom(changed.principal, changed.reason, changed.until));
}

Status Step::on(const EpochBegun& begun) {
    const std::string why = begun.hold ? begun.reason : "";
    Status done = sql_.begin_epoch.run(begun.epoch, begun.generation, begun.hold, why);
    if (!done) return done;
    done = sql_.add_epoch.run(record_.seq, record_.time, begun.epoch, begun.generation,
                              begun.reason, begun.principal);
    if (!done) return done;
    done = sql_.audit.run(record_.seq, record_.time, begun.principal, "epoch", "", begun.reason);
    if (!done) return done;
    return add_event_of(HoldScope::fleet, "", "restored", "",
                        by_whom(begun.principal, begun.reason, std::nullopt));
}

Status Step::on(const RestoreReleased& released) {
    Status done = sql_.release.run();
    if (!done) return done;
    done = sql_.audit.run(record_.seq, record_.time, released.principal, "release", "",
                          released.reason);
    if (!done) return done;
    return add_event_of(HoldScope::fleet, "", "released", "",
                        by_whom(released.principal, released.reason, std::nullopt));
}

Status Step::on(const WorkerRegistered& registered) {
    bool is_known = false;
    {
        const sqlite::ResetLater reset_later(sql_.find_worker);
        sql_.find_worker.bind_all(registered.name);
        const Result<bool> row = sql_.find_worker.step();
        if (!row) return row.error();
        is_known = *row;
    }
    const Status moved =
        sql_.take_over.run(registered.name, registered.host, registered.state_id, registered.name);
    if (!moved) return moved;
    const Status done = sql_.register_worker.run(
        registered.name, registered.host, registered.root, registered.project, registered.state_id,
        registered.boot_id, registered.start_count, registered.slots, pack_list(registered.agents),
        pack_map(registered.labels), registered.software, record_.time, record_.time);
    if (!done || is_known) return done;
    return add_event_of(HoldScope::worker, registered.name.str(), "up", registered.host, "");
}

Status Step::on(const WorkerNoted& noted) {
    std::string state;
    std::string host;
    {
        const sqlite::ResetLater reset_later(sql_.find_worker);
        sql_.find_worker.bind_all(noted.name);
        const Result<bool> row = sql_.find_worker.step();
        if (!row) return row.error();
        if (*row) sqlite::RowReader(sql_.find_worker, 0).take_all(state, host);
    }
    const Status done = sql_.note_worker.run(noted.state, record_.time, noted.evidence, noted.name);
    if (!done || state == noted.state) return done;
    return add_event_of(HoldScope::worker, noted.name.str(), noted.state, host, noted.evidence);
}

Status Step::add_event() {
    return sql_.add_event.run(record_.seq, record_.time, change_.session, "", change_.revision,
                              change_.shown.status, change_.shown.detail, "", change_.attempt,
                              change_.host, change_.reason, change_.result_status, std::nullopt);
}

Status Step::add_event_of(HoldScope scope, const std::string& name, std::string_view state,
                          const std::string& host, const std::string& reason) {
    return sql_.add_event.run(record_.seq, record_.time, std::nullopt, name, 0, std::nullopt,
                              std::nullopt, state, 0, host, reason, "", scope);
}

}  // namespace

Projection::Projection(std::unique_ptr<Statements> statements)
    : statements_(std::move(statements)) {}
Projection::~Projection() = default;

Result<std::unique_ptr<Projection>> Projection::prepare(sqlite::Connection& connection) {
    auto statements = std::make_unique<Statements>();
    Statements& s = *statements;
    const std::pair<Statement*, const char*> all[] = {
        {&s.find, kFind},
        {&s.create, kCreate},
        {&s.add_prompt,
         "INSERT INTO prompts(session, prompt, result_schema, digest) VALUES(?,?,?,?)"},
        {&s.add_key, "INSERT INTO keys(principal, key, session, body_hash) VALUES(?,?,?,?)"},
        {&s.assign, kAssign},
        {&s.add_attempt, kAddAttempt},
        {&s.start, kStart},
        {&s.start_attempt, kStartAttempt},
        {&s.give_back, kGiveBack},
        {&s.end_attempt, kEndAttempt},
        {&s.end, kEnd},
        {&s.add_result, "INSERT INTO results(session, result, digest) VALUES(?,?,?)"},
        {&s.close, kClose},
        {&s.wish_kill, kWishKill},
        {&s.revise, "UPDATE sessions SET revision = ? WHERE number = ?"},
        {&s.add_superseded, kAddSuperseded},
        {&s.set_timeout, kSetTimeout},
        {&s.adopt_attempt, kAdoptAttempt},
        {&s.edit, kEdit},
        {&s.set_parent, kSetParent},
        {&s.find_ancestors, "SELECT ancestors FROM sessions WHERE id = ?"},
        {&s.set_ancestors, "UPDATE sessions SET ancestors = ? WHERE id = ?"},
        {&s.find_worker, "SELECT state, host FROM workers WHERE name = ?"},
        {&s.register_worker, kRegisterWorker},
        {&s.take_over, kTakeOver},
        {&s.note_worker, "UPDATE workers SET state = ?, state_at = ?, evidence = ? WHERE name = ?"},
        {&s.lay_hold, kLayHold},
        {&s.lift_hold, "DELETE FROM holds WHERE scope = ? AND name = ?"},
        {&s.begin_epoch, kBeginEpoch},
        {&s.add_epoch, kAddEpoch},
        {&s.release, "UPDATE meta SET restored = 0, restored_why = ''"},
        {&s.add_event, kAddEvent},
        {&s.audit,
         "INSERT INTO audit(seq, time, principal, action, session, remark) VALUES(?,?,?,?,?,?)"},
    };
    for (const auto& [statement, sql] : all) {
        Result<Statement> prepared = connection.prepare(sql);
        if (!prepared) return prepared.error();
        *statement = std::move(*prepared);
    }
    return std::unique_ptr<Projection>(new Projection(std::move(statements)));
}

Status Projection::apply(const Record& record) {
    Step step(*statements_, record);
    return std::visit(
        overloaded{[&](const SessionCreated& body) { return step.on(body); },
                   [&](const WorkerRegistered& body) { return step.on(body); },
                   [&](const WorkerNoted& body) { return step.on(body); },
                   [&](const HoldChanged& body) { return step.on(body); },
                   [&](const EpochBegun& body) { return step.on(body); },
                   [&](const RestoreReleased& body) { return step.on(body); },
                   [&](const auto& of_session) { return step.of_session(of_session.id); }},
        record.body);
}

}  // namespace iw::broker
