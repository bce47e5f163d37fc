// A client's view of a real broker: every verb, every bad input, and what a restart keeps.

#include <gtest/gtest.h>

#include <set>

#include "broker_fixture.h"

namespace iw {
namespace {

using test::kCap;
using test::make_submission;
using test::submit_one;
using test::TestBroker;
using test::TestPeer;

class BrokerRequests : public ::testing::Test {
  protected:
    void SetUp() override {
        broker_.start();
        const Result<WelcomeReply> welcome = peer_.hello();
        ASSERT_TRUE(welcome.ok()) << welcome.error().message << broker_.process().log_text();
        welcome_ = *welcome;
    }
    void TearDown() override {
        if (HasFailure()) GTEST_LOG_(INFO) << broker_.process().log_text();
    }
    SessionId submit(const std::string& agent, const std::string& key) {
        const Result<SubmitOutcome> outcome =
            submit_one(peer_, make_submission(agent, "do it", key));
        EXPECT_TRUE(outcome.ok()) << outcome.error().message;
        return outcome.ok() ? outcome->id : SessionId();
    }
    Result<StatusReply> status(const std::string& id) {
        return peer_.call<StatusReply>(StatusRequest{.id = id, .exact = false});
    }
    Result<KillReply> kill(const std::string& id) {
        return peer_.call<KillReply>(KillRequest{.id = id, .reason = "enough", .exact = false});
    }
    ErrorCode code_of_status(const std::string& id) {
        const Result<StatusReply> reply = status(id);
        return reply.ok() ? ErrorCode::internal : reply.error().code;
    }

    TestBroker broker_;
    io::Context context_;
    TestPeer peer_{context_, broker_.endpoint()};
    WelcomeReply welcome_;
};

TEST_F(BrokerRequests, WelcomeSaysWhatProtocolMdLists) {
    EXPECT_EQ(welcome_.protocol, 1);
    EXPECT_FALSE(welcome_.epoch.empty());
    EXPECT_EQ(welcome_.generation, 1U);
    EXPECT_EQ(welcome_.heartbeat, limits::kHeartbeatInterval);
    std::set<std::string> announced;
    for (const auto& [name, value] : welcome_.limits)
        announced.insert(name);
    const std::vector<std::string> listed = wire_names().limits;
    EXPECT_EQ(announced, std::set<std::string>(listed.begin(), listed.end()));
    EXPECT_EQ(welcome_.limits.at("message"), limits::kMessageMax);
    EXPECT_EQ(welcome_.limits.at("events_wait"), 30'000U);
}

TEST_F(BrokerRequests, AcceptedSessionIsShownAndListed) {
    const SessionId id = submit("helper", "k1");
    ASSERT_TRUE(is_session_id(id.str())) << id.str();
    const Result<StatusReply> reply = status(id.str());
    ASSERT_TRUE(reply.ok()) << reply.error().message;
    EXPECT_EQ(reply->session.status, SessionStatus::created);
    EXPECT_EQ(reply->session.agent.str(), "helper");
    EXPECT_GE(reply->seq, 1U);

    const Result<ListReply> page = peer_.call<ListReply>(ListRequest{});
    ASSERT_TRUE(page.ok()) << page.error().message;
    ASSERT_EQ(page->sessions.size(), 1U);
    EXPECT_EQ(page->sessions.front().id, id);
    EXPECT_EQ(page->sessions.front().detail, reply->session.detail);
    EXPECT_TRUE(page->next.empty());
}

TEST_F(BrokerRequests, PrefixFindsOneOrNamesAll) {
    const SessionId first = submit("alpha", "");
    const SessionId second = submit("beta", "");
    const Result<StatusReply> unique = status(first.str().substr(0, first.str().size() - 1));
    ASSERT_TRUE(unique.ok()) << unique.error().message;
    EXPECT_EQ(unique->session.id, first);

    EXPECT_EQ(code_of_status(first.str().substr(0, 4)), ErrorCode::ambiguous);
    EXPECT_EQ(peer_.refusal().matches, (std::vector<std::string>{first.str(), second.str()}));
    EXPECT_EQ(code_of_status("19990101-000000-nobody"), ErrorCode::not_found);
    const auto exact =
        peer_.call<StatusReply>(StatusRequest{.id = first.str().substr(0, 16), .exact = true});
    ASSERT_FALSE(exact.ok());
    EXPECT_EQ(exact.error().code, ErrorCode::not_found);
}

TEST_F(BrokerRequests, FullIdWinsOverLongerOnes) {
    // The second of one second gets `-2`, so that the first id is a prefix of it.
    SubmitRequest both{
        .sessions = {make_submission("twin", "a", ""), make_submission("twin", "b", "")}};
    const Result<SubmitReply> reply = peer_.call<SubmitReply>(std::move(both));
    ASSERT_TRUE(reply.ok()) << reply.error().message;
    const std::string first = reply->sessions[0].id.str();
    ASSERT_EQ(reply->sessions[1].id.str(), first + "-2");
    ASSERT_TRUE(kill(first).ok());
    const Result<StatusReply> shown = status(first);
    ASSERT_TRUE(shown.ok()) << shown.error().message;
    EXPECT_EQ(shown->session.id.str(), first);
    EXPECT_EQ(shown->session.status, SessionStatus::killed);
}

TEST_F(BrokerRequests, KillEndsAQueuedSessionForGood) {
    const SessionId id = submit("helper", "k");
    const Result<KillReply> killed = kill(id.str());
    ASSERT_TRUE(killed.ok()) << killed.error().message;
    EXPECT_FALSE(killed->already_final);
    const Result<StatusReply> shown = status(id.str());
    ASSERT_TRUE(shown.ok()) << shown.error().message;
    EXPECT_EQ(shown->session.status, SessionStatus::killed);
    EXPECT_EQ(shown->session.kill_reason, "enough");

    const Result<KillReply> again = kill(id.str());
    ASSERT_TRUE(again.ok()) << again.error().message;
    EXPECT_TRUE(again->already_final);
    const Result<KillReply> unknown = kill("19990101-000000-nobody");
    ASSERT_FALSE(unknown.ok());
    EXPECT_EQ(unknown.error().code, ErrorCode::not_found);
}

TEST_F(BrokerRequests, ResultOfASessionWithoutOneIsNotHeld) {
    const SessionId id = submit("helper", "k");
    const auto result = peer_.call<ResultReply>(ResultRequest{.id = id.str()});
    ASSERT_TRUE(result.ok()) << result.error().message;
    EXPECT_FALSE(result->held);
    EXPECT_EQ(result->session.id, id);
    const auto unknown = peer_.call<ResultReply>(ResultRequest{.id = "19990101-000000-nobody"});
    ASSERT_FALSE(unknown.ok());
    EXPECT_EQ(unknown.error().code, ErrorCode::not_found);
}

TEST_F(BrokerRequests, RetryMakesANewSessionOfAnEndedOne) {
    const SessionId id = submit("helper", "k");
    const auto early = peer_.call<RetryReply>(RetryRequest{.id = id.str(), .key = "again"});
    ASSERT_FALSE(early.ok());
    EXPECT_EQ(early.error().code, ErrorCode::conflict);
    ASSERT_TRUE(kill(id.str()).ok());

    const auto made = peer_.call<RetryReply>(RetryRequest{.id = id.str(), .key = "again"});
    ASSERT_TRUE(made.ok()) << made.error().message;
    EXPECT_FALSE(made->duplicate);
    EXPECT_NE(made->id, id);
    const Result<StatusReply> shown = status(made->id.str());
    ASSERT_TRUE(shown.ok());
    EXPECT_EQ(shown->session.retry_of, id);
    const auto repeated = peer_.call<RetryReply>(RetryRequest{.id = id.str(), .key = "again"});
    ASSERT_TRUE(repeated.ok()) << repeated.error().message;
    EXPECT_TRUE(repeated->duplicate);
    EXPECT_EQ(repeated->id, made->id);
}

// ---- Idempotency -------------------------------------------------------------------------------

TEST_F(BrokerRequests, SameKeySameSessionAlsoAfterAKill9) {
    const SessionId id = submit("helper", "once");
    for (int round = 0; round < 2; ++round) {
        const auto again = submit_one(peer_, make_submission("helper", "do it", "once"));
        ASSERT_TRUE(again.ok()) << again.error().message;
        EXPECT_TRUE(again->duplicate);
        EXPECT_EQ(again->id, id);
        const auto other = submit_one(peer_, make_submission("helper", "something else", "once"));
        ASSERT_FALSE(other.ok());
        EXPECT_EQ(other.error().code, ErrorCode::idem_mismatch);
        broker_.restart();
        TestPeer fresh(context_, broker_.endpoint());
        ASSERT_TRUE(fresh.hello().ok());
        ASSERT_TRUE(peer_.hello().ok());
    }
    const auto page = peer_.call<ListReply>(ListRequest{});
    ASSERT_TRUE(page.ok());
    EXPECT_EQ(page->sessions.size(), 1U);
}

TEST_F(BrokerRequests, KeyOfAnEndedSessionIsStillKnown) {
    const SessionId id = submit("helper", "once");
    ASSERT_TRUE(kill(id.str()).ok());
    const auto again = submit_one(peer_, make_submission("helper", "do it", "once"));
    ASSERT_TRUE(again.ok()) << again.error().message;
    EXPECT_TRUE(again->duplicate);
    EXPECT_EQ(again->id, id);
}

// All of it reaches the broker in one turn, or in few: whatever the order of looks and commits, one
// session.
TEST_F(BrokerRequests, PipelinedSubmitKillSubmitIsOneSession) {
    const SessionId first = submit("helper", "pipe");
    std::vector<std::string> requests;
    for (int i = 0; i < 20; ++i) {
        requests.push_back(
            peer_.send(SubmitRequest{.sessions = {make_submission("helper", "do it", "pipe")}}));
        if (i == 10) peer_.send(KillRequest{.id = first.str(), .reason = "", .exact = true});
    }
    std::set<std::string> ids;
    while (!requests.empty()) {
        const std::optional<Incoming> incoming = peer_.receive(kCap);
        ASSERT_TRUE(incoming.has_value());
        const auto* frame = std::get_if<ReplyFrame>(&*incoming);
        ASSERT_NE(frame, nullptr);
        if (std::erase(requests, frame->id) == 0) continue;
        const auto* reply = std::get_if<Reply>(&frame->body);
        ASSERT_NE(reply, nullptr);
        const auto* submitted = std::get_if<SubmitReply>(reply);
        ASSERT_NE(submitted, nullptr);
        EXPECT_TRUE(submitted->sessions.front().duplicate);
        ids.insert(submitted->sessions.front().id.str());
    }
    EXPECT_EQ(ids, std::set<std::string>{first.str()});
}

TEST_F(BrokerRequests, ItemsOfABatchAreDecidedEach) {
    Submission bad_parent = make_submission("helper", "x", "b2");
    bad_parent.parent = SessionId("19990101-000000-nobody");
    SubmitRequest batch{.sessions = {make_submission("helper", "x", "b1"), bad_parent,
                                     make_submission("helper", "x", "b1"),
                                     make_submission("helper", "y", "b1")}};
    const auto reply = peer_.call<SubmitReply>(std::move(batch));
    ASSERT_TRUE(reply.ok()) << reply.error().message;
    ASSERT_EQ(reply->sessions.size(), 4U);
    EXPECT_FALSE(reply->sessions[0].error.has_value());
    EXPECT_TRUE(reply->sessions[1].error.has_value());
    EXPECT_TRUE(reply->sessions[2].duplicate);
    EXPECT_EQ(reply->sessions[2].id, reply->sessions[0].id);
    ASSERT_TRUE(reply->sessions[3].error.has_value());
    EXPECT_EQ(reply->sessions[3].error->code, ErrorCode::idem_mismatch);
}

// ---- Sessions of the connection ----------------------------------------------------------------

TEST_F(BrokerRequests, NothingWithoutHello) {
    TestPeer stranger(context_, broker_.endpoint());
    const auto before = stranger.call<WorkersReply>(WorkersRequest{});
    ASSERT_FALSE(before.ok());
    EXPECT_EQ(before.error().code, ErrorCode::no_session);
    ASSERT_TRUE(stranger.hello().ok());
    ASSERT_TRUE(stranger.hello().ok()) << "a repeated hello is fine";
    EXPECT_TRUE(stranger.call<WorkersReply>(WorkersRequest{}).ok());
}

TEST_F(BrokerRequests, RestartForgetsConnectionsAndKeepsTheEpoch) {
    const SessionId id = submit("helper", "k");
    broker_.restart();
    // The request may still leave over the dying connection; then it has no answer and is repeated.
    Result<StatusReply> reply = status(id.str());
    EXPECT_TRUE(test::wait_until(
        [&] {
            if (!reply.ok() && reply.error().code == ErrorCode::no_session) return true;
            reply = peer_.call<StatusReply>(StatusRequest{.id = id.str(), .exact = false},
                                            Duration(500));
            return false;
        },
        kCap));
    const Result<WelcomeReply> again = peer_.hello();
    ASSERT_TRUE(again.ok());
    EXPECT_EQ(again->epoch, welcome_.epoch);
    EXPECT_EQ(again->generation, welcome_.generation);
    EXPECT_TRUE(status(id.str()).ok());
}

TEST_F(BrokerRequests, OtherVersionsAndRolesAreRefused) {
    HelloRequest newer{.role = "client",
                       .software = "x",
                       .protocol_min = 7,
                       .protocol_max = 9,
                       .capabilities = {},
                       .worker = {}};
    const auto version = peer_.call<WelcomeReply>(newer);
    ASSERT_FALSE(version.ok());
    EXPECT_EQ(version.error().code, ErrorCode::version);
    for (const Request& request : {Request(HeartbeatRequest{}), Request(GoodbyeRequest{})}) {
        const auto refused = peer_.call<GoodbyeReply>(request);
        ASSERT_FALSE(refused.ok());
        EXPECT_EQ(refused.error().code, ErrorCode::forbidden);
    }
}

// ---- Bad input ---------------------------------------------------------------------------------

struct BadInput {
    const char* name;
    std::string bytes;
    ErrorCode code;
};

// Bytes are written out, so that the table stands without our own encoder.
std::vector<BadInput> bad_inputs() {
    using namespace std::string_literals;
    const std::string good = encode(RequestFrame{.id = "x", .body = WorkersRequest{}});
    std::vector<BadInput> inputs = {
        {"empty", "", ErrorCode::bad_request},
        {"not msgpack", "\xc1"s, ErrorCode::bad_request},
        {"text, no map", "\xa5hello"s, ErrorCode::bad_request},
        {"truncated", good.substr(0, good.size() - 1), ErrorCode::bad_request},
        {"trailing byte", good + '\0', ErrorCode::bad_request},
        {"huge array announced", "\xdd\xff\xff\xff\xff"s, ErrorCode::bad_request},
        {"key twice", "\x84\xa1v\x01\xa1v\x01\xa1m\xa7workers\xa2id\xa1x"s, ErrorCode::bad_request},
        {"id missing", "\x82\xa1v\x01\xa1m\xa7workers"s, ErrorCode::bad_request},
        {"version missing", "\x82\xa1m\xa7workers\xa2id\xa1x"s, ErrorCode::bad_request},
        {"version is a text",
         "\x83\xa1v\xa1"
         "1\xa1m\xa7workers\xa2id\xa1x"s,
         ErrorCode::bad_request},
        {"version of tomorrow", "\x83\xa1v\x63\xa1m\xa7workers\xa2id\xa1x"s, ErrorCode::version},
        {"unknown verb",
         "\x83\xa1v\x01\xa1m\xa4"
         "dance\xa2id\xa1x"s,
         ErrorCode::bad_request},
        {"unknown verb, well formed",
         "\x83\xa1v\x01\xa1m\xa5"
         "dance\xa2id\xa1x"s,
         ErrorCode::unknown_verb},
        {"verb not UTF-8", "\x83\xa1v\x01\xa1m\xa2\xff\xfe\xa2id\xa1x"s, ErrorCode::bad_request},
        {"body is no map",
         "\x84\xa1v\x01\xa1m\xa7workers\xa2id\xa1x\xa1"
         "b\x05"s,
         ErrorCode::bad_request},
        {"field missing",
         "\x84\xa1v\x01\xa1m\xa6status\xa2id\xa1x\xa1"
         "b\x80"s,
         ErrorCode::bad_request},
        {"field of wrong type",
         "\x84\xa1v\x01\xa1m\xa6status\xa2id\xa1x\xa1"
         "b\x81\xa2id\x05"s,
         ErrorCode::bad_request},
        {"too deep",
         "\x84\xa1v\x01\xa1m\xa7workers\xa2id\xa1x\xa1"
         "b\x81\xa1z"s +
             std::string(20, '\x91') + "\x01"s,
         ErrorCode::bad_request},
    };
    return inputs;
}

TEST_F(BrokerRequests, EveryBadInputIsNamedAndTheBrokerGoesOn) {
    for (const BadInput& input : bad_inputs()) {
        SCOPED_TRACE(input.name);
        ASSERT_TRUE(peer_.send_raw(input.bytes, kCap));
        const std::optional<Incoming> incoming = peer_.receive(kCap);
        ASSERT_TRUE(incoming.has_value());
        const auto* frame = std::get_if<ReplyFrame>(&*incoming);
        ASSERT_NE(frame, nullptr);
        const auto* refused = std::get_if<ErrorReply>(&frame->body);
        ASSERT_NE(refused, nullptr);
        EXPECT_EQ(refused->error.code, input.code) << refused->error.message;
        EXPECT_FALSE(refused->error.message.empty());
    }
    EXPECT_TRUE(peer_.call<WorkersReply>(WorkersRequest{}).ok());
}

TEST_F(BrokerRequests, OverlongMessageIsNotAnsweredButHarmless) {
    // Over the transport's own limit: libzmq drops the connection before the broker sees a byte of
    // it.
    TestPeer loud(context_, broker_.endpoint());
    ASSERT_TRUE(loud.hello().ok());
    ASSERT_TRUE(loud.send_raw(std::string(limits::kMessageMax + (1u << 20), 'x'), kCap));
    EXPECT_TRUE(peer_.call<WorkersReply>(WorkersRequest{}).ok());
    // Just over ours it arrives, and is refused by name.
    ASSERT_TRUE(peer_.send_raw(std::string(limits::kMessageMax + 1, 'x'), kCap));
    const std::optional<Incoming> incoming = peer_.receive(kCap);
    ASSERT_TRUE(incoming.has_value());
    const auto* frame = std::get_if<ReplyFrame>(&*incoming);
    ASSERT_NE(frame, nullptr);
    const auto* large = std::get_if<ErrorReply>(&frame->body);
    ASSERT_NE(large, nullptr);
    EXPECT_EQ(large->error.code, ErrorCode::too_large) << large->error.message;
    // A prompt over its limit fits a message and is refused by name.
    const auto refused =
        submit_one(peer_, make_submission("helper", std::string(limits::kPromptMax + 1, 'x'), ""));
    ASSERT_FALSE(refused.ok());
    EXPECT_TRUE(refused.error().code == ErrorCode::too_large ||
                refused.error().code == ErrorCode::bad_request)
        << refused.error().message;
    EXPECT_TRUE(peer_.call<WorkersReply>(WorkersRequest{}).ok());
}

// ---- Events ------------------------------------------------------------------------------------

TEST_F(BrokerRequests, EventsFollowACursor) {
    const SessionId id = submit("helper", "k");
    const Result<StatusReply> before = status(id.str());
    ASSERT_TRUE(before.ok());
    ASSERT_TRUE(kill(id.str()).ok());
    EventsRequest request{
        .epoch = welcome_.epoch, .after = before->seq, .ids = {id}, .project = "", .agent = ""};
    const auto page = peer_.call<EventsReply>(request);
    ASSERT_TRUE(page.ok()) << page.error().message;
    ASSERT_FALSE(page->events.empty());
    EXPECT_EQ(page->events.back().status, "KILLED");
    EXPECT_FALSE(page->gap);
    request.after = page->next;
    const auto rest = peer_.call<EventsReply>(request);
    ASSERT_TRUE(rest.ok());
    EXPECT_TRUE(rest->events.empty());
    request.epoch = "another";
    const auto other = peer_.call<EventsReply>(request);
    ASSERT_TRUE(other.ok());
    EXPECT_TRUE(other->gap);
}

TEST_F(BrokerRequests, LongPollWakesAtTheEventItWaitsFor) {
    const SessionId id = submit("helper", "k1");
    const SessionId bystander = submit("other", "k2");
    const Result<StatusReply> before = status(id.str());
    ASSERT_TRUE(before.ok());
    TestPeer waiter(context_, broker_.endpoint());
    ASSERT_TRUE(waiter.hello().ok());
    const std::string poll = waiter.send(EventsRequest{.epoch = "",
                                                       .after = before->seq,
                                                       .wait = Duration(30'000),
                                                       .ids = {id},
                                                       .project = "",
                                                       .agent = ""});
    // What concerns others does not end the wait.
    ASSERT_TRUE(kill(bystander.str()).ok());
    EXPECT_FALSE(waiter.reply_to(poll, Duration(300)).has_value());
    const Timestamp killed_at = io::steady_now();
    ASSERT_TRUE(kill(id.str()).ok());
    const auto answer = waiter.reply_to(poll, kCap);
    ASSERT_TRUE(answer.has_value());
    EXPECT_LT(io::steady_now() - killed_at, Duration(5'000));
    const auto* reply = std::get_if<Reply>(&*answer);
    ASSERT_NE(reply, nullptr);
    const auto* page = std::get_if<EventsReply>(reply);
    ASSERT_NE(page, nullptr);
    ASSERT_FALSE(page->events.empty());
    EXPECT_EQ(page->events.front().id, id);
}

TEST_F(BrokerRequests, LongPollEndsEmptyAtItsDeadline) {
    const auto head =
        peer_.call<EventsReply>(EventsRequest{.epoch = "", .ids = {}, .project = "", .agent = ""});
    ASSERT_TRUE(head.ok());
    const Timestamp asked_at = io::steady_now();
    const auto page = peer_.call<EventsReply>(EventsRequest{.epoch = head->epoch,
                                                            .after = head->next,
                                                            .wait = Duration(300),
                                                            .ids = {},
                                                            .project = "",
                                                            .agent = ""});
    ASSERT_TRUE(page.ok()) << page.error().message;
    EXPECT_TRUE(page->events.empty());
    EXPECT_GE(io::steady_now() - asked_at, Duration(290));
}

TEST_F(BrokerRequests, TooManyLongPollsOfOnePeerAreRefused) {
    constexpr int kWaitersMax = 64;
    std::string last;
    for (int i = 0; i <= kWaitersMax; ++i) {
        last = peer_.send(EventsRequest{.epoch = "",
                                        .after = 0,
                                        .wait = Duration(30'000),
                                        .ids = {SessionId("20200101-000000-x")},
                                        .project = "",
                                        .agent = ""});
    }
    const auto answer = peer_.reply_to(last, kCap);
    ASSERT_TRUE(answer.has_value());
    const auto* refused = std::get_if<ErrorReply>(&*answer);
    ASSERT_NE(refused, nullptr);
    EXPECT_EQ(refused->error.code, ErrorCode::rate_limited);
    EXPECT_EQ(refused->retry, Duration(1'000));
}

// ---- Storage -----------------------------------------------------------------------------------

TEST(BrokerStorage, SubmissionsAreRefusedBelowTheReserve) {
    TestBroker broker("");
    const std::string text = "[broker]\nsegment_size = 16777216\nstorage_reserve = 1099511627776\n";
    ASSERT_TRUE(io::write_file(broker.config(), text, 0600, io::Sync::none).ok());
    broker.start();
    io::Context context;
    TestPeer peer(context, broker.endpoint());
    ASSERT_TRUE(peer.hello().ok()) << broker.process().log_text();
    const auto refused = submit_one(peer, make_submission("helper", "x", "k"));
    ASSERT_FALSE(refused.ok());
    EXPECT_EQ(refused.error().code, ErrorCode::storage_low);
    EXPECT_GT(peer.refusal().retry, Duration(0));
    EXPECT_TRUE(peer.call<ListReply>(ListRequest{}).ok());
    const auto fleet = peer.call<FleetReply>(FleetRequest{});
    ASSERT_TRUE(fleet.ok()) << fleet.error().message;
    EXPECT_TRUE(fleet->storage_low);
}

// ---- Ending ------------------------------------------------------------------------------------

TEST_F(BrokerRequests, TermAnswersWhoWaitsAndEndsClean) {
    const SessionId id = submit("helper", "k");
    const Result<StatusReply> before = status(id.str());
    ASSERT_TRUE(before.ok());
    const std::string poll = peer_.send(EventsRequest{.epoch = "",
                                                      .after = before->seq,
                                                      .wait = Duration(30'000),
                                                      .ids = {id},
                                                      .project = "",
                                                      .agent = ""});
    // The answer to a later request shows that the poll has been read.
    ASSERT_TRUE(peer_.call<WorkersReply>(WorkersRequest{}).ok());
    broker_.process().send_signal(SIGTERM);
    const auto answer = peer_.reply_to(poll, kCap);
    EXPECT_EQ(broker_.process().wait_exit(kCap), 0);
    ASSERT_TRUE(answer.has_value());
    const auto* refused = std::get_if<ErrorReply>(&*answer);
    ASSERT_NE(refused, nullptr);
    EXPECT_EQ(refused->error.code, ErrorCode::shutting_down);

    broker_.start();
    ASSERT_TRUE(peer_.hello().ok());
    EXPECT_TRUE(status(id.str()).ok());
    // The database was brought up to date, so there was nothing to replay.
    EXPECT_NE(broker_.process().log_text().rfind("replayed=0"), std::string::npos);
}

TEST_F(BrokerRequests, SecondSignalEndsAtOnce) {
    // Both wait while it is stopped, so the second is there when the first is read.
    broker_.process().send_signal(SIGSTOP);
    broker_.process().send_signal(SIGTERM);
    broker_.process().send_signal(SIGINT);
    broker_.process().send_signal(SIGCONT);
    const std::optional<int> code = broker_.process().wait_exit(kCap);
    EXPECT_TRUE(code == 128 + SIGTERM || code == 128 + SIGINT) << code.value_or(-1);
}

TEST_F(BrokerRequests, HupReadsTheLogLevelAndUsr1ShowsCounts) {
    broker_.process().send_signal(SIGUSR1);
    EXPECT_TRUE(test::wait_until(
        [&] { return broker_.process().log_text().find("counts queued=0") != std::string::npos; },
        kCap));
    const std::string text = "[broker]\nsegment_size = 16777216\nlog_level = \"debug\"\n";
    ASSERT_TRUE(io::write_file(broker_.config(), text, 0600, io::Sync::none).ok());
    broker_.process().send_signal(SIGHUP);
    EXPECT_TRUE(test::wait_until(
        [&] { return broker_.process().log_text().find("log_level=debug") != std::string::npos; },
        kCap));
}

}  // namespace
}  // namespace iw
