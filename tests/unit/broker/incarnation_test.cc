// The rules of leases, one test for each sentence of the design: which process may have a worker's
// name, and when what it held is lost.

#include <gtest/gtest.h>

#include "tests/unit/broker/core_driver.h"

namespace iw::broker {
namespace {

using testing::attempt;
using testing::CoreDriver;
using testing::seconds;

std::string refused(const Actions& actions) {
    const std::optional<Error> error = CoreDriver::refusal(actions);
    return error ? std::string(name(error->code)) : "ok";
}

struct Scene : CoreDriver {
    explicit Scene(OnLost policy) {
        hello(worker("w"), 7);
        Submission submission = CoreDriver::submission("a");
        submission.on_lost = policy;
        id = submitted(submission);
        report("w", 7, id, {1, 1}, started());
        next = worker("w");
        next.start_count = 2;
        next.inventory = {attempt(id, {1, 1}, AttemptPhase::running)};
    }
    SessionId id;
    WorkerHello next;
};

TEST(Incarnation, AHigherCounterReplacesAtOnce) {
    Scene scene(OnLost::fail);
    scene.advance(seconds(1));
    EXPECT_EQ(refused(scene.hello(scene.next, 8)), "ok");
    EXPECT_EQ(refused(scene.heartbeat("w", 7, {})), "NO_SESSION");
    EXPECT_EQ(scene.shown(scene.id), "RUNNING/working");
    scene.next.start_count = 1;
    EXPECT_EQ(refused(scene.hello(scene.next, 9)), "CONFLICT");
}

TEST(Incarnation, AnythingElseIsRefusedUntilTheOldOneWasSilentForLong) {
    const auto check = [](auto change) {
        Scene scene(OnLost::wait);
        change(scene.next);
        scene.tick_after(limits::kUnreachableAfter - Duration(1));
        EXPECT_EQ(refused(scene.hello(scene.next, 8)), "NAME_TAKEN");
        EXPECT_EQ(CoreDriver::refusal(scene.last)->message,
                  "worker w on h in /r was heard 44s ago; take another name, or wait until it is "
                  "unreachable (45s)");
        // It was refused, so the old one's silence goes on.
        scene.tick_after(Duration(1));
        EXPECT_EQ(refused(scene.hello(scene.next, 8)), "ok");
    };
    check([](WorkerHello& hello) { hello.state_id = "other"; });
    check([](WorkerHello& hello) { hello.boot_id = "boot-2"; });
    check([](WorkerHello& hello) {
        hello.state_id = "other";
        hello.boot_id = "boot-2";
    });
}

// Broker and worker of one host come back from a reboot together.
TEST(Incarnation, WhoeverWaitsForARefusedStartIsToldSo) {
    Scene scene(OnLost::wait);
    scene.core = scene.replayed();
    const SessionId id = scene.submitted("a");
    EXPECT_EQ(scene.view(id).reason, "waiting for a worker that offers a");
    scene.next.boot_id = "boot-2";
    scene.next.inventory.clear();
    EXPECT_EQ(refused(scene.hello(scene.next, 8)), "NAME_TAKEN");
    EXPECT_EQ(scene.shown(id), "CREATED/no-worker");
    EXPECT_EQ(
        scene.view(id).reason,
        "waiting for worker w, which was started anew and gets the name when its former start "
        "has been silent for 45s");
    scene.tick_after(limits::kUnreachableAfter);
    EXPECT_EQ(refused(scene.hello(scene.next, 9)), "ok");
    EXPECT_EQ(scene.shown(id), "CREATED/assigned");
}

TEST(Incarnation, OnlyThenDoesAnotherBootProveTheLoss) {
    Scene scene(OnLost::wait);
    scene.next.state_id = "other";
    scene.next.boot_id = "boot-2";
    scene.next.inventory.clear();
    scene.tick_after(seconds(10));
    scene.hello(scene.next, 8);
    EXPECT_EQ(scene.shown(scene.id), "RUNNING/working");
    scene.tick_after(limits::kUnreachableAfter);
    scene.hello(scene.next, 8);
    EXPECT_EQ(scene.outcome_text(scene.id), "FAILED/lost");
    EXPECT_EQ(scene.outcome(scene.id).evidence,
              "host h was started anew (boot boot-1 then boot-2) and the worker's state is another "
              "one");
}

// Its own state directory knows better than the broker what lives through a boot and what does not.
TEST(Incarnation, AfterABootTheSameStateReportsItsLossesItself) {
    Scene scene(OnLost::wait);
    scene.tick_after(limits::kUnreachableAfter);
    scene.next.boot_id = "boot-2";
    EXPECT_EQ(refused(scene.hello(scene.next, 8)), "ok");
    EXPECT_EQ(scene.shown(scene.id), "RUNNING/working");
    EndedReport lost = scene.ended(EndCause::lost);
    lost.evidence = "boot-1 is over";
    scene.report("w", 8, scene.id, {1, 1}, lost);
    EXPECT_EQ(scene.outcome_text(scene.id), "FAILED/lost");
    EXPECT_EQ(scene.outcome(scene.id).evidence, "boot-1 is over");
}

TEST(Incarnation, WithinABootAnotherStateProvesNothing) {
    Scene scene(OnLost::wait);
    scene.tick_after(limits::kUnreachableAfter);
    scene.next.state_id = "other";
    scene.next.inventory.clear();
    scene.hello(scene.next, 8);
    EXPECT_EQ(scene.shown(scene.id), "RUNNING/unreachable");
}

TEST(Incarnation, EveryStepRecordsItsEvidence) {
    Scene scene(OnLost::fail);
    std::vector<std::string> evidence;
    const auto see = [&](const Actions& actions) {
        for (const WorkerNoted& noted : CoreDriver::records<WorkerNoted>(actions))
            evidence.push_back(noted.state + ": " + noted.evidence);
        for (const SessionEnded& ended : CoreDriver::records<SessionEnded>(actions))
            evidence.push_back(std::string(name(ended.detail)) + ": " + ended.evidence);
    };
    see(scene.tick_after(limits::kUnreachableAfter));
    see(scene.heartbeat("w", 7, {}));
    see(scene.tick_after(limits::kUnreachableAfter));
    see(scene.tick_after(limits::kLostAfter));
    EXPECT_EQ(evidence,
              (std::vector<std::string>{"unreachable: silent for 45s", "up: heard again after 45s",
                                        "unreachable: silent for 45s", "lost: silent for 10m 45s",
                                        "lost: silent for 10m 45s"}));
}

// An attempt that was lost and given to nobody yet is over all the same: its fence is.
TEST(Incarnation, WhatWasLostIsStoppedWhenItReturns) {
    Scene scene(OnLost::requeue);
    scene.tick_after(limits::kLostAfter);
    EXPECT_EQ(scene.shown(scene.id), "CREATED/retrying");
    const auto stops = CoreDriver::pushes<StopPush>(scene.hello(scene.next, 8));
    ASSERT_EQ(stops.size(), 1u);
    EXPECT_EQ(stops[0].stops.at(0).session, scene.id);
    EXPECT_EQ(scene.report("w", 8, scene.id, {1, 1}, scene.exited(0)).error->code,
              ErrorCode::stale_fence);
}

// Nothing that this broker gave out: it may be another's, or this one's from a time it forgot.
TEST(Incarnation, AFenceFromTheFutureIsShownAndNotStopped) {
    Scene scene(OnLost::wait);
    const AttemptState future = attempt(scene.id, {3, 9}, AttemptPhase::running);
    const Actions actions = scene.heartbeat("w", 7, {scene.next.inventory[0], future});
    EXPECT_TRUE(CoreDriver::reply<HeartbeatReply>(actions).stops.empty());
    EXPECT_TRUE(actions.records.empty());
    EXPECT_EQ(scene.used("w"), 2u);
    EXPECT_EQ(scene.core.workers(scene.time).workers.at(0).unknown,
              (std::vector<AttemptRef>{{scene.id, {3, 9}}}));
}

TEST(Incarnation, AnUnknownSessionsStartIsNotAcknowledged) {
    Scene scene(OnLost::wait);
    const ReportAck ack =
        scene.report("w", 7, SessionId("20200101-000000-a"), {1, 1}, scene.started());
    EXPECT_EQ(ack.error->code, ErrorCode::not_found);
}

}  // namespace
}  // namespace iw::broker
