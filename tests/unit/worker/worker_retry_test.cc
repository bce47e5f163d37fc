// Attempts that are followed by another one, run timeouts that change, and stops on a full disk.

#include <gtest/gtest.h>

#include "tests/unit/worker/core_bench.h"

namespace iw::worker::test {
namespace {

const AttemptRef kFirst = attempt_ref("20251118-153042-alpha", 1);
const AttemptRef kSecond = attempt_ref("20251118-153042-alpha", 2);

// Ended, judged, and answered with an outcome of this status.
void end_with(Bench& bench, const AttemptRef& ref, SessionStatus status) {
    bench.end(ref, exited(1, bench.wall));
    bench.step(JudgedEvent{ref, {}});
    ReportAck ack{ref.session, ref.fence, 2, std::nullopt, std::nullopt};
    ack.outcome = Outcome{outcome_of(ref, status)};
    bench.step(AcksEvent{{ack}});
}

// ---- Retry -------------------------------------------------------------------------------------

TEST(WorkerRetry, WritesTheReturnAndClosesWithoutAReport) {
    Bench bench(bench_config());
    bench.welcome();
    bench.run(kFirst);
    bench.acknowledge(kFirst, 1);
    end_with(bench, kFirst, SessionStatus::created);
    ASSERT_TRUE(bench.has<RecordOutcome>()) << "a restart must know what to write";
    bench.step(WrittenEvent{kFirst, WrittenFile::outcome, std::nullopt});
    ASSERT_EQ(bench.all<WriteFinal>().size(), 1u);
    EXPECT_EQ(bench.all<WriteFinal>()[0].outcome.status, SessionStatus::created);
    EXPECT_EQ(bench.all<WriteFinal>()[0].before, SessionStatus::running);
    EXPECT_FALSE(bench.has<RecordClosed>());
    bench.step(WrittenEvent{kFirst, WrittenFile::final_files, std::nullopt});
    EXPECT_TRUE(bench.has<RecordClosed>());
    EXPECT_FALSE(bench.has<SendReports>());
    EXPECT_TRUE(bench.core.inventory().empty());
}

// So that its state.json is whole, also if the agent has removed the file.
TEST(WorkerRetry, AReturnWithoutMetadataKeepsThatOfTheAssignment) {
    Bench bench(bench_config());
    bench.welcome();
    Assignment assignment = assignment_of(kFirst);
    assignment.metadata = "{\"issue\": 7}";
    bench.step(AssignEvent{{assignment}});
    bench.run(kFirst);
    bench.acknowledge(kFirst, 1);
    end_with(bench, kFirst, SessionStatus::created);
    ASSERT_EQ(bench.all<RecordOutcome>().size(), 1u);
    EXPECT_EQ(bench.all<RecordOutcome>()[0].outcome.metadata, "{\"issue\": 7}");
}

TEST(WorkerRetry, ARestartInTheMiddleWritesTheReturn) {
    Bench bench(bench_config());
    AttemptSnapshot returned;
    returned.attempt = kFirst;
    returned.assignment = assignment_of(kFirst);
    returned.holder = StartHolder::launcher;
    returned.started_at = bench.wall;
    returned.end = exited(1, bench.wall);
    returned.log_done = true;
    returned.outcome = outcome_of(kFirst, SessionStatus::created);
    bench.step(RestoredEvent{returned, LauncherState::not_asked});
    bench.welcome();
    EXPECT_FALSE(bench.has<SendReports>());
    bench.step(WrittenEvent{kFirst, WrittenFile::final_files, std::nullopt});
    EXPECT_TRUE(bench.has<RecordClosed>());
}

TEST(WorkerRetry, TheNextAttemptWaitsUntilTheReturnIsWritten) {
    Bench bench(bench_config());
    bench.welcome();
    bench.run(kFirst);
    bench.acknowledge(kFirst, 1);
    end_with(bench, kFirst, SessionStatus::created);
    bench.step(AssignEvent{{assignment_of(kSecond)}});
    bench.step(AcceptedEvent{kSecond, std::nullopt});
    EXPECT_FALSE(bench.has<Launch>()) << "its RUNNING would be overwritten";
    bench.step(WrittenEvent{kFirst, WrittenFile::outcome, std::nullopt});
    EXPECT_FALSE(bench.has<Launch>());
    bench.step(WrittenEvent{kFirst, WrittenFile::final_files, std::nullopt});
    EXPECT_TRUE(bench.has<Launch>());
}

// After a restore the broker may ask for an attempt that another one has followed already.
TEST(WorkerRetry, AReopenedReturnDoesNotWriteOverALaterAttempt) {
    Bench bench(bench_config());
    bench.welcome();
    AttemptSnapshot reopened;
    reopened.attempt = kFirst;
    reopened.assignment = assignment_of(kFirst);
    reopened.holder = StartHolder::launcher;
    reopened.started_at = bench.wall;
    reopened.reported = 1;
    reopened.log_done = true;
    bench.run(kSecond);
    reopened.end = exited(1, bench.wall);
    bench.step(RestoredEvent{reopened, LauncherState::not_asked});
    bench.step(TickEvent{});
    EXPECT_FALSE(bench.has<KillSession>()) << "the session of that name is the later one's";
    bench.step(JudgedEvent{kFirst, {}});
    ReportAck ack{kFirst.session, kFirst.fence, 2, std::nullopt, std::nullopt};
    ack.outcome = Outcome{outcome_of(kFirst, SessionStatus::created)};
    bench.step(AcksEvent{{ack}});
    bench.step(WrittenEvent{kFirst, WrittenFile::outcome, std::nullopt});
    EXPECT_FALSE(bench.has<WriteFinal>());
    EXPECT_TRUE(bench.has<RecordClosed>());
}

// ---- Timeouts ----------------------------------------------------------------------------------

LimitChange limit(const AttemptRef& ref, Duration timeout) {
    return {ref.session, ref.fence, timeout};
}

TEST(WorkerLimits, CountOnceTheyAreOnDisk) {
    Bench bench(bench_config());
    bench.welcome();
    bench.run(kFirst);
    bench.step(LimitsEvent{{limit(kFirst, Duration{3'600'000})}});
    ASSERT_EQ(bench.all<RecordLimits>().size(), 1u);
    EXPECT_EQ(bench.core.inventory()[0].timeout, Duration{1'800'000});
    bench.step(LimitsRecordedEvent{kFirst, Duration{3'600'000}, std::nullopt});
    EXPECT_EQ(bench.core.inventory()[0].timeout, Duration{3'600'000});
    EXPECT_TRUE(bench.has<SendHeartbeat>()) << "so that the broker sees it at once";
    EXPECT_TRUE(bench.has<NoteSession>());
    bench.pass(Duration{1'900'000});
    bench.step(TickEvent{});
    bench.welcome();
    EXPECT_FALSE(bench.has<RecordStop>());
    bench.pass(Duration{1'700'000});
    bench.step(TickEvent{});
    EXPECT_TRUE(bench.has<RecordStop>());
}

TEST(WorkerLimits, TheSameOneTwiceChangesNothing) {
    Bench bench(bench_config());
    bench.welcome();
    bench.run(kFirst);
    bench.step(LimitsEvent{{limit(kFirst, Duration{1'800'000})}});
    EXPECT_FALSE(bench.has<RecordLimits>());
    bench.step(LimitsEvent{{limit(kFirst, Duration{2'000'000})}});
    EXPECT_TRUE(bench.has<RecordLimits>());
    bench.step(LimitsEvent{{limit(kFirst, Duration{2'000'000})}});
    bench.step(LimitsRecordedEvent{kFirst, Duration{2'000'000}, std::nullopt});
    EXPECT_FALSE(bench.has<RecordLimits>());
}

TEST(WorkerLimits, TheLastOneCountsWhateverIsUnderWay) {
    Bench bench(bench_config());
    bench.welcome();
    bench.run(kFirst);
    bench.step(LimitsEvent{{limit(kFirst, Duration{2'000'000})}});
    bench.step(LimitsEvent{{limit(kFirst, Duration{1'800'000})}});
    bench.step(LimitsRecordedEvent{kFirst, Duration{2'000'000}, std::nullopt});
    ASSERT_EQ(bench.all<RecordLimits>().size(), 1u);
    EXPECT_EQ(bench.all<RecordLimits>()[0].timeout, Duration{1'800'000});
}

TEST(WorkerLimits, OfAnotherFenceOrAnEndedAttemptAreIgnored) {
    Bench bench(bench_config());
    bench.welcome();
    bench.run(kSecond);
    AttemptRef other = kSecond;
    other.fence.generation = 2;
    bench.step(LimitsEvent{
        {limit(kFirst, Duration{1}), limit(other, Duration{1}), limit(kSecond, Duration{-5})}});
    EXPECT_FALSE(bench.has<RecordLimits>());
    EXPECT_FALSE(bench.has<RecordStop>());
    bench.end(kSecond, exited(0, bench.wall));
    bench.step(LimitsEvent{{limit(kSecond, Duration{1})}});
    bench.step(JudgedEvent{kSecond, {}});
    EXPECT_FALSE(bench.has<RecordLimits>());
    EXPECT_FALSE(bench.core.inventory()[0].timeout.has_value());
}

TEST(WorkerLimits, AHeartbeatsAnswerChangesThemAndAFullDiskIsTriedAgain) {
    Bench bench(bench_config());
    bench.welcome();
    bench.run(kFirst);
    HeartbeatReply reply;
    reply.limits = {limit(kFirst, Duration{60'000})};
    bench.step(HeartbeatAnsweredEvent{reply});
    ASSERT_TRUE(bench.has<RecordLimits>());
    bench.step(
        LimitsRecordedEvent{kFirst, Duration{60'000}, make_error(ErrorCode::io, "disk full")});
    EXPECT_EQ(bench.core.inventory()[0].timeout, Duration{1'800'000});
    EXPECT_FALSE(bench.has<RecordLimits>()) << "the broker repeats it";
    bench.step(HeartbeatAnsweredEvent{reply});
    EXPECT_TRUE(bench.has<RecordLimits>());
}

TEST(WorkerLimits, SurviveARestart) {
    Bench bench(bench_config());
    AttemptSnapshot snapshot;
    snapshot.attempt = kFirst;
    snapshot.assignment = assignment_of(kFirst);
    snapshot.holder = StartHolder::launcher;
    snapshot.started_at = bench.wall;
    snapshot.timeout = Duration{60'000};
    bench.step(RestoredEvent{snapshot, LauncherState::alive});
    bench.step(TickEvent{});
    ASSERT_EQ(bench.all<SendHello>().size(), 1u);
    EXPECT_EQ(bench.all<SendHello>()[0].hello.inventory[0].timeout, Duration{60'000});
    bench.step(WrittenEvent{kFirst, WrittenFile::started, std::nullopt});
    bench.pass(Duration{60'000});
    bench.step(TickEvent{});
    EXPECT_TRUE(bench.has<RecordStop>());
}

// ---- Clocks ------------------------------------------------------------------------------------

TEST(WorkerClock, AStepOfTheWallClockTimesNothingOut) {
    Bench bench(bench_config());
    AttemptSnapshot snapshot;
    snapshot.attempt = kFirst;
    snapshot.assignment = assignment_of(kFirst);
    snapshot.holder = StartHolder::launcher;
    snapshot.started_at = bench.wall;
    snapshot.started = bench.steady;
    snapshot.reported = 1;
    bench.pass(Duration{10'000});
    bench.wall += Duration{24LL * 3600 * 1000};
    bench.step(RestoredEvent{snapshot, LauncherState::alive});
    bench.step(TickEvent{});
    EXPECT_FALSE(bench.has<RecordStop>());
    bench.pass(Duration{1'790'000});
    bench.step(TickEvent{});
    ASSERT_EQ(bench.all<RecordStop>().size(), 1u);
    EXPECT_EQ(bench.all<RecordStop>()[0].stop.reason, "Timeout (1800s)");
}

// ---- Full disk ---------------------------------------------------------------------------------

TEST(WorkerFullDisk, AStopIsCarriedOutAndWrittenDownLater) {
    Bench bench(bench_config());
    bench.welcome();
    bench.run(kFirst);
    bench.step(StopEvent{{{kFirst.session, kFirst.fence, Detail::killed, "enough"}}});
    ASSERT_TRUE(bench.has<RecordStop>());
    bench.step(StopRecordedEvent{kFirst, make_error(ErrorCode::io, "disk full")});
    ASSERT_EQ(bench.all<SignalLauncher>().size(), 1u);
    EXPECT_FALSE(bench.all<SignalLauncher>()[0].recorded);
    EXPECT_FALSE(bench.all<SignalLauncher>()[0].kill);
    bench.pass(Duration{1'000});
    bench.step(TickEvent{});
    EXPECT_TRUE(bench.has<RecordStop>());
    bench.step(StopRecordedEvent{kFirst, make_error(ErrorCode::io, "disk full")});
    bench.pass(Duration{40'000});
    bench.step(TickEvent{});
    bench.step(StopRecordedEvent{kFirst, make_error(ErrorCode::io, "disk full")});
    ASSERT_EQ(bench.all<SignalLauncher>().size(), 1u);
    EXPECT_TRUE(bench.all<SignalLauncher>()[0].kill) << "a launcher that hangs";

    EndFact end = exited(143, bench.wall);
    end.cause = EndCause::stopped;
    end.stop_sent = true;
    bench.end(kFirst, end);
    bench.step(JudgedEvent{kFirst, {}});
    ASSERT_EQ(bench.all<SendReports>().size(), 1u);
    const auto reports = bench.all<SendReports>()[0].reports;
    const auto* ended = std::get_if<EndedReport>(&reports.back().body);
    ASSERT_NE(ended, nullptr);
    EXPECT_EQ(ended->cause, EndCause::stopped);
    EXPECT_EQ(ended->reason, "enough") << "told although it was never written down";
}

TEST(WorkerFullDisk, TheTimeoutHoldsWithoutAProcessRecord) {
    Bench bench(bench_config());
    bench.welcome();
    bench.step(AssignEvent{{assignment_of(kFirst)}});
    bench.step(AcceptedEvent{kFirst, std::nullopt});
    bench.step(LaunchedEvent{kFirst, LaunchOutcome::launched, ""});
    AttemptSnapshot claimed;
    claimed.attempt = kFirst;
    claimed.holder = StartHolder::launcher;
    bench.step(SeenEvent{claimed});
    bench.pass(Duration{1'800'000});
    bench.step(TickEvent{});
    if (bench.has<CheckSession>()) bench.step(SessionCheckedEvent{kFirst, Presence::present});
    ASSERT_EQ(bench.all<RecordStop>().size(), 1u);
    EXPECT_EQ(bench.all<RecordStop>()[0].stop.cause, Detail::timeout);
    bench.step(StopRecordedEvent{kFirst, make_error(ErrorCode::io, "disk full")});
    EXPECT_TRUE(bench.has<SignalLauncher>());
}

}  // namespace
}  // namespace iw::worker::test
