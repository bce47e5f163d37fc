// Sessions that wait for the end of others.

#include <gtest/gtest.h>

#include <algorithm>

#include "tests/unit/broker/core_driver.h"
#include "tests/unit/broker/live_state_model.h"

namespace iw::broker {
namespace {

using testing::CoreDriver;
using testing::LiveStateModel;
using testing::seconds;

constexpr auto kSuccess = AfterCondition::success;
constexpr auto kFailure = AfterCondition::failure;
constexpr auto kAnyEnd = AfterCondition::any_end;

// Worker "w" on peer 7 with two slots, at whose root all have their workspaces.
struct Scene : CoreDriver {
    Scene() { hello(worker("w"), 7); }

    static Submission after(std::vector<Dependency> dependencies) {
        Submission submission = CoreDriver::submission("a");
        submission.after = std::move(dependencies);
        return submission;
    }
    SessionId follower(const SessionId& id, AfterCondition on) {
        return submitted(after({{id, on}}));
    }
    // With what the database says of final sessions.
    SubmitOutcome submit_knowing(Submission submission,
                                 std::map<SessionId, SessionStatus> settled) {
        SubmitEvent event;
        event.caller = caller(1);
        event.items.push_back({std::move(submission), hash(1), std::nullopt, std::move(settled)});
        last = step(std::move(event));
        return reply<SubmitReply>(last).sessions.at(0);
    }
    void ends(const SessionId& id, int code) { report("w", 7, id, fence(id), exited(code)); }
    void closes(const SessionId& id) { report("w", 7, id, fence(id), ClosedReport{}); }
    void finishes(const SessionId& id, int code) {
        ends(id, code);
        closes(id);
    }
    std::string submit_error(Submission submission) {
        const SubmitOutcome outcome = submit(std::move(submission));
        return outcome.error ? std::string(name(outcome.error->code)) : "ok";
    }
    Submission below(const SessionId& parent, std::vector<Dependency> dependencies) {
        Submission submission = after(std::move(dependencies));
        submission.parent = parent;
        return submission;
    }
    BrokerCore from_database() const {
        LiveStateModel database;
        for (const Record& record : journal)
            database.apply(record);
        BrokerCore other(config_, 1);
        other.restore(database.state());
        other.started(time);
        other.check_invariants();
        return other;
    }
};

TEST(Dependency, WaitsUntilTheOtherIsFinal) {
    Scene scene;
    const SessionId first = scene.submitted("a");
    const SessionId second = scene.follower(first, kSuccess);
    EXPECT_EQ(scene.shown(second), "CREATED/blocked");
    EXPECT_EQ(scene.view(second).reason, "waits for " + first.str() + " (CREATED)");
    EXPECT_EQ(scene.view(second).after.at(0).id, first);
    scene.report("w", 7, first, {1, 1}, scene.started());
    EXPECT_EQ(scene.view(second).reason, "waits for " + first.str() + " (RUNNING)");
    scene.ends(first, 0);
    // Its files are not there yet, and they are what the second one may be about.
    EXPECT_EQ(scene.shown(second), "CREATED/blocked");
    scene.closes(first);
    EXPECT_EQ(scene.shown(second), "CREATED/assigned");
    EXPECT_EQ(CoreDriver::assigned(scene.last), std::vector<SessionId>{second});
}

// Each condition against each end.
TEST(Dependency, TableOfConditions) {
    struct Row {
        AfterCondition on;
        std::string of_completed;
        std::string of_failed;
        std::string of_killed;
    };
    const std::string runs = "CREATED/assigned";
    const std::vector<Row> rows = {
        {kSuccess, runs, "FAILED/dependency-failed", "FAILED/dependency-failed"},
        {kFailure, "FAILED/dependency-failed", runs, runs},
        {kAnyEnd, runs, runs, runs},
    };
    for (const Row& row : rows) {
        const auto outcome = [&row](const std::function<void(Scene&, const SessionId&)>& end) {
            Scene scene;
            const SessionId first = scene.submitted("a");
            const SessionId second = scene.follower(first, row.on);
            end(scene, first);
            EXPECT_EQ(scene.shown(first), "gone");
            const std::string shown = scene.shown(second);
            return shown == "gone" ? scene.outcome_text(second) : shown;
        };
        const auto killed = [](Scene& scene, const SessionId& id) {
            scene.kill(id, "x");
            EndedReport report = scene.ended(EndCause::stopped);
            scene.report("w", 7, id, scene.fence(id), report);
            scene.closes(id);
        };
        const std::string what(name(row.on));
        EXPECT_EQ(outcome([](Scene& s, const SessionId& id) { s.finishes(id, 0); }),
                  row.of_completed)
            << what;
        EXPECT_EQ(outcome([](Scene& s, const SessionId& id) { s.finishes(id, 1); }), row.of_failed)
            << what;
        EXPECT_EQ(outcome(killed), row.of_killed) << what;
    }
}

TEST(Dependency, AnEndThatIsNotMetEndsItInTheSameStep) {
    Scene scene;
    const SessionId first = scene.submitted("a");
    const SessionId second = scene.follower(first, kSuccess);
    scene.finishes(first, 1);
    const SessionEnded ended = scene.outcome(second);
    EXPECT_EQ(ended.reason, "needs success of " + first.str() + ", which is FAILED");
    EXPECT_EQ(ended.fence, (Fence{0, 0}));
    EXPECT_FALSE(ended.started_at.has_value());
    // Whatever part of the records a crash leaves: never the one closed and the other not ended.
    const std::vector<Record>& records = scene.last.records;
    const auto is_end = [](const Record& each) {
        return std::holds_alternative<SessionEnded>(each.body);
    };
    const auto is_close = [](const Record& each) {
        return std::holds_alternative<SessionClosed>(each.body);
    };
    const auto end = std::find_if(records.begin(), records.end(), is_end);
    const auto close = std::find_if(records.begin(), records.end(), is_close);
    ASSERT_NE(end, records.end());
    ASSERT_NE(close, records.end());
    EXPECT_LT(end, close);
    // Its workspace stands nowhere yet, so nobody is waited for.
    EXPECT_EQ(scene.shown(second), "gone");
}

TEST(Dependency, WithAnOriginItsFilesAreWrittenThere) {
    Scene scene;
    const SessionId first = scene.submitted("a");
    Submission submission = Scene::after({{first, kSuccess}});
    submission.origin = {"h", "/r"};
    const SessionId second = scene.submitted(submission);
    scene.finishes(first, 1);
    EXPECT_EQ(scene.shown(second), "CREATED/delivering");
    const auto pushes = CoreDriver::pushes<ClosePush>(scene.last);
    ASSERT_EQ(pushes.size(), 1u);
    EXPECT_EQ(pushes[0].outcomes.at(0).session.detail, Detail::dependency_failed);
    scene.closes(second);
    EXPECT_EQ(scene.shown(second), "gone");
}

TEST(Dependency, AllOfSeveralMustBeMet) {
    Scene scene;
    const SessionId first = scene.submitted("a");
    const SessionId second = scene.submitted("a");
    const SessionId third = scene.submitted(Scene::after({{first, kSuccess}, {second, kAnyEnd}}));
    EXPECT_EQ(scene.view(third).reason, "waits for " + first.str() + " (CREATED) and 1 more");
    scene.finishes(first, 0);
    EXPECT_EQ(scene.view(third).reason, "waits for " + second.str() + " (CREATED)");
    scene.finishes(second, 1);
    EXPECT_EQ(scene.shown(third), "CREATED/assigned");
    // One that fails is enough, while another one still runs.
    const SessionId fourth = scene.submitted("a");
    const SessionId fifth = scene.submitted(Scene::after({{third, kAnyEnd}, {fourth, kSuccess}}));
    scene.finishes(fourth, 1);
    EXPECT_EQ(scene.outcome_text(fifth), "FAILED/dependency-failed");
}

TEST(Dependency, AChainFailsAsAWhole) {
    Scene scene;
    const SessionId first = scene.submitted("a");
    const SessionId second = scene.follower(first, kSuccess);
    const SessionId third = scene.follower(second, kSuccess);
    const SessionId comforter = scene.follower(third, kFailure);
    scene.finishes(first, 1);
    EXPECT_EQ(scene.outcome(second).reason,
              "needs success of " + first.str() + ", which is FAILED");
    EXPECT_EQ(scene.outcome(third).reason,
              "needs success of " + second.str() + ", which is FAILED");
    EXPECT_EQ(scene.shown(comforter), "CREATED/assigned");
}

TEST(Dependency, WhatIsFinalAlreadyIsJudgedAtOnce) {
    Scene scene;
    const SessionId good = scene.submitted("a");
    const SessionId bad = scene.submitted("a");
    scene.finishes(good, 0);
    scene.finishes(bad, 1);
    const SessionId runs = scene.follower(good, kSuccess);
    EXPECT_EQ(scene.shown(runs), "CREATED/assigned");
    const SubmitOutcome outcome = scene.submit(Scene::after({{bad, kSuccess}}));
    EXPECT_FALSE(outcome.error.has_value());
    EXPECT_EQ(scene.outcome_text(outcome.id), "FAILED/dependency-failed");
    EXPECT_EQ(scene.outcome(outcome.id).reason,
              "needs success of " + bad.str() + ", which is FAILED");
    EXPECT_EQ(scene.shown(outcome.id), "gone");
}

TEST(Dependency, TheDatabaseKnowsOlderOnes) {
    Scene scene;
    const SessionId old("20251101-000000-a");
    const Submission submission = Scene::after({{old, kFailure}});
    EXPECT_EQ(scene.core.unsettled(submission, {}), std::vector<SessionId>{old});
    EXPECT_TRUE(scene.core.unsettled(submission, {{old, SessionStatus::killed}}).empty());
    const SubmitOutcome unknown = scene.submit_knowing(submission, {});
    ASSERT_TRUE(unknown.error.has_value());
    EXPECT_EQ(unknown.error->code, ErrorCode::not_found);
    EXPECT_EQ(unknown.error->message, "after: no session 20251101-000000-a");
    EXPECT_TRUE(scene.last.records.empty());
    const SubmitOutcome met = scene.submit_knowing(submission, {{old, SessionStatus::killed}});
    EXPECT_EQ(scene.shown(met.id), "CREATED/assigned");
    const SubmitOutcome unmet = scene.submit_knowing(submission, {{old, SessionStatus::completed}});
    EXPECT_EQ(scene.outcome_text(unmet.id), "FAILED/dependency-failed");
    // Live and lately ended ones need no look-up.
    const SessionId live = scene.submitted("a");
    EXPECT_TRUE(scene.core.unsettled(Scene::after({{live, kSuccess}}), {}).empty());
    scene.finishes(met.id, 0);
    EXPECT_TRUE(scene.core.unsettled(Scene::after({{met.id, kSuccess}}), {}).empty());
}

TEST(Dependency, WhatCannotEndFirstIsRefused) {
    Scene scene;
    const SessionId root = scene.submitted("a");
    const SessionId parent = scene.submitted(scene.below(root, {}));
    EXPECT_EQ(scene.submit_error(scene.below(parent, {{parent, kSuccess}})), "CONFLICT");
    EXPECT_EQ(scene.submit_error(scene.below(parent, {{root, kAnyEnd}})), "CONFLICT");
    // What waits for an ancestor, also through others.
    const SessionId later = scene.follower(root, kSuccess);
    const SessionId last_one = scene.follower(later, kAnyEnd);
    EXPECT_EQ(scene.submit_error(scene.below(parent, {{later, kSuccess}})), "CONFLICT");
    const SubmitOutcome outcome = scene.submit(scene.below(parent, {{last_one, kSuccess}}));
    ASSERT_TRUE(outcome.error.has_value());
    EXPECT_EQ(outcome.error->message, "after: session " + last_one.str() + " waits for " +
                                          root.str() + ", which is above the new one");
    // Siblings and strangers are no trouble, nor is any of this outside the family.
    const SessionId sibling = scene.submitted(scene.below(parent, {}));
    EXPECT_EQ(scene.submit_error(scene.below(parent, {{sibling, kSuccess}})), "ok");
    EXPECT_EQ(scene.submit_error(Scene::after({{last_one, kSuccess}})), "ok");
    EXPECT_EQ(scene.submit_error(Scene::after({{sibling, kSuccess}, {sibling, kFailure}})),
              "BAD_REQUEST");
    EXPECT_EQ(scene.submit_error(Scene::after(
                  std::vector<Dependency>(limits::kDependenciesMax + 1, {sibling, kSuccess}))),
              "BAD_REQUEST");
}

TEST(Dependency, ABlockedSessionCanBeKilled) {
    Scene scene;
    const SessionId first = scene.submitted("a");
    const SessionId second = scene.follower(first, kSuccess);
    scene.kill(second, "no need");
    EXPECT_EQ(scene.outcome_text(second), "KILLED/killed");
    scene.finishes(first, 0);
    EXPECT_TRUE(CoreDriver::assigned(scene.last).empty());
}

TEST(Dependency, ABlockedSessionExpires) {
    Scene scene;
    const SessionId first = scene.submitted("a");
    Submission submission = Scene::after({{first, kSuccess}});
    submission.expires = seconds(60);
    const SessionId second = scene.submitted(submission);
    scene.tick_after(seconds(60) - Duration(1));
    EXPECT_EQ(scene.shown(second), "CREATED/blocked");
    scene.tick_after(Duration(1));
    EXPECT_EQ(scene.outcome_text(second), "KILLED/expired");
}

// Blocked, delayed and bound to expire all at once: each in its turn.
TEST(Dependency, WithADelay) {
    for (const bool is_late : {false, true}) {
        Scene scene;
        const SessionId first = scene.submitted("a");
        Submission submission = Scene::after({{first, kSuccess}});
        submission.delay = seconds(30);
        submission.expires = seconds(60);
        const SessionId second = scene.submitted(submission);
        EXPECT_EQ(scene.view(second).reason,
                  "waits for " + first.str() + " (CREATED); not before 2025-11-18T15:33:50Z");
        scene.tick_after(seconds(is_late ? 40 : 10));
        EXPECT_EQ(scene.shown(second), "CREATED/blocked");
        scene.finishes(first, 0);
        EXPECT_EQ(scene.shown(second), is_late ? "CREATED/assigned" : "CREATED/delayed");
        scene.tick_after(seconds(20));
        EXPECT_EQ(scene.shown(second), "CREATED/assigned");
    }
}

TEST(Dependency, ADependencyThatIsRetriedIsNotFinal) {
    Scene scene;
    Submission submission = CoreDriver::submission("a");
    submission.retry = RetryPolicy{.attempts_max = 2};
    const SessionId first = scene.submitted(submission);
    const SessionId second = scene.follower(first, kSuccess);
    scene.ends(first, 1);
    EXPECT_EQ(scene.shown(first), "CREATED/retrying");
    EXPECT_EQ(scene.shown(second), "CREATED/blocked");
    scene.tick_after(limits::kBackoffDefault);
    scene.finishes(first, 0);
    EXPECT_EQ(scene.shown(second), "CREATED/assigned");
}

TEST(Dependency, ATimeoutOfABlockedSessionCanBeChanged) {
    Scene scene;
    const SessionId first = scene.submitted("a");
    const SessionId second = scene.follower(first, kSuccess);
    scene.step(ExtendEvent{CoreDriver::caller(1), second, seconds(60), std::nullopt});
    EXPECT_EQ(scene.shown(second), "CREATED/blocked");
    EXPECT_EQ(scene.view(second).timeout, seconds(60));
}

TEST(Dependency, ARestartKnowsWhatWaits) {
    Scene scene;
    const SessionId first = scene.submitted("a");
    const SessionId done = scene.submitted("a");
    const SessionId blocked = scene.submitted(Scene::after({{first, kSuccess}, {done, kSuccess}}));
    const SessionId met = scene.submitted(Scene::after({{done, kSuccess}}));
    scene.finishes(done, 0);
    for (const bool is_from_database : {false, true}) {
        Scene other;
        other.core = is_from_database ? scene.from_database() : scene.replayed();
        EXPECT_EQ(other.shown(blocked), "CREATED/blocked");
        EXPECT_EQ(other.view(blocked).reason, "waits for " + first.str() + " (CREATED)");
        EXPECT_NE(other.shown(met), "CREATED/blocked");
        WorkerHello again = CoreDriver::worker("w");
        again.start_count = 2;
        again.inventory = {testing::attempt(first, {1, 1}, AttemptPhase::ended)};
        other.hello(again, 7);
        other.finishes(first, 1);
        EXPECT_EQ(other.core.view(blocked, other.time), std::nullopt);
    }
}

// A prefix of the journal is what a crash leaves of a step that is larger than a unit of the disk.
TEST(Dependency, NoPartOfAStepLetsAnUnmetOneRun) {
    Scene scene;
    const SessionId first = scene.submitted("a");
    std::vector<SessionId> followers;
    for (int i = 0; i < 5; ++i)
        followers.push_back(scene.follower(first, i == 2 ? kFailure : kSuccess));
    scene.ends(first, 1);
    const std::size_t before = scene.journal.size();
    scene.closes(first);
    for (std::size_t cut = before; cut <= scene.journal.size(); ++cut) {
        BrokerCore other(scene.config_, 1);
        for (std::size_t i = 0; i < cut; ++i)
            other.apply(scene.journal[i]);
        Now later = scene.time;
        other.started(later);
        other.check_invariants();
        WorkerHello again = CoreDriver::worker("w");
        again.start_count = 2;
        const Actions actions = other.step(later, HelloEvent{CoreDriver::caller(9), again, "t"});
        for (const SessionId& id : CoreDriver::assigned(actions))
            EXPECT_EQ(id, followers[2]);
    }
}

// What no part of the records would tell apart from one that may start stays together on disk.
TEST(Dependency, AStillbornSessionIsBoundToItsEnd) {
    Scene scene;
    const SessionId first = scene.submitted("a");
    scene.finishes(first, 1);
    scene.submit(Scene::after({{first, kSuccess}}));
    const std::vector<Record>& records = scene.last.records;
    ASSERT_EQ(records.size(), 3u);
    EXPECT_TRUE(is_bound(records[0], records[1]));
    EXPECT_FALSE(is_bound(records[1], records[2]));
    EXPECT_FALSE(is_bound(records[0], records[2]));
}

// More than one step ends: the rest follows in the next ones, and the first is final after all.
TEST(Dependency, TenThousandOfOne) {
    CoreDriver driver;
    const SessionId first = driver.submitted("a");
    SubmitEvent event;
    std::vector<SessionId> followers;
    for (int batch = 0; batch < 20; ++batch) {
        event.caller = CoreDriver::caller(1);
        event.items.clear();
        for (int i = 0; i < 500; ++i) {
            event.items.push_back(
                {Scene::after({{first, kSuccess}}), CoreDriver::hash(1), std::nullopt});
        }
        const Actions actions = driver.core.step(driver.time, event);
        for (const SubmitOutcome& outcome : CoreDriver::reply<SubmitReply>(actions).sessions)
            followers.push_back(outcome.id);
    }
    driver.core.check_invariants();
    std::size_t records = driver.kill(first, "x").records.size();
    EXPECT_LT(records, 5000u);
    int steps = 1;
    while (driver.core.next_deadline() == driver.time.steady && steps < 100) {
        records += driver.tick().records.size();
        ++steps;
    }
    EXPECT_EQ(driver.core.match("", 1).size(), 0u);
    // Each is ended and closed.
    EXPECT_EQ(records, 2 * (followers.size() + 1));
    EXPECT_LT(steps, 20);
}

// A chain must not become a chain of calls.
TEST(Dependency, AChainOfTenThousand) {
    CoreDriver driver;
    const SessionId first = driver.submitted("a");
    SessionId before = first;
    for (int i = 0; i < 10'000; ++i) {
        SubmitEvent event;
        event.caller = CoreDriver::caller(1);
        event.items.push_back(
            {Scene::after({{before, kSuccess}}), CoreDriver::hash(1), std::nullopt});
        const Actions actions = driver.core.step(driver.time, std::move(event));
        before = CoreDriver::reply<SubmitReply>(actions).sessions.at(0).id;
    }
    driver.kill(first, "x");
    int steps = 1;
    while (driver.core.next_deadline() == driver.time.steady && ++steps < 100)
        driver.tick();
    EXPECT_EQ(driver.core.match("", 1).size(), 0u);
}

}  // namespace
}  // namespace iw::broker
