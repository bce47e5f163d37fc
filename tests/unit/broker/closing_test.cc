#include <gtest/gtest.h>

#include "tests/unit/broker/core_driver.h"

namespace iw::broker {
namespace {

using testing::CoreDriver;
using testing::seconds;

SessionId with_origin(CoreDriver& driver, const std::string& root) {
    Submission submission = CoreDriver::submission("a");
    submission.origin = {"h", root};
    return driver.submitted(submission);
}

std::string closed_by(const CoreDriver& driver, const SessionId& id) {
    for (const Record& record : driver.journal) {
        const auto* closed = std::get_if<SessionClosed>(&record.body);
        if (closed != nullptr && closed->id == id) return closed->by;
    }
    return "";
}

TEST(Closing, ARepeatOfTheEndGetsTheSameOutcome) {
    CoreDriver driver;
    driver.hello(CoreDriver::worker("w"), 7);
    const SessionId id = driver.submitted("a");
    const ReportAck first = driver.report("w", 7, id, {1, 1}, driver.exited(3));
    driver.advance(seconds(3));
    const ReportAck again = driver.report("w", 7, id, {1, 1}, driver.exited(0));
    EXPECT_TRUE(driver.last.records.empty());
    ASSERT_TRUE(first.outcome && again.outcome);
    EXPECT_EQ(first.outcome->session.status, SessionStatus::failed);
    EXPECT_EQ(again.outcome->session.status, SessionStatus::failed);
    EXPECT_EQ(again.outcome->session.completed_at, first.outcome->session.completed_at);
}

TEST(Closing, NobodyHasEverRegisteredForTheRoot) {
    CoreDriver driver;
    const SessionId id = with_origin(driver, "/elsewhere");
    driver.kill(id, "x");
    EXPECT_EQ(closed_by(driver, id), "nobody: no worker has registered for h:/elsewhere");
}

TEST(Closing, TheOwnerIsAskedAgainUntilItAnswers) {
    CoreDriver driver;
    WorkerHello worker = CoreDriver::worker("w");
    worker.slots = 0;
    driver.hello(worker, 7);
    const SessionId id = with_origin(driver, "/r");
    const auto outcomes = [](const Actions& actions) {
        return CoreDriver::pushes<ClosePush>(actions).size();
    };
    EXPECT_EQ(outcomes(driver.kill(id, "x")), 1u);
    EXPECT_EQ(outcomes(driver.heartbeat("w", 7, {})), 0u);
    EXPECT_EQ(outcomes(driver.heartbeat("w", 7, {})), 1u);
    EXPECT_EQ(outcomes(driver.heartbeat("w", 7, {})), 0u);
    worker.start_count = 2;
    EXPECT_EQ(outcomes(driver.hello(worker, 8)), 1u);
    EXPECT_FALSE(driver.report("w", 8, id, {0, 0}, ClosedReport{}).error.has_value());
    EXPECT_EQ(closed_by(driver, id), "w");
    // The repeat of what is over is fine.
    EXPECT_FALSE(driver.report("w", 8, id, {0, 0}, ClosedReport{}).error.has_value());
    EXPECT_TRUE(driver.last.records.empty());
}

TEST(Closing, PatienceEndsExactlyAtItsTime) {
    CoreDriver driver;
    driver.hello(CoreDriver::worker("w"), 7);
    const SessionId id = driver.submitted("a");
    driver.advance(seconds(5));
    driver.report("w", 7, id, {1, 1}, driver.exited(0));
    driver.tick_after(limits::kUnreachableAfter - Duration(1));
    EXPECT_EQ(driver.shown(id), "RUNNING/delivering");
    EXPECT_EQ(driver.core.next_deadline(), driver.time.steady + Duration(1));
    driver.tick_after(Duration(1));
    EXPECT_EQ(driver.shown(id), "gone");
    EXPECT_EQ(closed_by(driver, id), "nobody: worker w has been silent for 45s");
    EXPECT_EQ(driver.outcome_text(id), "COMPLETED/done");
}

TEST(Closing, AStallOfTheBrokerIsNotTheOwnersSilence) {
    CoreDriver driver;
    driver.hello(CoreDriver::worker("w"), 7);
    const SessionId id = driver.submitted("a");
    driver.report("w", 7, id, {1, 1}, driver.exited(0));
    driver.advance(seconds(50));
    driver.tick(seconds(50));
    EXPECT_EQ(driver.shown(id), "RUNNING/delivering");
    driver.tick_after(limits::kUnreachableAfter);
    EXPECT_EQ(driver.shown(id), "gone");
}

TEST(Closing, GoodbyeEndsTheWaiting) {
    CoreDriver driver;
    driver.hello(CoreDriver::worker("w"), 7);
    const SessionId id = driver.submitted("a");
    const SessionId other = driver.submitted("a");
    driver.report("w", 7, id, {1, 1}, driver.exited(0));
    driver.goodbye("w", 7);
    EXPECT_EQ(closed_by(driver, id), "nobody: worker w has said goodbye");
    EXPECT_EQ(driver.worker_state("w"), "away");
    // What runs there goes on.
    EXPECT_EQ(driver.shown(other), "CREATED/assigned");
    // What ends now has nobody to wait for.
    Submission submission = CoreDriver::submission("a");
    submission.origin = {"h", "/r"};
    const SessionId third = driver.submitted(submission);
    driver.kill(third, "x");
    EXPECT_EQ(closed_by(driver, third), "nobody: worker w has said goodbye");
}

// It was silent for long, but the same hello that proves the loss says that it is back.
TEST(Closing, WhatAHelloEndsWaitsForTheOneWhoSaidIt) {
    CoreDriver driver;
    driver.hello(CoreDriver::worker("w"), 7);
    const SessionId id = driver.submitted("a");
    driver.report("w", 7, id, {1, 1}, driver.started());
    driver.tick_after(limits::kUnreachableAfter);
    WorkerHello fresh = CoreDriver::worker("w");
    fresh.state_id = "another";
    fresh.boot_id = "boot-2";
    const Actions actions = driver.hello(fresh, 8);
    EXPECT_EQ(driver.outcome_text(id), "FAILED/lost");
    EXPECT_EQ(driver.shown(id), "RUNNING/delivering");
    ASSERT_EQ(CoreDriver::pushes<ClosePush>(actions).size(), 1u);
    driver.report("w", 8, id, {1, 1}, ClosedReport{});
    EXPECT_EQ(closed_by(driver, id), "w");
}

TEST(Closing, OnlyTheOwnerCloses) {
    CoreDriver driver;
    driver.hello(CoreDriver::worker("w"), 7);
    driver.hello(CoreDriver::worker("x"), 8);
    const SessionId id = with_origin(driver, "/r");
    driver.report("w", 7, id, {1, 1}, driver.exited(0));
    EXPECT_FALSE(driver.report("x", 8, id, {1, 1}, ClosedReport{}).error.has_value());
    EXPECT_TRUE(driver.last.records.empty());
    EXPECT_EQ(driver.report("w", 7, id, {1, 2}, ClosedReport{}).error->code,
              ErrorCode::stale_fence);
    EXPECT_EQ(driver.shown(id), "RUNNING/delivering");
    EXPECT_FALSE(driver.report("w", 7, id, {1, 1}, ClosedReport{}).error.has_value());
}

// A session of the root of "x" that "w" runs; the owner "x" has no slot for it.
struct Away {
    CoreDriver driver;
    SessionId id;

    Away() {
        driver.hello(CoreDriver::worker("w"), 7);
        WorkerHello owner = CoreDriver::worker("x");
        owner.slots = 0;
        driver.hello(owner, 8);
        Submission submission = CoreDriver::submission("a");
        submission.project = "p";
        submission.origin = {"h", "/r/x"};
        id = driver.submitted(submission);
        EXPECT_EQ(driver.view(id).worker, "w");
    }
    EndedReport ended() const {
        EndedReport report = driver.exited(0);
        report.deliverables = Delivered{.manifest = std::string(64, 'a'), .files = 3, .bytes = 70};
        return report;
    }
};

TEST(Closing, WhatRanElsewhereIsFinalWhenItsOwnerHasTheFiles) {
    Away away;
    CoreDriver& driver = away.driver;
    const ReportAck ended = driver.report("w", 7, away.id, {1, 1}, away.ended());
    // The runner is told, too: it shows the end in its own copy.
    ASSERT_TRUE(ended.outcome.has_value());
    EXPECT_EQ(ended.outcome->session.deliverables, away.ended().deliverables);
    const auto pushed = CoreDriver::pushes<ClosePush>(driver.last);
    ASSERT_EQ(pushed.size(), 1u);
    EXPECT_EQ(pushed[0].outcomes.at(0).session.deliverables, away.ended().deliverables);
    EXPECT_FALSE(driver.view(away.id).deliverables.has_value());
    EXPECT_FALSE(driver.report("w", 7, away.id, {1, 1}, ClosedReport{}).error.has_value());
    EXPECT_TRUE(driver.last.records.empty());
    EXPECT_EQ(driver.shown(away.id), "RUNNING/delivering");
    EXPECT_FALSE(driver.report("x", 8, away.id, {1, 1}, ClosedReport{}).error.has_value());
    EXPECT_EQ(closed_by(driver, away.id), "x");
    EXPECT_EQ(driver.outcome(away.id).deliverables, away.ended().deliverables);
}

TEST(Closing, WhatRanElsewhereWaitsForNoSilentOwner) {
    Away away;
    CoreDriver& driver = away.driver;
    driver.goodbye("x", 8);
    driver.report("w", 7, away.id, {1, 1}, away.ended());
    EXPECT_EQ(closed_by(driver, away.id), "nobody: worker x has said goodbye");
    EXPECT_FALSE(driver.report("w", 7, away.id, {1, 1}, ClosedReport{}).error.has_value());
}

TEST(Closing, TheNextWorkerOfTheRootInherits) {
    CoreDriver driver;
    WorkerHello old = CoreDriver::worker("w");
    driver.hello(old, 7);
    const SessionId id = with_origin(driver, "/r");
    driver.advance(seconds(44));
    driver.report("w", 7, id, {1, 1}, driver.exited(0));
    driver.advance(seconds(44));
    // Another name for the same root, once the first is silent; patience ran out at the same
    // moment.
    driver.tick_after(seconds(1));
    EXPECT_EQ(driver.shown(id), "gone");
    WorkerHello renamed = CoreDriver::worker("renamed");
    renamed.root = "/r";
    driver.hello(renamed, 8);
    const SessionId next = with_origin(driver, "/r");
    EXPECT_EQ(driver.view(next).worker, "renamed");
    EXPECT_TRUE(driver.report("renamed", 8, next, {1, 1}, driver.exited(0)).outcome.has_value());
}

TEST(Closing, ManyOutcomesGoOutInBoundedParts) {
    CoreDriver driver;
    WorkerHello worker = CoreDriver::worker("w");
    worker.slots = 0;
    driver.hello(worker, 7);
    std::vector<SessionId> ids;
    for (int i = 0; i < 600; ++i)
        ids.push_back(with_origin(driver, "/r"));
    for (const SessionId& id : ids)
        driver.kill(id, "x");
    worker.start_count = 2;
    const Actions actions = driver.hello(worker, 8);
    std::size_t sent = 0;
    for (const ClosePush& each : CoreDriver::pushes<ClosePush>(actions)) {
        EXPECT_LE(each.outcomes.size(), 32u);
        sent += each.outcomes.size();
    }
    EXPECT_EQ(sent, 256u);
    // The others follow as these are closed.
    std::size_t more = 0;
    for (std::size_t i = 0; i < 600; ++i) {
        driver.report("w", 8, ids[i], {0, 0}, ClosedReport{});
        for (const ClosePush& each : CoreDriver::pushes<ClosePush>(driver.last)) {
            more += each.outcomes.size();
        }
    }
    EXPECT_EQ(sent + more, 600u);
    EXPECT_TRUE(driver.core.match("", 1).empty());
}

TEST(Closing, SurvivesARestart) {
    CoreDriver driver;
    driver.hello(CoreDriver::worker("w"), 7);
    const SessionId id = driver.submitted("a");
    driver.report("w", 7, id, {1, 1}, driver.exited(0));
    driver.core = driver.replayed();
    EXPECT_EQ(driver.shown(id), "RUNNING/delivering");
    WorkerHello again = CoreDriver::worker("w");
    again.inventory = {testing::attempt(id, {1, 1}, AttemptPhase::ended)};
    const Actions actions = driver.hello(again, 9);
    EXPECT_EQ(CoreDriver::pushes<ClosePush>(actions).size(), 1u);
    EXPECT_TRUE(driver.report("w", 9, id, {1, 1}, driver.exited(0)).outcome.has_value());
    driver.report("w", 9, id, {1, 1}, ClosedReport{});
    EXPECT_EQ(driver.shown(id), "gone");
}

}  // namespace
}  // namespace iw::broker
