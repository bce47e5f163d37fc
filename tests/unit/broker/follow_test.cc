// What the owner of a root is told of sessions from there that wait or run elsewhere.

#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "tests/unit/broker/core_driver.h"

namespace iw::broker {
namespace {

using testing::CoreDriver;
using testing::seconds;

// Worker "w" runs what is from the root of "x", which has no slots.
struct Scene : CoreDriver {
    WorkerHello owner = worker("x");

    Scene() {
        hello(worker("w"), 7);
        owner.slots = 0;
        hello(owner, 8);
        tick_after(seconds(1));
    }
    static Submission from(const std::string& root) {
        Submission submission = CoreDriver::submission("a");
        submission.project = "p";
        submission.origin = {"h", root};
        return submission;
    }
    using Told = std::vector<std::string>;
    // "id=STATUS/detail" of all that the owner is told by these actions.
    static void add_told(const Actions& actions, Told& all) {
        for (const Outgoing& out : actions.outgoing) {
            const auto* sent = std::get_if<SendPush>(&out);
            const auto* follow = sent == nullptr ? nullptr : std::get_if<FollowPush>(&sent->body);
            if (follow == nullptr || sent->peer != PeerId{8}) continue;
            EXPECT_LE(follow->sessions.size(), 32u);
            for (const SessionView& view : follow->sessions) {
                all.push_back(view.id.str() + "=" + std::string(name(view.status)) + "/" +
                              std::string(name(view.detail)));
            }
        }
    }
    // Within the next second.
    Told told() {
        Told all;
        for (int i = 0; i < 10; ++i)
            add_told(tick_after(Duration(100)), all);
        return all;
    }
};

TEST(Follow, TheOwnerIsToldOfEveryStepOfWhatRunsElsewhere) {
    Scene scene;
    const SessionId id = scene.submitted(Scene::from("/r/x"));
    EXPECT_EQ(scene.told(), Scene::Told{id.str() + "=CREATED/assigned"});
    EXPECT_EQ(scene.told(), Scene::Told{});
    scene.report("w", 7, id, {1, 1}, scene.started());
    EXPECT_EQ(scene.told(), Scene::Told{id.str() + "=RUNNING/working"});
    scene.kill(id, "enough");
    EXPECT_EQ(scene.told(), Scene::Told{id.str() + "=RUNNING/stopping"});
    // Its end comes as an outcome.
    scene.report("w", 7, id, {1, 1}, scene.exited(0));
    EXPECT_EQ(CoreDriver::pushes<ClosePush>(scene.last).size(), 1u);
    EXPECT_EQ(scene.told(), Scene::Told{});
}

TEST(Follow, WhatWaitsIsTold) {
    Scene scene;
    Submission submission = Scene::from("/r/x");
    submission.agent = AgentName("unknown");
    submission.queue_anyway = true;
    const SessionId id = scene.submitted(submission);
    EXPECT_EQ(scene.told(), Scene::Told{id.str() + "=CREATED/no-worker"});
}

TEST(Follow, WhatRunsWithItsOwnerOrHasNoneIsNot) {
    Scene scene;
    scene.submitted(Scene::from("/r"));
    scene.submitted("a");
    scene.submitted(Scene::from("/nobody"));
    EXPECT_EQ(scene.told(), Scene::Told{});
}

TEST(Follow, ABurstIsOneMessageAndSoon) {
    Scene scene;
    const SessionId id = scene.submitted(Scene::from("/r/x"));
    EXPECT_EQ(scene.core.next_deadline(), scene.time.steady);
    EXPECT_EQ(CoreDriver::pushes<FollowPush>(scene.tick()).size(), 1u);
    scene.report("w", 7, id, {1, 1}, scene.started());
    EXPECT_EQ(scene.core.next_deadline(), scene.time.steady + Duration(100));
    EXPECT_TRUE(CoreDriver::pushes<FollowPush>(scene.tick()).empty());
    scene.kill(id, "enough");
    EXPECT_EQ(scene.told(), Scene::Told{id.str() + "=RUNNING/stopping"});
}

TEST(Follow, AHelloBringsAllThatItDoesNotHold) {
    Scene scene;
    scene.goodbye("x", 8);
    Scene::Told expected;
    for (int i = 0; i < 700; ++i) {
        const SessionId id = scene.submitted(Scene::from(i % 7 == 0 ? "/r" : "/r/x"));
        if (i % 7 == 0) continue;
        const std::string detail = scene.shown(id);
        expected.push_back(id.str() + "=" + detail);
    }
    EXPECT_EQ(scene.told(), Scene::Told{});
    std::sort(expected.begin(), expected.end());
    Scene::Told told;
    // Some at once, the others with the ticks that follow.
    Scene::add_told(scene.hello(scene.owner, 8), told);
    EXPECT_EQ(told.size(), 512u);
    for (const std::string& each : scene.told())
        told.push_back(each);
    std::sort(told.begin(), told.end());
    EXPECT_EQ(told, expected);
    EXPECT_EQ(scene.told(), Scene::Told{});
}

// More changes at once than are kept: everything is told again instead.
TEST(Follow, AFloodOfChangesLosesNone) {
    Scene scene;
    std::set<std::string> expected;
    for (int i = 0; i < 24; ++i) {
        SubmitEvent event;
        event.caller = CoreDriver::caller(1);
        for (int item = 0; item < 500; ++item) {
            Submission submission = Scene::from("/r/x");
            submission.agent = AgentName("unknown");
            submission.queue_anyway = true;
            event.items.push_back({submission, CoreDriver::hash(1), std::nullopt});
        }
        const Actions actions = scene.core.step(scene.time, std::move(event));
        for (const SubmitOutcome& made : CoreDriver::reply<SubmitReply>(actions).sessions)
            expected.insert(made.id.str() + "=CREATED/no-worker");
    }
    std::set<std::string> told;
    for (int i = 0; i < 60; ++i) {
        scene.advance(Duration(100));
        const Actions actions = scene.core.step(scene.time, TickEvent{});
        for (const FollowPush& follow : CoreDriver::pushes<FollowPush>(actions)) {
            for (const SessionView& view : follow.sessions)
                told.insert(view.id.str() + "=CREATED/" + std::string(name(view.detail)));
        }
    }
    EXPECT_EQ(told, expected);
}

}  // namespace
}  // namespace iw::broker
