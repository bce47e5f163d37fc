#include <gtest/gtest.h>

#include <functional>

#include "tests/unit/broker/core_driver.h"

namespace iw::broker {
namespace {

using testing::CoreDriver;
using testing::seconds;

// One session in a chosen state at worker "w" on peer 7.
struct Scene : CoreDriver {
    Scene() : Scene(CoreDriver::submission("a")) {}
    explicit Scene(const Submission& submission) {
        hello(worker("w"), 7);
        id = submitted(submission);
        fence_at_start = fence(id);
    }
    ReportAck says(ReportBody body) { return says(fence_at_start, std::move(body)); }
    ReportAck says(Fence stated, ReportBody body) {
        return report("w", 7, id, stated, std::move(body));
    }
    SessionId id;
    Fence fence_at_start;
};

std::string error_of(const ReportAck& ack) {
    return ack.error ? std::string(name(ack.error->code)) : "ok";
}

TEST(Report, StartedThenEndedThenClosed) {
    Scene scene;
    EXPECT_EQ(error_of(scene.says(scene.started())), "ok");
    EXPECT_EQ(scene.shown(scene.id), "RUNNING/working");
    EXPECT_EQ(scene.view(scene.id).workspace, "/r/ws");
    scene.advance(seconds(60));
    EndedReport ended = scene.exited(0);
    ended.result_status = "success";
    ended.result_inline = true;
    ended.result = "{}";
    ended.result_size = 2;
    const ReportAck ack = scene.says(ended);
    EXPECT_EQ(error_of(ack), "ok");
    ASSERT_TRUE(ack.outcome.has_value());
    EXPECT_EQ(ack.outcome->session.status, SessionStatus::completed);
    EXPECT_EQ(ack.outcome->session.detail, Detail::done);
    EXPECT_EQ(ack.outcome->session.result_status, "success");
    EXPECT_EQ(ack.outcome->session.completed_at, scene.time.wall);
    EXPECT_EQ(scene.outcome(scene.id).result, "{}");
    EXPECT_TRUE(CoreDriver::pushes<ClosePush>(scene.last).empty());
    EXPECT_EQ(scene.shown(scene.id), "RUNNING/delivering");
    EXPECT_EQ(scene.used("w"), 0u);
    EXPECT_EQ(error_of(scene.says(ClosedReport{})), "ok");
    EXPECT_EQ(scene.shown(scene.id), "gone");
    EXPECT_EQ(CoreDriver::records<SessionClosed>(scene.last).at(0).by, "w");
}

// Each state of a session against each report, under the current and under another fence.
TEST(Report, TableOfStatesAndReports) {
    using Prepare = std::function<void(Scene&)>;
    struct State {
        std::string name;
        Prepare prepare;
    };
    const std::vector<State> states = {
        {"assigned", [](Scene&) {}},
        {"running", [](Scene& s) { s.says(s.started()); }},
        {"returned", [](Scene& s) { s.says(CoreDriver::declined(true)); }},
        {"closing", [](Scene& s) { s.says(s.exited(0)); }},
        {"final",
         [](Scene& s) {
             s.says(s.exited(0));
             s.says(ClosedReport{});
         }},
    };
    const std::vector<std::pair<std::string, std::function<ReportBody(Scene&)>>> reports = {
        {"started", [](Scene& s) { return s.started(); }},
        {"declined", [](Scene&) { return CoreDriver::declined(true); }},
        {"ended", [](Scene& s) { return s.exited(0); }},
        {"lost", [](Scene& s) { return s.ended(EndCause::lost); }},
        {"closed", [](Scene&) { return ClosedReport{}; }},
    };
    // State, report, fence: what the acknowledgement says and what the session shows then.
    const std::map<std::string, std::string> expected = {
        {"assigned started", "ok RUNNING/working"},
        {"assigned declined", "ok CREATED/retrying"},
        {"assigned ended", "ok RUNNING/delivering"},
        {"assigned lost", "ok RUNNING/delivering"},
        {"assigned closed", "STALE_FENCE CREATED/assigned"},
        {"running started", "ok RUNNING/working"},
        {"running declined", "STALE_FENCE RUNNING/working"},
        {"running ended", "ok RUNNING/delivering"},
        {"running lost", "ok RUNNING/delivering"},
        {"running closed", "STALE_FENCE RUNNING/working"},
        {"returned started", "STALE_FENCE CREATED/retrying"},
        {"returned declined", "ok CREATED/retrying"},
        {"returned ended", "STALE_FENCE CREATED/retrying"},
        {"returned lost", "ok CREATED/retrying"},
        {"returned closed", "STALE_FENCE CREATED/retrying"},
        {"closing started", "ok RUNNING/delivering"},
        {"closing declined", "ok RUNNING/delivering"},
        {"closing ended", "ok RUNNING/delivering"},
        {"closing lost", "ok RUNNING/delivering"},
        {"closing closed", "ok gone"},
        {"final started", "NOT_FOUND gone"},
        {"final declined", "NOT_FOUND gone"},
        {"final ended", "NOT_FOUND gone"},
        {"final lost", "NOT_FOUND gone"},
        {"final closed", "ok gone"},
    };
    for (const State& state : states) {
        for (const auto& [kind, make] : reports) {
            const std::string key = state.name + " " + kind;
            Scene scene;
            state.prepare(scene);
            const std::string ack = error_of(scene.says(make(scene)));
            EXPECT_EQ(ack + " " + scene.shown(scene.id), expected.at(key)) << key;

            Scene other;
            state.prepare(other);
            const std::string before = other.shown(other.id);
            const std::string stale = error_of(other.says(Fence{1, 9}, make(other)));
            const bool is_gone = before == "gone";
            const std::string refused =
                is_gone ? (kind == "closed" ? "ok" : "NOT_FOUND") : "STALE_FENCE";
            EXPECT_EQ(stale, refused) << key;
            EXPECT_EQ(other.shown(other.id), before) << key;
            EXPECT_EQ(CoreDriver::records<ReportSuperseded>(other.last).size(), is_gone ? 0u : 1u);
        }
    }
}

TEST(Report, SupersededIsKeptOnceAndNotWithoutEnd) {
    Scene scene;
    scene.says(Fence{1, 7}, scene.exited(0));
    EXPECT_EQ(scene.last.records.size(), 1u);
    EXPECT_EQ(error_of(scene.says(Fence{1, 7}, scene.exited(0))), "STALE_FENCE");
    EXPECT_TRUE(scene.last.records.empty());
    for (std::uint32_t attempt = 100; attempt < 200; ++attempt) {
        scene.says(Fence{1, attempt}, scene.exited(0));
    }
    std::size_t kept = 0;
    for (const Record& record : scene.journal) {
        if (std::holds_alternative<ReportSuperseded>(record.body)) ++kept;
    }
    EXPECT_EQ(kept, 16u);
}

// What an attempt that does not count made of its work may be all there is of it.
TEST(Report, SupersededKeepsWhatTheAttemptSaid) {
    Scene scene;
    EndedReport ended = scene.exited(3);
    ended.result = "{}";
    ended.result_size = 2;
    ended.result_inline = true;
    scene.says(Fence{1, 9}, ended);
    const auto records = CoreDriver::records<ReportSuperseded>(scene.last);
    ASSERT_EQ(records.size(), 1u);
    EXPECT_EQ(records[0].worker.str(), "w");
    EXPECT_EQ(records[0].fence, (Fence{1, 9}));
    EXPECT_EQ(records[0].number, 2u);
    EXPECT_EQ(records[0].cause, "exited");
    EXPECT_EQ(records[0].exit_code, 3);
    EXPECT_EQ(records[0].result, "{}");
    EXPECT_EQ(records[0].what, "ended by worker w: not the current attempt");
    // One that holds no bytes, or more than may be, leaves none here.
    ended.result_inline = false;
    scene.says(Fence{1, 8}, ended);
    EXPECT_EQ(CoreDriver::records<ReportSuperseded>(scene.last).at(0).result, "");
    ended.result_inline = true;
    ended.result.assign(limits::kResultInlineMax + 1, ' ');
    scene.says(Fence{1, 7}, ended);
    EXPECT_EQ(CoreDriver::records<ReportSuperseded>(scene.last).at(0).result, "");
    scene.says(Fence{1, 6}, scene.started());
    EXPECT_EQ(CoreDriver::records<ReportSuperseded>(scene.last).at(0).cause, "");
}

TEST(Report, OnlyTheHolderIsHeard) {
    Scene scene;
    scene.hello(CoreDriver::worker("x"), 8);
    EXPECT_EQ(error_of(scene.report("x", 8, scene.id, scene.fence_at_start, scene.started())),
              "STALE_FENCE");
    EXPECT_EQ(scene.shown(scene.id), "CREATED/assigned");
    // Nor a connection that is not the worker's.
    const Report report{
        .session = scene.id, .fence = scene.fence_at_start, .number = 1, .body = scene.started()};
    const Actions actions =
        scene.step(ReportEvent{CoreDriver::caller(99), WorkerName("w"), {report}});
    EXPECT_EQ(CoreDriver::refusal(actions)->code, ErrorCode::no_session);
}

TEST(Report, NumberMustFitTheKind) {
    Scene scene;
    const Report report{
        .session = scene.id, .fence = scene.fence_at_start, .number = 3, .body = scene.started()};
    scene.last = scene.step(ReportEvent{CoreDriver::caller(7), WorkerName("w"), {report}});
    EXPECT_EQ(CoreDriver::reply<ReportReply>(scene.last).acks.at(0).error->code,
              ErrorCode::bad_request);
    EXPECT_TRUE(scene.last.records.empty());
    EXPECT_EQ(
        CoreDriver::refusal(scene.step(ReportEvent{CoreDriver::caller(7), WorkerName("w"), {}}))
            ->code,
        ErrorCode::bad_request);
}

TEST(Report, CausesOfTheEnd) {
    struct Row {
        EndCause cause;
        bool success;
        std::optional<int> code;
        std::string said;
        std::string outcome;
        std::string reason;
        std::string kill_reason;
    };
    const std::vector<Row> rows = {
        {EndCause::exited, true, 0, "", "COMPLETED/done", "", ""},
        {EndCause::exited, true, 4, "rule: result file", "COMPLETED/done", "rule: result file", ""},
        {EndCause::exited, false, 3, "", "FAILED/exited", "exit code 3", ""},
        {EndCause::exited, false, 0, "no result file", "FAILED/exited", "no result file", ""},
        {EndCause::exited, false, {}, "", "FAILED/exited", "exit code not known", ""},
        {EndCause::signal, false, 139, "signal 11", "FAILED/signal", "signal 11", ""},
        {EndCause::stopped, true, 0, "Timeout (1850s)", "KILLED/killed", "", "Timeout (1850s)"},
        {EndCause::start_failed, false, {}, "no command", "FAILED/start-failed", "no command", ""},
        {EndCause::lost,
         false,
         {},
         "",
         "FAILED/lost",
         "its process is gone without a record of its end",
         ""},
        {EndCause::disk_limit, false, 137, "", "FAILED/disk-limit", "over its disk limit", ""},
        {EndCause::result_missing, false, 0, "", "FAILED/result-missing", "left no result.json",
         ""},
        {EndCause::result_invalid, false, 0, "/status: not a string", "FAILED/result-invalid",
         "/status: not a string", ""},
    };
    for (const Row& row : rows) {
        Scene scene;
        EndedReport report = scene.ended(row.cause);
        report.success = row.success;
        report.exit_code = row.code;
        report.reason = row.said;
        scene.says(report);
        const SessionEnded ended = scene.outcome(scene.id);
        EXPECT_EQ(scene.outcome_text(scene.id), row.outcome);
        EXPECT_EQ(ended.reason, row.reason);
        EXPECT_EQ(ended.kill_reason, row.kill_reason);
        EXPECT_EQ(ended.exit_code, row.code);
    }
}

TEST(Report, CausesOfAStop) {
    const std::vector<std::pair<Detail, std::string>> rows = {
        {Detail::killed, "KILLED/killed"},
        {Detail::parent_killed, "KILLED/parent-killed"},
        {Detail::timeout, "KILLED/timeout"},
        {Detail::done, "KILLED/killed"},  // not a cause of a stop
    };
    for (const auto& [cause, outcome] : rows) {
        Scene scene;
        EndedReport report = scene.ended(EndCause::stopped);
        report.stop_cause = cause;
        scene.says(report);
        EXPECT_EQ(scene.outcome_text(scene.id), outcome);
    }
}

TEST(Report, TimesAreThoseOfTheBrokersClock) {
    Scene scene;
    const WallTime created = scene.time.wall;
    scene.advance(seconds(10));
    StartedReport started = scene.started();
    started.started_at = created - seconds(500);
    scene.says(started);
    EXPECT_EQ(scene.view(scene.id).started_at, created);
    EndedReport ended = scene.exited(0);
    ended.ended_at = scene.time.wall + seconds(500);
    scene.says(ended);
    EXPECT_EQ(scene.outcome(scene.id).completed_at, scene.time.wall);
    EXPECT_EQ(scene.outcome(scene.id).started_at, created);
}

TEST(Report, EndWithoutAStartShowsThatItRan) {
    Scene scene;
    scene.says(scene.exited(3));
    EXPECT_EQ(CoreDriver::records<AttemptStarted>(scene.last).size(), 1u);
    Scene never;
    EndedReport report = never.ended(EndCause::start_failed);
    report.started_at.reset();
    never.says(report);
    EXPECT_TRUE(CoreDriver::records<AttemptStarted>(never.last).empty());
    EXPECT_EQ(never.shown(never.id), "CREATED/delivering");
}

TEST(Report, PlatformFaultsAreCountedApartAndBounded) {
    Scene scene;
    for (std::uint32_t fault = 1; fault < limits::kPlatformFaultsMax; ++fault) {
        EXPECT_EQ(scene.fence(scene.id), (Fence{1, fault}));
        scene.says(Fence{1, fault}, CoreDriver::declined(true));
        EXPECT_EQ(scene.shown(scene.id), "CREATED/retrying");
        EXPECT_EQ(scene.view(scene.id).reason.find("no pty; another attempt follows, not before "),
                  0u);
        EXPECT_EQ(scene.used("w"), 0u);
        scene.tick_after(seconds(5 * fault) - Duration(1));
        EXPECT_EQ(scene.shown(scene.id), "CREATED/retrying");
        scene.tick_after(Duration(1));
        EXPECT_EQ(scene.shown(scene.id), "CREATED/assigned");
    }
    const ReportAck ack = scene.says(Fence{1, 3}, CoreDriver::declined(true));
    EXPECT_EQ(error_of(ack), "ok");
    EXPECT_EQ(scene.outcome_text(scene.id), "FAILED/start-failed");
    EXPECT_EQ(scene.outcome(scene.id).reason, "no pty (3 times)");
    // A declined report has no outcome in its acknowledgement: it comes as a push.
    EXPECT_EQ(CoreDriver::pushes<ClosePush>(scene.last).size(), 1u);
}

TEST(Report, RetryDelayIsKeptOverARestart) {
    Scene scene;
    scene.says(CoreDriver::declined(true));
    BrokerCore other = scene.replayed();
    EXPECT_EQ(other.next_deadline(), scene.time.steady + seconds(5));
}

TEST(Report, NotAPlatformFaultEndsAtOnce) {
    Scene scene;
    scene.says(CoreDriver::declined(false));
    EXPECT_EQ(scene.outcome_text(scene.id), "FAILED/start-failed");
    EXPECT_EQ(scene.outcome(scene.id).reason, "no pty");
    EXPECT_EQ(scene.shown(scene.id), "CREATED/delivering");
}

TEST(Report, ProvenLossAndPolicies) {
    for (const auto& [policy, shown] :
         std::map<OnLost, std::string>{{OnLost::wait, "RUNNING/delivering"},
                                       {OnLost::fail, "RUNNING/delivering"},
                                       {OnLost::requeue, "CREATED/retrying"}}) {
        Submission submission = CoreDriver::submission("a");
        submission.on_lost = policy;
        Scene scene(submission);
        scene.says(scene.started());
        EndedReport report = scene.ended(EndCause::lost);
        report.evidence = "no process 12, no exit record";
        scene.says(report);
        EXPECT_EQ(scene.shown(scene.id), shown);
        if (policy != OnLost::requeue) {
            EXPECT_EQ(scene.outcome(scene.id).evidence, report.evidence);
            continue;
        }
        EXPECT_EQ(CoreDriver::records<AttemptReturned>(scene.last).at(0).evidence, report.evidence);
        EXPECT_FALSE(scene.view(scene.id).started_at.has_value());
    }
}

TEST(Report, RequeueIsBounded) {
    Submission submission = CoreDriver::submission("a");
    submission.on_lost = OnLost::requeue;
    Scene scene(submission);
    for (std::uint32_t attempt = 1; attempt <= limits::kPlatformFaultsMax; ++attempt) {
        scene.says(Fence{1, attempt}, scene.ended(EndCause::lost));
        scene.tick_after(seconds(60 - 50));
    }
    EXPECT_EQ(scene.outcome_text(scene.id), "FAILED/lost");
}

TEST(Report, ALargeAcknowledgementLeavesOutcomesToPushes) {
    CoreDriver driver;
    WorkerHello worker = CoreDriver::worker("w");
    worker.slots = 100;
    driver.hello(worker, 7);
    ReportEvent event{CoreDriver::caller(7), WorkerName("w"), {}};
    for (int i = 0; i < 100; ++i) {
        Submission submission = CoreDriver::submission("a");
        submission.metadata = std::string(limits::kMetadataMax, ' ');
        const SessionId id = driver.submitted(submission);
        event.reports.push_back(
            {.session = id, .fence = {1, 1}, .number = 2, .body = driver.exited(0)});
    }
    const Actions actions = driver.step(event);
    std::size_t outcomes = 0;
    for (const ReportAck& ack : CoreDriver::reply<ReportReply>(actions).acks) {
        if (ack.outcome) ++outcomes;
    }
    EXPECT_GT(outcomes, 10u);
    EXPECT_LT(outcomes * limits::kMetadataMax, limits::kMessageMax);
    EXPECT_EQ(CoreDriver::pushes<ClosePush>(actions).size(), 100 - outcomes);
}

}  // namespace
}  // namespace iw::broker
