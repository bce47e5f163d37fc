// Pauses and drains.

#include <gtest/gtest.h>

#include "tests/unit/broker/core_driver.h"

namespace iw::broker {
namespace {

using testing::CoreDriver;
using testing::seconds;

struct Scene : CoreDriver {
    Scene() { hello(worker("w"), 7); }
    Actions hold(HoldScope scope, const std::string& name) {
        return hold({.scope = scope, .name = name, .on = true, .reason = "upgrade"});
    }
    Actions lift(HoldScope scope, const std::string& name) {
        return hold({.scope = scope, .name = name, .on = false, .reason = "done"});
    }
    Actions hold(HoldRequest request) {
        last = step(HoldEvent{caller(1), std::move(request)});
        return last;
    }
    std::string refused(HoldRequest request) {
        const Actions actions = hold(std::move(request));
        EXPECT_TRUE(actions.records.empty());
        const std::optional<Error> error = refusal(actions);
        return error ? std::string(name(error->code)) + ": " + error->message : "ok";
    }
    SessionId child_of(const SessionId& parent) {
        Submission submission = CoreDriver::submission("a");
        submission.parent = parent;
        return submitted(submission);
    }
};

TEST(Hold, AClockSetBackBeforeAStartMakesNoHoldLonger) {
    Scene scene;
    scene.hold({.scope = HoldScope::fleet, .on = true, .reason = "lunch", .lasts = seconds(5)});
    scene.time.wall -= seconds(24 * 3600);
    EXPECT_EQ(scene.replayed().next_deadline(), scene.time.steady + seconds(5));
}

TEST(Hold, EveryScopeHoldsBackWhatItNames) {
    struct Row {
        HoldScope scope;
        const char* name;
        bool holds;
        const char* reason;
    };
    const std::vector<Row> rows = {
        {HoldScope::fleet, "", true, "paused by uid:1000 since 2025-11-18T15:33:20Z: upgrade"},
        {HoldScope::project, "p", true,
         "project p is paused by uid:1000 since 2025-11-18T15:33:20Z: upgrade"},
        {HoldScope::project, "other", false, ""},
        {HoldScope::agent, "a", true,
         "agent a is paused by uid:1000 since 2025-11-18T15:33:20Z: upgrade"},
        {HoldScope::agent, "other", false, ""},
        {HoldScope::worker, "w", true,
         "worker w is drained by uid:1000 since 2025-11-18T15:33:20Z: upgrade"},
    };
    for (const Row& row : rows) {
        Scene scene;
        scene.hold(row.scope, row.name);
        Submission submission = CoreDriver::submission("a");
        submission.project = "p";
        const SessionId id = scene.submitted(submission);
        EXPECT_EQ(scene.shown(id), row.holds ? "CREATED/paused" : "CREATED/assigned") << row.name;
        if (!row.holds) continue;
        EXPECT_EQ(scene.view(id).reason, row.reason);
        EXPECT_EQ(scene.core.fleet(scene.time).holds.size(), 1u);
        // Also after a restart, and a heartbeat moves nothing.
        scene.core = scene.replayed();
        scene.hello(CoreDriver::worker("w"), 8);
        scene.heartbeat("w", 8, {});
        EXPECT_EQ(scene.view(id).reason, row.reason);
        EXPECT_NE(scene.core.next_deadline(), scene.time.steady);
        EXPECT_EQ(CoreDriver::assigned(scene.lift(row.scope, row.name)), std::vector{id});
        EXPECT_TRUE(scene.core.fleet(scene.time).holds.empty());
    }
}

TEST(Hold, TouchesNothingThatRuns) {
    Scene scene;
    const SessionId id = scene.submitted("a");
    scene.report("w", 7, id, {1, 1}, scene.started());
    const Actions actions = scene.hold(HoldScope::fleet, "");
    EXPECT_EQ(actions.records.size(), 1u);
    EXPECT_EQ(scene.shown(id), "RUNNING/working");
    EXPECT_TRUE(CoreDriver::pushes<StopPush>(actions).empty());
}

// A drain would otherwise never end, and a paused parent would wait for ever.
TEST(Hold, WhatDescendsFromAHeldSessionGoesOn) {
    for (const HoldScope scope :
         {HoldScope::fleet, HoldScope::project, HoldScope::agent, HoldScope::worker}) {
        Scene scene;
        const SessionId parent = scene.submitted("a");
        scene.report("w", 7, parent, {1, 1}, scene.started());
        std::string name;
        if (scope == HoldScope::project) name = "p";
        if (scope == HoldScope::agent) name = "a";
        if (scope == HoldScope::worker) name = "w";
        scene.hold(scope, name);
        Submission below = CoreDriver::submission("a");
        below.parent = parent;
        below.project = "p";
        const SessionId child = scene.submitted(below);
        EXPECT_EQ(scene.shown(child), "CREATED/assigned") << iw::name(scope);
        below.parent = child;
        const SessionId grandchild = scene.submitted(below);
        EXPECT_EQ(scene.shown(grandchild), "CREATED/assigned") << iw::name(scope);
        below.parent = SessionId();
        EXPECT_EQ(scene.shown(scene.submitted(below)), "CREATED/paused");
    }
}

TEST(Hold, APausedFamilyMayGoToAnyWorker) {
    Scene scene;
    const SessionId parent = scene.submitted("a");
    scene.report("w", 7, parent, {1, 1}, scene.started());
    scene.hold(HoldScope::agent, "a");
    Submission below = CoreDriver::submission("a");
    below.parent = parent;
    below.host = "x";
    const SessionId child = scene.submitted(below);
    EXPECT_EQ(scene.shown(child), "CREATED/no-worker");
    EXPECT_EQ(CoreDriver::assigned(scene.hello(CoreDriver::worker("x"), 8)), std::vector{child});
}

TEST(Hold, ADrainedWorkerShowsWhatItStillRuns) {
    Scene scene;
    const SessionId id = scene.submitted("a");
    const auto reply = CoreDriver::reply<HoldReply>(scene.hold(HoldScope::worker, "w"));
    EXPECT_TRUE(reply.changed);
    EXPECT_EQ(reply.running, std::vector{id});
    ASSERT_TRUE(reply.hold.has_value());
    EXPECT_EQ(reply.hold->reason, "upgrade");
    const WorkerView view = scene.core.workers(scene.time).workers.at(0);
    ASSERT_TRUE(view.drain.has_value());
    EXPECT_EQ(view.drain->principal, "uid:1000");
    // Somebody else takes what comes.
    scene.hello(CoreDriver::worker("x"), 8);
    EXPECT_EQ(scene.view(scene.submitted("a")).worker, "x");
    scene.report("w", 7, id, {1, 1}, scene.exited(0));
    EXPECT_TRUE(CoreDriver::reply<HoldReply>(scene.hold(HoldScope::worker, "w")).running.empty());
}

TEST(Hold, LiftsByItselfAtItsDeadline) {
    Scene scene;
    scene.hold({.scope = HoldScope::fleet, .on = true, .reason = "lunch", .lasts = seconds(40)});
    const SessionId id = scene.submitted("a");
    EXPECT_EQ(scene.view(id).reason,
              "paused by uid:1000 since 2025-11-18T15:33:20Z until 2025-11-18T15:34:00Z: lunch");
    EXPECT_EQ(scene.core.next_deadline(), scene.time.steady + seconds(40));
    // Setting the clock moves it not; a restart goes by the clock, for it has nothing else.
    scene.time.wall += seconds(7000);
    scene.tick_after(seconds(20));
    scene.time.wall -= seconds(7000);
    scene.core = scene.replayed();
    scene.hello(CoreDriver::worker("w"), 8);
    EXPECT_TRUE(
        CoreDriver::records<HoldChanged>(scene.tick_after(seconds(20) - Duration(1))).empty());
    const Actions actions = scene.tick_after(Duration(1));
    const auto changed = CoreDriver::records<HoldChanged>(actions);
    ASSERT_EQ(changed.size(), 1u);
    EXPECT_FALSE(changed[0].on);
    EXPECT_EQ(changed[0].principal, "broker");
    EXPECT_EQ(changed[0].reason, "its deadline came");
    EXPECT_EQ(CoreDriver::assigned(actions), std::vector{id});
    EXPECT_TRUE(CoreDriver::records<HoldChanged>(scene.tick_after(seconds(40))).empty());
}

TEST(Hold, ChangesAreRecordedAndRepeatsAreNot) {
    Scene scene;
    const HoldRequest request{.scope = HoldScope::fleet, .on = true, .reason = "x"};
    EXPECT_EQ(scene.hold(request).records.size(), 1u);
    const Actions again = scene.hold(request);
    EXPECT_TRUE(again.records.empty());
    EXPECT_FALSE(CoreDriver::reply<HoldReply>(again).changed);
    EXPECT_TRUE(CoreDriver::reply<HoldReply>(again).hold.has_value());
    HoldRequest other = request;
    other.reason = "y";
    EXPECT_EQ(scene.hold(other).records.size(), 1u);
    other.lasts = seconds(10);
    EXPECT_EQ(scene.hold(other).records.size(), 1u);
    other.lasts.reset();
    EXPECT_EQ(scene.hold(other).records.size(), 1u);
    EXPECT_EQ(scene.core.next_deadline(), scene.time.steady + limits::kUnreachableAfter);
    EXPECT_EQ(scene.lift(HoldScope::fleet, "").records.size(), 1u);
    const Actions lifted = scene.lift(HoldScope::fleet, "");
    EXPECT_TRUE(lifted.records.empty());
    EXPECT_FALSE(CoreDriver::reply<HoldReply>(lifted).changed);
    EXPECT_FALSE(CoreDriver::reply<HoldReply>(lifted).hold.has_value());
}

TEST(Hold, RefusalsNameTheThing) {
    Scene scene;
    scene.hello(CoreDriver::worker("builder"), 8);
    EXPECT_EQ(scene.refused({.scope = HoldScope::worker, .name = "bilder"}),
              "NOT_FOUND: no worker bilder is registered; did you mean builder? (`ictl workers` "
              "lists them)");
    EXPECT_EQ(scene.refused({.scope = HoldScope::fleet, .name = "p"}),
              "BAD_REQUEST: name: the fleet has none; leave it out");
    EXPECT_EQ(scene.refused({.scope = HoldScope::agent, .name = ""}),
              "BAD_REQUEST: name: of the agent is required");
    EXPECT_EQ(scene.refused({.scope = HoldScope::fleet, .on = false, .lasts = seconds(1)}),
              "BAD_REQUEST: lasts: only what is laid on can end by itself");
    EXPECT_EQ(scene.refused({.scope = HoldScope::fleet, .on = true, .lasts = Duration(0)}),
              "BAD_REQUEST: lasts: is not between 1 ms and 10 years");
    HoldEvent inside{CoreDriver::caller(7), {.scope = HoldScope::fleet, .on = true}};
    inside.caller.inside = AttemptRef{SessionId("x"), {1, 1}};
    EXPECT_EQ(CoreDriver::refusal(scene.step(inside))->code, ErrorCode::forbidden);
}

TEST(Hold, WhatIsToBeRetriedIsPausedToo) {
    Scene scene;
    const SessionId id = scene.submitted("a");
    scene.hold(HoldScope::fleet, "");
    scene.report("w", 7, id, {1, 1}, CoreDriver::declined(true));
    EXPECT_EQ(scene.shown(id), "CREATED/retrying");
    scene.tick_after(seconds(5));
    EXPECT_EQ(scene.shown(id), "CREATED/paused");
    EXPECT_NE(scene.view(id).reason.find("no pty"), std::string::npos);
    EXPECT_NE(scene.view(id).reason.find("paused by uid:1000"), std::string::npos);
}

}  // namespace
}  // namespace iw::broker
