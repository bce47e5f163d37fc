// Attempts that follow on failed ones: for which causes, how often, when, and what a restart, a
// kill and a repeated report make of that.

#include <gtest/gtest.h>

#include <set>

#include "broker/core/retrying.h"
#include "tests/unit/broker/core_driver.h"
#include "tests/unit/broker/live_state_model.h"

namespace iw::broker {
namespace {

using testing::CoreDriver;
using testing::LiveStateModel;
using testing::seconds;

Submission retried(std::uint32_t attempts_max, std::vector<Detail> causes) {
    Submission submission = CoreDriver::submission("a");
    submission.retry = RetryPolicy{.attempts_max = attempts_max, .causes = std::move(causes)};
    return submission;
}

// One session at worker "w" on peer 7.
struct Scene : CoreDriver {
    explicit Scene(const Submission& submission) {
        hello(worker("w"), 7);
        id = submitted(submission);
    }
    ReportAck says(ReportBody body) { return report("w", 7, id, fence(id), std::move(body)); }
    ReportAck fails() {
        says(started());
        return says(exited(3));
    }
    // To where the next attempt is given out: no delay is above its policy's most.
    void wait() {
        advance(limits::kBackoffMaxDefault);
        heartbeat("w", 7, {});
    }
    AttemptReturned returned() const { return records<AttemptReturned>(last).at(0); }
    SessionId id;
};

std::string error_of(const ReportAck& ack) {
    return ack.error ? std::string(name(ack.error->code)) : "ok";
}

TEST(Retry, AFailedAttemptIsFollowedByAnother) {
    Scene scene(retried(3, {}));
    const ReportAck ack = scene.fails();
    EXPECT_EQ(error_of(ack), "ok");
    ASSERT_TRUE(ack.outcome.has_value());
    EXPECT_EQ(ack.outcome->session.status, SessionStatus::created);
    EXPECT_EQ(ack.outcome->session.detail, Detail::retrying);
    const AttemptReturned returned = scene.returned();
    EXPECT_FALSE(returned.platform_fault);
    EXPECT_EQ(returned.cause, Detail::exited);
    EXPECT_EQ(returned.reason, "exit code 3");
    EXPECT_EQ(returned.exit_code, 3);
    EXPECT_EQ(returned.fence, (Fence{1, 1}));
    ASSERT_TRUE(returned.retry_at.has_value());
    const SessionView view = scene.view(scene.id);
    EXPECT_EQ(view.attempts_used, 1u);
    EXPECT_EQ(view.attempts_max, 3u);
    EXPECT_EQ(view.not_before, returned.retry_at);
    EXPECT_EQ(view.reason,
              "exit code 3; attempt 2 of 3 follows, not before " + format_utc(*returned.retry_at));
    EXPECT_EQ(scene.used("w"), 0u);
    // Exactly at the moment that is recorded, and not before.
    const Duration delay = *returned.retry_at - scene.time.wall;
    scene.tick_after(delay - Duration(1));
    EXPECT_EQ(scene.shown(scene.id), "CREATED/retrying");
    scene.tick_after(Duration(1));
    EXPECT_EQ(scene.shown(scene.id), "CREATED/assigned");
    EXPECT_EQ(scene.fence(scene.id), (Fence{1, 2}));
    scene.says(scene.started());
    scene.says(scene.exited(0));
    EXPECT_EQ(scene.outcome_text(scene.id), "COMPLETED/done");
    EXPECT_EQ(scene.view(scene.id).attempts_used, 2u);
}

// Nothing else tells the worker that it has to write CREATED into the workspace.
TEST(Retry, EveryReturnOfALargeAcknowledgementHasItsView) {
    CoreDriver driver;
    WorkerHello worker = CoreDriver::worker("w");
    worker.slots = 100;
    driver.hello(worker, 7);
    ReportEvent event{CoreDriver::caller(7), WorkerName("w"), {}};
    for (int i = 0; i < 100; ++i) {
        Submission submission = retried(2, {});
        submission.metadata = std::string(limits::kMetadataMax, ' ');
        const SessionId id = driver.submitted(submission);
        event.reports.push_back(
            {.session = id, .fence = {1, 1}, .number = 2, .body = driver.exited(3)});
    }
    const Actions actions = driver.step(event);
    std::size_t bytes = 0;
    for (const ReportAck& ack : CoreDriver::reply<ReportReply>(actions).acks) {
        ASSERT_TRUE(ack.outcome.has_value());
        EXPECT_EQ(name(ack.outcome->session.detail), name(Detail::retrying));
        bytes += ack.outcome->session.metadata.size();
    }
    EXPECT_GT(bytes, limits::kMetadataMax);
    EXPECT_LT(bytes, limits::kMessageMax / 2 + limits::kMetadataMax);
}

TEST(Retry, EndsWithTheLastAttemptThatIsAllowed) {
    Scene scene(retried(3, {}));
    scene.fails();
    scene.wait();
    scene.fails();
    EXPECT_EQ(scene.view(scene.id).attempts_used, 2u);
    scene.wait();
    const ReportAck ack = scene.fails();
    EXPECT_EQ(scene.outcome_text(scene.id), "FAILED/exited");
    ASSERT_TRUE(ack.outcome.has_value());
    EXPECT_EQ(ack.outcome->session.attempts_used, 3u);
    EXPECT_EQ(ack.outcome->session.attempts_max, 3u);
    EXPECT_EQ(ack.outcome->session.attempt, 3u);
}

TEST(Retry, ASessionWithoutAPolicyHasOneAttempt) {
    Scene scene(CoreDriver::submission("a"));
    const ReportAck ack = scene.fails();
    EXPECT_EQ(scene.outcome_text(scene.id), "FAILED/exited");
    EXPECT_EQ(ack.outcome->session.attempts_used, 1u);
    EXPECT_EQ(ack.outcome->session.attempts_max, 1u);
}

// Every cause of an end, under no named causes, under all that may be named, and under another one.
TEST(Retry, ByCause) {
    struct Row {
        std::string name;
        std::function<EndedReport(const Scene&)> make;
        std::string by_default;
        std::string all_named;
        std::string signal_named;
    };
    const auto cause = [](EndCause ended) {
        return [ended](const Scene& scene) { return scene.ended(ended); };
    };
    const auto stop = [](Detail detail) {
        return [detail](const Scene& scene) {
            EndedReport report = scene.ended(EndCause::stopped);
            report.stop_cause = detail;
            return report;
        };
    };
    const std::string again = "CREATED/retrying";
    const std::vector<Row> rows = {
        {"success", [](const Scene& scene) { return scene.exited(0); }, "COMPLETED/done",
         "COMPLETED/done", "COMPLETED/done"},
        {"exited", cause(EndCause::exited), again, again, "FAILED/exited"},
        {"signal", cause(EndCause::signal), again, again, again},
        {"disk", cause(EndCause::disk_limit), again, again, "FAILED/disk-limit"},
        {"missing", cause(EndCause::result_missing), again, again, "FAILED/result-missing"},
        {"invalid", cause(EndCause::result_invalid), again, again, "FAILED/result-invalid"},
        {"timeout", stop(Detail::timeout), "KILLED/timeout", again, "KILLED/timeout"},
        {"killed", stop(Detail::killed), "KILLED/killed", "KILLED/killed", "KILLED/killed"},
        {"parent", stop(Detail::parent_killed), "KILLED/parent-killed", "KILLED/parent-killed",
         "KILLED/parent-killed"},
        {"start", cause(EndCause::start_failed), "FAILED/start-failed", "FAILED/start-failed",
         "FAILED/start-failed"},
        {"lost", cause(EndCause::lost), "FAILED/lost", "FAILED/lost", "FAILED/lost"},
    };
    const std::vector<Detail> all = {Detail::exited,         Detail::signal,
                                     Detail::disk_limit,     Detail::result_missing,
                                     Detail::result_invalid, Detail::timeout};
    for (const Row& row : rows) {
        const auto outcome = [&row](const std::vector<Detail>& causes) {
            Scene scene(retried(2, causes));
            scene.says(scene.started());
            scene.says(row.make(scene));
            const std::string shown = scene.shown(scene.id);
            return shown == "RUNNING/delivering" ? scene.outcome_text(scene.id) : shown;
        };
        EXPECT_EQ(outcome({}), row.by_default) << row.name;
        EXPECT_EQ(outcome(all), row.all_named) << row.name;
        EXPECT_EQ(outcome({Detail::signal}), row.signal_named) << row.name;
    }
}

TEST(Retry, ATimeoutSaysWhyEvenWithoutAReason) {
    Scene scene(retried(2, {Detail::timeout}));
    EndedReport report = scene.ended(EndCause::stopped);
    report.stop_cause = Detail::timeout;
    scene.says(report);
    EXPECT_EQ(scene.returned().cause, Detail::timeout);
    EXPECT_EQ(scene.returned().reason, "timeout");
}

TEST(Retry, AKillWinsOverAnotherAttempt) {
    Scene scene(retried(5, {}));
    scene.says(scene.started());
    scene.kill(scene.id, "enough");
    scene.says(scene.exited(3));
    EXPECT_EQ(scene.outcome_text(scene.id), "FAILED/exited");
    // While it waits for the next one, too.
    Scene waiting(retried(5, {}));
    waiting.fails();
    waiting.kill(waiting.id, "enough");
    EXPECT_EQ(waiting.outcome_text(waiting.id), "KILLED/killed");
    // The attempt that failed has been counted; no other one was made.
    EXPECT_EQ(waiting.view(waiting.id).attempts_used, 1u);
    waiting.wait();
    EXPECT_TRUE(CoreDriver::assigned(waiting.last).empty());
}

TEST(Retry, WhatThePlatformFailsCostsNoAttempt) {
    Submission submission = retried(2, {});
    submission.on_lost = OnLost::requeue;
    Scene scene(submission);
    scene.says(CoreDriver::declined(true));
    EXPECT_TRUE(scene.returned().platform_fault);
    EXPECT_EQ(scene.returned().retry_at, scene.time.wall + seconds(5));
    EXPECT_EQ(scene.view(scene.id).attempts_used, 0u);
    scene.wait();
    scene.says(scene.started());
    scene.says(scene.ended(EndCause::lost));
    EXPECT_EQ(scene.shown(scene.id), "CREATED/retrying");
    EXPECT_EQ(scene.returned().retry_at, scene.time.wall + seconds(10));
    EXPECT_EQ(scene.view(scene.id).attempts_used, 0u);
    scene.wait();
    // Both attempts of its own are still there.
    scene.fails();
    EXPECT_EQ(scene.shown(scene.id), "CREATED/retrying");
    scene.wait();
    scene.fails();
    EXPECT_EQ(scene.outcome_text(scene.id), "FAILED/exited");
    EXPECT_EQ(scene.view(scene.id).attempts_used, 2u);
}

TEST(Retry, ARepeatIsAcknowledgedInTheSameWay) {
    Scene scene(retried(2, {}));
    scene.says(scene.started());
    const EndedReport ended = scene.exited(3);
    scene.report("w", 7, scene.id, {1, 1}, ended);
    const ReportAck again = scene.report("w", 7, scene.id, {1, 1}, ended);
    EXPECT_EQ(error_of(again), "ok");
    ASSERT_TRUE(again.outcome.has_value());
    EXPECT_EQ(again.outcome->session.detail, Detail::retrying);
    EXPECT_TRUE(scene.last.records.empty());
}

// A lost attempt that ends after all was taken back: what it did counts for nothing.
TEST(Retry, AnEndOfATakenAttemptIsSuperseded) {
    Submission submission = retried(3, {});
    submission.on_lost = OnLost::requeue;
    Scene scene(submission);
    scene.fails();
    scene.wait();
    scene.says(scene.started());
    scene.tick_after(limits::kLostAfter);
    ASSERT_EQ(scene.shown(scene.id), "CREATED/retrying");
    EXPECT_EQ(error_of(scene.says(scene.exited(0))), "STALE_FENCE");
}

// The acknowledgement may have been lost for as long as it takes to give out the next one.
TEST(Retry, ARepeatIsAcknowledgedAlsoWhenTheNextAttemptIsOut) {
    Scene scene(retried(3, {}));
    scene.fails();
    scene.wait();
    ASSERT_EQ(scene.fence(scene.id), (Fence{1, 2}));
    const ReportAck repeat = scene.report("w", 7, scene.id, {1, 1}, scene.exited(3));
    EXPECT_EQ(error_of(repeat), "ok");
    // Whose files show the next one is not its business any more.
    EXPECT_FALSE(repeat.outcome.has_value());
    EXPECT_TRUE(scene.last.records.empty());
    EXPECT_EQ(error_of(scene.report("w", 7, scene.id, {2, 1}, scene.exited(3))), "STALE_FENCE");
    // Nor is it one of an attempt that was taken back.
    scene.report("w", 7, scene.id, {1, 2}, CoreDriver::declined(true));
    scene.wait();
    ASSERT_EQ(scene.fence(scene.id), (Fence{1, 3}));
    EXPECT_EQ(error_of(scene.report("w", 7, scene.id, {1, 2}, scene.exited(0))), "STALE_FENCE");
}

TEST(Retry, TheRunnerIsTold) {
    Submission submission = retried(3, {});
    submission.origin = {"h", "/r"};
    Scene scene(submission);
    EXPECT_TRUE(scene.fails().outcome.has_value());
    // Registered anew in another folder: not the owner any more, but it has a copy.
    Scene moved(submission);
    moved.says(moved.started());
    WorkerHello hello = CoreDriver::worker("w");
    hello.root = "/elsewhere";
    hello.start_count = 2;
    hello.inventory = {testing::attempt(moved.id, {1, 1}, AttemptPhase::running)};
    moved.tick_after(limits::kUnreachableAfter);
    moved.hello(hello, 8);
    const ReportAck ack = moved.report("w", 8, moved.id, {1, 1}, moved.exited(3));
    EXPECT_EQ(error_of(ack), "ok");
    ASSERT_TRUE(ack.outcome.has_value());
    EXPECT_EQ(ack.outcome->session.status, SessionStatus::created);
}

TEST(Retry, DelaysDoubleUpToTheirMostAndAreSpread) {
    const RetryPolicy policy{
        .attempts_max = 100, .backoff = seconds(10), .backoff_max = seconds(60)};
    const SessionId id("20251118-153320-a");
    const std::vector<std::int64_t> whole = {10, 20, 40, 60, 60, 60};
    for (std::size_t i = 0; i < whole.size(); ++i) {
        const auto used = static_cast<std::uint32_t>(i + 1);
        const Duration delay = retry_delay(policy, id, used, used);
        EXPECT_GE(delay, seconds(whole[i]) / 2);
        EXPECT_LE(delay, seconds(whole[i]));
        EXPECT_EQ(delay, retry_delay(policy, id, used, used));
    }
    // Sessions and attempts differ.
    std::set<Duration> delays;
    for (std::uint32_t attempt = 1; attempt <= 50; ++attempt) {
        delays.insert(
            retry_delay(policy, SessionId("20251118-153320-a-" + std::to_string(attempt)), 1, 1));
        delays.insert(retry_delay(policy, id, attempt, 1));
    }
    EXPECT_GT(delays.size(), 80u);
    // At the ends of what may be stated.
    const RetryPolicy longest{
        .attempts_max = 100, .backoff = seconds(300'000'000), .backoff_max = seconds(300'000'000)};
    EXPECT_LE(retry_delay(longest, id, 99, 99), longest.backoff_max);
    const RetryPolicy shortest{
        .attempts_max = 2, .backoff = Duration(1), .backoff_max = Duration(1)};
    EXPECT_EQ(retry_delay(shortest, id, 1, 1), Duration(1));
}

// The moment is in the record: a restart neither begins the delay again nor forgets it.
TEST(Retry, ARestartKeepsTheMoment) {
    for (const bool is_platform : {false, true}) {
        Scene scene(retried(3, {}));
        if (is_platform) scene.says(CoreDriver::declined(true));
        if (!is_platform) scene.fails();
        const WallTime retry_at = scene.returned().retry_at.value();
        scene.advance((retry_at - scene.time.wall) / 2);
        const Duration rest = retry_at - scene.time.wall;
        LiveStateModel database;
        for (const Record& record : scene.journal)
            database.apply(record);
        for (const bool is_from_database : {false, true}) {
            BrokerCore other(scene.config_, 1);
            if (is_from_database) other.restore(database.state());
            if (!is_from_database) {
                for (const Record& record : scene.journal)
                    other.apply(record);
            }
            other.started(scene.time);
            EXPECT_EQ(other.view(scene.id, scene.time)->not_before, retry_at);
            Now later = scene.time;
            const auto hello = [&](Duration after) {
                later.steady = scene.time.steady + after;
                later.wall = scene.time.wall + after;
                WorkerHello again = CoreDriver::worker("w");
                again.start_count = 2;
                return other.step(later, HelloEvent{CoreDriver::caller(9), again, "test"});
            };
            EXPECT_TRUE(CoreDriver::assigned(hello(rest - Duration(1))).empty());
            EXPECT_EQ(CoreDriver::assigned(hello(rest)).size(), 1u);
        }
    }
}

// A repeated report is told from one of a taken attempt after a restart as well.
TEST(Retry, ARestartKeepsWhoEndedTheAttempt) {
    Scene scene(retried(2, {}));
    scene.fails();
    LiveStateModel database;
    for (const Record& record : scene.journal)
        database.apply(record);
    scene.core = BrokerCore(scene.config_, 1);
    scene.core.restore(database.state());
    scene.core.started(scene.time);
    WorkerHello again = CoreDriver::worker("w");
    again.start_count = 2;
    scene.hello(again, 9);
    const ReportAck ack = scene.report("w", 9, scene.id, {1, 1}, scene.exited(3));
    EXPECT_EQ(error_of(ack), "ok");
    EXPECT_TRUE(ack.outcome.has_value());
}

// While the broker was down the clock was set back by a year.
TEST(Retry, AClockSetBackDelaysByThePolicysMostOnly) {
    Scene scene(retried(3, {}));
    scene.fails();
    scene.time.wall -= Duration(365LL * 24 * 3600 * 1000);
    BrokerCore other = scene.replayed();
    const std::optional<Timestamp> next = other.next_deadline();
    ASSERT_TRUE(next.has_value());
    EXPECT_LE(*next - scene.time.steady, limits::kBackoffMaxDefault);
}

TEST(Retry, ASessionThatHasStartedDoesNotExpire) {
    Submission submission = retried(3, {});
    submission.expires = seconds(1);
    Scene scene(submission);
    scene.fails();
    scene.wait();
    EXPECT_EQ(scene.shown(scene.id), "CREATED/assigned");
    // One that never started does, however often it was handed out.
    Scene never(submission);
    never.says(CoreDriver::declined(true));
    never.tick_after(seconds(1));
    EXPECT_EQ(never.outcome_text(never.id), "KILLED/expired");
}

TEST(Retry, BadPoliciesAreRefused) {
    const auto refused = [](RetryPolicy policy) {
        CoreDriver driver;
        Submission submission = CoreDriver::submission("a");
        submission.retry = std::move(policy);
        const SubmitOutcome outcome = driver.submit(submission);
        return outcome.error ? std::string(name(outcome.error->code)) : "ok";
    };
    EXPECT_EQ(refused({.attempts_max = 1}), "ok");
    EXPECT_EQ(refused({.attempts_max = 100}), "ok");
    EXPECT_EQ(refused({.attempts_max = 0}), "BAD_REQUEST");
    EXPECT_EQ(refused({.attempts_max = 101}), "BAD_REQUEST");
    EXPECT_EQ(refused({.attempts_max = 2, .backoff = Duration(0)}), "BAD_REQUEST");
    EXPECT_EQ(refused({.attempts_max = 2, .backoff = seconds(2), .backoff_max = seconds(1)}),
              "BAD_REQUEST");
    EXPECT_EQ(refused({.attempts_max = 2, .causes = {Detail::lost}}), "BAD_REQUEST");
    EXPECT_EQ(refused({.attempts_max = 2, .causes = {Detail::exited, Detail::killed}}),
              "BAD_REQUEST");
}

}  // namespace
}  // namespace iw::broker
