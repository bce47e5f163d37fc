// Run timeouts that are changed while a session lives.

#include <gtest/gtest.h>

#include "tests/unit/broker/core_driver.h"

namespace iw::broker {
namespace {

using testing::attempt;
using testing::CoreDriver;
using testing::seconds;

struct Scene : CoreDriver {
    Scene() {
        hello(worker("w"), 7);
        id = submitted("a");
        fence_at_start = fence(id);
    }
    Actions extend(const SessionId& which, std::optional<Duration> timeout,
                   std::optional<Duration> add) {
        return extend(caller(1), which, timeout, add);
    }
    Actions extend(Caller caller, const SessionId& which, std::optional<Duration> timeout,
                   std::optional<Duration> add) {
        last = step(ExtendEvent{std::move(caller), which, timeout, add});
        return last;
    }
    ReportAck says(ReportBody body) { return report("w", 7, id, fence_at_start, std::move(body)); }
    std::vector<LimitChange> told(std::optional<Duration> timeout) {
        AttemptState state = attempt(id, fence_at_start, AttemptPhase::running);
        state.timeout = timeout;
        return reply<HeartbeatReply>(heartbeat("w", 7, {state})).limits;
    }
    SessionId id;
    Fence fence_at_start;
};

std::string answer(const Actions& actions) {
    const std::optional<Error> refused = CoreDriver::refusal(actions);
    return refused ? std::string(name(refused->code)) : "ok";
}

TEST(Extend, IsRecordedAndSentAtOnce) {
    Scene scene;
    scene.says(scene.started());
    const Actions actions = scene.extend(scene.id, seconds(60), std::nullopt);
    EXPECT_EQ(CoreDriver::reply<ExtendReply>(actions).session.timeout, seconds(60));
    const auto records = CoreDriver::records<TimeoutChanged>(actions);
    ASSERT_EQ(records.size(), 1u);
    EXPECT_EQ(records[0].timeout, seconds(60));
    EXPECT_EQ(records[0].principal, "uid:1000");
    const auto pushes = CoreDriver::pushes<LimitsPush>(actions);
    ASSERT_EQ(pushes.size(), 1u);
    ASSERT_EQ(pushes[0].limits.size(), 1u);
    EXPECT_EQ(pushes[0].limits[0].timeout, seconds(60));
    EXPECT_EQ(pushes[0].limits[0].fence, scene.fence_at_start);
    EXPECT_EQ(scene.replayed().view(scene.id, scene.time)->timeout, seconds(60));
}

TEST(Extend, AddsToWhatIsThere) {
    Scene scene;
    const Actions actions = scene.extend(scene.id, std::nullopt, seconds(60));
    EXPECT_EQ(CoreDriver::reply<ExtendReply>(actions).session.timeout,
              limits::kRunTimeoutDefault + seconds(60));
}

TEST(Extend, IsRepeatedUntilTheWorkerAgrees) {
    Scene scene;
    scene.says(scene.started());
    EXPECT_TRUE(scene.told(limits::kRunTimeoutDefault).empty());
    scene.extend(scene.id, seconds(60), std::nullopt);
    for (int beat = 0; beat < 3; ++beat) {
        const std::vector<LimitChange> limits = scene.told(limits::kRunTimeoutDefault);
        ASSERT_EQ(limits.size(), 1u);
        EXPECT_EQ(limits[0].timeout, seconds(60));
        EXPECT_EQ(limits[0].session, scene.id);
    }
    EXPECT_TRUE(scene.told(seconds(60)).empty());
    // One of before timeouts could be changed states none.
    EXPECT_TRUE(scene.told(std::nullopt).empty());
}

TEST(Extend, OnlyTheCurrentAttemptAtItsHolderIsTold) {
    Scene scene;
    scene.says(scene.started());
    scene.extend(scene.id, seconds(60), std::nullopt);
    scene.hello(CoreDriver::worker("x"), 8);
    AttemptState state = attempt(scene.id, scene.fence_at_start, AttemptPhase::running);
    state.timeout = seconds(1);
    EXPECT_TRUE(CoreDriver::reply<HeartbeatReply>(scene.heartbeat("x", 8, {state})).limits.empty());
    state.fence.attempt += 1;
    EXPECT_TRUE(CoreDriver::reply<HeartbeatReply>(scene.heartbeat("w", 7, {state})).limits.empty());
}

TEST(Extend, AnAbsentWorkerIsToldWhenItIsBack) {
    Scene scene;
    scene.says(scene.started());
    scene.step(PeerGoneEvent{.peer = {7}});
    const Actions actions = scene.extend(scene.id, seconds(60), std::nullopt);
    EXPECT_EQ(answer(actions), "ok");
    EXPECT_TRUE(CoreDriver::pushes<LimitsPush>(actions).empty());
    WorkerHello again = CoreDriver::worker("w");
    again.start_count = 2;
    again.inventory = {attempt(scene.id, scene.fence_at_start, AttemptPhase::running)};
    scene.hello(again, 9);
    AttemptState state = attempt(scene.id, scene.fence_at_start, AttemptPhase::running);
    state.timeout = limits::kRunTimeoutDefault;
    EXPECT_EQ(CoreDriver::reply<HeartbeatReply>(scene.heartbeat("w", 9, {state})).limits.size(),
              1u);
}

TEST(Extend, TheSameAgainIsNoNewRecord) {
    Scene scene;
    scene.extend(scene.id, seconds(60), std::nullopt);
    const Actions again = scene.extend(scene.id, seconds(60), std::nullopt);
    EXPECT_EQ(answer(again), "ok");
    EXPECT_TRUE(again.records.empty());
    EXPECT_EQ(CoreDriver::pushes<LimitsPush>(again).size(), 1u);
}

// The next attempt runs under it from its start.
TEST(Extend, HoldsForTheAttemptsThatFollow) {
    Scene scene;
    scene.says(CoreDriver::declined(true));
    const Actions actions = scene.extend(scene.id, seconds(60), std::nullopt);
    EXPECT_TRUE(CoreDriver::pushes<LimitsPush>(actions).empty());
    const Actions later = scene.tick_after(seconds(5));
    const auto pushes = CoreDriver::pushes<AssignPush>(later);
    ASSERT_EQ(pushes.size(), 1u);
    EXPECT_EQ(pushes[0].assignments.at(0).timeout, seconds(60));
}

TEST(Extend, EveryState) {
    using Prepare = std::function<void(Scene&)>;
    const std::vector<std::tuple<std::string, Prepare, std::string>> rows = {
        {"assigned", [](Scene&) {}, "ok"},
        {"running", [](Scene& s) { s.says(s.started()); }, "ok"},
        {"being stopped", [](Scene& s) { s.kill(s.id, "x"); }, "ok"},
        {"returned", [](Scene& s) { s.says(CoreDriver::declined(true)); }, "ok"},
        {"closing", [](Scene& s) { s.says(s.exited(0)); }, "CONFLICT"},
        {"final",
         [](Scene& s) {
             s.says(s.exited(0));
             s.says(ClosedReport{});
         },
         "CONFLICT"},
    };
    for (const auto& [state, prepare, expected] : rows) {
        Scene scene;
        prepare(scene);
        const std::string before = scene.shown(scene.id);
        EXPECT_EQ(answer(scene.extend(scene.id, seconds(60), std::nullopt)), expected) << state;
        EXPECT_EQ(scene.shown(scene.id), before) << state;
        EXPECT_EQ(scene.last.records.size(), expected == "ok" ? 1u : 0u) << state;
    }
    Scene scene;
    scene.says(scene.exited(0));
    EXPECT_EQ(CoreDriver::refusal(scene.extend(scene.id, seconds(60), std::nullopt))->message,
              "session " + scene.id.str() + " has already ended");
    EXPECT_EQ(answer(scene.extend(SessionId("20251118-000000-no"), seconds(1), std::nullopt)),
              "NOT_FOUND");
}

TEST(Extend, Bounds) {
    const Duration most{10LL * 366 * 24 * 3600 * 1000};
    Scene scene;
    EXPECT_EQ(answer(scene.extend(scene.id, Duration(1), std::nullopt)), "ok");
    EXPECT_EQ(answer(scene.extend(scene.id, most, std::nullopt)), "ok");
    EXPECT_EQ(answer(scene.extend(scene.id, most + Duration(1), std::nullopt)), "BAD_REQUEST");
    EXPECT_EQ(answer(scene.extend(scene.id, Duration(0), std::nullopt)), "BAD_REQUEST");
    EXPECT_EQ(answer(scene.extend(scene.id, Duration(-1), std::nullopt)), "BAD_REQUEST");
    EXPECT_EQ(answer(scene.extend(scene.id, std::nullopt, Duration(1))), "BAD_REQUEST");
    EXPECT_EQ(answer(scene.extend(scene.id, std::nullopt, Duration(0))), "BAD_REQUEST");
    EXPECT_EQ(answer(scene.extend(scene.id, std::nullopt, Duration::max())), "BAD_REQUEST");
    EXPECT_EQ(answer(scene.extend(scene.id, std::nullopt, std::nullopt)), "BAD_REQUEST");
    EXPECT_EQ(answer(scene.extend(scene.id, seconds(1), seconds(1))), "BAD_REQUEST");
}

TEST(Extend, FromInsideASessionItselfAndItsOwnOnly) {
    Scene scene;
    scene.says(scene.started());
    const SessionId child = scene.submitted_inside(scene.id);
    const SessionId other = scene.submitted("a");
    Caller inside = CoreDriver::caller(7);
    inside.inside = AttemptRef{scene.id, scene.fence_at_start};
    EXPECT_EQ(answer(scene.extend(inside, scene.id, seconds(60), std::nullopt)), "ok");
    EXPECT_EQ(answer(scene.extend(inside, child, seconds(60), std::nullopt)), "ok");
    EXPECT_EQ(answer(scene.extend(inside, other, seconds(60), std::nullopt)), "FORBIDDEN");
    inside.inside->fence.attempt = 9;
    EXPECT_EQ(answer(scene.extend(inside, child, seconds(50), std::nullopt)), "STALE_FENCE");
    EXPECT_EQ(scene.view(child).timeout, seconds(60));
}

}  // namespace
}  // namespace iw::broker
