#include <gtest/gtest.h>

#include "tests/unit/broker/core_driver.h"

namespace iw::broker {
namespace {

using testing::CoreDriver;
using testing::seconds;

std::string refused(const Actions& actions) {
    const std::optional<Error> error = CoreDriver::refusal(actions);
    return error ? std::string(name(error->code)) : "ok";
}

TEST(Hello, WelcomeSaysWhatTheCoreKnows) {
    CoreDriver driver;
    const Actions actions = driver.hello(CoreDriver::worker("w"), 7);
    const auto welcome = CoreDriver::reply<WelcomeReply>(actions);
    EXPECT_EQ(welcome.generation, 1u);
    EXPECT_EQ(welcome.seq, driver.core.head());
    EXPECT_EQ(welcome.heartbeat, limits::kHeartbeatInterval);
    EXPECT_EQ(welcome.unreachable, limits::kUnreachableAfter);
    EXPECT_EQ(welcome.lost, limits::kLostAfter);
    EXPECT_EQ(CoreDriver::records<WorkerRegistered>(actions).size(), 1u);
    EXPECT_EQ(driver.core.known_agents(), std::vector<std::string>{"a"});
}

TEST(Hello, RecordOnlyWhenSomethingChanged) {
    CoreDriver driver;
    WorkerHello worker = CoreDriver::worker("w");
    driver.hello(worker, 7);
    EXPECT_TRUE(driver.hello(worker, 8).records.empty());
    worker.start_count = 2;
    EXPECT_EQ(driver.hello(worker, 9).records.size(), 1u);
    worker.start_count = 1;
    EXPECT_EQ(refused(driver.hello(worker, 10)), "CONFLICT");
    // The process that was replaced is told to say hello.
    EXPECT_EQ(refused(driver.heartbeat("w", 8, {})), "NO_SESSION");
    EXPECT_EQ(refused(driver.heartbeat("w", 9, {})), "ok");
    EXPECT_EQ(refused(driver.heartbeat("nobody", 9, {})), "NO_SESSION");
}

TEST(Hello, AListOfTheSameStartThatArrivesLateLosesNothing) {
    CoreDriver driver;
    WorkerHello worker = CoreDriver::worker("w");
    driver.hello(worker, 7);
    const SessionId id = driver.submitted("a");
    driver.report("w", 7, id, {1, 1}, driver.started());
    // It was sent before the attempt was given out, over an earlier connection.
    EXPECT_TRUE(driver.hello(worker, 8).records.empty());
    EXPECT_EQ(driver.shown(id), "RUNNING/working");
    worker.start_count = 2;
    driver.hello(worker, 9);
    EXPECT_EQ(driver.outcome_text(id), "FAILED/lost");
}

TEST(Hello, RefusesWhatIsOutOfRange) {
    const auto says = [](auto change) {
        CoreDriver driver;
        WorkerHello worker = CoreDriver::worker("w");
        change(worker);
        const std::string answer = refused(driver.hello(worker, 7));
        EXPECT_TRUE(driver.journal.empty());
        return answer;
    };
    using H = WorkerHello;
    EXPECT_EQ(says([](H& h) { h.name = WorkerName(""); }), "BAD_REQUEST");
    EXPECT_EQ(says([](H& h) { h.name = WorkerName("a b"); }), "BAD_REQUEST");
    EXPECT_EQ(says([](H& h) { h.host = ""; }), "BAD_REQUEST");
    EXPECT_EQ(says([](H& h) { h.root = ""; }), "BAD_REQUEST");
    EXPECT_EQ(says([](H& h) { h.state_id = ""; }), "BAD_REQUEST");
    EXPECT_EQ(says([](H& h) { h.slots = 1001; }), "BAD_REQUEST");
    EXPECT_EQ(says([](H& h) { h.agents.assign(501, "a"); }), "BAD_REQUEST");
    EXPECT_EQ(says([](H& h) { h.inventory.resize(10'001); }), "BAD_REQUEST");
    CoreDriver driver;
    driver.hello(CoreDriver::worker("w"), 7);
    HeartbeatEvent event{CoreDriver::caller(7), WorkerName("w"), {}};
    event.heartbeat.slots = 1001;
    EXPECT_EQ(refused(driver.step(event)), "BAD_REQUEST");
}

TEST(Hello, TheNameIsTakenWhileItsHolderLives) {
    CoreDriver driver;
    driver.hello(CoreDriver::worker("w"), 7);
    WorkerHello other = CoreDriver::worker("w");
    other.state_id = "another";
    EXPECT_EQ(refused(driver.hello(other, 8)), "NAME_TAKEN");
    driver.tick_after(limits::kUnreachableAfter - Duration(1));
    EXPECT_EQ(refused(driver.hello(other, 8)), "NAME_TAKEN");
    driver.tick_after(Duration(1));
    EXPECT_EQ(refused(driver.hello(other, 8)), "ok");
    EXPECT_EQ(driver.worker_state("w"), "up");
    EXPECT_EQ(refused(driver.hello(CoreDriver::worker("w"), 9)), "NAME_TAKEN");
}

TEST(Hello, ACopiedStateDirectoryIsAnotherWorker) {
    CoreDriver driver;
    driver.hello(CoreDriver::worker("w"), 7);
    WorkerHello copy = CoreDriver::worker("w");
    copy.host = "clone";
    EXPECT_EQ(refused(driver.hello(copy, 8)), "NAME_TAKEN");
}

TEST(Hello, OneWorkerForARoot) {
    CoreDriver driver;
    driver.hello(CoreDriver::worker("w"), 7);
    WorkerHello second = CoreDriver::worker("second");
    second.root = "/r";
    EXPECT_EQ(refused(driver.hello(second, 8)), "NAME_TAKEN");
    second.host = "h2";
    EXPECT_EQ(refused(driver.hello(second, 8)), "ok");
    WorkerHello third = CoreDriver::worker("third");
    third.root = "/r";
    driver.goodbye("w", 7);
    EXPECT_EQ(refused(driver.hello(third, 9)), "ok");
}

TEST(Hello, WhatItDoesNotListIsSentAgainAtOnce) {
    CoreDriver driver;
    driver.hello(CoreDriver::worker("w"), 7);
    const SessionId lost = driver.submitted("a");
    const SessionId kept = driver.submitted("a");
    WorkerHello again = CoreDriver::worker("w");
    again.start_count = 2;
    again.inventory = {testing::attempt(kept, {1, 1}, AttemptPhase::accepted)};
    const Actions actions = driver.hello(again, 8);
    EXPECT_EQ(CoreDriver::assigned(actions), std::vector{lost});
    EXPECT_EQ(CoreDriver::records<AttemptAssigned>(actions).size(), 0u);
    EXPECT_EQ(driver.fence(lost), (Fence{1, 1}));
}

TEST(Hello, AfterTheBrokersRestartNothingIsDisturbed) {
    CoreDriver driver;
    driver.hello(CoreDriver::worker("w"), 7);
    const SessionId id = driver.submitted("a");
    driver.report("w", 7, id, {1, 1}, driver.started());
    driver.core = driver.replayed();
    EXPECT_EQ(driver.shown(id), "RUNNING/working");
    WorkerHello again = CoreDriver::worker("w");
    again.inventory = {testing::attempt(id, {1, 1}, AttemptPhase::running)};
    const Actions actions = driver.hello(again, 8);
    EXPECT_TRUE(actions.records.empty());
    EXPECT_TRUE(CoreDriver::pushes<StopPush>(actions).empty());
    EXPECT_TRUE(CoreDriver::assigned(actions).empty());
}

// Another state directory under the name: the new process has never heard of the old one's
// attempts.
struct Takeover : CoreDriver {
    explicit Takeover(OnLost policy) {
        hello(worker("w"), 7);
        Submission submission = CoreDriver::submission("a");
        submission.on_lost = policy;
        id = submitted(submission);
        report("w", 7, id, {1, 1}, started());
        tick_after(limits::kUnreachableAfter);
        next = worker("w");
        next.state_id = "new";
    }
    SessionId id;
    WorkerHello next;
};

TEST(Hello, TakeoverAfterABootProvesTheLoss) {
    for (const OnLost policy : {OnLost::wait, OnLost::fail, OnLost::requeue}) {
        Takeover scene(policy);
        scene.next.boot_id = "boot-2";
        const Actions actions = scene.hello(scene.next, 8);
        if (policy == OnLost::requeue) {
            EXPECT_EQ(scene.shown(scene.id), "CREATED/retrying");
            continue;
        }
        EXPECT_EQ(scene.outcome_text(scene.id), "FAILED/lost");
        EXPECT_NE(scene.outcome(scene.id).evidence.find("boot-2"), std::string::npos);
    }
}

TEST(Hello, TakeoverWithinABootWaitsForTheOldOne) {
    Takeover scene(OnLost::wait);
    const Actions actions = scene.hello(scene.next, 8);
    // Not given to a process that would run it a second time, and not stopped either.
    EXPECT_TRUE(CoreDriver::assigned(actions).empty());
    EXPECT_EQ(scene.shown(scene.id), "RUNNING/unreachable");
    scene.kill(scene.id, "x");
    EXPECT_TRUE(CoreDriver::reply<HeartbeatReply>(scene.heartbeat("w", 8, {})).stops.empty());
    EXPECT_TRUE(CoreDriver::assigned(scene.heartbeat("w", 8, {})).empty());
    EXPECT_TRUE(CoreDriver::assigned(scene.heartbeat("w", 8, {})).empty());
    EXPECT_EQ(scene.used("w"), 1u);
    // Lost when the old one has been silent for long enough, whatever the new one says meanwhile.
    const Duration rest = limits::kLostAfter - limits::kUnreachableAfter;
    scene.advance(rest - Duration(1));
    scene.heartbeat("w", 8, {});
    scene.tick();
    EXPECT_EQ(scene.shown(scene.id), "RUNNING/unreachable");
    EXPECT_EQ(scene.core.next_deadline(), scene.time.steady + Duration(1));
    scene.tick_after(Duration(1));
    EXPECT_EQ(scene.outcome_text(scene.id), "FAILED/lost");
}

TEST(Hello, TakeoverIsRememberedOverARestart) {
    Takeover scene(OnLost::fail);
    scene.hello(scene.next, 8);
    scene.core = scene.replayed();
    EXPECT_TRUE(CoreDriver::assigned(scene.hello(scene.next, 9)).empty());
    scene.advance(limits::kLostAfter);
    scene.heartbeat("w", 9, {});
    scene.tick();
    EXPECT_EQ(scene.outcome_text(scene.id), "FAILED/lost");
}

TEST(Hello, TheOldIncarnationMayComeBack) {
    Takeover scene(OnLost::fail);
    scene.hello(scene.next, 8);
    scene.goodbye("w", 8);
    WorkerHello old = CoreDriver::worker("w");
    old.start_count = 2;
    old.inventory = {testing::attempt(scene.id, {1, 1}, AttemptPhase::running)};
    EXPECT_EQ(refused(scene.hello(old, 9)), "ok");
    EXPECT_EQ(scene.shown(scene.id), "RUNNING/working");
    scene.advance(limits::kLostAfter);
    scene.heartbeat("w", 9, {old.inventory});
    scene.tick();
    EXPECT_EQ(scene.shown(scene.id), "RUNNING/working");
}

TEST(Hello, StopsWhatItShouldNotRun) {
    CoreDriver driver;
    driver.hello(CoreDriver::worker("w"), 7);
    const SessionId id = driver.submitted("a");
    driver.report("w", 7, id, {1, 1}, CoreDriver::declined(true));
    driver.tick_after(seconds(5));
    EXPECT_EQ(driver.fence(id), (Fence{1, 2}));
    const std::vector<AttemptState> both = {testing::attempt(id, {1, 1}, AttemptPhase::running),
                                            testing::attempt(id, {1, 2}, AttemptPhase::running)};
    const auto reply = CoreDriver::reply<HeartbeatReply>(driver.heartbeat("w", 7, both));
    ASSERT_EQ(reply.stops.size(), 1u);
    EXPECT_EQ(reply.stops[0].fence, (Fence{1, 1}));
    EXPECT_EQ(driver.used("w"), 2u);
    // What is over in this run of the broker is known to be over.
    const SessionId done = driver.submitted("a");
    driver.kill(done, "x");
    const auto stray = testing::attempt(done, {1, 1}, AttemptPhase::running);
    const auto after =
        CoreDriver::reply<HeartbeatReply>(driver.heartbeat("w", 7, {both[1], stray}));
    ASSERT_EQ(after.stops.size(), 1u);
    EXPECT_EQ(after.stops[0].session, done);
}

// The same state directory under another name.
struct Rename : CoreDriver {
    Rename() {
        hello(worker("w"), 7);
        id = submitted("a");
        ended = submitted("a");
        report("w", 7, id, {1, 1}, started());
        report("w", 7, ended, {1, 1}, started());
        next = worker("w");
        next.name = WorkerName("new");
        next.start_count = 2;
        next.inventory = {testing::attempt(id, {1, 1}, AttemptPhase::running),
                          testing::attempt(ended, {1, 1}, AttemptPhase::running)};
    }
    SessionId id;
    SessionId ended;
    WorkerHello next;
};

TEST(Hello, ARenamedWorkerKeepsItsAttempts) {
    Rename scene;
    EXPECT_EQ(refused(scene.hello(scene.next, 8)), "NAME_TAKEN");
    scene.report("w", 7, scene.ended, {1, 1}, scene.exited(0));
    scene.tick_after(limits::kUnreachableAfter);
    scene.next.inventory.pop_back();
    const Actions actions = scene.hello(scene.next, 8);
    EXPECT_EQ(refused(actions), "ok");
    EXPECT_TRUE(CoreDriver::pushes<StopPush>(actions).empty());
    EXPECT_TRUE(CoreDriver::assigned(actions).empty());
    EXPECT_EQ(scene.used("w"), 0u);
    EXPECT_EQ(scene.used("new"), 1u);
    EXPECT_EQ(scene.view(scene.id).worker, "new");
    EXPECT_EQ(scene.shown(scene.id), "RUNNING/working");
    EXPECT_EQ(refused(scene.heartbeat("w", 7, {})), "NO_SESSION");
    // The old name's silence is nothing to it, also after a restart of the broker.
    scene.core = scene.replayed();
    EXPECT_EQ(scene.used("new"), 1u);
    EXPECT_EQ(refused(scene.hello(scene.next, 9)), "ok");
    EXPECT_EQ(CoreDriver::pushes<StopPush>(scene.kill(scene.id, "x")).size(), 1u);
    EXPECT_FALSE(scene.report("new", 9, scene.id, {1, 1}, scene.exited(0)).error.has_value());
    EXPECT_FALSE(scene.report("new", 9, scene.id, {1, 1}, ClosedReport{}).error.has_value());
    EXPECT_EQ(scene.shown(scene.id), "gone");
}

TEST(Hello, AnOlderStartDoesNotTakeTheNameBack) {
    Rename scene;
    scene.goodbye("w", 7);
    EXPECT_EQ(refused(scene.hello(scene.next, 8)), "ok");
    scene.goodbye("new", 8);
    WorkerHello old = CoreDriver::worker("w");
    EXPECT_EQ(refused(scene.hello(old, 9)), "CONFLICT");
    old.start_count = 3;
    old.inventory = scene.next.inventory;
    EXPECT_EQ(refused(scene.hello(old, 9)), "ok");
    EXPECT_EQ(scene.used("w"), 2u);
}

TEST(Hello, AStartedAttemptThatItDoesNotListIsLost) {
    Rename scene;
    WorkerHello again = CoreDriver::worker("w");
    again.start_count = 2;
    again.inventory = {scene.next.inventory[0]};
    // A list on the way may be older than the start; a hello's list is all there is.
    for (int i = 0; i < 3; ++i) {
        EXPECT_TRUE(CoreDriver::assigned(scene.heartbeat("w", 7, again.inventory)).empty());
    }
    EXPECT_EQ(scene.shown(scene.ended), "RUNNING/working");
    EXPECT_TRUE(CoreDriver::assigned(scene.hello(again, 8)).empty());
    EXPECT_EQ(scene.outcome_text(scene.ended), "FAILED/lost");
    EXPECT_EQ(scene.shown(scene.id), "RUNNING/working");
}

}  // namespace
}  // namespace iw::broker
