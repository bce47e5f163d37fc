#include "broker/database/projection.h"

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
    Statement find_worker;
    Statement register_worker;
    Statement take_over;
    Statement note_worker;
    Statement add_event;
    Statement audit;
};

namespace {

constexpr const char* kFind =
    "SELECT number, status, detail, revision, attempt, assigned, host, outcome, outcome_detail, "
    "reason, "
    "outcome_kill_reason, result_status FROM sessions WHERE id = ?";
constexpr const char* kCreate =
    "INSERT INTO sessions(number, id, principal, created_at, not_before, expires_at, agent, "
    "project, origin_host, origin_root, agent_in_project, queue_anyway, priority, delay, expires, "
    "timeout, disk_limit, on_lost, parent, retry_of, wanted_host, require, tags, key, status, "
    "detail, metadata) VALUES(?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)";
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
    "platform_faults = platform_faults + ?, last_reason = ? WHERE number = ?";
constexpr const char* kEndAttempt =
    "UPDATE attempts SET over_at = ?, cause = ?, platform_fault = ?, reason = ?, evidence = ? "
    "WHERE session = ? AND generation = ? AND attempt = ?";
constexpr const char* kEnd =
    "UPDATE sessions SET revision = ?, status = ?, detail = ?, assigned = 0, outcome = ?, "
    "outcome_detail = ?, ended_generation = ?, ended_attempt = ?, reason = ?, "
    "outcome_kill_reason = ?, exit_code = ?, ended_started_at = ?, completed_at = ?, "
    "ended_workspace = ?, result_status = ?, result_size = ?, result_sha256 = ?, "
    "result_inline = ?, evidence = ? WHERE number = ?";
constexpr const char* kClose =
    "UPDATE sessions SET revision = ?, status = ?, detail = ?, closed_at = ?, closed_by = ? "
    "WHERE number = ?";
constexpr const char* kWishKill =
    "UPDATE sessions SET revision = ?, status = ?, detail = ?, kill_cause = ?, "
    "kill_principal = ?, kill_reason = ? WHERE number = ?";
constexpr const char* kRegisterWorker =
    "INSERT OR REPLACE INTO workers(name, host, root, project, state_id, boot_id, start_count, "
    "slots, agents, labels, software, registered_at, state, state_at, evidence) "
    "VALUES(?,?,?,?,?,?,?,?,?,?,?,?,'up',?,'')";
// A state directory that starts under another name brings its attempts along.
constexpr const char* kTakeOver =
    "UPDATE sessions SET worker = ?, host = ? WHERE closed_at IS NULL AND assigned = 1 "
    "AND worker_state_id = ? AND worker_state_id <> '' AND worker <> ?";
constexpr const char* kAddEvent =
    "INSERT INTO events(seq, time, session, worker, revision, status, detail, state, attempt, "
    "host, reason, result_status) VALUES(?,?,?,?,?,?,?,?,?,?,?,?)";

// A session as it stands before the record.
struct Before {
    Seq number = 0;
    SessionStatus status = SessionStatus::created;
    Detail detail = Detail::queued;
    std::uint64_t revision = 0;
    std::uint32_t attempt = 0;
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
    sqlite::RowReader(find, 0).take_all(before.number, before.status, before.detail,
                                        before.revision, before.attempt, before.assigned,
                                        before.host, outcome, detail, before.reason,
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

// Writes the rows of one record; made for it and gone with it.
class Step {
  public:
    Step(Projection::Statements& statements, const Record& record)
        : sql_(statements), record_(record) {}

    Status of_session(const SessionId& id);
    Status on(const SessionCreated& created);
    Status on(const WorkerRegistered& registered);
    Status on(const WorkerNoted& noted);

  private:
    Status on(const AttemptAssigned& assigned);
    Status on(const AttemptStarted& started);
    Status on(const AttemptReturned& returned);
    Status on(const SessionEnded& ended);
    Status on(const SessionClosed& closed);
    Status on(const KillWished& wished);
    Status on(const ReportSuperseded& superseded);

    Status add_event();
    Status add_worker_event(const WorkerName& name, const std::string& state,
                            const std::string& host, const std::string& reason);
    Status end_attempt(const Fence& fence, Detail cause, bool platform_fault,
                       const std::string& reason, const std::string& evidence);

    Projection::Statements& sql_;
    const Record& record_;
    Before before_;
    Change change_;
};

Status Step::of_session(const SessionId& id) {
    Result<std::optional<Before>> found = find_session(sql_.find, id);
    if (!found) return found.error();
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
               .attempt = before_.attempt,
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
    Status done = sql_.create.run(
        record_.seq, created.id, created.principal, record_.time, created.not_before,
        created.expires_at, s.agent, s.project, s.origin.host, s.origin.root, s.agent_in_project,
        s.queue_anyway, s.priority, s.delay, s.expires, s.timeout, s.disk_limit, s.on_lost,
        s.parent, s.retry_of, s.host, pack_map(s.require), pack_list(s.tags), s.key,
        change_.shown.status, change_.shown.detail, s.metadata);
    if (!done) return done;
    done = sql_.add_prompt.run(record_.seq, s.prompt);
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
    Status done = sql_.give_back.run(change_.revision, change_.shown.status, change_.shown.detail,
                                     returned.platform_fault, returned.reason, before_.number);
    if (!done) return done;
    done = end_attempt(returned.fence, returned.cause, returned.platform_fault, returned.reason,
                       returned.evidence);
    if (!done) return done;
    change_.reason = returned.reason;
    return add_event();
}

Status Step::on(const SessionEnded& ended) {
    Status done =
        sql_.end.run(change_.revision, change_.shown.status, change_.shown.detail, ended.status,
                     ended.detail, ended.fence.generation, ended.fence.attempt, ended.reason,
                     ended.kill_reason, ended.exit_code, ended.started_at, ended.completed_at,
                     ended.workspace, ended.result_status, ended.result_size, ended.result_sha256,
                     ended.result_inline, ended.evidence, before_.number);
    if (!done) return done;
    if (ended.result_inline) {
        done = sql_.add_result.run(before_.number, sqlite::Blob{ended.result});
        if (!done) return done;
    }
    // A session that ended in the queue has at most an earlier attempt, whose own end is written
    // already.
    if (before_.assigned) {
        done = end_attempt(ended.fence, ended.detail, false, ended.reason, ended.evidence);
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
    const Status done = sql_.revise.run(change_.revision, before_.number);
    if (!done) return done;
    const std::string remark = "attempt " + std::to_string(superseded.fence.generation) + "-" +
                               std::to_string(superseded.fence.attempt) + ", report " +
                               std::to_string(superseded.number) + ": " + superseded.what;
    return sql_.audit.run(record_.seq, record_.time, "", "superseded", superseded.id, remark);
}

Status Step::on(const WorkerRegistered& registered) {
    std::string state;
    {
        const sqlite::ResetLater reset_later(sql_.find_worker);
        sql_.find_worker.bind_all(registered.name);
        const Result<bool> row = sql_.find_worker.step();
        if (!row) return row.error();
        if (*row) state = sql_.find_worker.text(0);
    }
    const Status moved =
        sql_.take_over.run(registered.name, registered.host, registered.state_id, registered.name);
    if (!moved) return moved;
    const Status done = sql_.register_worker.run(
        registered.name, registered.host, registered.root, registered.project, registered.state_id,
        registered.boot_id, registered.start_count, registered.slots, pack_list(registered.agents),
        pack_map(registered.labels), registered.software, record_.time, record_.time);
    if (!done || state == "up") return done;
    return add_worker_event(registered.name, "up", registered.host, "");
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
    return add_worker_event(noted.name, noted.state, host, noted.evidence);
}

Status Step::end_attempt(const Fence& fence, Detail cause, bool platform_fault,
                         const std::string& reason, const std::string& evidence) {
    return sql_.end_attempt.run(record_.time, cause, platform_fault, reason, evidence,
                                before_.number, fence.generation, fence.attempt);
}

Status Step::add_event() {
    return sql_.add_event.run(record_.seq, record_.time, change_.session, "", change_.revision,
                              change_.shown.status, change_.shown.detail, "", change_.attempt,
                              change_.host, change_.reason, change_.result_status);
}

Status Step::add_worker_event(const WorkerName& name, const std::string& state,
                              const std::string& host, const std::string& reason) {
    return sql_.add_event.run(record_.seq, record_.time, std::nullopt, name, 0, std::nullopt,
                              std::nullopt, state, 0, host, reason, "");
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
        {&s.add_prompt, "INSERT INTO prompts(session, prompt) VALUES(?,?)"},
        {&s.add_key, "INSERT INTO keys(principal, key, session, body_hash) VALUES(?,?,?,?)"},
        {&s.assign, kAssign},
        {&s.add_attempt, kAddAttempt},
        {&s.start, kStart},
        {&s.start_attempt, kStartAttempt},
        {&s.give_back, kGiveBack},
        {&s.end_attempt, kEndAttempt},
        {&s.end, kEnd},
        {&s.add_result, "INSERT INTO results(session, result) VALUES(?,?)"},
        {&s.close, kClose},
        {&s.wish_kill, kWishKill},
        {&s.revise, "UPDATE sessions SET revision = ? WHERE number = ?"},
        {&s.find_worker, "SELECT state, host FROM workers WHERE name = ?"},
        {&s.register_worker, kRegisterWorker},
        {&s.take_over, kTakeOver},
        {&s.note_worker, "UPDATE workers SET state = ?, state_at = ?, evidence = ? WHERE name = ?"},
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
                   [&](const auto& of_session) { return step.of_session(of_session.id); }},
        record.body);
}

}  // namespace iw::broker
