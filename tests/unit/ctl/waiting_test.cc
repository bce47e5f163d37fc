#include "ctl/waiting.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <mutex>
#include <utility>

#include "tests/support/temp_dir.h"
#include "tests/unit/ctl/fake_broker.h"

namespace iw::ctl {
namespace {

using test::Answer;
using test::FakeBroker;
using test::refusal;
using test::view;

constexpr const char* kA = "20251118-151000-a";
constexpr const char* kB = "20251118-151000-b";

TEST(EndCode, FoldsToTheWorst) {
    struct Row {
        SessionStatus status;
        Detail detail;
        std::string result;
        int plain;
        int by_result;
    };
    const std::vector<Row> rows = {
        {SessionStatus::completed, Detail::done, "success", 0, 0},
        {SessionStatus::completed, Detail::done, "failure", 0, 1},
        {SessionStatus::completed, Detail::done, "", 0, 1},
        {SessionStatus::failed, Detail::exited, "success", 1, 1},
        {SessionStatus::failed, Detail::lost, "", 3, 3},
        {SessionStatus::killed, Detail::killed, "", 2, 2},
        {SessionStatus::killed, Detail::timeout, "", 2, 2},
        {SessionStatus::killed, Detail::expired, "", 3, 3},
    };
    std::vector<SessionView> all;
    int worst = 0;
    for (const Row& row : rows) {
        SessionView session = view(kA, row.status, row.detail);
        session.result_status = row.result;
        EXPECT_EQ(end_code(session, false), row.plain);
        EXPECT_EQ(end_code(session, true), row.by_result);
        all.push_back(session);
        worst = std::max(worst, row.plain);
        EXPECT_EQ(worst_end_code(all, false), worst);
    }
    EXPECT_EQ(worst_end_code({view(kA, SessionStatus::running, Detail::working)}, false), 0);
}

// Two sessions; each events request ends the next of them.
class TwoSessions {
  public:
    Answer answer(const RequestFrame& frame) {
        const std::lock_guard lock(mutex_);
        if (const auto* status = std::get_if<StatusRequest>(&frame.body)) {
            for (const SessionView& session : sessions_) {
                if (session.id.str() == status->id) {
                    return Reply(StatusReply{.session = session, .seq = seq_});
                }
            }
            return refusal(ErrorCode::not_found, "no session " + status->id);
        }
        if (const auto* list = std::get_if<ListRequest>(&frame.body)) {
            ListReply reply{.seq = seq_};
            for (const SessionView& session : sessions_) {
                if (std::ranges::find(list->ids, session.id) != list->ids.end()) {
                    reply.sessions.push_back(session);
                }
            }
            return Reply(reply);
        }
        const auto& request = std::get<EventsRequest>(frame.body);
        if (gap_) {
            gap_ = false;
            epoch_ = "e2";
            return Reply(EventsReply{.epoch = epoch_, .next = seq_, .head = seq_, .gap = true});
        }
        if (stuck_) return Reply(EventsReply{.epoch = epoch_, .next = request.after});
        EventsReply reply{.epoch = epoch_};
        for (SessionView& session : sessions_) {
            if (is_final(session.status)) continue;
            session.status = SessionStatus::completed;
            session.detail = Detail::done;
            ++session.revision;
            reply.events.push_back(Event{.seq = ++seq_, .id = session.id, .status = "COMPLETED"});
            break;
        }
        reply.next = seq_;
        return Reply(reply);
    }
    void make_gap() { gap_ = true; }
    void make_stuck() { stuck_ = true; }

  private:
    std::mutex mutex_;
    std::vector<SessionView> sessions_ = {view(kA, SessionStatus::running, Detail::working),
                                          view(kB, SessionStatus::created, Detail::queued)};
    Seq seq_ = 5;
    std::string epoch_ = "e1";
    bool gap_ = false;
    bool stuck_ = false;
};

class WaitingTest : public ::testing::Test {
  protected:
    Result<Watched> wait_for(std::size_t count, std::optional<Duration> timeout) {
        BrokerClient client(sockets_, {.endpoint = endpoint_});
        Result<Resolved> from = resolve(client, {kA, kB, kA}, false);
        if (!from) return from.error();
        EXPECT_EQ(from->sessions.size(), 2u) << "a double is one session";
        return watch(client, std::move(*from),
                     WatchOptions{.timeout = timeout,
                                  .until =
                                      [count](const std::vector<SessionView>& sessions) {
                                          return count_final(sessions) >= count;
                                      },
                                  .on_change = [this](const SessionView&) { ++changes_; }});
    }

    test::TempDir folder_;
    std::string endpoint_ = "ipc://" + folder_.path("b.sock");
    io::Context sockets_;
    TwoSessions sessions_;
    int changes_ = 0;
};

TEST_F(WaitingTest, IsWokenByEventsUntilAllHaveEnded) {
    FakeBroker broker(endpoint_, [&](const RequestFrame& f) { return sessions_.answer(f); });
    const Result<Watched> watched = wait_for(2, std::nullopt);
    ASSERT_TRUE(watched.ok()) << watched.error().message;
    EXPECT_EQ(count_final(watched->sessions), 2u);
    EXPECT_EQ(changes_, 2);
    Seq after = 0;
    for (const RequestFrame& frame : broker.seen()) {
        const auto* events = std::get_if<EventsRequest>(&frame.body);
        if (events == nullptr) continue;
        EXPECT_GT(events->after, after) << "the cursor moves on";
        EXPECT_GT(events->wait, Duration(20'000)) << "a long poll";
        after = events->after;
    }
}

// Else a cursor of before a restore is followed in the new epoch, where nothing comes after it.
TEST_F(WaitingTest, ACursorKeepsTheEpochThatItIsOf) {
    FakeBroker* fake = nullptr;
    bool is_restored = false;
    FakeBroker broker(endpoint_, [&](const RequestFrame& frame) -> Answer {
        if (!std::holds_alternative<StatusRequest>(frame.body)) return sessions_.answer(frame);
        if (std::exchange(is_restored, true)) {
            const SessionView session = view(kB, SessionStatus::running, Detail::working);
            return Reply(StatusReply{.session = session, .seq = 2});
        }
        fake->set_epoch("e2");
        return refusal(ErrorCode::no_session, "say hello first");
    });
    fake = &broker;
    BrokerClient client(sockets_, {.endpoint = endpoint_});
    // The full id is listed; the beginning of one is asked for after that.
    const Result<Resolved> from = resolve(client, {kA, "20251118-151000"}, false);
    ASSERT_TRUE(from.ok()) << from.error().message;
    EXPECT_EQ(broker.hellos(), 2);
    EXPECT_EQ(from->seq, 5);
    EXPECT_EQ(from->epoch, "e1");
}

TEST_F(WaitingTest, AnyIsEnough) {
    FakeBroker broker(endpoint_, [&](const RequestFrame& f) { return sessions_.answer(f); });
    const Result<Watched> watched = wait_for(1, std::nullopt);
    ASSERT_TRUE(watched.ok());
    EXPECT_EQ(count_final(watched->sessions), 1u);
}

// What a broker of `count` sessions is asked, and the end that it tells after `quiet` of other
// news.
class Fleet {
  public:
    Fleet(std::size_t count, int quiet) : quiet_(quiet) {
        for (std::size_t i = 0; i < count; ++i) {
            sessions_.push_back(view("20251118-151000-a-" + std::to_string(i + 1),
                                     SessionStatus::running, Detail::working));
            sessions_.back().project = "site";
        }
    }
    std::vector<std::string> ids() const {
        std::vector<std::string> ids;
        for (const SessionView& session : sessions_)
            ids.push_back(session.id.str());
        return ids;
    }
    Answer answer(const RequestFrame& frame) {
        if (const auto* list = std::get_if<ListRequest>(&frame.body)) {
            ListReply reply{.seq = seq_};
            for (const SessionView& session : sessions_) {
                if (std::ranges::find(list->ids, session.id) != list->ids.end())
                    reply.sessions.push_back(session);
            }
            return Reply(reply);
        }
        if (!std::holds_alternative<EventsRequest>(frame.body))
            return refusal(ErrorCode::internal, "unexpected");
        EventsReply reply{.epoch = "e1"};
        SessionView& last = sessions_.back();
        ++last.revision;
        if (quiet_-- <= 0) last.status = SessionStatus::completed;
        reply.events = {
            Event{.seq = ++seq_, .id = SessionId("20251118-151000-other"), .status = "FAILED"},
            Event{.seq = ++seq_, .id = last.id, .status = std::string(name(last.status))}};
        reply.next = seq_;
        return Reply(reply);
    }

  private:
    std::vector<SessionView> sessions_;
    int quiet_ = 0;
    Seq seq_ = 5;
};

Result<Watched> wait_for_any(BrokerClient& client, const std::vector<std::string>& ids) {
    Result<Resolved> from = resolve(client, ids, false);
    if (!from) return from.error();
    return watch(client, std::move(*from),
                 WatchOptions{.timeout = std::nullopt,
                              .until =
                                  [](const std::vector<SessionView>& sessions) {
                                      return count_final(sessions) >= 1;
                                  },
                              .on_change = {},
                              .ends_only = true});
}

std::string verbs(const std::vector<RequestFrame>& frames) {
    std::string text;
    for (const RequestFrame& frame : frames)
        text += (text.empty() ? "" : " ") + std::string(verb(frame.body));
    return text;
}

TEST_F(WaitingTest, AnyOfAHundredAsksOnceAndIsWokenByTheEnd) {
    Fleet fleet(100, 0);
    FakeBroker broker(endpoint_, [&](const RequestFrame& f) { return fleet.answer(f); });
    BrokerClient client(sockets_, {.endpoint = endpoint_});
    const Result<Watched> watched = wait_for_any(client, fleet.ids());
    ASSERT_TRUE(watched.ok()) << watched.error().message;
    EXPECT_EQ(count_final(watched->sessions), 1u);
    // One look, one long poll that the end answers, the end itself, and the newest of the others.
    EXPECT_EQ(verbs(broker.seen()), "list events list list");
    const std::vector<RequestFrame> seen = broker.seen();
    EXPECT_EQ(std::get<EventsRequest>(seen[1].body).ids.size(), 100u) << "nobody else's news";
    EXPECT_EQ(std::get<ListRequest>(seen[2].body).ids.size(), 1u);
}

TEST_F(WaitingTest, NewsThatIsNoEndIsNotLookedAt) {
    Fleet fleet(2, 3);
    FakeBroker broker(endpoint_, [&](const RequestFrame& f) { return fleet.answer(f); });
    BrokerClient client(sockets_, {.endpoint = endpoint_});
    const Result<Watched> watched = wait_for_any(client, fleet.ids());
    ASSERT_TRUE(watched.ok()) << watched.error().message;
    EXPECT_EQ(verbs(broker.seen()), "list events events events events list list");
}

TEST_F(WaitingTest, MoreThanOneRequestMayNameAreWaitedForByTheirProject) {
    Fleet fleet(limits::kIdsPerRequestMax + 1, 0);
    FakeBroker broker(endpoint_, [&](const RequestFrame& f) { return fleet.answer(f); });
    BrokerClient client(sockets_, {.endpoint = endpoint_});
    const Result<Watched> watched = wait_for_any(client, fleet.ids());
    ASSERT_TRUE(watched.ok()) << watched.error().message;
    EXPECT_EQ(count_final(watched->sessions), 1u);
    for (const RequestFrame& frame : broker.seen()) {
        const auto* events = std::get_if<EventsRequest>(&frame.body);
        if (events == nullptr) continue;
        EXPECT_TRUE(events->ids.empty());
        EXPECT_EQ(events->project, "site");
    }
}

TEST_F(WaitingTest, AGapIsFollowedByAFreshLook) {
    sessions_.make_gap();
    FakeBroker broker(endpoint_, [&](const RequestFrame& f) { return sessions_.answer(f); });
    const Result<Watched> watched = wait_for(2, std::nullopt);
    ASSERT_TRUE(watched.ok()) << watched.error().message;
    EXPECT_EQ(count_final(watched->sessions), 2u);
}

TEST_F(WaitingTest, TimesOut) {
    sessions_.make_stuck();
    FakeBroker broker(endpoint_, [&](const RequestFrame& f) { return sessions_.answer(f); });
    const Result<Watched> watched = wait_for(1, Duration(50));
    ASSERT_TRUE(watched.ok());
    EXPECT_TRUE(watched->timed_out);
}

TEST_F(WaitingTest, AnUnknownIdIsAnError) {
    FakeBroker broker(endpoint_, [&](const RequestFrame& f) { return sessions_.answer(f); });
    BrokerClient client(sockets_, {.endpoint = endpoint_});
    EXPECT_EQ(resolve(client, {kA, "20990101-000000-x"}, false).error().code, ErrorCode::not_found);
    EXPECT_EQ(resolve(client, {" "}, false).error().code, ErrorCode::bad_request);
}

}  // namespace
}  // namespace iw::ctl
