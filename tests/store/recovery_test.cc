// Journal and database together, over random histories: a database that is caught up from the
// journal is the database that never fell behind.

#include <gtest/gtest.h>

#include <algorithm>
#include <optional>
#include <set>
#include <string>

#include "common/base/text.h"
#include "tests/store/store_support.h"
#include "tests/unit/broker/live_state_model.h"

namespace iw::broker {
namespace {

using test::dump_database;
using test::History;
using test::must_apply;
using test::must_open;
using test::small_journal;
using test::TempDir;
using test::text_of;

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
    created.parent_fence = session.parent_fence;
    created.ancestors = session.ancestors;
    std::string text =
        text_of({.seq = session.revision, .time = session.created_at, .body = created});
    text += "|" + std::to_string(session.fence.generation) + "." +
            std::to_string(session.fence.attempt) + (session.assigned ? " assigned " : " free ") +
            session.worker.str() + "|" + session.host + "|" + session.worker_state_id + "|" +
            ms(session.started_at) + "|" + session.workspace + "|" +
            std::to_string(session.platform_faults) + "|" + std::to_string(session.attempts_used) +
            "|" + ms(session.retry_at) + (session.failed_by_itself ? "|by itself|" : "|") +
            session.last_reason;
    text += "|" + (session.inside_links ? std::to_string(*session.inside_links) : "-");
    if (session.kill) text += text_of({.seq = 0, .time = {}, .body = *session.kill});
    if (session.ended) text += text_of({.seq = 0, .time = {}, .body = *session.ended});
    return text;
}

std::string describe(const HoldView& hold) {
    return std::string(name(hold.scope)) + "|" + hold.name + "|" + hold.principal + "|" +
           hold.reason + "|" + std::to_string(to_ms(hold.since)) + "|" + ms(hold.until) + "\n";
}

// All of it but what is made at random with the database, line by line.
std::string describe(const LiveState& state) {
    std::string text = std::to_string(state.seq) + "|" + std::to_string(state.generation) + "|" +
                       ms(state.id_second) + "|" +
                       (state.restored ? "restored: " + state.restored_why : "") + "\n";
    if (state.generation > 1) text += state.epoch + "\n";
    const std::set<SessionId> newest(state.newest_ids.begin(), state.newest_ids.end());
    for (const SessionId& id : newest)
        text += id.str() + "\n";
    for (const LiveSession& session : state.sessions)
        text += describe(session) + "\n";
    for (const WorkerRegistered& worker : state.workers) {
        const auto noted = state.worker_states.find(worker.name);
        text += text_of({.seq = 0, .time = {}, .body = worker}) + "|" +
                (noted == state.worker_states.end() ? "up" : noted->second) + "\n";
    }
    for (const HoldView& hold : state.holds)
        text += describe(hold);
    return text;
}

void expect_live(Database& database, const testing::LiveStateModel& model) {
    const auto live = database.load_live();
    ASSERT_TRUE(live.ok()) << live.error().message;
    const std::string found = describe(*live);
    const std::string expected = describe(model.state());
    const auto differs = std::ranges::mismatch(found, expected);
    const auto at = static_cast<std::size_t>(differs.in1 - found.begin());
    const std::size_t from = at < 100 ? 0 : at - 100;
    EXPECT_TRUE(found == expected) << "found    " << printable(found.substr(from, 200), true)
                                   << "\nexpected " << printable(expected.substr(from, 200), true);
}

class Recovery : public ::testing::TestWithParam<std::uint64_t> {};

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
    testing::LiveStateModel model;
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
    EXPECT_EQ(behind->generation(), model.state().generation);
    whole.reset();
    behind.reset();
    EXPECT_EQ(dump_database(dir.path("whole.db")), dump_database(dir.path("behind.db")));
}

INSTANTIATE_TEST_SUITE_P(Seeds, Recovery, ::testing::Range<std::uint64_t>(1, 41));

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
