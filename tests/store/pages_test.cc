// Pages of sessions and of events.

#include <gtest/gtest.h>

#include <algorithm>

#include "tests/store/store_support.h"

namespace iw::broker {
namespace {

using test::created;
using test::must_apply;
using test::must_open;
using test::record;
using test::session_id;
using test::TempDir;

// 60 sessions: every third RUNNING, every third COMPLETED; projects, roots, tags and parents vary.
class Pages : public testing::Test {
  protected:
    void SetUp() override {
        database_ = must_open(DatabaseOptions{.file = dir_.path("broker.db")});
        for (int i = 0; i < 60; ++i)
            add(i);
        must_apply(*database_, records_);
    }

    void put(RecordBody body) { records_.push_back(record(records_.size() + 1, std::move(body))); }

    void add(int i) {
        SessionCreated body = created(i);
        body.submission.agent = AgentName(i % 2 == 0 ? "claude" : "codex");
        body.submission.project = i < 30 ? "shop" : "bank";
        body.submission.origin = {.host = "h", .root = i < 10 ? "/srv/one" : "/srv/two"};
        if (i % 10 == 0) body.submission.tags = {"nightly", "t\"x"};
        if (i % 20 == 5) body.submission.parent = session_id(0);
        put(body);
        if (i % 3 == 0) return;
        put(AttemptAssigned{session_id(i), {1, 1}, WorkerName("alpha"), "alpha.host"});
        put(AttemptStarted{session_id(i), {1, 1}, wall_from_ms(test::kStartMs), "/srv/x"});
        if (i % 3 == 1) return;
        SessionEnded ended;
        ended.id = session_id(i);
        ended.fence = {1, 1};
        ended.status = SessionStatus::completed;
        ended.detail = Detail::done;
        ended.result_status = "success";
        put(ended);
        put(SessionClosed{session_id(i), "alpha"});
    }

    // All pages joined.
    std::vector<SessionView> list_all(ListRequest request) {
        std::vector<SessionView> all;
        for (int page = 0; page < 100; ++page) {
            auto reply = database_->list(request);
            EXPECT_TRUE(reply.ok()) << (reply.ok() ? "" : reply.error().message);
            if (!reply.ok()) return all;
            EXPECT_LE(reply->sessions.size(), request.rows_max);
            std::ranges::move(reply->sessions, std::back_inserter(all));
            if (reply->next.empty()) return all;
            request.after = reply->next;
        }
        ADD_FAILURE() << "the pages do not end";
        return all;
    }

    std::vector<Event> all_events(EventsRequest request) {
        std::vector<Event> all;
        while (true) {
            auto reply = database_->events(request);
            EXPECT_TRUE(reply.ok()) << (reply.ok() ? "" : reply.error().message);
            if (!reply.ok()) return all;
            EXPECT_EQ(reply->head, records_.size());
            EXPECT_GE(reply->next, request.after);
            std::ranges::move(reply->events, std::back_inserter(all));
            if (reply->next == reply->head) return all;
            EXPECT_FALSE(reply->events.empty());
            request.after = reply->next;
        }
    }

    TempDir dir_;
    std::unique_ptr<Database> database_;
    std::vector<Record> records_;
};

TEST_F(Pages, ListIsOldestFirstAndComplete) {
    for (const std::uint32_t rows : {1u, 7u, 59u, 60u, 500u}) {
        const std::vector<SessionView> all = list_all({.rows_max = rows});
        ASSERT_EQ(all.size(), 60u);
        for (int i = 0; i < 60; ++i)
            EXPECT_EQ(all[static_cast<std::size_t>(i)].id, session_id(i));
    }
    EXPECT_EQ(database_->list({})->seq, records_.size());
    EXPECT_EQ(database_->list({.rows_max = 0})->sessions.size(), 1u);
}

TEST_F(Pages, ListFilters) {
    const auto count = [&](ListRequest request) {
        request.rows_max = 7;
        return list_all(std::move(request)).size();
    };
    EXPECT_EQ(count({.status = {SessionStatus::created}}), 20u);
    EXPECT_EQ(count({.status = {SessionStatus::running}}), 20u);
    EXPECT_EQ(count({.status = {SessionStatus::created, SessionStatus::running}}), 40u);
    EXPECT_EQ(count({.status = {SessionStatus::running, SessionStatus::completed}}), 40u);
    EXPECT_EQ(count({.status = {SessionStatus::killed}}), 0u);
    EXPECT_EQ(count({.agent = "codex"}), 30u);
    EXPECT_EQ(count({.project = "shop"}), 30u);
    EXPECT_EQ(count({.root = "/srv/one"}), 10u);
    EXPECT_EQ(count({.tag = "nightly"}), 6u);
    EXPECT_EQ(count({.tag = "t\"x"}), 6u);
    EXPECT_EQ(count({.tag = "night"}), 0u);
    EXPECT_EQ(count({.parent = session_id(0)}), 3u);
    EXPECT_EQ(count({.ids = {session_id(3), session_id(50), SessionId("x"), session_id(3)}}), 2u);
    EXPECT_EQ(count({.status = {SessionStatus::completed}, .agent = "codex", .project = "shop"}),
              5u);
    EXPECT_EQ(count({.agent = "x' OR 1=1 --"}), 0u);
}

TEST_F(Pages, ViewsInAListAreWhole) {
    const auto reply = database_->list({.ids = {session_id(2)}});
    ASSERT_EQ(reply->sessions.size(), 1u);
    const SessionView& view = reply->sessions.front();
    EXPECT_EQ(view.status, SessionStatus::completed);
    EXPECT_EQ(view.worker, "alpha");
    EXPECT_EQ(view.host, "alpha.host");
    EXPECT_EQ(view.workspace, "/srv/x");
    EXPECT_EQ(view.result_status, "success");
    EXPECT_EQ(view.attempt, 1u);
    EXPECT_EQ(view.generation, 1u);
    EXPECT_EQ(view.revision, 5u);
}

TEST_F(Pages, CursorOfAForgottenSessionIsGone) {
    EXPECT_EQ(database_->list({.after = SessionId("20200101-000000-x")}).error().code,
              ErrorCode::gone);
}

TEST_F(Pages, PageEndsByBytes) {
    for (int i = 100; i < 120; ++i) {
        SessionCreated body = created(i);
        body.submission.metadata = "{\"a\":\"" + std::string(60'000, 'm') + "\"}";
        const std::vector<Record> one = {record(records_.size() + 1, body)};
        must_apply(*database_, one);
        records_.push_back(one.front());
    }
    const auto reply = database_->list({.after = session_id(59)});
    EXPECT_LT(reply->sessions.size(), 10u);
    EXPECT_FALSE(reply->next.empty());
    EXPECT_EQ(list_all({.after = session_id(59)}).size(), 20u);
}

TEST_F(Pages, EventsAreEveryChangeOnce) {
    const std::vector<Event> all = all_events({.rows_max = 7});
    ASSERT_EQ(all.size(), records_.size());  // here every record changes what is seen
    for (std::size_t i = 0; i < all.size(); ++i)
        EXPECT_EQ(all[i].seq, i + 1);
    const auto of_two = all_events({.ids = {session_id(2)}});
    ASSERT_EQ(of_two.size(), 5u);
    EXPECT_EQ(of_two[0].topic, "session.created.claude." + session_id(2).str());
    EXPECT_EQ(of_two[1].detail, "assigned");
    EXPECT_EQ(of_two[1].host, "alpha.host");
    EXPECT_EQ(of_two[2].status, "RUNNING");
    EXPECT_EQ(of_two[2].attempt, 1u);
    EXPECT_EQ(of_two[3].detail, "delivering");
    const Event& last = of_two[4];
    EXPECT_EQ(last.topic, "session.completed.claude." + session_id(2).str());
    EXPECT_EQ(last.status, "COMPLETED");
    EXPECT_EQ(last.detail, "done");
    EXPECT_EQ(last.revision, 5u);
    EXPECT_EQ(last.project, "shop");
    EXPECT_EQ(last.root, "/srv/one");
    EXPECT_EQ(last.result_status, "success");
    EXPECT_EQ(last.id, session_id(2));
}

TEST_F(Pages, EventFilters) {
    for (const std::uint32_t rows : {1u, 3u, 500u}) {
        const auto count = [&](EventsRequest request) {
            request.rows_max = rows;
            return all_events(std::move(request)).size();
        };
        const std::size_t shop = count({.project = "shop"});
        EXPECT_EQ(shop + count({.project = "bank"}), records_.size());
        EXPECT_EQ(count({.agent = "claude"}) + count({.agent = "codex"}), records_.size());
        EXPECT_EQ(count({.ids = {session_id(0), session_id(1)}}), 4u);
        EXPECT_EQ(count({.ids = {session_id(1)}, .project = "bank"}), 0u);
        EXPECT_EQ(count({.after = records_.size()}), 0u);
    }
}

TEST_F(Pages, FilteredPageAdvancesBeyondWhatItSkipped) {
    const auto none = database_->events({.agent = "nobody"});
    EXPECT_TRUE(none->events.empty());
    EXPECT_EQ(none->next, records_.size());
    const auto ahead = database_->events({.epoch = database_->epoch(), .after = 5000});
    EXPECT_FALSE(ahead->gap);
    EXPECT_EQ(ahead->next, 5000u);
}

// What is looked at for one page is bounded, whatever the filter leaves of it.
TEST_F(Pages, LongWayToTheNextFittingEventIsWalkedInPages) {
    const Seq start = records_.size();
    put(test::registered("alpha"));
    for (int i = 0; i < 20'500; ++i)
        put(WorkerNoted{WorkerName("alpha"), i % 2 == 0 ? "unreachable" : "up", "x"});
    must_apply(*database_, std::span(records_).subspan(start));
    const auto page = database_->events({.after = start, .agent = "nobody"});
    ASSERT_TRUE(page.ok()) << page.error().message;
    EXPECT_TRUE(page->events.empty());
    EXPECT_EQ(page->next, start + 20'000);
    EXPECT_EQ(page->head, records_.size());
    const auto rest = database_->events({.after = page->next, .agent = "nobody"});
    ASSERT_TRUE(rest.ok()) << rest.error().message;
    EXPECT_EQ(rest->next, rest->head);
}

TEST_F(Pages, AnotherEpochIsAGap) {
    const auto same = database_->events({.epoch = database_->epoch(), .after = 3});
    EXPECT_FALSE(same->gap);
    EXPECT_EQ(same->events.front().seq, 4u);
    EXPECT_EQ(same->epoch, database_->epoch());
    const auto other = database_->events({.epoch = "another", .after = 900'000});
    EXPECT_TRUE(other->gap);
    EXPECT_EQ(other->events.front().seq, 1u);
}

TEST_F(Pages, CursorBeforeWhatIsKeptIsAGap) {
    database_.reset();
    database_ = must_open(DatabaseOptions{.file = dir_.path("broker.db"),
                                          .event_retention = Duration(10'000),
                                          .session_retention = Duration(10'000)});
    while (*database_->prune(records_.back().time)) {
    }
    const auto oldest = database_->events({});
    ASSERT_FALSE(oldest->events.empty());
    EXPECT_FALSE(oldest->gap);  // asked for the oldest kept
    const Seq first = oldest->events.front().seq;
    EXPECT_GT(first, 1u);
    EXPECT_FALSE(database_->events({.after = first - 1})->gap);
    EXPECT_TRUE(database_->events({.after = first - 2})->gap);
    EXPECT_TRUE(database_->events({.epoch = database_->epoch(), .after = 0})->gap);
    EXPECT_EQ(database_->events({.after = 1})->events.front().seq, first);
}

TEST_F(Pages, WorkersHaveEventsWhenTheirStateChanges) {
    put(test::registered("alpha"));
    put(test::registered("alpha"));  // restarted while up: nothing to see
    put(WorkerNoted{WorkerName("alpha"), "unreachable", "silent for 45 s"});
    put(WorkerNoted{WorkerName("alpha"), "unreachable", "still"});
    put(test::registered("alpha"));  // known, so nothing by itself
    put(WorkerNoted{WorkerName("alpha"), "up", "heard again"});
    must_apply(*database_, std::span(records_).last(6));
    EXPECT_EQ(database_->load_live()->worker_states.at(WorkerName("alpha")), "up");
    const auto all = all_events({.after = records_.size() - 6});
    ASSERT_EQ(all.size(), 3u);
    EXPECT_EQ(all[0].topic, "worker.up.alpha");
    EXPECT_EQ(all[1].topic, "worker.unreachable.alpha");
    EXPECT_EQ(all[1].status, "unreachable");
    EXPECT_EQ(all[1].host, "alpha.host");
    EXPECT_EQ(all[1].reason, "silent for 45 s");
    EXPECT_TRUE(all[1].id.empty());
    EXPECT_EQ(all[2].topic, "worker.up.alpha");
    EXPECT_TRUE(all_events({.after = records_.size() - 6, .agent = "claude"}).empty());
}

TEST_F(Pages, HoldsAndEpochsHaveEventsOfTheFleet) {
    const std::string before = database_->epoch();
    const WallTime until = wall_from_ms(test::kStartMs + 60'000);
    put(HoldChanged{HoldScope::fleet, "", true, "uid:0", "the network is down", until});
    put(HoldChanged{HoldScope::project, "shop", true, "uid:7", "", std::nullopt});
    put(HoldChanged{HoldScope::agent, "claude", false, "broker", "its deadline came",
                    std::nullopt});
    put(HoldChanged{HoldScope::worker, "alpha", true, "uid:0", "new disks", std::nullopt});
    put(HoldChanged{HoldScope::worker, "alpha", false, "uid:0", "", std::nullopt});
    put(EpochBegun{"second", 2, true, "restored from /b", "uid:0"});
    put(RestoreReleased{"uid:0", "all were heard"});
    must_apply(*database_, std::span(records_).last(7));
    const auto gap = database_->events({.epoch = before, .after = records_.size() - 7});
    EXPECT_TRUE(gap->gap);
    EXPECT_EQ(gap->epoch, "second");
    const auto all = all_events({.epoch = "second", .after = records_.size() - 7});
    ASSERT_EQ(all.size(), 7u);
    EXPECT_EQ(all[0].topic, "fleet.paused");
    EXPECT_EQ(all[0].status, "paused");
    EXPECT_EQ(all[0].reason, "by uid:0: the network is down; until 2025-11-18T15:31:42Z");
    EXPECT_EQ(all[1].topic, "fleet.paused.project.shop");
    EXPECT_EQ(all[1].project, "shop");
    EXPECT_EQ(all[1].reason, "by uid:7");
    EXPECT_EQ(all[2].topic, "fleet.resumed.agent.claude");
    EXPECT_EQ(all[2].agent, "claude");
    EXPECT_EQ(all[3].topic, "worker.drained.alpha");
    EXPECT_EQ(all[4].topic, "worker.undrained.alpha");
    EXPECT_EQ(all[5].topic, "fleet.restored");
    EXPECT_EQ(all[5].reason, "by uid:0: restored from /b");
    EXPECT_EQ(all[6].topic, "fleet.released");
    EXPECT_FALSE(database_->load_live()->restored);
}

}  // namespace
}  // namespace iw::broker
