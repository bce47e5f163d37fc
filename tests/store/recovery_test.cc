// Journal and database together, over random histories: a database that is caught up from the
// journal is the database that never fell behind.

#include <gtest/gtest.h>

#include <map>
#include <optional>

#include "tests/store/store_support.h"

namespace iw::broker {
namespace {

using test::dump_database;
using test::History;
using test::must_apply;
using test::must_open;
using test::small_journal;
using test::TempDir;
using test::text_of;

// What records make of live sessions, written down once more and as plainly as possible.
class Model {
  public:
    void apply(const Record& record) {
        if (const auto* worker = std::get_if<WorkerRegistered>(&record.body)) {
            state_ids_[worker->name] = worker->state_id;
        }
        const SessionId* id = session_of(record.body);
        if (id == nullptr) return;
        LiveSession& session = sessions_[*id];
        ++session.revision;
        std::visit([&](const auto& body) { on(record, session, body); }, record.body);
        if (std::holds_alternative<SessionClosed>(record.body)) sessions_.erase(*id);
    }
    std::map<SessionId, LiveSession> sessions() const { return sessions_; }

  private:
    static void on(const Record& record, LiveSession& session, const SessionCreated& body) {
        session.id = body.id;
        session.principal = body.principal;
        session.submission = body.submission;
        session.submission.prompt.clear();
        session.created_at = record.time;
        session.not_before = body.not_before;
        session.expires_at = body.expires_at;
    }
    void on(const Record&, LiveSession& session, const AttemptAssigned& body) {
        session.fence = body.fence;
        session.assigned = true;
        session.worker = body.worker;
        session.host = body.host;
        session.worker_state_id = state_ids_[body.worker];
        session.started_at.reset();
    }
    static void on(const Record&, LiveSession& session, const AttemptStarted& body) {
        session.started_at = body.started_at;
        session.workspace = body.workspace;
    }
    static void on(const Record&, LiveSession& session, const AttemptReturned& body) {
        session.assigned = false;
        session.started_at.reset();
        session.platform_faults += body.platform_fault ? 1 : 0;
        session.last_reason = body.reason;
    }
    static void on(const Record&, LiveSession& session, const SessionEnded& body) {
        session.assigned = false;
        session.ended = body;
        session.ended->result.clear();
    }
    static void on(const Record&, LiveSession& session, const KillWished& body) {
        session.kill = body;
    }
    template <typename Other>
    static void on(const Record&, LiveSession&, const Other&) {}

    std::map<SessionId, LiveSession> sessions_;
    std::map<WorkerName, std::string> state_ids_;
};

std::string ms(const std::optional<WallTime>& time) {
    return time ? std::to_string(to_ms(*time)) : "-";
}

// All fields of a live session; records serve as text for their parts.
std::string describe(const LiveSession& session) {
    SessionCreated created;
    created.id = session.id;
    created.principal = session.principal;
    created.submission = session.submission;
    created.not_before = session.not_before;
    created.expires_at = session.expires_at;
    std::string text =
        text_of({.seq = session.revision, .time = session.created_at, .body = created});
    text += "|" + std::to_string(session.fence.generation) + "." +
            std::to_string(session.fence.attempt) + (session.assigned ? " assigned " : " free ") +
            session.worker.str() + "|" + session.host + "|" + session.worker_state_id + "|" +
            ms(session.started_at) + "|" + session.workspace + "|" +
            std::to_string(session.platform_faults) + "|" + session.last_reason;
    if (session.kill) text += text_of({.seq = 0, .time = {}, .body = *session.kill});
    if (session.ended) text += text_of({.seq = 0, .time = {}, .body = *session.ended});
    return text;
}

void expect_live(Database& database, const Model& model) {
    const auto live = database.load_live();
    ASSERT_TRUE(live.ok()) << live.error().message;
    const auto expected = model.sessions();
    ASSERT_EQ(live->sessions.size(), expected.size());
    WallTime before;
    for (const LiveSession& session : live->sessions) {
        ASSERT_TRUE(expected.contains(session.id));
        EXPECT_EQ(describe(session), describe(expected.at(session.id)));
        EXPECT_LE(before, session.created_at);
        before = session.created_at;
    }
}

class Recovery : public testing::TestWithParam<std::uint64_t> {};

TEST_P(Recovery, CaughtUpEqualsNeverBehind) {
    const TempDir dir;
    History history(GetParam());
    history.grow(400);
    const std::span<const Record> all(history.records());
    Random random(GetParam() + 1000);

    auto whole = must_open(DatabaseOptions{.file = dir.path("whole.db")});
    auto behind = must_open(DatabaseOptions{.file = dir.path("behind.db")});
    auto journal = must_open(small_journal(dir.path("journal")));
    const std::size_t prefix = random.below(all.size());
    Model model;
    for (std::size_t at = 0; at < all.size();) {
        const std::size_t count = std::min<std::size_t>(1 + random.below(20), all.size() - at);
        const std::span<const Record> turn = all.subspan(at, count);
        ASSERT_TRUE(journal->commit(turn).ok());
        must_apply(*whole, turn);
        for (const Record& each : turn)
            model.apply(each);
        at += count;
    }
    must_apply(*behind, all.first(prefix));
    behind.reset();
    journal.reset();

    behind = must_open(DatabaseOptions{.file = dir.path("behind.db")});
    journal = must_open(small_journal(dir.path("journal")));
    ASSERT_EQ(behind->applied(), prefix);
    const Status read = journal->read(prefix, [&](const Record& each) -> Status {
        return behind->apply({&each, 1});
    });
    ASSERT_TRUE(read.ok()) << read.error().message;
    expect_live(*whole, model);
    expect_live(*behind, model);
    EXPECT_EQ(to_ms(whole->load_live()->id_second), to_ms(behind->load_live()->id_second));
    whole.reset();
    behind.reset();
    EXPECT_EQ(dump_database(dir.path("whole.db")), dump_database(dir.path("behind.db")));
}

INSTANTIATE_TEST_SUITE_P(Seeds, Recovery, testing::Range<std::uint64_t>(1, 21));

TEST(RecoveryState, WorkersAndIdsComeBack) {
    const TempDir dir;
    auto database = must_open(DatabaseOptions{.file = dir.path("broker.db")});
    test::must_apply(*database, std::vector{test::record(1, test::registered("alpha")),
                                            test::record(2, test::registered("beta")),
                                            test::record(3, test::created(61))});
    const auto live = database->load_live();
    ASSERT_TRUE(live.ok());
    EXPECT_EQ(live->seq, 3u);
    EXPECT_EQ(live->generation, 1u);
    EXPECT_EQ(live->epoch, database->epoch());
    EXPECT_EQ(format_id_second(live->id_second), "20251118-150101");
    ASSERT_EQ(live->workers.size(), 2u);
    EXPECT_EQ(text_of(test::record(1, live->workers[0])),
              text_of(test::record(1, test::registered("alpha"))));
}

}  // namespace
}  // namespace iw::broker
