#include "ctl/broker_client.h"

#include <gtest/gtest.h>

#include <atomic>

#include "ctl/exit_code.h"
#include "tests/support/temp_dir.h"
#include "tests/support/wait_until.h"
#include "tests/unit/ctl/fake_broker.h"

namespace iw::ctl {
namespace {

using test::Answer;
using test::FakeBroker;
using test::refusal;
using test::view;

constexpr const char* kId = "20251118-151000-grafana-agent";

class BrokerClientTest : public ::testing::Test {
  protected:
    ClientOptions options() const {
        return {.endpoint = endpoint_,
                .patience = Duration(5'000),
                .absent_patience = Duration(300),
                .never_seen_patience = Duration(300),
                .repeat_after = Duration(100)};
    }
    static SubmitRequest submission() {
        Submission one;
        one.key = "key-1";
        one.agent = AgentName("grafana-agent");
        one.prompt = "look";
        return SubmitRequest{.sessions = {one}};
    }
    static Answer accepted() { return Reply(SubmitReply{.sessions = {{.id = SessionId(kId)}}}); }

    test::TempDir folder_;
    std::string endpoint_ = "ipc://" + folder_.path("broker.sock");
    io::Context sockets_;
};

TEST_F(BrokerClientTest, GreetsOnceAndAsks) {
    FakeBroker broker(endpoint_, [](const RequestFrame&) -> Answer {
        return Reply(
            StatusReply{.session = view(kId, SessionStatus::running, Detail::working), .seq = 7});
    });
    BrokerClient client(sockets_, options());
    const Result<StatusReply> first = client.status(kId, false);
    ASSERT_TRUE(first.ok()) << first.error().message;
    EXPECT_EQ(first->seq, 7u);
    ASSERT_TRUE(client.status(kId, true).ok());
    EXPECT_EQ(broker.hellos(), 1);
    ASSERT_TRUE(client.welcome().ok());
    EXPECT_EQ(client.welcome()->epoch, "e1");
}

TEST_F(BrokerClientTest, LostReplyIsAskedForAgainUnderTheSameIdAndKey) {
    std::atomic<int> count = 0;
    FakeBroker broker(endpoint_, [&](const RequestFrame&) -> Answer {
        return ++count < 3 ? Answer() : accepted();
    });
    BrokerClient client(sockets_, options());
    const Result<SubmitReply> reply = client.call<SubmitReply>(submission());
    ASSERT_TRUE(reply.ok()) << reply.error().message;
    EXPECT_EQ(reply->sessions.front().id.str(), kId);
    const std::vector<RequestFrame> seen = broker.seen();
    ASSERT_EQ(seen.size(), 3u);
    for (const RequestFrame& frame : seen) {
        EXPECT_EQ(frame.id, seen.front().id);
        EXPECT_EQ(std::get<SubmitRequest>(frame.body).sessions.front().key, "key-1");
    }
    EXPECT_EQ(broker.hellos(), 3) << "each repetition goes over a new socket";
}

TEST_F(BrokerClientTest, NoSessionIsAnsweredByAnotherHello) {
    std::atomic<int> count = 0;
    FakeBroker broker(endpoint_, [&](const RequestFrame&) -> Answer {
        if (++count == 1) return refusal(ErrorCode::no_session, "say hello");
        return accepted();
    });
    BrokerClient client(sockets_, options());
    ASSERT_TRUE(client.call<SubmitReply>(submission()).ok());
    EXPECT_EQ(broker.hellos(), 2);
    EXPECT_EQ(broker.seen().size(), 2u);
}

TEST_F(BrokerClientTest, SilenceAfterSendingAChangeIsAnUnknownOutcome) {
    FakeBroker broker(endpoint_, [](const RequestFrame&) { return Answer(); });
    ClientOptions brief = options();
    brief.patience = Duration(400);
    BrokerClient client(sockets_, brief);
    const Result<SubmitReply> reply = client.call<SubmitReply>(submission());
    ASSERT_FALSE(reply.ok());
    EXPECT_EQ(reply.error().code, ErrorCode::unknown_outcome);
    EXPECT_EQ(exit_code(reply.error().code), kExitTryAgain);
}

TEST_F(BrokerClientTest, SilenceAfterAQuestionIsNobodyReached) {
    FakeBroker broker(endpoint_, [](const RequestFrame&) { return Answer(); });
    ClientOptions brief = options();
    brief.patience = Duration(400);
    BrokerClient client(sockets_, brief);
    const Result<StatusReply> reply = client.status(kId, false);
    ASSERT_FALSE(reply.ok());
    EXPECT_EQ(reply.error().code, ErrorCode::unreachable);
}

TEST_F(BrokerClientTest, NobodyThereIsNoticedSoonAndNamesTheNextStep) {
    BrokerClient client(sockets_, options());
    const Timestamp before = io::steady_now();
    const Result<SubmitReply> reply = client.call<SubmitReply>(submission());
    ASSERT_FALSE(reply.ok());
    EXPECT_EQ(reply.error().code, ErrorCode::unreachable) << "nothing was sent";
    EXPECT_NE(reply.error().message.find("ictl up"), std::string::npos);
    EXPECT_LT(io::steady_now() - before, Duration(3'000));
}

TEST_F(BrokerClientTest, WaitsForABrokerThatComesLater) {
    ClientOptions patient = options();
    patient.never_seen_patience = Duration(20'000);
    patient.patience = Duration(20'000);
    std::unique_ptr<FakeBroker> broker;
    std::thread late([&] {
        std::atomic<bool> passed = false;
        const Timestamp start = io::steady_now();
        test::wait_until([&] { return io::steady_now() - start > Duration(200); }, Duration(5'000));
        broker =
            std::make_unique<FakeBroker>(endpoint_, [](const RequestFrame&) { return accepted(); });
    });
    BrokerClient client(sockets_, patient);
    const Result<SubmitReply> reply = client.call<SubmitReply>(submission());
    late.join();
    ASSERT_TRUE(reply.ok()) << reply.error().message;
}

TEST_F(BrokerClientTest, ALongPollNoticesARestartedBrokerByItsNewSocket) {
    auto broker =
        std::make_unique<FakeBroker>(endpoint_, [](const RequestFrame&) { return Answer(); });
    BrokerClient client(sockets_, options());
    ASSERT_TRUE(client.welcome().ok());
    std::thread restart([&] {
        test::wait_until([&] { return !broker->seen().empty(); }, Duration(10'000));
        broker.reset();
        broker = std::make_unique<FakeBroker>(endpoint_, [](const RequestFrame&) -> Answer {
            return Reply(EventsReply{.epoch = "e1", .next = 9});
        });
    });
    const Timestamp before = io::steady_now();
    const Result<EventsReply> reply = client.call<EventsReply>(
        EventsRequest{.epoch = "e1", .after = 1, .wait = Duration(25'000)});
    restart.join();
    ASSERT_TRUE(reply.ok()) << reply.error().message;
    EXPECT_EQ(reply->next, 9u);
    EXPECT_LT(io::steady_now() - before, Duration(15'000)) << "not only when the poll is over";
}

TEST_F(BrokerClientTest, RateLimitIsWaitedOut) {
    std::atomic<int> count = 0;
    FakeBroker broker(endpoint_, [&](const RequestFrame&) -> Answer {
        if (++count == 1) {
            ErrorReply later = refusal(ErrorCode::rate_limited, "behind");
            later.retry = Duration(20);
            return later;
        }
        return accepted();
    });
    BrokerClient client(sockets_, options());
    EXPECT_TRUE(client.call<SubmitReply>(submission()).ok());
}

TEST_F(BrokerClientTest, ErrorsOfTheBrokerPassThroughWithTheirExitCodes) {
    struct Row {
        ErrorCode code;
        int exit;
    };
    const std::vector<Row> rows = {{ErrorCode::not_found, 4},     {ErrorCode::gone, 4},
                                   {ErrorCode::forbidden, 77},    {ErrorCode::unauthorized, 77},
                                   {ErrorCode::conflict, 1},      {ErrorCode::idem_mismatch, 64},
                                   {ErrorCode::storage_low, 75},  {ErrorCode::bad_request, 64},
                                   {ErrorCode::stale_fence, 1},   {ErrorCode::internal, 2},
                                   {ErrorCode::unknown_verb, 69}, {ErrorCode::version, 69}};
    for (const Row& row : rows) {
        FakeBroker broker(endpoint_,
                          [&](const RequestFrame&) -> Answer { return refusal(row.code, "so"); });
        BrokerClient client(sockets_, options());
        const Result<StatusReply> reply = client.status(kId, false);
        ASSERT_FALSE(reply.ok());
        EXPECT_EQ(reply.error().code, row.code);
        EXPECT_EQ(reply.error().message, "so");
        EXPECT_EQ(exit_code(reply.error().code), row.exit) << name(row.code);
    }
}

TEST_F(BrokerClientTest, ReadsEveryPage) {
    FakeBroker broker(endpoint_, [](const RequestFrame& frame) -> Answer {
        const auto& request = std::get<ListRequest>(frame.body);
        ListReply page{.seq = 3};
        if (request.after.empty()) {
            page.sessions = {view("20251118-151000-a", SessionStatus::created, Detail::queued)};
            page.next = SessionId("20251118-151000-a");
        } else {
            page.sessions = {view("20251118-151000-b", SessionStatus::created, Detail::queued)};
        }
        return Reply(page);
    });
    BrokerClient client(sockets_, options());
    const Result<Listing> listing = client.list(ListRequest{});
    ASSERT_TRUE(listing.ok()) << listing.error().message;
    ASSERT_EQ(listing->sessions.size(), 2u);
    EXPECT_EQ(listing->sessions[1].id.str(), "20251118-151000-b");
    EXPECT_EQ(listing->seq, 3u);
}

TEST_F(BrokerClientTest, BadEndpointsAreRefusedBeforeAnythingHappens) {
    for (const std::string endpoint : {"tcp://127.0.0.1:5555", "broker.sock", "ipc://relative"}) {
        ClientOptions wrong = options();
        wrong.endpoint = endpoint;
        BrokerClient client(sockets_, wrong);
        const Result<StatusReply> reply = client.status(kId, false);
        ASSERT_FALSE(reply.ok());
        EXPECT_EQ(reply.error().code, ErrorCode::config) << endpoint;
    }
}

TEST(Describe, NamesMatchesAndTheNearest) {
    ErrorReply many = refusal(ErrorCode::ambiguous, "x");
    many.matches = {"20251118-151000-a", "20251118-151000-b"};
    EXPECT_EQ(describe(many, "2025").message,
              "\"2025\" is the beginning of several session ids: 20251118-151000-a, "
              "20251118-151000-b; give more of it");
    ErrorReply agent = refusal(ErrorCode::unknown_agent, "x");
    agent.matches = {"claude", "grafana-agent"};
    const std::string text = describe(agent, "grafana-agnet").message;
    EXPECT_NE(text.find("did you mean grafana-agent?"), std::string::npos) << text;
    EXPECT_NE(text.find("claude, grafana-agent"), std::string::npos) << text;
    EXPECT_EQ(text.find("queue"), std::string::npos) << text;
}

}  // namespace
}  // namespace iw::ctl
