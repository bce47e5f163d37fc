#include <gtest/gtest.h>

#include "tests/unit/broker/core_driver.h"

namespace iw::broker {
namespace {

using testing::CoreDriver;
using testing::seconds;

struct Scene : CoreDriver {
    explicit Scene(OnLost policy) {
        hello(worker("w"), 7);
        Submission submission = CoreDriver::submission("a");
        submission.on_lost = policy;
        id = submitted(submission);
        report("w", 7, id, {1, 1}, started());
    }
    AttemptState running() const { return testing::attempt(id, {1, 1}, AttemptPhase::running); }
    SessionId id;
};

TEST(Lease, UnreachableExactlyAtItsTime) {
    Scene scene(OnLost::wait);
    EXPECT_EQ(scene.core.next_deadline(), scene.time.steady + limits::kUnreachableAfter);
    EXPECT_TRUE(scene.tick_after(limits::kUnreachableAfter - Duration(1)).records.empty());
    EXPECT_EQ(scene.worker_state("w"), "up");
    const Actions actions = scene.tick_after(Duration(1));
    const auto noted = CoreDriver::records<WorkerNoted>(actions);
    ASSERT_EQ(noted.size(), 1u);
    EXPECT_EQ(noted[0].state, "unreachable");
    EXPECT_EQ(noted[0].evidence, "silent for 45s");
    EXPECT_EQ(scene.shown(scene.id), "RUNNING/unreachable");
    EXPECT_EQ(scene.view(scene.id).reason, "worker w is unreachable");
    EXPECT_TRUE(scene.tick_after(seconds(1)).records.empty());
}

TEST(Lease, LostExactlyAtItsTimeAndByDefaultMovesNothing) {
    Scene scene(OnLost::wait);
    scene.tick_after(limits::kLostAfter - Duration(1));
    EXPECT_EQ(scene.worker_state("w"), "unreachable");
    EXPECT_EQ(scene.core.next_deadline(), scene.time.steady + Duration(1));
    const Actions actions = scene.tick_after(Duration(1));
    EXPECT_EQ(actions.records.size(), 1u);
    EXPECT_EQ(scene.worker_state("w"), "lost");
    EXPECT_EQ(scene.shown(scene.id), "RUNNING/unreachable");
    EXPECT_EQ(scene.core.next_deadline(), std::nullopt);
    // It comes back and goes on, days later.
    scene.advance(seconds(100'000));
    WorkerHello back = CoreDriver::worker("w");
    back.start_count = 2;
    back.inventory = {scene.running()};
    const Actions hello = scene.hello(back, 8);
    EXPECT_EQ(CoreDriver::records<WorkerNoted>(hello).at(0).state, "up");
    EXPECT_TRUE(CoreDriver::assigned(hello).empty());
    EXPECT_EQ(scene.shown(scene.id), "RUNNING/working");
    EXPECT_TRUE(scene.report("w", 8, scene.id, {1, 1}, scene.exited(0)).outcome.has_value());
}

TEST(Lease, PoliciesOfSilence) {
    Scene fails(OnLost::fail);
    fails.tick_after(limits::kLostAfter);
    EXPECT_EQ(fails.outcome_text(fails.id), "FAILED/lost");
    EXPECT_EQ(fails.outcome(fails.id).evidence, "silent for 10m 0s");
    EXPECT_EQ(fails.shown(fails.id), "gone");

    Scene again(OnLost::requeue);
    const Actions actions = again.tick_after(limits::kLostAfter);
    EXPECT_EQ(CoreDriver::records<AttemptReturned>(actions).size(), 1u);
    EXPECT_EQ(again.shown(again.id), "CREATED/retrying");
    again.hello(CoreDriver::worker("x"), 8);
    again.tick_after(seconds(5));
    EXPECT_EQ(again.view(again.id).worker, "x");
    EXPECT_EQ(again.fence(again.id), (Fence{1, 2}));
    // The first worker returns with an attempt that is not its own any more.
    WorkerHello back = CoreDriver::worker("w");
    back.inventory = {again.running()};
    const Actions hello = again.hello(back, 9);
    const auto stops = CoreDriver::pushes<StopPush>(hello);
    ASSERT_EQ(stops.size(), 1u);
    EXPECT_EQ(stops[0].stops.at(0).fence, (Fence{1, 1}));
    EXPECT_EQ(stops[0].stops.at(0).reason, "superseded");
    EXPECT_EQ(again.used("w"), 1u);
    const ReportAck ack = again.report("w", 9, again.id, {1, 1}, again.exited(0));
    EXPECT_EQ(ack.error->code, ErrorCode::stale_fence);
    EXPECT_EQ(again.used("w"), 0u);
    EXPECT_EQ(again.fence(again.id), (Fence{1, 2}));
}

TEST(Lease, EveryMessageRenewsIt) {
    Scene scene(OnLost::wait);
    const auto almost = limits::kUnreachableAfter - Duration(1);
    scene.tick_after(almost);
    scene.heartbeat("w", 7, {scene.running()});
    scene.tick_after(almost);
    scene.report("w", 7, scene.id, {1, 1}, scene.started());
    scene.tick_after(almost);
    EXPECT_EQ(scene.worker_state("w"), "up");
    scene.tick_after(Duration(1));
    EXPECT_EQ(scene.worker_state("w"), "unreachable");
    const Actions actions = scene.heartbeat("w", 7, {scene.running()});
    EXPECT_EQ(CoreDriver::records<WorkerNoted>(actions).at(0).state, "up");
    EXPECT_EQ(CoreDriver::records<WorkerNoted>(actions).at(0).evidence, "heard again after 45s");
}

TEST(Lease, GetsTheBrokersStallBack) {
    Scene scene(OnLost::fail);
    scene.advance(seconds(700));
    // Fifteen seconds of silence besides the stall, less the heartbeat of grace that goes with it.
    EXPECT_TRUE(scene.tick(seconds(685)).records.empty());
    EXPECT_EQ(scene.core.next_deadline(), scene.time.steady + seconds(40));
    scene.tick_after(seconds(40));
    EXPECT_EQ(scene.worker_state("w"), "unreachable");
    // A stall longer than the silence gives no credit for later.
    scene.heartbeat("w", 7, {scene.running()});
    scene.advance(seconds(1));
    scene.tick(seconds(500));
    EXPECT_EQ(scene.core.next_deadline(), scene.time.steady + limits::kUnreachableAfter);
}

// The messages of a turn come before its tick: what waited in the socket of a frozen broker counts.
TEST(Lease, OnlyTicksEndIt) {
    Scene scene(OnLost::fail);
    scene.advance(seconds(2000));
    EXPECT_TRUE(scene.heartbeat("w", 7, {scene.running()}).records.empty());
    EXPECT_TRUE(scene.tick().records.empty());
    EXPECT_EQ(scene.shown(scene.id), "RUNNING/working");
}

TEST(Lease, BeginsAnewWithTheBroker) {
    Scene scene(OnLost::fail);
    scene.tick_after(seconds(599));
    scene.core = scene.replayed();
    EXPECT_EQ(scene.core.next_deadline(), scene.time.steady + limits::kLostAfter);
    EXPECT_TRUE(scene.tick_after(limits::kLostAfter - Duration(1)).records.empty());
    scene.tick_after(Duration(1));
    EXPECT_EQ(scene.outcome_text(scene.id), "FAILED/lost");
}

TEST(Lease, TheWallClockMovesNothing) {
    Scene scene(OnLost::fail);
    scene.time.wall += seconds(1'000'000);
    EXPECT_TRUE(scene.tick().records.empty());
    scene.time.wall -= seconds(2'000'000);
    EXPECT_TRUE(scene.tick().records.empty());
    EXPECT_EQ(scene.core.next_deadline(), scene.time.steady + limits::kUnreachableAfter);
}

TEST(Lease, ASilentWorkerIsGivenNothing) {
    CoreDriver driver;
    driver.hello(CoreDriver::worker("w"), 7);
    driver.tick_after(limits::kUnreachableAfter);
    const SessionId id = driver.submitted("a");
    EXPECT_EQ(driver.shown(id), "CREATED/no-worker");
    const Actions actions = driver.heartbeat("w", 7, {});
    EXPECT_EQ(CoreDriver::assigned(actions), std::vector{id});
}

TEST(Lease, AfterGoodbyeItRunsOn) {
    Scene scene(OnLost::fail);
    EXPECT_EQ(CoreDriver::records<WorkerNoted>(scene.goodbye("w", 7)).at(0).state, "away");
    EXPECT_EQ(CoreDriver::refusal(scene.goodbye("w", 7))->code, ErrorCode::no_session);
    EXPECT_EQ(scene.shown(scene.id), "RUNNING/working");
    const SessionId waits = scene.submitted("a");
    EXPECT_EQ(scene.shown(waits), "CREATED/no-worker");
    scene.tick_after(limits::kUnreachableAfter);
    EXPECT_EQ(scene.worker_state("w"), "unreachable");
    scene.tick_after(limits::kLostAfter);
    EXPECT_EQ(scene.outcome_text(scene.id), "FAILED/lost");
}

// The lease is the worker's, not its connection's; but nothing is sent into a dead connection.
TEST(Lease, AConnectionThatIsGoneIsGivenNothing) {
    Scene scene(OnLost::fail);
    EXPECT_TRUE(scene.step(PeerGoneEvent{.peer = {8}}).transitions.empty());
    EXPECT_TRUE(scene.step(PeerGoneEvent{.peer = {7}}).records.empty());
    EXPECT_EQ(scene.worker_state("w"), "up");
    const SessionId waits = scene.submitted("a");
    EXPECT_EQ(scene.shown(waits), "CREATED/no-worker");
    EXPECT_EQ(CoreDriver::refusal(scene.heartbeat("w", 7, {}))->code, ErrorCode::no_session);
    WorkerHello back = CoreDriver::worker("w");
    back.inventory = {scene.running()};
    EXPECT_EQ(CoreDriver::assigned(scene.hello(back, 8)), std::vector{waits});
}

TEST(Lease, IdleWorkersWakeNobodyForEver) {
    CoreDriver driver;
    driver.hello(CoreDriver::worker("w"), 7);
    driver.tick_after(limits::kUnreachableAfter);
    driver.tick_after(limits::kLostAfter);
    EXPECT_EQ(driver.core.next_deadline(), std::nullopt);
}

// As after a crash between the note and what follows from it.
TEST(Lease, WhatALostWorkerStillHoldsIsGivenUp) {
    Scene scene(OnLost::fail);
    scene.tick_after(limits::kLostAfter);
    const auto is_end = [](const Record& record) {
        return session_of(record.body) != nullptr &&
               !std::holds_alternative<SessionCreated>(record.body) &&
               !std::holds_alternative<AttemptAssigned>(record.body) &&
               !std::holds_alternative<AttemptStarted>(record.body);
    };
    std::erase_if(scene.journal, is_end);
    scene.core = scene.replayed();
    EXPECT_EQ(scene.worker_state("w"), "lost");
    EXPECT_EQ(scene.shown(scene.id), "RUNNING/unreachable");
    EXPECT_EQ(scene.core.next_deadline(), scene.time.steady + limits::kLostAfter);
    scene.tick_after(limits::kLostAfter);
    EXPECT_EQ(scene.outcome_text(scene.id), "FAILED/lost");
    EXPECT_EQ(scene.core.next_deadline(), std::nullopt);
}

TEST(Lease, SlowTurnsWithoutEndDoNotHoldIt) {
    Scene scene(OnLost::fail);
    for (int turn = 0; turn < 60; ++turn) {
        scene.advance(seconds(3));
        scene.tick(seconds(2));
    }
    EXPECT_EQ(scene.worker_state("w"), "unreachable");
}

TEST(Lease, WhatHadStartedDoesNotExpire) {
    for (const bool is_restarted : {false, true}) {
        Scene scene(OnLost::requeue);
        Submission submission = CoreDriver::submission("a");
        submission.on_lost = OnLost::requeue;
        submission.expires = seconds(30);
        const SessionId id = scene.submitted(submission);
        scene.report("w", 7, id, {1, 1}, scene.started());
        scene.tick_after(limits::kLostAfter);
        if (is_restarted) scene.core = scene.replayed();
        scene.tick_after(seconds(100));
        EXPECT_EQ(scene.shown(id), "CREATED/retrying");
    }
}

}  // namespace
}  // namespace iw::broker
