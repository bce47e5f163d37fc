#include "broker/database/pages.h"

#include <algorithm>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "broker/database/rows.h"
#include "common/base/text.h"

namespace iw::broker {
namespace {

using sqlite::Statement;

// Rows looked at for one page of sessions: about 100 ms.
constexpr int kExaminedMax = 50'000;
// Rows looked at for one page of events: a join each, so fewer, about 50 ms.
constexpr int kEventsExaminedMax = 20'000;
// What a view or an event takes on the wire besides its texts.
constexpr std::size_t kRowBytes = 400;
// A dependency of a view, its id at the longest.
constexpr std::size_t kDependencyBytes = 112;

// A query in the making. Parameters are bound in the order of their text, so the conditions that
// become a column come first.
class Query {
  public:
    using Value = std::variant<std::int64_t, std::string>;

    // A condition that only marks a row: it is looked at, and counted, whether it fits or not.
    void mark(const std::string& condition, Value value) {
        hit_ += " AND " + condition;
        hit_values_.push_back(std::move(value));
    }
    // A condition that an index serves.
    void require(const std::string& condition, Value value) {
        where_ += " AND " + condition;
        where_values_.push_back(std::move(value));
    }
    void require(const std::string& condition) { where_ += " AND " + condition; }
    void from(const std::string& text) { from_ = text; }
    void order_by(const std::string& text) { order_ = text; }

    // Column 0 says whether the row fits. The query owns the texts that are bound.
    Result<Statement> prepare(sqlite::Connection& connection, const std::string& columns) const {
        Result<Statement> statement =
            connection.prepare("SELECT (1" + hit_ + "), " + columns + " FROM " + from_ +
                               " WHERE 1" + where_ + " ORDER BY " + order_);
        if (!statement) return statement;
        int index = 0;
        for (const std::vector<Value>* values : {&hit_values_, &where_values_}) {
            for (const Value& value : *values) {
                std::visit([&](const auto& item) { statement->bind(++index, item); }, value);
            }
        }
        return statement;
    }

  private:
    std::string from_;
    std::string hit_;
    std::string where_;
    std::string order_;
    std::vector<Value> hit_values_;
    std::vector<Value> where_values_;
};

std::size_t rows_wanted(std::uint32_t asked) {
    return std::clamp<std::size_t>(asked, 1, limits::kPageRowsMax);
}

std::size_t bytes_of(const std::vector<std::string>& texts) {
    std::size_t bytes = 0;
    for (const std::string& text : texts)
        bytes += text.size() + 3;
    return bytes;
}

std::size_t bytes_of(const SessionView& view) {
    return kRowBytes + 2 * view.id.str().size() + view.project.size() + view.origin.host.size() +
           view.origin.root.size() + view.reason.size() + view.kill_reason.size() +
           view.worker.size() + view.host.size() + view.workspace.size() +
           view.result_status.size() + view.result_sha256.size() + view.parent.str().size() +
           view.retry_of.str().size() + view.metadata.size() + bytes_of(view.tags) +
           view.after.size() * kDependencyBytes;
}

std::size_t bytes_of(const Event& event) {
    return kRowBytes + event.topic.size() + event.id.str().size() + event.project.size() +
           event.root.size() + event.host.size() + event.reason.size() +
           event.result_status.size() + bytes_of(event.tags);
}

// ---- Sessions
// -------------------------------------------------------------------------------------------

bool only_live(const std::vector<SessionStatus>& status) {
    return !status.empty() && std::ranges::none_of(status, is_final);
}

// The most selective index that the filters allow, or none. SQLite has no statistics here and would
// at times choose to walk the whole table; the plus signs and INDEXED BY leave it no choice.
void choose_index(const ListRequest& request, Seq after, Query& query) {
    const auto start = static_cast<std::int64_t>(after);
    if (!request.ids.empty()) {
        query.from("sessions s");
        query.order_by("+s.number");
        query.require("s.id IN (SELECT value FROM json_each(?))", pack_ids(request.ids));
        return query.require("+s.number > ?", start);
    }
    query.order_by("s.number");
    query.require("s.number > ?", start);
    if (!request.parent.empty()) {
        query.from("sessions s INDEXED BY sessions_parent");
        query.require("s.parent <> ''");
        return query.require("s.parent = ?", request.parent.str());
    }
    if (only_live(request.status)) {
        query.from("sessions s INDEXED BY sessions_live");
        return query.require("s.closed_at IS NULL");
    }
    query.from("sessions s");
}

Query list_query(const ListRequest& request, Seq after) {
    Query query;
    if (!request.status.empty()) {
        std::string numbers;
        for (const SessionStatus status : request.status) {
            numbers += (numbers.empty() ? "" : ",") + std::to_string(static_cast<int>(status));
        }
        query.mark("s.status IN (SELECT value FROM json_each(?))", "[" + numbers + "]");
    }
    if (!request.agent.empty()) query.mark("s.agent = ?", request.agent);
    if (!request.project.empty()) query.mark("s.project = ?", request.project);
    if (!request.root.empty()) query.mark("s.origin_root = ?", request.root);
    if (!request.parent.empty()) query.mark("s.parent = ?", request.parent.str());
    if (!request.tag.empty()) {
        query.mark(
            "CASE s.tags WHEN '' THEN 0 ELSE "
            "EXISTS (SELECT 1 FROM json_each(s.tags) t WHERE t.value = ?) END",
            request.tag);
    }
    choose_index(request, after, query);
    return query;
}

Result<Seq> number_of(sqlite::Connection& connection, const SessionId& id) {
    Result<Statement> find = connection.prepare("SELECT number FROM sessions WHERE id = ?");
    if (!find) return find.error();
    find->bind_all(id);
    const Result<bool> row = find->step();
    if (!row) return row.error();
    if (*row) return static_cast<Seq>(find->number(0));
    return make_error(ErrorCode::gone, "session " + id.str() +
                                           ", after which the list was to go on, is not kept; "
                                           "begin the list anew");
}

// Column of the id in kSessionColumns, behind the mark.
constexpr int kIdColumn = 5;

Status fill_list(Statement& rows, std::size_t rows_max, ListReply& reply) {
    std::size_t bytes = 0;
    SessionId last;
    for (int examined = 0;; ++examined) {
        const Result<bool> row = rows.step();
        if (!row) return row.error();
        if (!*row) return Done{};
        const bool fits = rows.number(0) != 0;
        if (examined >= kExaminedMax || (fits && reply.sessions.size() == rows_max)) break;
        if (fits) {
            SessionView view = make_view(read_session(rows, 1));
            bytes += bytes_of(view);
            if (bytes > limits::kPageBytesMax && !reply.sessions.empty()) break;
            reply.sessions.push_back(std::move(view));
        }
        last = SessionId(std::string(rows.text(kIdColumn)));
    }
    reply.next = std::move(last);
    return Done{};
}

// ---- Events
// ---------------------------------------------------------------------------------------------

constexpr const char* kEventColumns =
    "e.seq, e.time, e.worker, e.revision, e.status, e.detail, e.state, e.attempt, e.host, "
    "e.reason, e.result_status, e.scope, s.id, s.agent, s.project, s.tags, s.origin_root";

// Of what is not a session's. `name` is that of what it is about, empty for the fleet itself.
void describe_others(const std::string& state, const std::string& name,
                     std::optional<HoldScope> scope, Event& event) {
    event.status = state;
    switch (scope.value_or(HoldScope::worker)) {
        case HoldScope::worker:
            event.topic = "worker." + state + "." + name;
            return;
        case HoldScope::fleet:
            event.topic = "fleet." + state;
            return;
        case HoldScope::project:
            event.topic = "fleet." + state + ".project." + name;
            event.project = name;
            return;
        case HoldScope::agent:
            event.topic = "fleet." + state + ".agent." + name;
            event.agent = name;
            return;
    }
}

Event read_event(const Statement& row, int first_column) {
    Event event;
    std::string worker;
    std::string state;
    std::string tags;
    std::optional<SessionStatus> status;
    std::optional<Detail> detail;
    std::optional<HoldScope> scope;
    sqlite::RowReader(row, first_column)
        .take_all(event.seq, event.time, worker, event.revision, status, detail, state,
                  event.attempt, event.host, event.reason, event.result_status, scope, event.id,
                  event.agent, event.project, tags, event.root);
    event.tags = unpack_list(tags);
    if (status) event.status = name(*status);
    if (detail) event.detail = name(*detail);
    if (status) {
        event.topic =
            "session." + to_lower(event.status) + "." + event.agent + "." + event.id.str();
        return event;
    }
    describe_others(state, worker, scope, event);
    return event;
}

Query events_query(const EventsRequest& request, Seq after) {
    Query query;
    if (!request.project.empty()) query.mark("s.project IS ?", request.project);
    if (!request.agent.empty()) query.mark("s.agent IS ?", request.agent);
    const std::string join = " LEFT JOIN sessions s ON s.number = e.session";
    query.from("events e" + join);
    query.order_by("e.seq");
    if (!request.ids.empty()) {
        query.from("events e INDEXED BY events_session" + join);
        query.order_by("+e.seq");
        query.require(
            "e.session IN (SELECT number FROM sessions WHERE id IN "
            "(SELECT value FROM json_each(?)))",
            pack_ids(request.ids));
    }
    query.require("e.seq > ?", static_cast<std::int64_t>(after));
    return query;
}

// Stops when the page is full, or enough was looked at; `next` is then the last event looked at.
Status fill_events(Statement& rows, std::size_t rows_max, EventsReply& reply) {
    std::size_t bytes = 0;
    for (int examined = 0;; ++examined) {
        const Result<bool> row = rows.step();
        if (!row) return row.error();
        if (!*row) {
            reply.next = std::max(reply.next, reply.head);
            return Done{};
        }
        if (examined == kEventsExaminedMax) return Done{};
        const auto seq = static_cast<Seq>(rows.number(1));
        if (rows.number(0) != 0) {
            if (reply.events.size() == rows_max) return Done{};
            Event event = read_event(rows, 1);
            bytes += bytes_of(event);
            if (bytes > limits::kPageBytesMax && !reply.events.empty()) return Done{};
            reply.events.push_back(std::move(event));
        }
        reply.next = seq;
    }
}

}  // namespace

Result<ListReply> list_page(sqlite::Connection& connection, const ListRequest& request,
                            Seq applied) {
    Seq after = 0;
    if (!request.after.empty()) {
        const Result<Seq> number = number_of(connection, request.after);
        if (!number) return number.error();
        after = *number;
    }
    const Query query = list_query(request, after);
    Result<Statement> rows = query.prepare(connection, kSessionColumns);
    if (!rows) return rows.error();
    ListReply reply;
    reply.seq = applied;
    const Status filled = fill_list(*rows, rows_wanted(request.rows_max), reply);
    if (!filled) return filled.error();
    return reply;
}

Result<EventsReply> events_page(sqlite::Connection& connection, const EventsRequest& request,
                                const EventsKept& kept) {
    EventsReply reply;
    reply.epoch = kept.epoch;
    reply.head = kept.applied;
    // A seq of another epoch means nothing here: what is kept is told from its beginning.
    const bool foreign = !request.epoch.empty() && request.epoch != kept.epoch;
    const bool from_start = request.epoch.empty() && request.after == 0;
    reply.gap = foreign || (request.after < kept.dropped_to && !from_start);
    const Seq after = std::max(foreign ? Seq{0} : request.after, kept.dropped_to);
    reply.next = after;
    const Query query = events_query(request, after);
    Result<Statement> rows = query.prepare(connection, kEventColumns);
    if (!rows) return rows.error();
    const Status filled = fill_events(*rows, rows_wanted(request.rows_max), reply);
    if (!filled) return filled.error();
    return reply;
}

}  // namespace iw::broker
