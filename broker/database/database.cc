#include "broker/database/database.h"

#include <algorithm>
#include <utility>

#include "broker/database/inside_links.h"
#include "broker/database/pages.h"
#include "broker/database/projection.h"
#include "broker/database/pruning.h"
#include "broker/database/rows.h"
#include "broker/database/schema.h"
#include "broker/database/sqlite.h"

namespace iw::broker {
namespace {

using sqlite::Statement;

// A short log keeps a start quick and leaves a checkpoint room on a disk that is nearly full: 16
// MiB.
constexpr int kLogPagesMax = 4000;
// Pages that one call of copy_more() copies: 1 MiB, a few milliseconds.
constexpr int kCopyPages = 256;

// Ids begin `YYYYMMDD-HHMMSS-`.
std::optional<WallTime> second_of(const SessionId& id) {
    const std::string& text = id.str();
    if (text.size() < 15) return std::nullopt;
    return parse_utc(text.substr(0, 4) + "-" + text.substr(4, 2) + "-" + text.substr(6, 2) + "T" +
                     text.substr(9, 2) + ":" + text.substr(11, 2) + ":" + text.substr(13, 2) + "Z");
}

class SqliteDatabase final : public Database {
  public:
    SqliteDatabase(std::unique_ptr<sqlite::Connection> connection, const DatabaseOptions& options)
        : connection_(std::move(connection)), options_(options) {}

    Status prepare();

    std::string epoch() const override { return meta_.epoch; }
    std::uint32_t generation() const override { return meta_.generation; }
    Seq applied() const override { return meta_.applied; }
    Status apply(std::span<const Record> records) override;
    Result<Seq> sync() override;
    Status begin_copy(const std::string& file) override;
    Result<bool> copy_more() override;
    Result<std::uint64_t> bytes() override;
    Result<bool> prune(WallTime now) override;

    Result<LiveState> load_frame() override;
    Status each_live(const std::function<void(LiveSession&&)>& each) override;
    Result<std::optional<SessionView>> session(const SessionId& id) override;
    Result<std::map<SessionId, SessionStatus>> statuses(const std::vector<SessionId>& ids) override;
    Result<std::vector<SessionId>> match(std::string_view prefix, std::size_t max) override;
    Result<ListReply> list(const ListRequest& request) override;
    Result<EventsReply> events(const EventsRequest& request) override;
    Result<std::optional<KeptPrompt>> prompt(const SessionId& id) override;
    Result<std::optional<ResultReply>> result(const SessionId& id) override;
    Result<std::optional<Submission>> submission(const SessionId& id) override;
    Result<std::optional<KnownKey>> key(const Principal& principal,
                                        const std::string& key) override;
    Status each_key(const std::function<void(std::uint64_t digest)>& each) override;

  private:
    struct Meta {
        std::string epoch;
        std::uint32_t generation = 1;
        Seq applied = 0;
        WallTime id_second;
        Seq events_after = 0;  // events up to here have been pruned
        bool restored = false;
        std::string restored_why;
        std::optional<std::int64_t> final_sessions;  // none: not counted yet
    };

    Status read_meta();
    static void note(const Record& record, Meta& meta);
    Status apply_all(std::span<const Record> records, Meta& meta);
    Status checkpoint();
    Status load_newest_ids(LiveState& state);
    Status load_workers(LiveState& state);
    Status load_holds(LiveState& state);
    Result<std::optional<SessionRow>> find_row(const SessionId& id);
    Result<std::optional<std::string>> find_result(const SessionId& id);
    Error is_changed(const SessionId& id) const;
    // The whole of one call in one transaction.
    Status in_transaction(const std::function<Status()>& work);
    Result<std::int64_t> count_final();

    std::unique_ptr<sqlite::Connection> connection_;
    DatabaseOptions options_;
    Meta meta_;
    std::unique_ptr<Projection> projection_;
    Statement write_meta_;
    Statement find_session_;
    Statement find_prompt_;
    Statement find_result_;
    Statement find_key_;
    Statement find_statuses_;
    Statement match_;
    std::unique_ptr<sqlite::Copy> copy_;  // ends before the connection
    std::optional<Error> broken_;
};

Status SqliteDatabase::prepare() {
    const Status opened = open_schema(*connection_);
    if (!opened) return opened;
    // What the process before left in the log is written to the database file and synced first; the
    // log may have been page cache only.
    const Status moved = connection_->checkpoint();
    if (!moved) return moved;
    connection_->watch_log();
    Result<std::unique_ptr<Projection>> projection = Projection::prepare(*connection_);
    if (!projection) return projection.error();
    projection_ = std::move(*projection);
    const std::string find = "SELECT " + std::string(kSessionColumns) + " FROM sessions s ";
    const std::pair<Statement*, std::string> statements[] = {
        {&write_meta_, "UPDATE meta SET applied = ?, id_second = ?, events_after = ?"},
        {&find_session_, find + "WHERE s.id = ?"},
        {&find_prompt_,
         "SELECT p.prompt, p.result_schema, p.digest FROM sessions s JOIN prompts p ON p.session = "
         "s.number WHERE "
         "s.id = ?"},
        {&find_result_,
         "SELECT r.result, r.digest FROM sessions s JOIN results r ON r.session = s.number WHERE "
         "s.id = ?"},
        {&find_key_,
         "SELECT s.id, k.body_hash FROM keys k JOIN sessions s ON s.number = k.session "
         "WHERE k.principal = ?1 AND k.key = ?2 UNION ALL "
         "SELECT id, body_hash FROM kept_keys WHERE principal = ?1 AND key = ?2"},
        {&find_statuses_,
         "SELECT id, status FROM sessions WHERE id IN (SELECT value FROM json_each(?))"},
        {&match_, "SELECT id FROM sessions WHERE id >= ? AND id < ? ORDER BY id LIMIT ?"},
    };
    for (const auto& [statement, sql] : statements) {
        Result<Statement> prepared = connection_->prepare(sql);
        if (!prepared) return prepared.error();
        *statement = std::move(*prepared);
    }
    return read_meta();
}

Status SqliteDatabase::read_meta() {
    Result<Statement> read = connection_->prepare(
        "SELECT epoch, generation, applied, id_second, events_after, restored, restored_why "
        "FROM meta");
    if (!read) return read.error();
    const Result<bool> row = read->step();
    if (!row) return row.error();
    if (!*row) {
        return make_error(
            ErrorCode::config,
            "database " + options_.file +
                " is damaged (no meta row): restore a backup with `ictl restore FOLDER`");
    }
    sqlite::RowReader(*read, 0).take_all(meta_.epoch, meta_.generation, meta_.applied,
                                         meta_.id_second, meta_.events_after, meta_.restored,
                                         meta_.restored_why);
    return Done{};
}

// ---- Changes
// --------------------------------------------------------------------------------------------

Status SqliteDatabase::in_transaction(const std::function<Status()>& work) {
    if (broken_) return *broken_;
    Status done = connection_->execute("BEGIN IMMEDIATE");
    if (done.ok()) done = work();
    if (done.ok()) done = connection_->execute("COMMIT");
    if (done.ok()) return done;
    connection_->roll_back();
    // A full disk undoes the transaction cleanly. After any other failure it is not known what the
    // files hold: SQLite would go on as if nothing had happened, so we do not.
    if (done.error().code != ErrorCode::storage_low) broken_ = done.error();
    return done;
}

Status SqliteDatabase::apply(std::span<const Record> records) {
    if (records.empty()) return Done{};
    for (std::size_t i = 0; i < records.size(); ++i) {
        IW_CHECK(records[i].seq == meta_.applied + 1 + i);
    }
    Meta meta = meta_;
    const Status done = in_transaction([&] { return apply_all(records, meta); });
    if (!done) return done;
    meta_ = std::move(meta);
    if (connection_->log_pages() < kLogPagesMax) return done;
    const Status moved = checkpoint();
    // A checkpoint that finds no room is tried again behind a later batch; this one is in the log.
    if (!moved && moved.error().code != ErrorCode::storage_low) return moved;
    return done;
}

// After a failed sync the kernel takes the pages for clean: a later one may succeed and prove
// nothing.
Status SqliteDatabase::checkpoint() {
    if (broken_) return *broken_;
    const Status moved = connection_->checkpoint();
    if (!moved && moved.error().code != ErrorCode::storage_low) broken_ = moved.error();
    return moved;
}

// What the record changes in the one row of `meta` that is kept in memory, too.
void SqliteDatabase::note(const Record& record, Meta& meta) {
    if (const auto* created = std::get_if<SessionCreated>(&record.body)) {
        meta.id_second = std::max(meta.id_second, second_of(created->id).value_or(meta.id_second));
    }
    if (const auto* begun = std::get_if<EpochBegun>(&record.body)) {
        meta.epoch = begun->epoch;
        meta.generation = begun->generation;
        meta.restored = begun->hold;
        meta.restored_why = begun->hold ? begun->reason : "";
    }
    const bool is_closing = std::holds_alternative<SessionClosed>(record.body);
    if (is_closing && meta.final_sessions) ++*meta.final_sessions;
    if (std::holds_alternative<RestoreReleased>(record.body)) {
        meta.restored = false;
        meta.restored_why.clear();
    }
}

Status SqliteDatabase::apply_all(std::span<const Record> records, Meta& meta) {
    for (const Record& record : records) {
        const Status applied = projection_->apply(record);
        if (!applied) return applied;
        meta.applied = record.seq;
        note(record, meta);
    }
    return write_meta_.run(meta.applied, meta.id_second, meta.events_after);
}

Result<Seq> SqliteDatabase::sync() {
    const Status moved = checkpoint();
    if (!moved) return moved.error();
    return meta_.applied;
}

Status SqliteDatabase::begin_copy(const std::string& file) {
    if (broken_) return *broken_;
    copy_.reset();
    Result<std::unique_ptr<sqlite::Copy>> copy = sqlite::Copy::begin(*connection_, file);
    if (!copy) return copy.error();
    copy_ = std::move(*copy);
    return Done{};
}

Result<bool> SqliteDatabase::copy_more() {
    if (broken_) return *broken_;
    if (!copy_) return make_error(ErrorCode::internal, "no copy of the database has been begun");
    Result<bool> more = copy_->step(kCopyPages);
    if (!more.ok() || !*more) copy_.reset();
    return more;
}

Result<std::uint64_t> SqliteDatabase::bytes() {
    const Result<std::int64_t> pages = connection_->number("PRAGMA page_count");
    if (!pages) return pages.error();
    const Result<std::int64_t> page_size = connection_->number("PRAGMA page_size");
    if (!page_size) return page_size.error();
    return static_cast<std::uint64_t>(*pages) * static_cast<std::uint64_t>(*page_size);
}

Result<bool> SqliteDatabase::prune(WallTime now) {
    const Result<std::int64_t> sessions = count_final();
    if (!sessions) return sessions.error();
    const Retention retention{.events = options_.event_retention,
                              .sessions = options_.session_retention,
                              .sessions_max = options_.sessions_max};
    Pruned pruned;
    const Status done = in_transaction([&]() -> Status {
        const Result<Pruned> piece =
            prune_piece(*connection_, retention, now, meta_.events_after, *sessions);
        if (!piece) return piece.error();
        pruned = *piece;
        return write_meta_.run(meta_.applied, meta_.id_second, pruned.events_after);
    });
    if (!done) return done.error();
    meta_.events_after = pruned.events_after;
    meta_.final_sessions = *sessions - pruned.sessions;
    return pruned.more;
}

// Counted once, then kept up to date.
Result<std::int64_t> SqliteDatabase::count_final() {
    if (meta_.final_sessions) return *meta_.final_sessions;
    Result<std::int64_t> count = connection_->number(
        "SELECT count(*) FROM sessions INDEXED BY sessions_closed WHERE closed_at IS NOT NULL");
    if (count.ok()) meta_.final_sessions = *count;
    return count;
}

// ---- Recovery
// -------------------------------------------------------------------------------------------

Result<LiveState> SqliteDatabase::load_frame() {
    LiveState state;
    state.seq = meta_.applied;
    state.epoch = meta_.epoch;
    state.generation = meta_.generation;
    state.id_second = meta_.id_second;
    state.restored = meta_.restored;
    state.restored_why = meta_.restored_why;
    const Status ids = load_newest_ids(state);
    if (!ids) return ids.error();
    const Status workers = load_workers(state);
    if (!workers) return workers.error();
    const Status holds = load_holds(state);
    if (!holds) return holds.error();
    return state;
}

// Most of a long queue has never been handed out, and most columns say nothing about such a
// session: they are read by a query of their own, which takes a third of the time, and the two are
// merged.
Status SqliteDatabase::each_live(const std::function<void(LiveSession&&)>& each) {
    const std::string notable =
        "(s.is_plain = 0 OR s.attempt > 0 OR s.outcome IS NOT NULL OR s.kill_cause IS NOT NULL)";
    Result<Statement> plain = connection_->prepare(
        "SELECT " + std::string(kPlainColumns) +
        " FROM sessions s INDEXED BY sessions_live WHERE s.closed_at IS NULL AND NOT " + notable +
        " ORDER BY s.number");
    if (!plain) return plain.error();
    Result<Statement> others = connection_->prepare(
        "SELECT " + std::string(kSessionColumns) +
        " FROM sessions s INDEXED BY sessions_notable WHERE s.closed_at IS NULL AND " + notable +
        " ORDER BY s.number");
    if (!others) return others.error();
    Result<InsideLinks> links = InsideLinks::prepare(*connection_);
    if (!links) return links.error();
    Result<bool> more_plain = plain->step();
    Result<bool> more_others = others->step();
    while (true) {
        if (!more_plain) return more_plain.error();
        if (!more_others) return more_others.error();
        if (!*more_plain && !*more_others) return Done{};
        const bool is_plain_next =
            *more_plain && (!*more_others || plain->number(0) < others->number(0));
        LiveSession session = is_plain_next ? read_plain(*plain) : read_session(*others, 0).session;
        const Result<std::optional<std::uint16_t>> inside = links->of(session);
        if (!inside) return inside.error();
        session.inside_links = *inside;
        each(std::move(session));
        if (is_plain_next) more_plain = plain->step();
        if (!is_plain_next) more_others = others->step();
    }
}

Status SqliteDatabase::load_newest_ids(LiveState& state) {
    Result<Statement> read =
        connection_->prepare("SELECT id FROM sessions WHERE id > ? AND id < ? ORDER BY id");
    if (!read) return read.error();
    // '.' follows '-'. Bound texts are not copied.
    const std::string first = format_id_second(meta_.id_second) + "-";
    const std::string last = format_id_second(meta_.id_second) + ".";
    read->bind_all(first, last);
    while (true) {
        const Result<bool> row = read->step();
        if (!row) return row.error();
        if (!*row) return Done{};
        SessionId id;
        sqlite::RowReader(*read, 0).take_all(id);
        state.newest_ids.push_back(std::move(id));
    }
}

Status SqliteDatabase::load_workers(LiveState& state) {
    Result<Statement> rows = connection_->prepare(
        "SELECT name, host, root, project, state_id, boot_id, start_count, slots, software, "
        "agents, labels, state FROM workers ORDER BY name");
    if (!rows) return rows.error();
    while (true) {
        const Result<bool> row = rows->step();
        if (!row) return row.error();
        if (!*row) return Done{};
        WorkerRegistered& worker = state.workers.emplace_back();
        std::string agents;
        std::string labels;
        std::string noted;
        sqlite::RowReader(*rows, 0).take_all(worker.name, worker.host, worker.root, worker.project,
                                             worker.state_id, worker.boot_id, worker.start_count,
                                             worker.slots, worker.software, agents, labels, noted);
        worker.agents = unpack_list(agents);
        worker.labels = unpack_map(labels);
        state.worker_states.emplace(worker.name, std::move(noted));
    }
}

Status SqliteDatabase::load_holds(LiveState& state) {
    Result<Statement> rows = connection_->prepare(
        "SELECT scope, name, principal, reason, since, until FROM holds ORDER BY scope, name");
    if (!rows) return rows.error();
    while (true) {
        const Result<bool> row = rows->step();
        if (!row) return row.error();
        if (!*row) return Done{};
        HoldView& hold = state.holds.emplace_back();
        sqlite::RowReader(*rows, 0).take_all(hold.scope, hold.name, hold.principal, hold.reason,
                                             hold.since, hold.until);
    }
}

// ---- Questions
// ------------------------------------------------------------------------------------------

Result<std::optional<SessionRow>> SqliteDatabase::find_row(const SessionId& id) {
    const sqlite::ResetLater reset_later(find_session_);
    find_session_.bind_all(id);
    const Result<bool> row = find_session_.step();
    if (!row) return row.error();
    if (!*row) return std::optional<SessionRow>();
    return std::optional(read_session(find_session_, 0));
}

Result<std::optional<std::string>> SqliteDatabase::find_result(const SessionId& id) {
    const sqlite::ResetLater reset_later(find_result_);
    find_result_.bind_all(id);
    const Result<bool> row = find_result_.step();
    if (!row) return row.error();
    if (!*row) return std::optional<std::string>();
    std::string bytes(find_result_.text(0));
    // None: written before there were digests.
    const bool is_good = find_result_.is_null(1) || content_digest(bytes) == find_result_.number(1);
    if (!is_good) return is_changed(id);
    return std::optional(std::move(bytes));
}

// SQLite checks how pages hang together, not what is in them; and somebody would act upon this.
Error SqliteDatabase::is_changed(const SessionId& id) const {
    return make_error(ErrorCode::config,
                      "database " + connection_->path() + " is damaged: what it holds of session " +
                          id.str() +
                          " is not what was written; restore a backup with `ictl restore FOLDER`");
}

Result<std::optional<SessionView>> SqliteDatabase::session(const SessionId& id) {
    const Result<std::optional<SessionRow>> row = find_row(id);
    if (!row) return row.error();
    if (!*row) return std::optional<SessionView>();
    return std::optional(make_view(**row));
}

Result<std::map<SessionId, SessionStatus>> SqliteDatabase::statuses(
    const std::vector<SessionId>& ids) {
    std::map<SessionId, SessionStatus> statuses;
    const std::string list = pack_ids(ids);
    if (list.empty()) return statuses;
    const sqlite::ResetLater reset_later(find_statuses_);
    find_statuses_.bind_all(list);
    while (true) {
        const Result<bool> row = find_statuses_.step();
        if (!row) return row.error();
        if (!*row) return statuses;
        SessionId id;
        SessionStatus status{};
        sqlite::RowReader(find_statuses_, 0).take_all(id, status);
        statuses.emplace(std::move(id), status);
    }
}

Result<std::vector<SessionId>> SqliteDatabase::match(std::string_view prefix, std::size_t max) {
    std::vector<SessionId> ids;
    // Above every id with this prefix: ids are ASCII.
    const std::string end = std::string(prefix) + "\x7f";
    const sqlite::ResetLater reset_later(match_);
    match_.bind_all(prefix, end, max);
    while (true) {
        const Result<bool> row = match_.step();
        if (!row) return row.error();
        if (!*row) return ids;
        ids.emplace_back(std::string(match_.text(0)));
    }
}

Result<ListReply> SqliteDatabase::list(const ListRequest& request) {
    return list_page(*connection_, request, meta_.applied);
}

Result<EventsReply> SqliteDatabase::events(const EventsRequest& request) {
    return events_page(
        *connection_, request,
        {.epoch = meta_.epoch, .applied = meta_.applied, .dropped_to = meta_.events_after});
}

Result<std::optional<KeptPrompt>> SqliteDatabase::prompt(const SessionId& id) {
    const sqlite::ResetLater reset_later(find_prompt_);
    find_prompt_.bind_all(id);
    const Result<bool> row = find_prompt_.step();
    if (!row) return row.error();
    if (!*row) return std::optional<KeptPrompt>();
    KeptPrompt kept;
    std::optional<std::int64_t> digest;
    sqlite::RowReader(find_prompt_, 0).take_all(kept.prompt, kept.result_schema, digest);
    if (digest && content_digest(kept.prompt, kept.result_schema) != *digest) return is_changed(id);
    return std::optional(std::move(kept));
}

Result<std::optional<ResultReply>> SqliteDatabase::result(const SessionId& id) {
    const Result<std::optional<SessionRow>> row = find_row(id);
    if (!row) return row.error();
    if (!*row) return std::optional<ResultReply>();
    ResultReply reply;
    reply.session = make_view(**row);
    Result<std::optional<std::string>> bytes = find_result(id);
    if (!bytes) return bytes.error();
    // Not before the session is final: an outcome on its way is nobody's to see.
    reply.held = bytes->has_value() && is_final((*row)->status);
    if (reply.held) reply.result = std::move(**bytes);
    return std::optional(std::move(reply));
}

Result<std::optional<Submission>> SqliteDatabase::submission(const SessionId& id) {
    Result<std::optional<SessionRow>> row = find_row(id);
    if (!row) return row.error();
    if (!*row) return std::optional<Submission>();
    Result<std::optional<KeptPrompt>> found = prompt(id);
    if (!found) return found.error();
    Submission submission = std::move((*row)->session.submission);
    KeptPrompt kept = std::move(*found).value_or(KeptPrompt{});
    submission.prompt = std::move(kept.prompt);
    submission.result_schema = std::move(kept.result_schema);
    return std::optional(std::move(submission));
}

Result<std::optional<KnownKey>> SqliteDatabase::key(const Principal& principal,
                                                    const std::string& key) {
    const sqlite::ResetLater reset_later(find_key_);
    find_key_.bind_all(principal, key);
    const Result<bool> row = find_key_.step();
    if (!row) return row.error();
    if (!*row) return std::optional<KnownKey>();
    KnownKey known;
    known.id = SessionId(std::string(find_key_.text(0)));
    const std::string_view hash = find_key_.text(1);
    std::copy_n(hash.begin(), std::min(hash.size(), known.body_hash.size()),
                known.body_hash.begin());
    return std::optional(std::move(known));
}

Status SqliteDatabase::each_key(const std::function<void(std::uint64_t digest)>& each) {
    Result<Statement> rows = connection_->prepare(
        "SELECT principal, key FROM keys UNION ALL SELECT principal, key FROM kept_keys");
    if (!rows) return rows.error();
    while (true) {
        const Result<bool> row = rows->step();
        if (!row) return row.error();
        if (!*row) return Done{};
        each(key_digest(Principal(rows->text(0)), std::string(rows->text(1))));
    }
}

}  // namespace

Result<LiveState> Database::load_live() {
    Result<LiveState> state = load_frame();
    if (!state) return state;
    const Status read =
        each_live([&](LiveSession&& session) { state->sessions.push_back(std::move(session)); });
    if (!read) return read.error();
    return state;
}

Result<std::unique_ptr<Database>> Database::open(DatabaseOptions options) {
    Result<std::unique_ptr<sqlite::Connection>> connection = sqlite::Connection::open(options.file);
    if (!connection) return connection.error();
    auto database = std::make_unique<SqliteDatabase>(std::move(*connection), options);
    const Status prepared = database->prepare();
    if (!prepared) return prepared.error();
    return std::unique_ptr<Database>(std::move(database));
}

namespace {

Result<DatabaseIdentity> read_identity(sqlite::Connection& connection) {
    const Status known = check_schema(connection);
    if (!known) return known.error();
    Result<Statement> meta = connection.prepare("SELECT epoch, generation, applied FROM meta");
    if (!meta) return meta.error();
    const Result<bool> row = meta->step();
    if (!row) return row.error();
    DatabaseIdentity identity;
    if (*row) {
        sqlite::RowReader(*meta, 0).take_all(identity.epoch, identity.generation, identity.applied);
        return identity;
    }
    return make_error(ErrorCode::config, "database " + connection.path() + " has no meta row");
}

}  // namespace

Result<DatabaseIdentity> look_at_database(const std::string& file) {
    const Result<std::unique_ptr<sqlite::Connection>> connection =
        sqlite::Connection::open_to_read(file);
    if (!connection) return connection.error();
    return read_identity(**connection);
}

Result<DatabaseIdentity> check_database(const std::string& file) {
    const Result<std::unique_ptr<sqlite::Connection>> connection =
        sqlite::Connection::open_to_read(file);
    if (!connection) return connection.error();
    const Result<DatabaseIdentity> identity = read_identity(**connection);
    if (!identity) return identity;
    Result<Statement> check = (*connection)->prepare("PRAGMA integrity_check(1)");
    if (!check) return check.error();
    const Result<bool> row = check->step();
    if (!row) return row.error();
    const std::string found(*row ? check->text(0) : "nothing");
    if (found == "ok") return identity;
    return make_error(ErrorCode::config, "database " + file + " is damaged: " + found);
}

// With a byte between the two that neither can hold, then mixed (the last step of MurmurHash3): FNV
// alone leaves the upper bits of short texts alike.
std::uint64_t key_digest(const Principal& principal, const std::string& key) {
    std::uint64_t hash = fnv1a(fnv1a(fnv1a(kFnvStart, principal), "\xff"), key);
    hash ^= hash >> 33;
    hash *= 0xff51afd7ed558ccdULL;
    hash ^= hash >> 33;
    hash *= 0xc4ceb9fe1a85ec53ULL;
    hash ^= hash >> 33;
    return hash;
}

}  // namespace iw::broker
