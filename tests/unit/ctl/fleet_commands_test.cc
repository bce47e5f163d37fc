#include <gtest/gtest.h>
#include <stdlib.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "ctl/explaining.h"
#include "ctl/fleet_text.h"
#include "tests/unit/ctl/command_line_fixture.h"

namespace iw::ctl {
namespace {

using test::Answer;
using test::CommandLineTest;
using test::FakeBroker;
using test::kId;
using test::Outcome;
using test::refusal;
using test::view;

constexpr WallTime kNow = WallTime(Duration(1'763'479'110'000));  // 2025-11-18T15:18:30Z

class FleetCommandsTest : public CommandLineTest {};

WorkerView worker(const std::string& name, const std::string& host) {
    WorkerView worker;
    worker.name = WorkerName(name);
    worker.host = host;
    worker.state = "up";
    worker.slots = 2;
    worker.agents = {"grafana-agent"};
    return worker;
}

template <typename T>
std::vector<T> requests_of(const FakeBroker& broker) {
    std::vector<T> found;
    for (const RequestFrame& frame : broker.seen()) {
        if (const auto* request = std::get_if<T>(&frame.body)) found.push_back(*request);
    }
    return found;
}

// ---- Arguments ---------------------------------------------------------------------------------

TEST_F(FleetCommandsTest, BadArgumentsAreRefusedBeforeAnythingIsAsked) {
    const std::string id = kId;
    expect_refused({
        {{"submit", "x", prompt_, "--backoff", "1s"}, 64, "--retries"},
        {{"submit", "x", prompt_, "--retries", "100"}, 64, "0 to 99"},
        {{"submit", "x", prompt_, "--retries", "-1"}, 64, "0 to 99"},
        {{"submit", "x", prompt_, "--retries", "1", "--retry-on", "lost"}, 64, "disk-limit"},
        {{"submit", "x", prompt_, "--retries", "1", "--retry-on", "sginal"}, 64, "mean signal"},
        {{"submit", "x", prompt_, "--retries", "1", "--backoff", "soon"}, 64, "--backoff"},
        {{"submit", "x", prompt_, "--retries", "1", "--backoff", "2m", "--backoff-max", "1m"},
         64,
         "--backoff-max 1m"},
        {{"extend", id}, 64, "--timeout D or --add D"},
        {{"extend", id, "--add", "1h", "--timeout", "1h"}, 64, "--timeout D or --add D"},
        {{"extend", id, "--add", "-1h"}, 64, "--add"},
        {{"extend", "", "--add", "1h"}, 64, "no session id given"},
        {{"drain", "no such name"}, 64, "ictl workers"},
        {{"drain", "w", "--for", "soon"}, 64, "--for"},
        {{"pause", "--agent", "A b"}, 64, "no agent's name"},
        {{"resume", "--force"}, 64, "--after-restore"},
        {{"resume", "--after-restore", "--accept-loss"}, 64, "exclude each other"},
        {{"resume", "--after-restore", "--agent", "x"}, 64, "whole fleet"},
        {{"resume", "--accept-loss"}, 64, "give --force"},
        {{"confirm-dead", id, "--host", "h", "--reason", "r", "--force"}, 64, "give one of"},
        {{"confirm-dead", "--reason", "r", "--force"}, 64, "give one of"},
        {{"confirm-dead", id, "--force"}, 64, "--reason"},
        {{"confirm-dead", id, "--reason", "r"}, 64, "--force"},
        {{"explain", ""}, 64, "no session id given"},
        {{"fence-check"}, 64, "not inside a session"},
        {{"watch", "--agent", "A b"}, 64, "no agent's name"},
        {{"watch", "--since", "soon"}, 64, "--since"},
    });
}

TEST_F(FleetCommandsTest, SubmitSaysHowOftenWhyAndAfterWhat) {
    FakeBroker broker(endpoint_, [](const RequestFrame& frame) -> Answer {
        if (std::holds_alternative<SubmitRequest>(frame.body))
            return Reply(SubmitReply{.sessions = {{.id = SessionId(kId)}}});
        const auto* status = std::get_if<StatusRequest>(&frame.body);
        const std::string id =
            status != nullptr && status->id == "20251118-15" ? "20251118-150000-b" : kId;
        return Reply(
            StatusReply{.session = view(id, SessionStatus::created, Detail::blocked), .seq = 1});
    });
    const Outcome result =
        ask({"submit", "grafana-agent", prompt_, "--retries", "2", "--backoff", "1m",
             "--backoff-max", "5m", "--retry-on", "exited, timeout", "--after", "20251118-15",
             "--after", "20251118-15:end", "--keep-children", "--on-lost", "requeue"});
    EXPECT_EQ(result.code, 0) << result.err;
    const auto submits = requests_of<SubmitRequest>(broker);
    ASSERT_EQ(submits.size(), 1u);
    const Submission& submission = submits.front().sessions.front();
    ASSERT_TRUE(submission.retry.has_value());
    EXPECT_EQ(submission.retry->attempts_max, 3u);
    EXPECT_EQ(submission.retry->backoff, Duration(60'000));
    EXPECT_EQ(submission.retry->backoff_max, Duration(300'000));
    EXPECT_EQ(submission.retry->causes, (std::vector<Detail>{Detail::exited, Detail::timeout}));
    ASSERT_EQ(submission.after.size(), 2u);
    EXPECT_EQ(submission.after[0].id.str(), "20251118-150000-b");
    EXPECT_EQ(submission.after[0].on, AfterCondition::success);
    EXPECT_EQ(submission.after[1].on, AfterCondition::any_end);
    EXPECT_TRUE(submission.keep_children);
    EXPECT_EQ(submission.on_lost, OnLost::requeue);
}

TEST_F(FleetCommandsTest, ABackoffBeyondTheUsualLongestRaisesThat) {
    FakeBroker broker(endpoint_, [](const RequestFrame&) -> Answer {
        return Reply(SubmitReply{.sessions = {{.id = SessionId(kId)}}});
    });
    static_cast<void>(
        ask({"submit", "grafana-agent", prompt_, "--retries", "1", "--backoff", "2h"}));
    const auto submits = requests_of<SubmitRequest>(broker);
    ASSERT_FALSE(submits.empty());
    EXPECT_EQ(submits.front().sessions.front().retry->backoff_max, Duration(7'200'000));
}

// ---- Changing ----------------------------------------------------------------------------------

TEST_F(FleetCommandsTest, ExtendSendsASumOnceHoweverOftenItIsRepeated) {
    FakeBroker broker(endpoint_, [](const RequestFrame& frame) -> Answer {
        SessionView session = view(kId, SessionStatus::running, Detail::working);
        session.timeout = Duration(3'600'000);
        if (const auto* extend = std::get_if<ExtendRequest>(&frame.body)) {
            session.timeout = extend->timeout.value_or(Duration(1));
            return Reply(ExtendReply{.session = session});
        }
        return Reply(StatusReply{.session = session, .seq = 1});
    });
    const Outcome result = ask({"extend", kId, "--add", "2h"});
    EXPECT_EQ(result.code, 0) << result.err;
    EXPECT_EQ(result.out, std::string(kId) + "  timeout 3h\n");
    const auto extends = requests_of<ExtendRequest>(broker);
    ASSERT_EQ(extends.size(), 1u);
    EXPECT_FALSE(extends.front().add.has_value()) << "a repeated sum would be added twice";
}

TEST_F(FleetCommandsTest, DrainByHostMeansAllItsWorkers) {
    FakeBroker broker(endpoint_, [](const RequestFrame& frame) -> Answer {
        if (std::holds_alternative<WorkersRequest>(frame.body)) {
            return Reply(
                WorkersReply{.workers = {worker("hosta:x", "hosta"), worker("hosta:y", "hosta"),
                                         worker("hostb:x", "hostb")}});
        }
        const auto* hold = std::get_if<HoldRequest>(&frame.body);
        EXPECT_NE(hold, nullptr);
        HoldReply reply{.changed = true, .running = {SessionId(kId)}};
        reply.hold = HoldView{.scope = hold->scope, .name = hold->name, .reason = hold->reason};
        return Reply(std::move(reply));
    });
    const Outcome result = ask({"drain", "hosta", "--reason", "kernel", "--for", "2h"});
    EXPECT_EQ(result.code, 0) << result.err;
    EXPECT_NE(
        result.out.find("worker hosta:x is drained; still running there: " + std::string(kId)),
        std::string::npos)
        << result.out;
    const auto holds = requests_of<HoldRequest>(broker);
    ASSERT_EQ(holds.size(), 2u);
    EXPECT_EQ(holds[1].name, "hosta:y");
    EXPECT_EQ(holds[1].scope, HoldScope::worker);
    EXPECT_EQ(holds[1].lasts, Duration(7'200'000));
    EXPECT_EQ(holds[1].reason, "kernel");
    const Outcome unknown = ask({"drain", "hostaa"});
    EXPECT_EQ(unknown.code, 4);
    EXPECT_NE(unknown.err.find("did you mean hosta?"), std::string::npos) << unknown.err;
}

TEST_F(FleetCommandsTest, PauseIsForTheFleetUnlessSomethingIsNamed) {
    FakeBroker broker(endpoint_, [](const RequestFrame&) -> Answer {
        return Reply(HoldReply{.changed = true, .hold = HoldView{}});
    });
    EXPECT_EQ(run({"--broker", endpoint_, "pause"}).code, 0);
    EXPECT_EQ(run({"--broker", endpoint_, "pause", "--agent", "claude"}).code, 0);
    EXPECT_EQ(run({"--broker", endpoint_, "pause", "--project", "site"}).code, 0);
    EXPECT_EQ(run({"--broker", endpoint_, "resume", "--agent", "claude"}).code, 0);
    const auto holds = requests_of<HoldRequest>(broker);
    ASSERT_EQ(holds.size(), 4u);
    EXPECT_EQ(holds[0].scope, HoldScope::fleet);
    EXPECT_EQ(holds[1].scope, HoldScope::agent);
    EXPECT_EQ(holds[1].name, "claude");
    EXPECT_EQ(holds[2].scope, HoldScope::project);
    EXPECT_EQ(holds[2].name, "site");
    EXPECT_FALSE(holds[3].on);
}

TEST_F(FleetCommandsTest, ResumeAfterRestoreShowsWhatIsUnknownFirst) {
    FakeBroker broker(endpoint_, [](const RequestFrame& frame) -> Answer {
        if (std::holds_alternative<FleetRequest>(frame.body)) {
            return Reply(FleetReply{.epoch = "e", .restored = true, .unheard = {WorkerName("w2")}});
        }
        if (std::holds_alternative<WorkersRequest>(frame.body)) {
            WorkerView with = worker("w1", "h");
            with.unknown = {{.session = SessionId(kId), .fence = {.generation = 1, .attempt = 2}}};
            return Reply(WorkersReply{.workers = {with}});
        }
        return refusal(ErrorCode::conflict, "worker w2 has not been heard since the restore");
    });
    const Outcome result = ask({"resume", "--after-restore"});
    EXPECT_EQ(result.code, 1);
    for (const char* words : {"not heard since: worker w2", "but at w1", "attempt 2"})
        EXPECT_NE(result.err.find(words), std::string::npos) << words << "\n" << result.err;
}

// A beginning of an id will do where the person is shown what it means.
TEST_F(FleetCommandsTest, ConfirmDeadTakesABeginningUnlessItIsForced) {
    const auto answer = [](const RequestFrame& frame) -> Answer {
        const auto* status = std::get_if<StatusRequest>(&frame.body);
        const SessionView session = view(kId, SessionStatus::running, Detail::unreachable);
        if (status == nullptr) return Reply(ConfirmDeadReply{.sessions = {session}});
        if (status->exact && status->id != kId) return refusal(ErrorCode::not_found, "no session");
        return Reply(StatusReply{.session = session, .seq = 1});
    };
    FakeBroker broker(endpoint_, answer);
    EXPECT_EQ(ask({"confirm-dead", "20251118", "--reason", "r", "--force"}).code, 4);
    EXPECT_EQ(ask({"confirm-dead", kId, "--reason", "r", "--force"}).code, 0);
    in_is_terminal_ = true;
    EXPECT_EQ(ask({"confirm-dead", "20251118", "--reason", "r"}, "n\n").code, 1);
    const Outcome asked = ask({"confirm-dead", "20251118", "--reason", "r"}, "y\n");
    EXPECT_EQ(asked.code, 0) << asked.err;
    EXPECT_NE(asked.err.find(kId), std::string::npos) << asked.err;
    const auto requests = requests_of<ConfirmDeadRequest>(broker);
    ASSERT_EQ(requests.size(), 2u);
    EXPECT_EQ(requests[0].id, kId);
    EXPECT_EQ(requests[1].id, kId);
}

TEST_F(FleetCommandsTest, AReadOnlyBrokerIsNotNow) {
    FakeBroker broker(endpoint_, [](const RequestFrame&) -> Answer {
        return refusal(ErrorCode::read_only, "3 records are missing");
    });
    const Outcome result = ask({"submit", "grafana-agent", prompt_});
    EXPECT_EQ(result.code, 75);
    EXPECT_NE(result.err.find("3 records are missing"), std::string::npos) << result.err;
}

// ---- Inside a session --------------------------------------------------------------------------

class FenceCheckTest : public CommandLineTest {
  protected:
    void SetUp() override {
        CommandLineTest::SetUp();
        ::setenv("IW_SESSION_ID", kId, 1);
        ::setenv("IW_ATTEMPT", "2", 1);
        ::setenv("IW_GENERATION", "1", 1);
    }
    void TearDown() override {
        for (const char* variable : {"IW_SESSION_ID", "IW_ATTEMPT", "IW_GENERATION"})
            ::unsetenv(variable);
    }
    Outcome check(const SessionView& session) {
        FakeBroker broker(endpoint_, [&session](const RequestFrame&) -> Answer {
            return Reply(StatusReply{.session = session, .seq = 1});
        });
        return ask({"fence-check"});
    }
    static SessionView current() {
        SessionView session = view(kId, SessionStatus::running, Detail::working);
        session.attempt = 2;
        session.generation = 1;
        return session;
    }
};

TEST_F(FenceCheckTest, TheCurrentAttemptIsToldSo) {
    EXPECT_EQ(check(current()).code, 0);
}

TEST_F(FenceCheckTest, WhateverElseIsSoIsANo) {
    SessionView session = current();
    session.attempt = 3;
    EXPECT_EQ(check(session).code, 1);
    session = current();
    session.generation = 2;
    EXPECT_EQ(check(session).code, 1) << "a restore may have given the same number out again";
    session = current();
    session.detail = Detail::stopping;
    EXPECT_EQ(check(session).code, 1);
    session = current();
    session.status = SessionStatus::created;
    session.detail = Detail::retrying;
    EXPECT_EQ(check(session).code, 1);
    session = current();
    session.status = SessionStatus::killed;
    const Outcome ended = check(session);
    EXPECT_EQ(ended.code, 1);
    EXPECT_NE(ended.err.find("has ended (KILLED)"), std::string::npos) << ended.err;
}

TEST_F(FenceCheckTest, WhatIsNotKnownIsNotYes) {
    EXPECT_EQ(run({"--broker", endpoint_, "--patience", "200ms", "fence-check"}).code, 75);
    FakeBroker broker(endpoint_, [](const RequestFrame&) -> Answer {
        return refusal(ErrorCode::internal, "the disk is on fire");
    });
    EXPECT_EQ(ask({"fence-check"}).code, 75);
}

TEST_F(FenceCheckTest, ASilentWorkerIsNoYes) {
    SessionView session = current();
    session.detail = Detail::unreachable;
    session.reason = "worker w is unreachable";
    const Outcome result = check(session);
    EXPECT_EQ(result.code, 75);
    EXPECT_NE(result.err.find("unreachable"), std::string::npos) << result.err;
}

// ---- Text --------------------------------------------------------------------------------------

TEST(FleetText, NamesEverythingThatStands) {
    FleetReply fleet{.software = "ibroker 1", .epoch = "e7", .generation = 3, .seq = 99};
    fleet.restored = true;
    fleet.restored_why = "restored from b1";
    fleet.unheard = {WorkerName("w2")};
    fleet.read_only = "records are missing";
    fleet.holds = {{.scope = HoldScope::agent,
                    .name = "claude",
                    .principal = "uid:0",
                    .reason = "login expired",
                    .since = kNow,
                    .until = kNow + Duration(60'000)}};
    fleet.backup_at = kNow - Duration(3'600'000);
    fleet.backup_folder = "/b/1";
    fleet.backup_error = "no room";
    fleet.blobs_bytes = 7ULL << 20;
    fleet.blobs_max = 20ULL << 30;
    fleet.disk_free = 3ULL << 30;
    fleet.storage_low = true;
    WorkerView with = worker("w1", "h");
    with.unknown = {{.session = SessionId(kId), .fence = {.generation = 1, .attempt = 2}}};
    const std::string text = fleet_text(fleet, {with}, kNow);
    for (const char* words : {"epoch e7, generation 3, record 99", "records are missing",
                              "restored from b1", "w2", "ictl resume --after-restore",
                              "agent claude is paused by uid:0 since 2025-11-18T15:18:30Z until "
                              "2025-11-18T15:19:30Z: login expired",
                              "attempt 2 (generation 1), at w1", "1h 00m 00s ago, in /b/1",
                              "no room", "7 MiB of sessions that ran elsewhere, of at most 20 GiB",
                              "3072 MiB free; submissions are refused"}) {
        EXPECT_NE(text.find(words), std::string::npos) << words << "\n" << text;
    }
}

TEST(FleetText, AnEventIsOneLineThatIsSafeToPrint) {
    Event event{.seq = 5, .time = kNow, .topic = "session.failed.x." + std::string(kId)};
    event.id = SessionId(kId);
    event.status = "FAILED";
    event.detail = "exited";
    event.attempt = 2;
    event.reason = "line\nand \x1b[31mcolour";
    const std::string text = event_line(event);
    EXPECT_EQ(std::ranges::count(text, '\n'), 0);
    EXPECT_EQ(std::ranges::count(text, '\x1b'), 0);
    EXPECT_NE(text.find("FAILED (exited)  attempt 2"), std::string::npos) << text;
}

TEST(Explain, SaysOfEachWorkerWhetherItCould) {
    ExplainInput input{.session = view(kId, SessionStatus::created, Detail::queued)};
    input.session.project = "site";
    WorkerView full = worker("full", "h");
    full.project = "site";
    full.used = 2;
    WorkerView drained = worker("drained", "h");
    drained.project = "site";
    drained.drain = HoldView{
        .scope = HoldScope::worker, .name = "drained", .principal = "uid:0", .reason = "kernel"};
    WorkerView other = worker("other", "h");
    other.project = "shop";
    WorkerView without = worker("without", "h");
    without.agents = {"claude"};
    WorkerView gone = worker("gone", "h");
    gone.project = "site";
    gone.state = "lost";
    WorkerView free = worker("free", "h");
    free.project = "site";
    input.workers = {full, drained, other, without, gone, free};
    const Explanation found = explain(input, kNow);
    const std::vector<std::string> why = {"is full",        "kernel",  "project shop",
                                          "does not offer", "is lost", "0 of 2 slots"};
    ASSERT_EQ(found.workers.size(), why.size());
    for (std::size_t i = 0; i < why.size(); ++i) {
        EXPECT_NE(found.workers[i].why.find(why[i]), std::string::npos) << found.workers[i].why;
        EXPECT_EQ(found.workers[i].can_run, why[i] == "0 of 2 slots");
    }
}

TEST(Explain, NamesDependenciesDelaysAndHolds) {
    ExplainInput input{.session = view(kId, SessionStatus::created, Detail::blocked)};
    input.session.after = {{.id = SessionId("20251118-150000-a"), .on = AfterCondition::failure},
                           {.id = SessionId("20251118-150000-gone")}};
    input.dependencies[SessionId("20251118-150000-a")] =
        view("20251118-150000-a", SessionStatus::running, Detail::working);
    input.session.not_before = kNow + Duration(90'000);
    input.session.attempts_max = 3;
    input.session.attempts_used = 1;
    input.fleet.holds = {{.scope = HoldScope::agent, .name = "grafana-agent", .reason = "mine"},
                         {.scope = HoldScope::agent, .name = "claude", .reason = "not mine"}};
    const Explanation found = explain(input, kNow);
    std::string all;
    for (const std::string& note : found.notes)
        all += note + "\n";
    for (const char* words : {"20251118-150000-a (failure), which is RUNNING",
                              "20251118-150000-gone (success), which is no longer kept",
                              "in 1m 30s", "1 of 3 attempts", ": mine"}) {
        EXPECT_NE(all.find(words), std::string::npos) << words << "\n" << all;
    }
    EXPECT_EQ(all.find("not mine"), std::string::npos);
}

}  // namespace
}  // namespace iw::ctl
