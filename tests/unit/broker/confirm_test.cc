// Silent workers: confirm-dead, and wishes that wait for their return.

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
        second = submitted(submission);
        report("w", 7, second, {1, 1}, started());
    }
    Actions confirm(ConfirmDeadRequest request) {
        return step(ConfirmDeadEvent{caller(1), std::move(request)});
    }
    std::string refused(ConfirmDeadRequest request) {
        const Actions actions = confirm(std::move(request));
        EXPECT_TRUE(actions.records.empty());
        const std::optional<Error> error = refusal(actions);
        return error ? std::string(name(error->code)) + ": " + error->message : "ok";
    }
    AttemptState running() const { return testing::attempt(id, {1, 1}, AttemptPhase::running); }
    SessionId id;
    SessionId second;
};

TEST(ConfirmDead, NotOfAWorkerThatIsUp) {
    Scene scene(OnLost::wait);
    scene.advance(seconds(3));
    const std::string says =
        "CONFLICT: worker w was heard 3s ago, so what it runs can be killed; only what is with a "
        "worker that is unreachable can be confirmed dead";
    EXPECT_EQ(scene.refused({.id = scene.id.str(), .reason = "x"}), says);
    EXPECT_EQ(scene.refused({.worker = "w", .reason = "x"}), says);
    EXPECT_EQ(scene.refused({.host = "h", .reason = "x"}), says);
    EXPECT_EQ(scene.shown(scene.id), "RUNNING/working");
}

TEST(ConfirmDead, OneSessionAWorkerOrAHost) {
    for (const OnLost policy : {OnLost::wait, OnLost::fail, OnLost::requeue}) {
        for (const int scope : {0, 1, 2}) {
            Scene scene(policy);
            scene.tick_after(limits::kUnreachableAfter);
            ConfirmDeadRequest request{.reason = "the disk is in my hand"};
            if (scope == 0) request.id = scene.id.str();
            if (scope == 1) request.worker = "w";
            if (scope == 2) request.host = "h";
            const Actions actions = scene.confirm(request);
            const auto reply = CoreDriver::reply<ConfirmDeadReply>(actions);
            EXPECT_EQ(reply.sessions.size(), scope == 0 ? 1u : 2u);
            EXPECT_EQ(scene.shown(scene.second), scope == 0                  ? "RUNNING/unreachable"
                                                 : policy == OnLost::requeue ? "CREATED/retrying"
                                                                             : "gone");
            if (policy == OnLost::requeue) {
                EXPECT_EQ(scene.shown(scene.id), "CREATED/retrying");
                EXPECT_EQ(CoreDriver::records<AttemptReturned>(actions).at(0).evidence,
                          "confirmed dead by uid:1000: the disk is in my hand");
                continue;
            }
            EXPECT_EQ(reply.sessions.at(0).status, SessionStatus::failed);
            EXPECT_EQ(reply.sessions.at(0).detail, Detail::lost);
            EXPECT_EQ(scene.outcome(scene.id).evidence,
                      "confirmed dead by uid:1000: the disk is in my hand");
        }
    }
}

TEST(ConfirmDead, RefusalsNameTheThing) {
    Scene scene(OnLost::wait);
    EXPECT_EQ(scene.refused({.reason = "x"}),
              "BAD_REQUEST: confirm_dead: name one session, one worker or one host");
    EXPECT_EQ(scene.refused({.worker = "w", .host = "h", .reason = "x"}),
              "BAD_REQUEST: confirm_dead: name one session, one worker or one host");
    EXPECT_EQ(scene.refused({.worker = "w"}),
              "BAD_REQUEST: reason: is required; say how you know that its processes are gone");
    EXPECT_EQ(scene.refused({.worker = "ww", .reason = "x"}),
              "NOT_FOUND: no worker ww is registered (`ictl workers` lists them)");
    EXPECT_EQ(scene.refused({.host = "hx", .reason = "x"}),
              "NOT_FOUND: no worker on host hx is registered");
    EXPECT_EQ(scene.refused({.id = "20250101-000000-a", .reason = "x"}),
              "NOT_FOUND: no live session 20250101-000000-a");
    const SessionId waits = scene.submitted("a");
    EXPECT_EQ(scene.refused({.id = waits.str(), .reason = "x"}),
              "CONFLICT: session " + waits.str() +
                  " is with no worker: it waits to be handed out; kill it instead");
    scene.report("w", 7, scene.id, {1, 1}, scene.exited(0));
    EXPECT_EQ(scene.refused({.id = scene.id.str(), .reason = "x"}),
              "CONFLICT: session " + scene.id.str() + " has already ended");
    ConfirmDeadEvent inside{CoreDriver::caller(7), {.worker = "w", .reason = "x"}};
    inside.caller.inside = AttemptRef{scene.second, {1, 1}};
    EXPECT_EQ(CoreDriver::refusal(scene.step(inside))->code, ErrorCode::forbidden);
}

TEST(ConfirmDead, AHostOfWhichOneWorkerIsUpIsNotDead) {
    Scene scene(OnLost::wait);
    scene.tick_after(limits::kUnreachableAfter);
    scene.hello(CoreDriver::worker("x"), 8);
    EXPECT_NE(scene.refused({.host = "h", .reason = "x"}).find("worker x was heard"),
              std::string::npos);
    EXPECT_EQ(scene.shown(scene.id), "RUNNING/unreachable");
}

TEST(ConfirmDead, AtMostThreeTimes) {
    Scene scene(OnLost::requeue);
    for (int time = 1; time <= 3; ++time) {
        scene.tick_after(limits::kUnreachableAfter);
        scene.confirm({.id = scene.id.str(), .reason = "x"});
        if (time == 3) break;
        EXPECT_EQ(scene.shown(scene.id), "CREATED/retrying");
        scene.hello(CoreDriver::worker("w"), 7);
        scene.tick_after(seconds(20));
        scene.report("w", 7, scene.id, scene.fence(scene.id), scene.started());
        EXPECT_EQ(scene.shown(scene.id), "RUNNING/working");
    }
    EXPECT_EQ(scene.outcome_text(scene.id), "FAILED/lost");
}

TEST(ConfirmDead, WhoReturnsIsStoppedAndItsReportsAreStale) {
    for (const OnLost policy : {OnLost::fail, OnLost::requeue}) {
        Scene scene(policy);
        scene.tick_after(limits::kUnreachableAfter);
        scene.confirm({.id = scene.id.str(), .reason = "x"});
        WorkerHello back = CoreDriver::worker("w");
        back.start_count = 2;
        back.inventory = {scene.running(),
                          testing::attempt(scene.second, {1, 1}, AttemptPhase::running)};
        const auto stops = CoreDriver::pushes<StopPush>(scene.hello(back, 9));
        ASSERT_EQ(stops.size(), 1u);
        ASSERT_EQ(stops[0].stops.size(), 1u);
        EXPECT_EQ(stops[0].stops[0].session, scene.id);
        EXPECT_EQ(stops[0].stops[0].reason, "superseded");
        // Again with every answer, until it is gone.
        for (int beat = 0; beat < 3; ++beat) {
            const auto reply = CoreDriver::reply<HeartbeatReply>(
                scene.heartbeat("w", 9, {back.inventory[0], back.inventory[1]}));
            ASSERT_EQ(reply.stops.size(), 1u);
            EXPECT_EQ(reply.stops[0].session, scene.id);
        }
        EXPECT_TRUE(CoreDriver::reply<HeartbeatReply>(scene.heartbeat("w", 9, {back.inventory[1]}))
                        .stops.empty());
        EXPECT_EQ(scene.shown(scene.second), "RUNNING/working");
        if (policy == OnLost::fail) continue;
        const ReportAck ack =
            scene.report("w", 9, scene.id, {1, 1}, scene.ended(EndCause::stopped));
        EXPECT_EQ(ack.error->code, ErrorCode::stale_fence);
    }
}

TEST(ConfirmDead, AnOrphanOfANameThatLives) {
    Scene scene(OnLost::wait);
    scene.tick_after(limits::kUnreachableAfter);
    WorkerHello next = CoreDriver::worker("w");
    next.state_id = "new";
    scene.hello(next, 8);
    EXPECT_EQ(scene.shown(scene.id), "RUNNING/unreachable");
    EXPECT_EQ(
        CoreDriver::reply<ConfirmDeadReply>(scene.confirm({.id = scene.id.str(), .reason = "x"}))
            .sessions.size(),
        1u);
    EXPECT_EQ(scene.outcome_text(scene.id), "FAILED/lost");
}

TEST(ConfirmDead, AKillAtASilentHostStaysAWish) {
    Scene scene(OnLost::wait);
    scene.tick_after(limits::kUnreachableAfter);
    const Actions actions = scene.kill(scene.id, "x");
    const auto reply = CoreDriver::reply<KillReply>(actions);
    EXPECT_EQ(reply.session.status, SessionStatus::running);
    EXPECT_EQ(reply.session.detail, Detail::unreachable);
    EXPECT_EQ(reply.session.reason,
              "worker w is unreachable; it is stopped as soon as that one is heard again");
    scene.tick_after(seconds(5000));
    EXPECT_EQ(scene.shown(scene.id), "RUNNING/unreachable");
    const auto beat = CoreDriver::reply<HeartbeatReply>(scene.heartbeat("w", 7, {scene.running()}));
    ASSERT_EQ(beat.stops.size(), 1u);
    EXPECT_EQ(beat.stops[0].session, scene.id);
    // Or it is confirmed dead, and then that is what ended it.
    scene.tick_after(limits::kUnreachableAfter);
    scene.kill(scene.second, "y");
    scene.confirm({.id = scene.second.str(), .reason = "x"});
    EXPECT_EQ(scene.outcome_text(scene.second), "FAILED/lost");
}

}  // namespace
}  // namespace iw::broker
