// The broker as a worker sees it: assignments, reports, stops, relayed requests; and the same with
// the broker killed between each two steps.

#include <gtest/gtest.h>

#include "broker_worker_fixture.h"

namespace iw {
namespace {

using test::attempt_of;
using test::BrokerWorker;
using test::ended_well;
using test::error_of;
using test::FakeWorker;
using test::kCap;
using test::make_submission;
using test::ok_of;
using test::started_now;
using test::submit_one;
using test::TestBroker;
using test::TestPeer;

TEST_F(BrokerWorker, SessionRunsAndItsResultIsServed) {
    ASSERT_TRUE(worker_.hello().ok());
    const std::string prompt = "say \"hi\"; $(touch pwned) \xF0\x9F\x8E\x89\r\n";
    const SessionId id = submit(prompt);
    const std::optional<Assignment> assignment = worker_.assignment();
    ASSERT_TRUE(assignment.has_value());
    EXPECT_EQ(assignment->session, id);
    EXPECT_EQ(assignment->prompt, prompt);
    EXPECT_EQ(assignment->fence.attempt, 1U);
    expect_state(id, SessionStatus::created, Detail::assigned);

    const AttemptRef attempt = attempt_of(*assignment);
    ASSERT_TRUE(worker_.report(attempt, started_now()).ok());
    expect_state(id, SessionStatus::running, Detail::working);
    const Result<ReportAck> ended = worker_.report(attempt, ended_well());
    ASSERT_TRUE(ended.ok()) << ended.error().message;
    EXPECT_FALSE(ended->error.has_value());
    ASSERT_TRUE(ended->outcome.has_value());
    EXPECT_EQ(ended->outcome->session.status, SessionStatus::completed);
    expect_state(id, SessionStatus::running, Detail::delivering);
    ASSERT_TRUE(worker_.report(attempt, ClosedReport{}).ok());
    expect_state(id, SessionStatus::completed, Detail::done);

    const auto result = client_.call<ResultReply>(ResultRequest{.id = id.str()});
    ASSERT_TRUE(result.ok()) << result.error().message;
    EXPECT_TRUE(result->held);
    EXPECT_EQ(result->result, "{}");
    EXPECT_EQ(result->session.result_status, "success");
}

TEST_F(BrokerWorker, StateIsRightAfterAKill9BetweenAnyTwoSteps) {
    ASSERT_TRUE(worker_.hello().ok());
    const SessionId id = submit("prompt");
    std::optional<Assignment> assignment = worker_.assignment();
    ASSERT_TRUE(assignment.has_value());
    const AttemptRef attempt = attempt_of(*assignment);

    broker_.restart();
    expect_state(id, SessionStatus::created, Detail::assigned);
    // It does not list the assignment, so the same one comes again, its prompt now from the
    // database.
    ASSERT_TRUE(worker_.hello().ok());
    assignment = worker_.assignment();
    ASSERT_TRUE(assignment.has_value());
    EXPECT_EQ(attempt_of(*assignment), attempt);
    EXPECT_EQ(assignment->prompt, "prompt");
    ASSERT_TRUE(worker_.report(attempt, started_now()).ok());
    worker_.inventory = {{.session = id, .fence = attempt.fence, .phase = AttemptPhase::running}};

    broker_.restart();
    EXPECT_EQ(view(id).status, SessionStatus::running);
    ASSERT_TRUE(worker_.hello().ok());
    expect_state(id, SessionStatus::running, Detail::working);
    EXPECT_EQ(view(id).attempt, 1U);
    worker_.inventory.front().phase = AttemptPhase::ended;
    ASSERT_TRUE(worker_.report(attempt, ended_well()).ok());

    broker_.restart();
    expect_state(id, SessionStatus::running, Detail::delivering);
    ASSERT_TRUE(worker_.hello().ok());
    // A repeat is acknowledged again, with the same outcome.
    const Result<ReportAck> again = worker_.report(attempt, ended_well());
    ASSERT_TRUE(again.ok()) << again.error().message;
    EXPECT_FALSE(again->error.has_value());
    ASSERT_TRUE(again->outcome.has_value());
    EXPECT_EQ(again->outcome->session.status, SessionStatus::completed);
    ASSERT_TRUE(worker_.report(attempt, ClosedReport{}).ok());
    worker_.inventory.clear();

    broker_.restart();
    expect_state(id, SessionStatus::completed, Detail::done);
    ASSERT_TRUE(client_.hello().ok());
    const auto result = client_.call<ResultReply>(ResultRequest{.id = id.str()});
    ASSERT_TRUE(result.ok());
    EXPECT_EQ(result->result, "{}");
}

TEST_F(BrokerWorker, KillReachesTheWorkerAndIsRepeated) {
    ASSERT_TRUE(worker_.hello().ok());
    const SessionId id = submit("prompt");
    const std::optional<Assignment> assignment = worker_.assignment();
    ASSERT_TRUE(assignment.has_value());
    const AttemptRef attempt = attempt_of(*assignment);
    ASSERT_TRUE(worker_.report(attempt, started_now()).ok());
    worker_.inventory = {{.session = id, .fence = attempt.fence, .phase = AttemptPhase::running}};

    const auto killed =
        client_.call<KillReply>(KillRequest{.id = id.str(), .reason = "enough", .exact = true});
    ASSERT_TRUE(killed.ok()) << killed.error().message;
    EXPECT_FALSE(killed->already_final);
    const std::optional<StopPush> stop = worker_.peer().push<StopPush>(kCap);
    ASSERT_TRUE(stop.has_value());
    EXPECT_EQ(stop->stops.at(0).session, id);
    broker_.restart();
    ASSERT_TRUE(worker_.hello().ok());
    const Result<HeartbeatReply> beat = worker_.heartbeat();
    ASSERT_TRUE(beat.ok()) << beat.error().message;
    ASSERT_EQ(beat->stops.size(), 1U);
    EXPECT_EQ(beat->stops.front().reason, "enough");

    EndedReport stopped = ended_well();
    stopped.cause = EndCause::stopped;
    stopped.stop_cause = Detail::killed;
    stopped.success = false;
    ASSERT_TRUE(worker_.report(attempt, stopped).ok());
    ASSERT_TRUE(worker_.report(attempt, ClosedReport{}).ok());
    expect_state(id, SessionStatus::killed, Detail::killed);
}

TEST_F(BrokerWorker, LargePromptsArriveWholeAndOneByOne) {
    worker_.slots = 4;
    std::vector<SessionId> ids;
    for (int i = 0; i < 4; ++i)
        ids.push_back(submit(std::string((1u << 20) + 1, static_cast<char>('a' + i))));
    ASSERT_TRUE(worker_.hello().ok());
    for (int i = 0; i < 4; ++i) {
        const std::optional<Assignment> assignment = worker_.assignment();
        ASSERT_TRUE(assignment.has_value());
        EXPECT_EQ(assignment->prompt.size(), (1u << 20) + 1);
        EXPECT_EQ(std::erase(ids, assignment->session), 1U);
    }
}

TEST_F(BrokerWorker, NameIsTakenWhileItsWorkerLives) {
    ASSERT_TRUE(worker_.hello().ok());
    FakeWorker other(context_, broker_.endpoint());
    other.state_id = "state-2";
    const Result<WelcomeReply> refused = other.hello();
    ASSERT_FALSE(refused.ok());
    EXPECT_EQ(refused.error().code, ErrorCode::name_taken);
    // It did not become a worker by asking.
    const Result<HeartbeatReply> beat = other.heartbeat();
    ASSERT_FALSE(beat.ok());
    EXPECT_EQ(beat.error().code, ErrorCode::no_session);

    FakeWorker newer(context_, broker_.endpoint());
    newer.start_count = 2;
    ASSERT_TRUE(newer.hello().ok());
    const Result<HeartbeatReply> replaced = worker_.heartbeat();
    ASSERT_FALSE(replaced.ok());
    EXPECT_EQ(replaced.error().code, ErrorCode::no_session);
    EXPECT_TRUE(newer.heartbeat().ok());
    const auto workers = client_.call<WorkersReply>(WorkersRequest{});
    ASSERT_TRUE(workers.ok());
    ASSERT_EQ(workers->workers.size(), 1U);
    EXPECT_EQ(workers->workers.front().start_count, 2U);
    EXPECT_EQ(workers->workers.front().state, "up");
}

TEST_F(BrokerWorker, UnknownAgentIsRefusedWithTheNearest) {
    ASSERT_TRUE(worker_.hello().ok());
    const auto refused = submit_one(client_, make_submission("helpr", "x", ""));
    ASSERT_FALSE(refused.ok());
    EXPECT_EQ(refused.error().code, ErrorCode::unknown_agent);
    EXPECT_NE(refused.error().message.find("helper"), std::string::npos) << refused.error().message;
}

TEST_F(BrokerWorker, RequestsFromInsideASessionAreItsOwn) {
    ASSERT_TRUE(worker_.hello().ok());
    const SessionId parent = submit("parent");
    const std::optional<Assignment> assignment = worker_.assignment();
    ASSERT_TRUE(assignment.has_value());
    const AttemptRef inside = attempt_of(*assignment);
    ASSERT_TRUE(worker_.report(inside, started_now()).ok());
    const SessionId bystander = submit("bystander");

    HelloRequest greeting{.role = "client", .software = "x", .capabilities = {}, .worker = {}};
    EXPECT_NE(ok_of<WelcomeReply>(worker_.relay(inside, greeting)), nullptr);
    // The parent is vouched for by the worker, whatever the request says.
    Submission child = make_submission("helper", "child", "c1");
    child.parent = bystander;
    const auto made = worker_.relay(inside, SubmitRequest{.sessions = {child}});
    const auto* submitted = ok_of<SubmitReply>(made);
    ASSERT_NE(submitted, nullptr);
    ASSERT_FALSE(submitted->sessions.at(0).error.has_value())
        << submitted->sessions.at(0).error->message;
    const SessionId id = submitted->sessions.at(0).id;
    EXPECT_EQ(view(id).parent, parent);

    // Keys are the session's own: the same key of a client is another one.
    const auto same_key = submit_one(client_, make_submission("helper", "mine", "c1"));
    ASSERT_TRUE(same_key.ok()) << same_key.error().message;
    EXPECT_FALSE(same_key->duplicate);

    EXPECT_NE(ok_of<StatusReply>(
                  worker_.relay(inside, StatusRequest{.id = bystander.str(), .exact = true})),
              nullptr);
    EXPECT_EQ(error_of(worker_.relay(
                  inside, KillRequest{.id = bystander.str(), .reason = "", .exact = true})),
              ErrorCode::forbidden);
    EXPECT_NE(ok_of<KillReply>(
                  worker_.relay(inside, KillRequest{.id = id.str(), .reason = "", .exact = true})),
              nullptr);
    EXPECT_EQ(error_of(worker_.relay(inside, HeartbeatRequest{})), ErrorCode::forbidden);

    const AttemptRef stale{.session = parent, .fence = Fence{.generation = 1, .attempt = 7}};
    EXPECT_EQ(error_of(worker_.relay(
                  stale, SubmitRequest{.sessions = {make_submission("helper", "x", "")}})),
              ErrorCode::stale_fence);
    EXPECT_NE(
        ok_of<StatusReply>(worker_.relay(stale, StatusRequest{.id = parent.str(), .exact = true})),
        nullptr);
    // Rubbish inside is answered inside.
    const auto rubbish = worker_.peer().call<RelayReply>(
        RelayRequest{.session = parent, .fence = inside.fence, .request = "rubbish"});
    ASSERT_TRUE(rubbish.ok()) << rubbish.error().message;
    EXPECT_TRUE(decode_incoming(rubbish->reply).ok());
}

TEST_F(BrokerWorker, LongPollFromInsideEndsWithItsEvent) {
    ASSERT_TRUE(worker_.hello().ok());
    const SessionId parent = submit("parent");
    const std::optional<Assignment> assignment = worker_.assignment();
    ASSERT_TRUE(assignment.has_value());
    const AttemptRef inside = attempt_of(*assignment);
    ASSERT_TRUE(worker_.report(inside, started_now()).ok());
    const SessionId other = submit("other");
    const auto status = client_.call<StatusReply>(StatusRequest{.id = other.str(), .exact = true});
    ASSERT_TRUE(status.ok());

    EventsRequest poll{.epoch = "",
                       .after = status->seq,
                       .wait = Duration(30'000),
                       .ids = {other},
                       .project = "",
                       .agent = ""};
    const std::string frame = encode(RequestFrame{.id = "inner", .body = poll});
    const std::string request = worker_.peer().send(
        RelayRequest{.session = parent, .fence = inside.fence, .request = frame});
    ASSERT_TRUE(worker_.heartbeat().ok());
    ASSERT_TRUE(
        client_.call<KillReply>(KillRequest{.id = other.str(), .reason = "", .exact = true}).ok());
    const auto answer = worker_.peer().reply_to(request, kCap);
    ASSERT_TRUE(answer.has_value());
    const auto* reply = std::get_if<Reply>(&*answer);
    ASSERT_NE(reply, nullptr);
    ASSERT_TRUE(std::holds_alternative<RelayReply>(*reply));
}

// Leases are long: no session is lost because the machine stands still for a while.
class BrokerLate : public BrokerWorker {
  protected:
    // The attempt of a session that ran, was lost and is closed. `returns`: its worker has said
    // hello again.
    AttemptRef lose_session(bool returns) {
        EXPECT_TRUE(worker_.hello().ok());
        Submission submission = make_submission("helper", "x", "");
        submission.on_lost = OnLost::fail;
        const auto made = submit_one(client_, submission);
        EXPECT_TRUE(made.ok());
        const std::optional<Assignment> assignment = worker_.assignment();
        if (!made.ok() || !assignment) return {};
        const AttemptRef attempt = attempt_of(*assignment);
        EXPECT_TRUE(worker_.report(attempt, started_now()).ok());
        EXPECT_TRUE(worker_.peer().call<GoodbyeReply>(GoodbyeRequest{}).ok());
        ConfirmDeadRequest dead;
        dead.worker = worker_.name;
        dead.reason = "test";
        EXPECT_TRUE(client_.call<ConfirmDeadReply>(dead).ok());
        expect_state(made->id, SessionStatus::failed, Detail::lost);
        if (returns) {
            EXPECT_TRUE(worker_.hello().ok());
        }
        return attempt;
    }
};

// Its worker went away, came back after the session was given up, and has long ended it.
TEST_F(BrokerLate, WorkerLearnsTheOutcomeOfASessionThatIsOver) {
    const AttemptRef attempt = lose_session(true);
    worker_.inventory = {
        {.session = attempt.session, .fence = attempt.fence, .phase = AttemptPhase::ended}};
    const auto expect_outcome = [&] {
        const Result<ReportAck> ack = worker_.report(attempt, ended_well());
        ASSERT_TRUE(ack.ok()) << ack.error().message;
        ASSERT_FALSE(ack->error.has_value()) << ack->error->message;
        ASSERT_TRUE(ack->outcome.has_value());
        EXPECT_EQ(ack->outcome->session.status, SessionStatus::failed);
        EXPECT_EQ(ack->outcome->session.detail, Detail::lost);
    };
    expect_outcome();
    broker_.restart();
    expect_outcome();
    const Result<ReportAck> started = worker_.report(attempt, started_now());
    ASSERT_TRUE(started.ok()) << started.error().message;
    EXPECT_FALSE(started->error.has_value());
    EXPECT_FALSE(started->outcome.has_value());

    AttemptRef other = attempt;
    other.fence.attempt = 7;
    EXPECT_EQ(worker_.report(other, ended_well())->error->code, ErrorCode::stale_fence);
    other.session = SessionId("20200101-000000-helper-000000");
    EXPECT_EQ(worker_.report(other, ended_well())->error->code, ErrorCode::stale_fence);
    // Only an attempt that is known to be over may be stopped.
    EXPECT_EQ(worker_.report(other, started_now())->error->code, ErrorCode::not_found);
}

TEST_F(BrokerLate, AttemptsOfSessionsThatAreOverAreStoppedAfterARestart) {
    const AttemptRef attempt = lose_session(false);
    broker_.restart();
    worker_.inventory = {
        {.session = SessionId("20200101-000000-helper-000000"),
         .fence = attempt.fence,
         .phase = AttemptPhase::running},
        {.session = attempt.session, .fence = attempt.fence, .phase = AttemptPhase::running}};
    ASSERT_TRUE(worker_.hello().ok());
    const std::optional<StopPush> stop = worker_.peer().push<StopPush>(kCap);
    ASSERT_TRUE(stop.has_value());
    ASSERT_EQ(stop->stops.size(), 1U);
    EXPECT_EQ(stop->stops.front().session, attempt.session);
    EXPECT_EQ(stop->stops.front().reason, "superseded");
}

// Leases are short here: silence is shown, work goes on when the worker comes back, nothing is run
// again.
TEST(BrokerLease, SilentWorkerIsUnreachableAndComesBack) {
    TestBroker broker("heartbeat = \"100ms\"\nunreachable = \"400ms\"\nlost = \"1h\"\n");
    broker.start();
    io::Context context;
    TestPeer client(context, broker.endpoint());
    ASSERT_TRUE(client.hello().ok()) << broker.process().log_text();
    FakeWorker worker(context, broker.endpoint());
    ASSERT_TRUE(worker.hello().ok());
    const auto made = submit_one(client, make_submission("helper", "x", ""));
    ASSERT_TRUE(made.ok());
    // On a machine that stands still it may be unreachable before that: then it says that it lives.
    std::optional<AssignPush> push;
    ASSERT_TRUE(test::wait_until(
        [&] {
            static_cast<void>(worker.heartbeat());
            push = worker.peer().push<AssignPush>(Duration(50));
            return push.has_value();
        },
        kCap));
    const Assignment& assignment = push->assignments.at(0);
    ASSERT_TRUE(worker.report(attempt_of(assignment), started_now()).ok());
    const auto detail = [&] {
        const auto reply =
            client.call<StatusReply>(StatusRequest{.id = made->id.str(), .exact = true});
        return reply.ok() ? reply->session.detail : Detail::queued;
    };
    EXPECT_TRUE(test::wait_until([&] { return detail() == Detail::unreachable; }, kCap));
    worker.inventory = {
        {.session = made->id, .fence = assignment.fence, .phase = AttemptPhase::running}};
    EXPECT_TRUE(test::wait_until(
        [&] {
            static_cast<void>(worker.heartbeat());
            return detail() == Detail::working;
        },
        kCap));
}

// A frozen broker finds the heartbeats of that time in its socket and ends no lease over them.
TEST(BrokerLease, FrozenBrokerDoesNotBlameItsWorkers) {
    TestBroker broker("heartbeat = \"300ms\"\nunreachable = \"1s\"\nlost = \"1h\"\n");
    broker.start();
    io::Context context;
    FakeWorker worker(context, broker.endpoint());
    ASSERT_TRUE(worker.hello().ok()) << broker.process().log_text();
    broker.process().send_signal(SIGSTOP);
    const Timestamp frozen_at = io::steady_now();
    ASSERT_FALSE(worker.peer().receive(Duration(3'000)).has_value());
    worker.peer().send(HeartbeatRequest{.attempts = {}, .agents = {}, .slots = {}});
    EXPECT_GE(io::steady_now() - frozen_at, Duration(3'000));
    broker.process().send_signal(SIGCONT);
    ASSERT_TRUE(worker.heartbeat().ok());
    EXPECT_EQ(broker.process().log_text().find("to=unreachable"), std::string::npos)
        << broker.process().log_text();
}

}  // namespace
}  // namespace iw
