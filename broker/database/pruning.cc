#include "broker/database/pruning.h"

#include <algorithm>
#include <string>

namespace iw::broker {
namespace {

using sqlite::Statement;

// Rows that one piece removes of each table, so that nobody waits long behind it.
constexpr int kRows = 500;

class Pruner {
  public:
    Pruner(sqlite::Connection& connection, Seq events_after) : connection_(connection) {
        pruned_.events_after = events_after;
    }

    Result<Pruned> run(const Retention& retention, WallTime now, std::int64_t sessions);

  private:
    // When the sessions beyond the greatest number that is kept were closed: all before that go.
    Status find_surplus(std::int64_t surplus);
    Status drop_events(WallTime before);
    Status drop_sessions(WallTime before);
    // Rows that the statement removed or moved.
    Result<std::int64_t> count(const std::string& sql, const auto&... values);

    sqlite::Connection& connection_;
    Pruned pruned_;
    WallTime surplus_before_;  // sessions closed before this are too many
    Seq surplus_events_ = 0;   // the newest event of those that go next
};

Result<std::int64_t> Pruner::count(const std::string& sql, const auto&... values) {
    Result<Statement> statement = connection_.prepare(sql);
    if (!statement) return statement.error();
    const Status done = statement->run(values...);
    if (!done) return done.error();
    const Result<std::int64_t> rows = connection_.number("SELECT changes()");
    if (rows.ok() && *rows == kRows) pruned_.more = true;
    return rows;
}

Status Pruner::find_surplus(std::int64_t surplus) {
    if (surplus <= 0) return Done{};
    Result<Statement> first_kept = connection_.prepare(
        "SELECT closed_at FROM sessions INDEXED BY sessions_closed WHERE closed_at IS NOT NULL "
        "ORDER BY closed_at LIMIT 1 OFFSET ?");
    if (!first_kept) return first_kept.error();
    first_kept->bind_all(surplus);
    const Result<bool> row = first_kept->step();
    if (!row) return row.error();
    if (*row) surplus_before_ = wall_from_ms(first_kept->number(0));
    // A session's events go with it, and events go from the oldest on.
    Result<Statement> newest = connection_.prepare(
        "SELECT max(seq) FROM events INDEXED BY events_session WHERE session IN "
        "(SELECT number FROM sessions WHERE closed_at < ? ORDER BY closed_at LIMIT " +
        std::to_string(kRows) + ")");
    if (!newest) return newest.error();
    newest->bind_all(surplus_before_);
    const Result<bool> found = newest->step();
    if (!found) return found.error();
    if (*found) surplus_events_ = static_cast<Seq>(newest->number(0));
    return Done{};
}

// Only from the oldest on: what is kept then has no hole, and one number says where it begins.
Status Pruner::drop_events(WallTime before) {
    Result<Statement> oldest = connection_.prepare(
        "SELECT seq, time FROM events ORDER BY seq LIMIT " + std::to_string(kRows));
    if (!oldest) return oldest.error();
    Seq last = 0;
    while (true) {
        const Result<bool> row = oldest->step();
        if (!row) return row.error();
        if (!*row) break;
        const auto seq = static_cast<Seq>(oldest->number(0));
        if (seq > surplus_events_ && wall_from_ms(oldest->number(1)) >= before) break;
        last = seq;
    }
    oldest->reset();
    if (last == 0) return Done{};
    const Result<std::int64_t> rows = count("DELETE FROM events WHERE seq <= ?", last);
    if (!rows) return rows.error();
    pruned_.events_after = last;
    return Done{};
}

// The same rows are due in each statement: events have gone before. A key outlives a session that
// went before its time.
Status Pruner::drop_sessions(WallTime before) {
    const std::string due =
        " IN (SELECT number FROM sessions WHERE closed_at < ? AND NOT EXISTS (SELECT 1 FROM events "
        "INDEXED BY events_session WHERE session = number) ORDER BY closed_at LIMIT " +
        std::to_string(kRows) + ")";
    const WallTime due_before = std::max(before, surplus_before_);
    Result<std::int64_t> rows = count(
        "INSERT OR REPLACE INTO kept_keys SELECT k.principal, k.key, s.id, k.body_hash, "
        "s.closed_at FROM sessions s JOIN keys k ON k.principal = s.principal AND k.key = s.key "
        "WHERE s.closed_at >= ? AND s.number" +
            due,
        before, due_before);
    if (!rows) return rows.error();
    rows = count(
        "DELETE FROM keys WHERE (principal, key) IN (SELECT principal, key FROM sessions WHERE "
        "number" +
            due + ")",
        due_before);
    if (!rows) return rows.error();
    rows = count("DELETE FROM sessions WHERE number" + due, due_before);
    if (!rows) return rows.error();
    pruned_.sessions = *rows;
    return Done{};
}

Result<Pruned> Pruner::run(const Retention& retention, WallTime now, std::int64_t sessions) {
    // A session stays as long as there are events that need its names.
    const WallTime before = now - std::max(retention.sessions, retention.events);
    Status done = find_surplus(sessions - retention.sessions_max);
    if (done.ok()) done = drop_events(now - retention.events);
    if (done.ok()) done = drop_sessions(before);
    if (!done) return done.error();
    Result<std::int64_t> rows = count(
        "DELETE FROM kept_keys WHERE (principal, key) IN (SELECT principal, key FROM kept_keys "
        "WHERE closed_at < ? LIMIT " +
            std::to_string(kRows) + ")",
        before);
    if (!rows) return rows.error();
    rows = count(
        "DELETE FROM audit WHERE seq IN (SELECT seq FROM (SELECT seq, time FROM audit "
        "ORDER BY seq LIMIT " +
            std::to_string(kRows) + ") WHERE time < ?)",
        before);
    if (!rows) return rows.error();
    return pruned_;
}

}  // namespace

Result<Pruned> prune_piece(sqlite::Connection& connection, const Retention& retention, WallTime now,
                           Seq events_after, std::int64_t sessions) {
    return Pruner(connection, events_after).run(retention, now, sessions);
}

}  // namespace iw::broker
