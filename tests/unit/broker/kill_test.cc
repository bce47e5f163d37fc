#include <gtest/gtest.h>

#include "tests/unit/broker/core_driver.h"

namespace iw::broker {
namespace {

using testing::CoreDriver;
using testing::seconds;

TEST(Kill, QueuedEndsAtOnce) {
    CoreDriver driver;
    const SessionId id = driver.submitted("a");
    const Actions actions = driver.kill(id, "changed my mind");
    const auto reply = CoreDriver::reply<KillReply>(actions);
    EXPECT_FALSE(reply.already_final);
    EXPECT_EQ(reply.session.status, SessionStatus::killed);
    EXPECT_EQ(reply.session.kill_reason, "changed my mind");
    EXPECT_EQ(driver.outcome_text(id), "KILLED/killed");
    EXPECT_EQ(driver.shown(id), "gone");
    EXPECT_EQ(CoreDriver::refusal(driver.kill(id, ""))->code, ErrorCode::not_found);
}

TEST(Kill, QueuedWithAnOwnerWaitsForItsFiles) {
    CoreDriver driver;
    WorkerHello worker = CoreDriver::worker("w");
    worker.slots = 0;
    driver.hello(worker, 7);
    Submission submission = CoreDriver::submission("a");
    submission.origin = {"h", "/r"};
    const SessionId id = driver.submitted(submission);
    const Actions actions = driver.kill(id, "x");
    EXPECT_EQ(driver.shown(id), "CREATED/delivering");
    const auto pushes = CoreDriver::pushes<ClosePush>(actions);
    ASSERT_EQ(pushes.size(), 1u);
    EXPECT_EQ(pushes[0].outcomes.at(0).session.attempt, 0u);
    EXPECT_EQ(pushes[0].outcomes.at(0).session.status, SessionStatus::killed);
    // Again while it closes: told as it is, nothing more done.
    const Actions again = driver.kill(id, "y");
    EXPECT_TRUE(again.records.empty());
    EXPECT_EQ(CoreDriver::reply<KillReply>(again).session.detail, Detail::delivering);
    EXPECT_FALSE(driver.report("w", 7, id, Fence{1, 0}, ClosedReport{}).error.has_value());
    EXPECT_EQ(driver.shown(id), "gone");
}

TEST(Kill, AWishIsRepeatedUntilTheEnd) {
    CoreDriver driver;
    driver.hello(CoreDriver::worker("w"), 7);
    const SessionId id = driver.submitted("a");
    const AttemptState running = testing::attempt(id, {1, 1}, AttemptPhase::running);
    driver.report("w", 7, id, {1, 1}, driver.started());
    const Actions first = driver.kill(id, "too slow");
    EXPECT_EQ(CoreDriver::records<KillWished>(first).size(), 1u);
    ASSERT_EQ(CoreDriver::pushes<StopPush>(first).size(), 1u);
    EXPECT_EQ(CoreDriver::pushes<StopPush>(first)[0].stops.at(0).reason, "too slow");
    EXPECT_EQ(driver.shown(id), "RUNNING/stopping");
    EXPECT_TRUE(driver.kill(id, "second").records.empty());
    for (int beat = 0; beat < 3; ++beat) {
        const Actions actions = driver.heartbeat("w", 7, {running});
        EXPECT_EQ(CoreDriver::reply<HeartbeatReply>(actions).stops.size(), 1u);
    }
    WorkerHello again = CoreDriver::worker("w");
    again.start_count = 2;
    again.inventory = {running};
    EXPECT_EQ(CoreDriver::pushes<StopPush>(driver.hello(again, 8)).size(), 1u);
    EndedReport ended = driver.ended(EndCause::stopped);
    ended.exit_code = 0;
    ended.success = true;
    driver.report("w", 8, id, {1, 1}, ended);
    EXPECT_EQ(driver.outcome_text(id), "KILLED/killed");
    EXPECT_EQ(driver.outcome(id).kill_reason, "too slow");
    const Actions after = driver.heartbeat("w", 8, {});
    EXPECT_TRUE(CoreDriver::reply<HeartbeatReply>(after).stops.empty());
}

TEST(Kill, AnEndByItselfBeforeTheStopDecides) {
    CoreDriver driver;
    driver.hello(CoreDriver::worker("w"), 7);
    const SessionId id = driver.submitted("a");
    driver.kill(id, "late");
    driver.report("w", 7, id, {1, 1}, driver.exited(0));
    EXPECT_EQ(driver.outcome_text(id), "COMPLETED/done");
}

TEST(Kill, AWishSurvivesARestart) {
    CoreDriver driver;
    driver.hello(CoreDriver::worker("w"), 7);
    const SessionId id = driver.submitted("a");
    driver.kill(id, "x");
    driver.core = driver.replayed();
    WorkerHello again = CoreDriver::worker("w");
    again.inventory = {testing::attempt(id, {1, 1}, AttemptPhase::running)};
    const Actions actions = driver.hello(again, 9);
    EXPECT_EQ(CoreDriver::pushes<StopPush>(actions).size(), 1u);
    EXPECT_TRUE(actions.records.empty());
}

TEST(Kill, AWishedAttemptIsNotGivenOutAgain) {
    for (const bool is_declined : {true, false}) {
        CoreDriver driver;
        driver.hello(CoreDriver::worker("w"), 7);
        Submission submission = CoreDriver::submission("a");
        submission.on_lost = OnLost::requeue;
        const SessionId id = driver.submitted(submission);
        driver.kill(id, "x");
        if (is_declined) {
            driver.report("w", 7, id, {1, 1}, CoreDriver::declined(true));
        } else {
            driver.report("w", 7, id, {1, 1}, driver.ended(EndCause::lost));
        }
        EXPECT_EQ(driver.outcome_text(id), "KILLED/killed");
        EXPECT_EQ(driver.outcome(id).kill_reason, "x");
    }
}

TEST(Kill, FromInsideOnlyItsOwn) {
    CoreDriver driver;
    WorkerHello worker = CoreDriver::worker("w");
    worker.slots = 4;
    driver.hello(worker, 7);
    const SessionId root = driver.submitted("a");
    const SessionId child = driver.submitted_inside(root);
    const SessionId grandchild = driver.submitted_inside(child);
    const SessionId stranger = driver.submitted("a");
    KillEvent event{CoreDriver::caller(7), stranger, "x"};
    event.caller.inside = AttemptRef{root, {1, 1}};
    EXPECT_EQ(CoreDriver::refusal(driver.step(event))->code, ErrorCode::forbidden);
    event.id = root;
    EXPECT_EQ(CoreDriver::refusal(driver.step(event))->code, ErrorCode::forbidden);
    // Also when the one between is over and gone.
    driver.report("w", 7, child, {1, 1}, driver.exited(0));
    driver.report("w", 7, child, {1, 1}, ClosedReport{});
    EXPECT_EQ(driver.shown(child), "gone");
    event.id = grandchild;
    EXPECT_FALSE(CoreDriver::refusal(driver.step(event)).has_value());
    EXPECT_TRUE(driver.core.view(grandchild, driver.time).has_value());
    event.caller.inside->fence.attempt = 5;
    EXPECT_EQ(CoreDriver::refusal(driver.step(event))->code, ErrorCode::stale_fence);
}

TEST(Kill, StopGoesBeforeTheAssignmentThatDidNotArrive) {
    CoreDriver driver;
    driver.hello(CoreDriver::worker("w"), 7);
    const SessionId id = driver.submitted("a");
    driver.kill(id, "x");
    WorkerHello again = CoreDriver::worker("w");
    again.start_count = 2;
    const Actions actions = driver.hello(again, 8);
    std::string order;
    for (const Outgoing& out : actions.outgoing) {
        const auto* sent = std::get_if<SendPush>(&out);
        if (sent != nullptr) order += std::string(verb(sent->body)) + " ";
    }
    EXPECT_EQ(order, "stop assign ");
}

// Another worker does not speak for an attempt, even if it names the right fence.
TEST(Kill, OnlyTheHolderRelays) {
    CoreDriver driver;
    driver.hello(CoreDriver::worker("w"), 7);
    const SessionId id = driver.submitted("a");
    const AttemptRef inside{id, {1, 1}};
    EXPECT_TRUE(driver.core.is_current(inside, WorkerName("w")));
    EXPECT_FALSE(driver.core.is_current(inside, WorkerName("x")));
    Caller caller = CoreDriver::caller(8);
    caller.inside = inside;
    caller.relayed_by = WorkerName("x");
    const Actions kill = driver.step(KillEvent{.caller = caller, .id = id, .reason = "x"});
    EXPECT_EQ(CoreDriver::refusal(kill)->code, ErrorCode::stale_fence);
    SubmitEvent submit{.caller = caller, .items = {}};
    submit.items.push_back({CoreDriver::submission("a"), CoreDriver::hash(1), std::nullopt});
    EXPECT_EQ(CoreDriver::refusal(driver.step(submit))->code, ErrorCode::stale_fence);
    submit.caller.relayed_by = WorkerName("w");
    EXPECT_FALSE(CoreDriver::refusal(driver.step(submit)).has_value());
}

}  // namespace
}  // namespace iw::broker
