// The verbs about the fleet as a whole, dependencies that are over, and a store that has lost what
// a worker has seen.

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
using test::wait_until;

class BrokerAdmin : public BrokerWorker {
  protected:
    FleetReply fleet() {
        const auto reply = client_.call<FleetReply>(FleetRequest{});
        EXPECT_TRUE(reply.ok()) << reply.error().message;
        return reply.ok() ? *reply : FleetReply{};
    }
    // One session that has run to its good end.
    SessionId completed() {
        const SessionId id = submit("work");
        const std::optional<Assignment> assignment = worker_.assignment();
        EXPECT_TRUE(assignment.has_value());
        if (!assignment) return id;
        const AttemptRef attempt = attempt_of(*assignment);
        EXPECT_TRUE(worker_.report(attempt, started_now()).ok());
        EXPECT_TRUE(worker_.report(attempt, ended_well()).ok());
        EXPECT_TRUE(worker_.report(attempt, ClosedReport{}).ok());
        return id;
    }
    Result<SubmitOutcome> submit_after(const SessionId& id, AfterCondition on) {
        Submission submission = make_submission("helper", "later", "");
        submission.after = {{.id = id, .on = on}};
        return submit_one(client_, std::move(submission));
    }
    // The worker says that it has seen more of this broker than there is.
    void lose_records() {
        worker_.seen = SeenHead{.epoch = fleet().epoch, .seq = fleet().seq + 20};
        ++worker_.start_count;
        const Result<WelcomeReply> refused = worker_.hello();
        ASSERT_FALSE(refused.ok());
        EXPECT_EQ(refused.error().code, ErrorCode::read_only) << refused.error().message;
        EXPECT_NE(refused.error().message.find("20 records are missing"), std::string::npos);
    }
    void restart() {
        broker_.restart();
        ASSERT_TRUE(client_.hello().ok()) << broker_.process().log_text();
    }
};

TEST_F(BrokerAdmin, FleetShowsTheWhole) {
    ASSERT_TRUE(worker_.hello().ok());
    static_cast<void>(completed());
    const FleetReply shown = fleet();
    EXPECT_NE(shown.software.find("ibroker"), std::string::npos);
    EXPECT_FALSE(shown.epoch.empty());
    EXPECT_EQ(shown.generation, 1U);
    EXPECT_GT(shown.seq, 0U);
    EXPECT_FALSE(shown.restored);
    EXPECT_EQ(shown.read_only, "");
    EXPECT_GT(shown.disk_free, 0U);
    EXPECT_FALSE(shown.backup_at.has_value());
}

TEST_F(BrokerAdmin, NothingOfTheFleetIsForWhatRunsInASession) {
    ASSERT_TRUE(worker_.hello().ok());
    const SessionId id = submit("nosy");
    const std::optional<Assignment> assignment = worker_.assignment();
    ASSERT_TRUE(assignment.has_value());
    const AttemptRef inside = attempt_of(*assignment);
    ASSERT_TRUE(worker_.report(inside, started_now()).ok());
    const SessionId bystander = submit("bystander");

    const std::vector<Request> forbidden = {
        HoldRequest{.scope = HoldScope::fleet},
        ConfirmDeadRequest{.id = bystander.str(), .reason = "so I say"},
        ConfirmDeadRequest{.worker = "w1", .reason = "so I say"},
        BackupRequest{},
        ReleaseRequest{},
        ReleaseRequest{.accept_loss = true},
        ExtendRequest{.id = bystander.str(), .timeout = Duration(1'000), .exact = true},
        EditRequest{.id = bystander.str(), .exact = true, .metadata = "{}"},
    };
    for (const Request& request : forbidden)
        EXPECT_EQ(error_of(worker_.relay(inside, request)), ErrorCode::forbidden) << verb(request);
    EXPECT_NE(ok_of<FleetReply>(worker_.relay(inside, FleetRequest{})), nullptr);
    EXPECT_TRUE(fleet().holds.empty());
    EXPECT_NE(view(bystander).timeout, Duration(1'000));
    // What is its own it may change.
    Submission child = make_submission("helper", "child", "");
    const auto made = worker_.relay(inside, SubmitRequest{.sessions = {child}});
    const auto* submitted = ok_of<SubmitReply>(made);
    ASSERT_NE(submitted, nullptr);
    const SessionId below = submitted->sessions.at(0).id;
    EXPECT_NE(ok_of<ExtendReply>(worker_.relay(
                  inside, ExtendRequest{.id = below.str(), .timeout = Duration(5'000)})),
              nullptr);
    EXPECT_EQ(view(below).timeout, Duration(5'000));
}

TEST_F(BrokerAdmin, ExtendFindsByPrefixAndRefusesWhatIsOver) {
    ASSERT_TRUE(worker_.hello().ok());
    const SessionId over = completed();
    const SessionId live = submit("long");
    const auto extended = client_.call<ExtendReply>(
        ExtendRequest{.id = live.str(), .timeout = {}, .add = Duration(60'000)});
    ASSERT_TRUE(extended.ok()) << extended.error().message;
    EXPECT_EQ(extended->session.timeout, limits::kRunTimeoutDefault + Duration(60'000));
    const auto late =
        client_.call<ExtendReply>(ExtendRequest{.id = over.str(), .timeout = Duration(1'000)});
    ASSERT_FALSE(late.ok());
    EXPECT_EQ(late.error().code, ErrorCode::conflict);
    const auto unknown =
        client_.call<ExtendReply>(ExtendRequest{.id = "nothing", .timeout = Duration(1'000)});
    ASSERT_FALSE(unknown.ok());
    EXPECT_EQ(unknown.error().code, ErrorCode::not_found);
}

TEST_F(BrokerAdmin, EditsOfLiveAndFinalSessionsSurviveARestart) {
    ASSERT_TRUE(worker_.hello().ok());
    const SessionId over = completed();
    const SessionId live = submit("long");
    const std::vector<std::string> tags = {"late"};
    const auto edited = client_.call<EditReply>(
        EditRequest{.id = live.str(), .parent = over, .tags = tags, .metadata = "{}"});
    ASSERT_TRUE(edited.ok()) << edited.error().message;
    EXPECT_EQ(edited->refused.size(), 1u);  // the parent, which is over
    EXPECT_EQ(edited->session.tags, tags);
    const auto late =
        client_.call<EditReply>(EditRequest{.id = over.str(), .parent = live, .tags = tags});
    ASSERT_TRUE(late.ok()) << late.error().message;
    EXPECT_EQ(late->refused.size(), 1u);
    EXPECT_EQ(late->session.tags, tags);
    EXPECT_TRUE(is_final(late->session.status));
    restart();
    EXPECT_EQ(view(live).tags, tags);
    EXPECT_EQ(view(live).metadata, "{}");
    EXPECT_EQ(view(over).tags, tags);
    EXPECT_TRUE(view(over).parent.empty());
    const auto unknown =
        client_.call<EditReply>(EditRequest{.id = "20200101-000000-nobody", .tags = tags});
    ASSERT_FALSE(unknown.ok());
    EXPECT_EQ(unknown.error().code, ErrorCode::not_found);
}

// ---- Dependencies ------------------------------------------------------------------------------

TEST_F(BrokerAdmin, DependenciesThatAreOverAreLookedUp) {
    ASSERT_TRUE(worker_.hello().ok());
    const SessionId over = completed();
    // The broker that is asked now has never had it in its memory.
    restart();
    const auto met = submit_after(over, AfterCondition::success);
    ASSERT_TRUE(met.ok()) << met.error().message;
    EXPECT_NE(name(view(met->id).detail), name(Detail::blocked));
    const auto unmet = submit_after(over, AfterCondition::failure);
    ASSERT_TRUE(unmet.ok()) << unmet.error().message;
    const SessionView ended = view(unmet->id);
    EXPECT_EQ(name(ended.detail), name(Detail::dependency_failed));
    EXPECT_NE(ended.reason.find(over.str()), std::string::npos) << ended.reason;
    const auto unknown = submit_after(SessionId("20200101-000000-nobody"), AfterCondition::any_end);
    ASSERT_FALSE(unknown.ok());
    EXPECT_EQ(unknown.error().code, ErrorCode::not_found);
    EXPECT_NE(unknown.error().message.find("20200101-000000-nobody"), std::string::npos);
}

// Its end and the submission reach the broker in one turn, so the look has to come behind the end.
TEST_F(BrokerAdmin, ADependencyThatEndsMeanwhileIsNotMissed) {
    ASSERT_TRUE(worker_.hello().ok());
    for (int round = 0; round < 10; ++round) {
        const SessionId id = submit("work");
        const std::string kill = client_.send(KillRequest{.id = id.str(), .exact = true});
        Submission after = make_submission("helper", "later", "k" + std::to_string(round));
        after.after = {{.id = id, .on = AfterCondition::success}};
        const std::string submitted = client_.send(SubmitRequest{.sessions = {after}});
        ASSERT_TRUE(client_.reply_to(kill, kCap).has_value());
        const auto answer = client_.reply_to(submitted, kCap);
        ASSERT_TRUE(answer.has_value());
        const auto* reply = std::get_if<Reply>(&*answer);
        ASSERT_NE(reply, nullptr);
        const auto* outcome = std::get_if<SubmitReply>(reply);
        ASSERT_NE(outcome, nullptr);
        ASSERT_FALSE(outcome->sessions.at(0).error.has_value())
            << outcome->sessions.at(0).error->message;
        const SessionId later = outcome->sessions.at(0).id;
        // Given to the worker before the kill came, the first is not over before that has answered.
        const bool was_given = !is_final(view(id).status);
        if (was_given) {
            const std::optional<Assignment> assignment = worker_.assignment();
            ASSERT_TRUE(assignment.has_value());
            EndedReport stopped = ended_well();
            stopped.cause = EndCause::stopped;
            stopped.success = false;
            ASSERT_TRUE(worker_.report(attempt_of(*assignment), stopped).ok());
            ASSERT_TRUE(worker_.report(attempt_of(*assignment), ClosedReport{}).ok());
        }
        const auto is_over = [&] { return is_final(view(later).status); };
        ASSERT_TRUE(wait_until(is_over, kCap)) << view(later).reason;
        EXPECT_EQ(name(view(later).detail), name(Detail::dependency_failed));
    }
}

// ---- A store that has lost something -----------------------------------------------------------

TEST_F(BrokerAdmin, AReadOnlyBrokerAnswersReadsAndRefusesChanges) {
    ASSERT_TRUE(worker_.hello().ok());
    const SessionId over = completed();
    const SessionId queued = submit("waits");
    lose_records();
    const std::vector<Request> changes = {
        SubmitRequest{.sessions = {make_submission("helper", "x", "")}},
        KillRequest{.id = queued.str()},
        ExtendRequest{.id = queued.str(), .timeout = Duration(1'000)},
        EditRequest{.id = queued.str(), .metadata = "{}"},
        RetryRequest{.id = over.str(), .key = "k"},
        HoldRequest{.scope = HoldScope::fleet},
        ConfirmDeadRequest{.worker = "w1", .reason = "r"},
        ReleaseRequest{},
    };
    const Seq before = fleet().seq;
    for (const Request& request : changes) {
        const auto answer = client_.call<SubmitReply>(request);
        ASSERT_FALSE(answer.ok()) << verb(request);
        EXPECT_EQ(answer.error().code, ErrorCode::read_only) << verb(request);
        EXPECT_NE(answer.error().message.find("--accept-loss"), std::string::npos);
    }
    EXPECT_EQ(view(over).status, SessionStatus::completed);
    EXPECT_TRUE(client_.call<ListReply>(ListRequest{}).ok());
    EXPECT_TRUE(client_.call<EventsReply>(EventsRequest{}).ok());
    EXPECT_EQ(fleet().seq, before);
    restart();
    EXPECT_NE(fleet().read_only, "");
}

TEST_F(BrokerAdmin, AcceptingTheLossBeginsAnEpochInWhichEverybodySaysHelloAgain) {
    ASSERT_TRUE(worker_.hello().ok());
    FakeWorker other(context_, broker_.endpoint());
    const FleetReply before = fleet();
    lose_records();
    const auto accepted =
        client_.call<ReleaseReply>(ReleaseRequest{.accept_loss = true, .reason = "so be it"});
    ASSERT_TRUE(accepted.ok()) << accepted.error().message;
    EXPECT_TRUE(accepted->held);
    EXPECT_NE(accepted->epoch, before.epoch);
    EXPECT_EQ(accepted->generation, before.generation + 1);
    const auto forgotten = client_.call<FleetReply>(FleetRequest{});
    ASSERT_FALSE(forgotten.ok());
    EXPECT_EQ(forgotten.error().code, ErrorCode::no_session);
    const auto welcome = client_.hello();
    ASSERT_TRUE(welcome.ok());
    EXPECT_EQ(welcome->epoch, accepted->epoch);
    EXPECT_EQ(welcome->generation, accepted->generation);
    EXPECT_TRUE(welcome->restored);
    EXPECT_EQ(fleet().read_only, "");
    EXPECT_TRUE(fleet().restored);

    // What was seen of the former epoch is no evidence any more.
    ASSERT_TRUE(worker_.hello().ok());
    const SessionId waiting = submit("waits");
    EXPECT_EQ(view(waiting).status, SessionStatus::created);
    HeartbeatRequest all{.attempts = {}, .agents = {}, .slots = {}};
    all.closed_all = true;
    ASSERT_TRUE(worker_.peer().call<HeartbeatReply>(all).ok());
    const auto released = client_.call<ReleaseReply>(ReleaseRequest{.reason = "all are back"});
    ASSERT_TRUE(released.ok()) << released.error().message;
    EXPECT_FALSE(released->held);
    const std::optional<Assignment> assignment = worker_.assignment();
    ASSERT_TRUE(assignment.has_value());
    EXPECT_EQ(assignment->fence.generation, accepted->generation);
    restart();
    EXPECT_FALSE(fleet().restored);
    EXPECT_EQ(fleet().epoch, accepted->epoch);
}

TEST_F(BrokerAdmin, WithoutALossThereIsNothingToAccept) {
    const auto refused = client_.call<ReleaseReply>(ReleaseRequest{.accept_loss = true});
    ASSERT_FALSE(refused.ok());
    EXPECT_EQ(refused.error().code, ErrorCode::conflict);
    const auto released = client_.call<ReleaseReply>(ReleaseRequest{});
    ASSERT_FALSE(released.ok());
    EXPECT_EQ(released.error().code, ErrorCode::conflict);
}

// ---- Backups -----------------------------------------------------------------------------------

TEST_F(BrokerAdmin, ABackupIsMadeOnceHoweverOftenItIsAskedFor) {
    ASSERT_TRUE(worker_.hello().ok());
    static_cast<void>(completed());
    const std::string folder = broker_.dir().path("backups");
    // The same request again, as a client repeats it without an answer: under way, and afterwards.
    const RequestFrame frame{.id = "same", .body = BackupRequest{.folder = folder}};
    for (int i = 0; i < 2; ++i)
        ASSERT_TRUE(client_.send_raw(encode(frame), kCap));
    ASSERT_TRUE(client_.reply_to("same", kCap).has_value());
    ASSERT_TRUE(client_.send_raw(encode(frame), kCap));
    const auto again = client_.reply_to("same", kCap);
    ASSERT_TRUE(again.has_value());
    const auto* reply = std::get_if<Reply>(&*again);
    ASSERT_NE(reply, nullptr);
    const auto* backup = std::get_if<BackupReply>(reply);
    ASSERT_NE(backup, nullptr);
    EXPECT_GT(backup->seq, 0U);
    EXPECT_EQ(io::list_folder(folder).size(), 1U);
    EXPECT_EQ(fleet().backup_folder, backup->folder);
    EXPECT_TRUE(fleet().backup_at.has_value());
    // Another request is another backup.
    ASSERT_TRUE(client_.call<BackupReply>(BackupRequest{.folder = folder}).ok());
    EXPECT_EQ(io::list_folder(folder).size(), 2U);
}

TEST_F(BrokerAdmin, ABackupThatCannotBeMadeSaysWhyAndIsShown) {
    const std::string file = broker_.dir().path("a-file");
    ASSERT_TRUE(io::write_file(file, "x", 0600, io::Sync::none).ok());
    const auto refused = client_.call<BackupReply>(BackupRequest{.folder = file + "/below"});
    ASSERT_FALSE(refused.ok());
    EXPECT_NE(refused.error().message.find(file), std::string::npos) << refused.error().message;
    EXPECT_NE(fleet().backup_error, "");
    ASSERT_TRUE(client_.call<BackupReply>(BackupRequest{}).ok());
    EXPECT_EQ(fleet().backup_error, "");
}

}  // namespace
}  // namespace iw
