// Sessions submitted from inside others: whose slot they run on, and what the end of an attempt or
// a kill means for them.

#include <gtest/gtest.h>

#include <algorithm>

#include "tests/unit/broker/core_driver.h"
#include "tests/unit/broker/live_state_model.h"

namespace iw::broker {
namespace {

using testing::CoreDriver;
using testing::seconds;

struct Scene : CoreDriver {
    explicit Scene(std::uint32_t slots) : offer(worker("w")) {
        offer.slots = slots;
        hello(offer, 7);
    }
    Actions submit_below(const SessionId& parent, std::vector<Submission> submissions) {
        SubmitEvent event;
        event.caller = caller(7);
        event.caller.inside = AttemptRef{parent, fence(parent)};
        for (Submission& each : submissions)
            event.items.push_back({std::move(each), hash(1), std::nullopt});
        last = step(std::move(event));
        return last;
    }
    SessionId below(const SessionId& parent, Submission submission) {
        const Actions actions = submit_below(parent, {std::move(submission)});
        const std::optional<Error> error = refusal(actions);
        EXPECT_FALSE(error.has_value()) << error->message;
        const SubmitOutcome outcome = reply<SubmitReply>(actions).sessions.at(0);
        EXPECT_FALSE(outcome.error.has_value()) << outcome.error->message;
        return outcome.id;
    }
    SessionId below(const SessionId& parent) { return below(parent, submission("a")); }
    void start(const SessionId& id) {
        const SessionView session = view(id);
        EXPECT_EQ(session.detail, Detail::assigned) << id.str();
        report(session.worker, 7, id, fence(id), started());
    }
    Actions finish(const SessionId& id, int code) {
        const Fence attempt = fence(id);
        const std::string at = view(id).worker;
        const ReportAck ack = report(at, 7, id, attempt, exited(code));
        const Actions actions = last;
        EXPECT_FALSE(ack.error.has_value()) << ack.error->message;
        if (ack.outcome && is_final(ack.outcome->session.status)) {
            report(at, 7, id, attempt, ClosedReport{});
        }
        return actions;
    }
    WorkerHello offer;
};

std::string detail(const CoreDriver& driver, const SessionId& id) {
    return std::string(name(driver.view(id).detail));
}

// Each waits for the one below it, by looking at files: the broker is told nothing of that.
TEST(Lending, OneSlotCompletesAChainOfFive) {
    Scene scene(1);
    std::vector<SessionId> chain{scene.submitted("a")};
    for (int depth = 1; depth < 5; ++depth) {
        scene.start(chain.back());
        chain.push_back(scene.below(chain.back()));
    }
    const SessionId other = scene.submitted("a");
    EXPECT_EQ(scene.core.counts().assigned + scene.core.counts().running, 5u);
    EXPECT_EQ(scene.used("w"), 1u);
    EXPECT_EQ(detail(scene, chain[0]), "waiting-on-children");
    EXPECT_EQ(scene.shown(other), "CREATED/queued");
    while (!chain.empty()) {
        EXPECT_EQ(scene.shown(other), "CREATED/queued");
        scene.finish(chain.back(), 0);
        chain.pop_back();
    }
    EXPECT_EQ(scene.shown(other), "CREATED/assigned");
}

TEST(Lending, ASlotIsLentToOneAtATime) {
    Scene scene(1);
    const SessionId parent = scene.submitted("a");
    scene.start(parent);
    const SessionId first = scene.below(parent);
    const SessionId second = scene.below(parent);
    EXPECT_EQ(detail(scene, first), "assigned");
    EXPECT_EQ(detail(scene, second), "queued");
    const Actions actions = scene.finish(first, 0);
    EXPECT_EQ(CoreDriver::assigned(actions), std::vector{second});
    EXPECT_EQ(scene.used("w"), 1u);
}

TEST(Lending, OnlyToDescendantsAndOnlyAtTheSameWorker) {
    Scene scene(1);
    const SessionId parent = scene.submitted("a");
    scene.start(parent);
    const SessionId stranger = scene.submitted("a");
    Submission elsewhere = CoreDriver::submission("a");
    elsewhere.host = "x";
    elsewhere.queue_anyway = true;
    const SessionId away = scene.below(parent, elsewhere);
    EXPECT_EQ(detail(scene, stranger), "queued");
    EXPECT_EQ(detail(scene, away), "no-worker");
    WorkerHello other = CoreDriver::worker("x");
    other.slots = 1;
    scene.hello(other, 8);
    // The stranger took the other worker's only slot: it is older.
    EXPECT_EQ(scene.view(stranger).worker, "x");
    EXPECT_EQ(detail(scene, away), "queued");
    EXPECT_EQ(scene.used("w"), 1u);
}

TEST(Lending, RoomElsewhereGoesBeforeALentSlot) {
    Scene scene(1);
    const SessionId parent = scene.submitted("a");
    scene.start(parent);
    scene.hello(CoreDriver::worker("x"), 8);
    EXPECT_EQ(scene.view(scene.below(parent)).worker, "x");
    EXPECT_EQ(scene.view(scene.below(parent)).worker, "x");
    EXPECT_EQ(scene.view(scene.below(parent)).worker, "w");
    EXPECT_EQ(scene.used("w"), 1u);
    EXPECT_EQ(scene.used("x"), 2u);
}

TEST(Lending, ADescendantOfAnyDepthBorrows) {
    Scene scene(1);
    const SessionId root = scene.submitted("a");
    scene.start(root);
    const SessionId middle = scene.below(root);
    scene.start(middle);
    const SessionId leaf = scene.below(middle);
    const SessionId second = scene.below(root);
    EXPECT_EQ(detail(scene, leaf), "assigned");
    // The one between ends and is gone; its child runs on what the root lends, so the other waits.
    scene.finish(middle, 0);
    EXPECT_EQ(scene.shown(middle), "gone");
    EXPECT_EQ(scene.used("w"), 1u);
    EXPECT_EQ(detail(scene, second), "queued");
    EXPECT_EQ(CoreDriver::assigned(scene.finish(leaf, 0)), std::vector{second});
}

TEST(Lending, ANormalEndLeavesChildrenRunning) {
    Scene scene(1);
    const SessionId parent = scene.submitted("a");
    scene.start(parent);
    const SessionId first = scene.below(parent);
    const SessionId second = scene.below(parent);
    const SessionId other = scene.submitted("a");
    scene.finish(parent, 0);
    EXPECT_EQ(detail(scene, first), "assigned");
    EXPECT_EQ(scene.used("w"), 1u);
    // With its parent gone a child is a session like any other.
    EXPECT_EQ(CoreDriver::assigned(scene.finish(first, 0)), std::vector{second});
    EXPECT_EQ(CoreDriver::assigned(scene.finish(second, 0)), std::vector{other});
}

TEST(Lending, OverCapacityNothingNewIsTaken) {
    Scene scene(2);
    const SessionId parent = scene.submitted("a");
    const SessionId other = scene.submitted("a");
    scene.start(parent);
    HeartbeatEvent event{CoreDriver::caller(7), WorkerName("w"), {}};
    event.heartbeat.slots = 1;
    scene.step(event);
    EXPECT_EQ(scene.used("w"), 2u);
    const SessionId child = scene.below(parent);
    EXPECT_EQ(detail(scene, child), "queued");
    scene.finish(other, 0);
    EXPECT_EQ(detail(scene, child), "assigned");
    EXPECT_EQ(scene.used("w"), 1u);
}

TEST(Lending, SurvivesARestart) {
    Scene scene(1);
    const SessionId parent = scene.submitted("a");
    scene.start(parent);
    const SessionId first = scene.below(parent);
    const SessionId second = scene.below(parent);
    scene.core = scene.replayed();
    EXPECT_EQ(scene.used("w"), 1u);
    WorkerHello again = scene.offer;
    again.inventory = {testing::attempt(parent, {1, 1}, AttemptPhase::running),
                       testing::attempt(first, {1, 1}, AttemptPhase::running)};
    EXPECT_TRUE(CoreDriver::assigned(scene.hello(again, 7)).empty());
    EXPECT_EQ(CoreDriver::assigned(scene.finish(first, 0)), std::vector{second});
}

// Neither a parent's queue nor everybody else's may cost anything per turn: this is quadratic and
// takes minutes if it does.
TEST(Lending, FullQueuesAreCheap) {
    BrokerCore core(CoreConfig{}, 1);
    Now time{Timestamp(Duration(1)), wall_from_ms(testing::kStartMs)};
    core.started(time);
    WorkerHello worker = CoreDriver::worker("w");
    worker.slots = 1;
    core.step(time, HelloEvent{CoreDriver::caller(7), worker, "test"});
    const auto submit = [&](std::optional<AttemptRef> inside) {
        SubmitEvent event;
        event.caller = CoreDriver::caller(1);
        event.caller.inside = inside;
        for (int i = 0; i < 500; ++i) {
            event.items.push_back({CoreDriver::submission("a"), CoreDriver::hash(1), std::nullopt});
        }
        return core.step(time, std::move(event));
    };
    std::vector<SessionId> given = CoreDriver::assigned(submit(std::nullopt));
    ASSERT_EQ(given.size(), 1u);
    const SessionId parent = given[0];
    for (int batch = 1; batch < 200; ++batch) {
        time.steady += Duration(100);
        time.wall += Duration(100);
        submit(std::nullopt);
    }
    for (int batch = 0; batch < 20; ++batch) {
        const std::vector<SessionId> child =
            CoreDriver::assigned(submit(AttemptRef{parent, {1, 1}}));
        if (!child.empty()) given = child;
    }
    EXPECT_EQ(core.counts().queued, 100'000u - 1 + 10'000 - 1);
    for (int i = 0; i < 9'999; ++i) {
        EndedReport ended;
        ended.success = true;
        ended.ended_at = time.wall;
        Report end{.session = given.at(0), .fence = {1, 1}, .number = 2, .body = ended};
        Report close{.session = given.at(0), .fence = {1, 1}, .number = 3, .body = ClosedReport{}};
        given = CoreDriver::assigned(
            core.step(time, ReportEvent{CoreDriver::caller(7), WorkerName("w"), {end, close}}));
        ASSERT_EQ(given.size(), 1u);
        HeartbeatEvent beat{CoreDriver::caller(7), WorkerName("w"), {}};
        core.step(time, beat);
    }
    EXPECT_EQ(core.counts().queued, 100'000u - 1);
}

// ---- Kills
// ------------------------------------------------------------------------------------------------

struct Tree : Scene {
    Tree() : Scene(4) {
        parent = submitted("a");
        start(parent);
        running = below(parent);
        start(running);
        grandchild = below(running);
        Submission late = submission("a");
        late.delay = seconds(1000);
        queued = below(parent, late);
        stranger = submitted("a");
    }
    SessionId parent, running, grandchild, queued, stranger;
};

TEST(KillFamily, TakesAllThatIsBelow) {
    Tree tree;
    const Actions actions = tree.kill(tree.parent, "wrong question");
    const auto reply = CoreDriver::reply<KillReply>(actions);
    EXPECT_EQ(reply.descendants, 3u);
    EXPECT_EQ(reply.session.id, tree.parent);
    EXPECT_EQ(tree.outcome_text(tree.queued), "KILLED/parent-killed");
    EXPECT_EQ(tree.outcome(tree.queued).kill_reason,
              "session " + tree.parent.str() + " above it was killed: wrong question");
    EXPECT_EQ(tree.shown(tree.running), "RUNNING/stopping");
    EXPECT_EQ(tree.shown(tree.stranger), "CREATED/assigned");
    std::map<SessionId, Detail> causes;
    for (const KillWished& wished : CoreDriver::records<KillWished>(actions))
        causes[wished.id] = wished.cause;
    EXPECT_EQ(causes, (std::map<SessionId, Detail>{{tree.parent, Detail::killed},
                                                   {tree.running, Detail::parent_killed},
                                                   {tree.grandchild, Detail::parent_killed}}));
    std::size_t stops = 0;
    for (const StopPush& push : CoreDriver::pushes<StopPush>(actions))
        stops += push.stops.size();
    EXPECT_EQ(stops, 3u);
    // Repeated with every answer until it is done.
    const auto beat = CoreDriver::reply<HeartbeatReply>(tree.heartbeat("w", 7, {}));
    EXPECT_EQ(beat.stops.size(), 3u);
    EndedReport stopped = tree.ended(EndCause::stopped);
    stopped.stop_cause = Detail::parent_killed;
    tree.report("w", 7, tree.running, {1, 1}, stopped);
    EXPECT_EQ(tree.outcome_text(tree.running), "KILLED/parent-killed");
    EXPECT_EQ(CoreDriver::reply<KillReply>(tree.kill(tree.parent, "again")).descendants, 0u);
}

TEST(KillFamily, UnlessToldOtherwise) {
    Tree tree;
    const Actions actions = tree.step(KillEvent{
        .caller = CoreDriver::caller(1), .id = tree.parent, .reason = "x", .keep_children = true});
    EXPECT_EQ(CoreDriver::reply<KillReply>(actions).descendants, 0u);
    EXPECT_EQ(tree.shown(tree.running), "RUNNING/waiting-on-children");
    EXPECT_EQ(detail(tree, tree.queued), "delayed");
    // Now after all.
    EXPECT_EQ(CoreDriver::reply<KillReply>(tree.kill(tree.parent, "y")).descendants, 3u);
}

TEST(KillFamily, AnEndedSessionTakesNothingAlong) {
    Tree tree;
    tree.report("w", 7, tree.parent, {1, 1}, tree.exited(0));
    EXPECT_EQ(tree.shown(tree.parent), "RUNNING/delivering");
    EXPECT_TRUE(tree.kill(tree.parent, "x").records.empty());
    EXPECT_EQ(detail(tree, tree.running), "waiting-on-children");
}

TEST(KillFamily, WhoIsKilledSubmitsNothingMore) {
    Tree tree;
    tree.kill(tree.parent, "x");
    for (const SessionId& id : {tree.parent, tree.running}) {
        const Actions actions = tree.submit_below(id, {CoreDriver::submission("a")});
        const auto outcome = CoreDriver::reply<SubmitReply>(actions).sessions.at(0);
        ASSERT_TRUE(outcome.error.has_value());
        EXPECT_EQ(outcome.error->code, ErrorCode::conflict);
        EXPECT_EQ(outcome.error->message,
                  "parent " + id.str() + " is being killed; it may submit nothing more");
    }
}

TEST(KillFamily, ALongReasonIsNotRepeatedThousandsOfTimes) {
    Tree tree;
    tree.kill(tree.parent, std::string(1000, 'x'));
    EXPECT_EQ(tree.outcome(tree.queued).kill_reason,
              "session " + tree.parent.str() + " above it was killed");
}

// Thousands at once: in parts, each of them small, and answered when all is done.
TEST(KillFamily, AHugeOneIsKilledInParts) {
    Scene scene(1);
    const SessionId parent = scene.submitted("a");
    scene.start(parent);
    for (int batch = 0; batch < 18; ++batch) {
        scene.advance(seconds(1));
        scene.submit_below(parent, std::vector<Submission>(500, CoreDriver::submission("a")));
    }
    Actions actions = scene.kill(parent, "x");
    std::size_t steps = 1;
    while (actions.outgoing.empty() ||
           !std::any_of(actions.outgoing.begin(), actions.outgoing.end(),
                        [](const auto& out) { return std::holds_alternative<SendReply>(out); })) {
        EXPECT_LE(actions.records.size(), 8'010u);
        EXPECT_EQ(scene.core.next_deadline(), scene.time.steady);
        const Actions refused = scene.submit_below(parent, {CoreDriver::submission("a")});
        EXPECT_TRUE(CoreDriver::reply<SubmitReply>(refused).sessions.at(0).error.has_value());
        actions = scene.tick();
        ASSERT_LT(++steps, 10u);
    }
    EXPECT_GE(steps, 3u);
    EXPECT_EQ(CoreDriver::reply<KillReply>(actions).descendants, 9'000u);
    EXPECT_EQ(scene.core.counts().queued, 0u);
}

// A restore holds what follows by itself; a wish is carried out to its end.
TEST(KillFamily, AHugeOneIsKilledAlsoWhileARestoreHolds) {
    Scene scene(2);
    const SessionId parent = scene.submitted("a");
    scene.start(parent);
    for (int batch = 0; batch < 12; ++batch)
        scene.submit_below(parent, std::vector(500, CoreDriver::submission("a")));
    scene.step(BeginEpochEvent{
        .caller = std::nullopt, .epoch = "second", .reason = "r", .principal = "uid:0"});
    scene.kill(parent, "enough");
    EXPECT_EQ(scene.core.next_deadline(), scene.time.steady);
    scene.tick();
    EXPECT_EQ(scene.core.counts().queued, 0u);
    EXPECT_EQ(scene.shown(parent), "RUNNING/stopping");
    EXPECT_GT(scene.core.next_deadline(), scene.time.steady);
}

// ---- Attempts that are over
// ----------------------------------------------------------------------------------

struct Retried : Scene {
    explicit Retried(bool keep_children) : Scene(4) {
        Submission submission = CoreDriver::submission("a");
        submission.retry = RetryPolicy{.attempts_max = 3, .backoff = seconds(1)};
        submission.keep_children = keep_children;
        submission.on_lost = OnLost::requeue;
        parent = submitted(submission);
        start(parent);
        running = below(parent);
        start(running);
        grandchild = below(running);
        Submission late = CoreDriver::submission("a");
        late.delay = seconds(1000);
        queued = below(parent, late);
        Submission outside = CoreDriver::submission("a");
        outside.parent = parent;
        adopted = submitted(outside);
    }
    SessionId parent, running, grandchild, queued, adopted;
};

TEST(OverAttempt, ItsChildrenAreKilledBeforeTheNextOne) {
    Retried scene(false);
    const Actions actions = scene.finish(scene.parent, 1);
    EXPECT_EQ(scene.shown(scene.parent), "CREATED/retrying");
    EXPECT_EQ(scene.outcome_text(scene.queued), "KILLED/parent-killed");
    EXPECT_EQ(scene.outcome(scene.queued).kill_reason,
              "attempt 1 of " + scene.parent.str() + " above it is over");
    EXPECT_EQ(CoreDriver::records<KillWished>(actions).size(), 2u);
    // Submitted by no attempt, so no attempt's end is anything to it.
    EXPECT_EQ(scene.shown(scene.adopted), "CREATED/assigned");
    // Due, with room; but two of its children are not final.
    scene.tick_after(seconds(20));
    EXPECT_EQ(scene.shown(scene.parent), "CREATED/retrying");
    EXPECT_NE(scene.view(scene.parent).reason.find("all below its earlier attempts have ended"),
              std::string::npos);
    EndedReport stopped = scene.ended(EndCause::stopped);
    stopped.stop_cause = Detail::parent_killed;
    scene.report("w", 7, scene.running, {1, 1}, stopped);
    scene.report("w", 7, scene.running, {1, 1}, ClosedReport{});
    EXPECT_EQ(scene.shown(scene.parent), "CREATED/retrying");
    scene.report("w", 7, scene.grandchild, {1, 1}, stopped);
    EXPECT_EQ(scene.shown(scene.parent), "CREATED/retrying");
    scene.report("w", 7, scene.grandchild, {1, 1}, ClosedReport{});
    EXPECT_EQ(scene.shown(scene.parent), "CREATED/assigned");
    EXPECT_EQ(scene.fence(scene.parent), (Fence{1, 2}));
}

TEST(OverAttempt, UnlessTheParentKeepsThem) {
    Retried scene(true);
    scene.finish(scene.parent, 1);
    EXPECT_EQ(detail(scene, scene.running), "waiting-on-children");
    scene.tick_after(seconds(20));
    EXPECT_EQ(scene.shown(scene.parent), "CREATED/assigned");
}

TEST(OverAttempt, TheSameWhenItIsLost) {
    Retried scene(false);
    scene.report("w", 7, scene.parent, {1, 1}, scene.ended(EndCause::lost));
    EXPECT_EQ(scene.shown(scene.parent), "CREATED/retrying");
    EXPECT_EQ(scene.outcome_text(scene.queued), "KILLED/parent-killed");
    EXPECT_EQ(scene.shown(scene.running), "RUNNING/stopping");
}

// A crash may come between the end of the attempt and the wishes that follow from it.
TEST(OverAttempt, TheWishesAreMadeUpForAfterARestart) {
    Retried scene(false);
    const std::size_t before = scene.journal.size();
    scene.finish(scene.parent, 1);
    const auto is_return = [](const Record& record) {
        return std::holds_alternative<AttemptReturned>(record.body);
    };
    const auto returned = std::find_if(scene.journal.begin() + static_cast<std::ptrdiff_t>(before),
                                       scene.journal.end(), is_return);
    ASSERT_NE(returned, scene.journal.end());
    scene.journal.erase(returned + 1, scene.journal.end());
    scene.core = scene.replayed();
    EXPECT_EQ(detail(scene, scene.queued), "delayed");
    scene.tick();
    EXPECT_EQ(scene.outcome_text(scene.queued), "KILLED/parent-killed");
    EXPECT_EQ(scene.shown(scene.running), "RUNNING/stopping");
}

// What waits for a child outside the family ends with it, and its owner hears of it in the same
// step.
TEST(OverAttempt, WhatWaitsForAKilledChildIsDeliveredAtOnce) {
    Retried scene(false);
    Submission waits = CoreDriver::submission("a");
    waits.origin = {"h", "/r"};
    waits.after = {{.id = scene.queued, .on = AfterCondition::success}};
    const SessionId waiting = scene.submitted(waits);
    const Actions actions = scene.finish(scene.parent, 1);
    EXPECT_EQ(scene.outcome_text(waiting), "FAILED/dependency-failed");
    std::vector<SessionId> closing;
    for (const ClosePush& push : CoreDriver::pushes<ClosePush>(actions)) {
        for (const Outcome& outcome : push.outcomes)
            closing.push_back(outcome.session.id);
    }
    EXPECT_EQ(closing, std::vector{waiting});
}

// A grandchild by way of a child that was submitted from outside is of no attempt of the parent,
// also when only the database remembers that child.
TEST(OverAttempt, WhatTheChildThatIsGoneWasSurvivesARestart) {
    Retried scene(false);
    scene.start(scene.adopted);
    const SessionId grandchild = scene.below(scene.adopted);
    scene.start(grandchild);
    scene.finish(scene.adopted, 0);
    EXPECT_EQ(scene.shown(scene.adopted), "gone");
    testing::LiveStateModel database;
    for (const Record& record : scene.journal)
        database.apply(record);
    scene.core = BrokerCore(CoreConfig{}, 1);
    scene.core.restore(database.state());
    scene.core.started(scene.time);
    scene.hello(scene.offer, 7);
    scene.finish(scene.parent, 1);
    EXPECT_EQ(scene.shown(scene.running), "RUNNING/stopping");
    EXPECT_EQ(scene.shown(grandchild), "RUNNING/working");
}

}  // namespace
}  // namespace iw::broker
