#include "worker/core/worker_core.h"

#include <gtest/gtest.h>

#include "tests/unit/worker/core_bench.h"

namespace iw::worker::test {
namespace {

const AttemptRef kRef = attempt_ref("20251118-153042-alpha", 1);

Report only_report(const Bench& bench) {
    const auto sent = bench.all<SendReports>();
    EXPECT_EQ(sent.size(), 1u);
    if (sent.empty() || sent[0].reports.size() != 1) return {};
    return sent[0].reports[0];
}

// ---- Link --------------------------------------------------------------------------------------

TEST(WorkerLink, SaysHelloFirstWithItsInventory) {
    Bench bench(bench_config());
    AttemptSnapshot running;
    running.attempt = kRef;
    running.assignment = assignment_of(kRef);
    running.holder = StartHolder::launcher;
    running.started_at = bench.wall;
    running.reported = 1;
    bench.step(RestoredEvent{running, LauncherState::alive});
    bench.step(TickEvent{});
    const auto hellos = bench.all<SendHello>();
    ASSERT_EQ(hellos.size(), 1u);
    ASSERT_EQ(hellos[0].hello.inventory.size(), 1u);
    EXPECT_EQ(hellos[0].hello.inventory[0].phase, AttemptPhase::running);
    EXPECT_EQ(hellos[0].hello.slots, 5u);
}

TEST(WorkerLink, RepeatsHelloWithGrowingPausesWhileNobodyIsConnected) {
    Bench bench(bench_config());
    bench.step(TickEvent{});
    ASSERT_TRUE(bench.has<SendHello>());
    Duration last{0};
    for (int i = 0; i < 10; ++i) {
        bench.step(NotSentEvent{});
        const Duration pause = *bench.core.next_deadline() - bench.steady;
        EXPECT_GE(pause, last);
        EXPECT_LE(pause, Duration{5'000});
        last = pause;
        bench.pass(pause);
        bench.step(TickEvent{});
        ASSERT_TRUE(bench.has<SendHello>());
    }
}

TEST(WorkerLink, MakesANewSocketWhenNobodyIsConnectedForLong) {
    Bench bench(bench_config());
    bench.step(TickEvent{});
    Duration waited{0};
    for (int i = 0; i < 20 && !bench.has<Reconnect>(); ++i) {
        bench.step(NotSentEvent{});
        if (bench.has<Reconnect>()) break;
        const Duration pause = *bench.core.next_deadline() - bench.steady;
        waited += pause;
        bench.pass(pause);
        bench.step(TickEvent{});
    }
    EXPECT_TRUE(bench.has<Reconnect>());
    EXPECT_GE(waited, Duration{10'000});
    // It begins anew with the new socket, and goes on saying hello.
    bench.pass(*bench.core.next_deadline() - bench.steady);
    bench.step(TickEvent{});
    EXPECT_TRUE(bench.has<SendHello>());
    bench.step(NotSentEvent{});
    EXPECT_FALSE(bench.has<Reconnect>());
}

TEST(WorkerLink, MakesANewSocketWhenHelloIsNotAnswered) {
    Bench bench(bench_config());
    bench.step(TickEvent{});
    bench.pass(Duration{5'000});
    bench.step(TickEvent{});
    EXPECT_TRUE(bench.has<Reconnect>());
}

TEST(WorkerLink, SendsHeartbeatsAtTheAnnouncedInterval) {
    Bench bench(bench_config());
    bench.welcome();
    EXPECT_TRUE(bench.core.linked());
    EXPECT_TRUE(bench.has<SendHeartbeat>());
    EXPECT_EQ(*bench.core.next_deadline() - bench.steady, Duration{10'000});
    bench.pass(Duration{9'999});
    bench.step(TickEvent{});
    EXPECT_FALSE(bench.has<SendHeartbeat>());
    bench.pass(Duration{1});
    bench.step(TickEvent{});
    EXPECT_TRUE(bench.has<SendHeartbeat>());
}

TEST(WorkerLink, SaysHelloAgainWhenTheBrokerDoesNotKnowTheConnection) {
    Bench bench(bench_config());
    bench.welcome();
    bench.step(NoSessionEvent{});
    EXPECT_TRUE(bench.has<SendHello>());
    // A second one answers something older than that hello.
    bench.step(NoSessionEvent{});
    EXPECT_FALSE(bench.has<SendHello>());
}

TEST(WorkerLink, TellsOfChangedAgentsAtOnceAndUntilAnswered) {
    Bench bench(bench_config());
    bench.welcome();
    bench.step(OfferEvent{std::vector<std::string>{"alpha", "beta"}, std::nullopt});
    ASSERT_EQ(bench.all<SendHeartbeat>().size(), 1u);
    EXPECT_EQ(bench.all<SendHeartbeat>()[0].heartbeat.agents->size(), 2u);
    bench.pass(Duration{10'000});
    bench.step(TickEvent{});
    EXPECT_TRUE(bench.all<SendHeartbeat>().at(0).heartbeat.agents.has_value());
    bench.step(HeartbeatAnsweredEvent{});
    bench.pass(Duration{10'000});
    bench.step(TickEvent{});
    EXPECT_FALSE(bench.all<SendHeartbeat>().at(0).heartbeat.agents.has_value());
    bench.step(OfferEvent{std::vector<std::string>{"alpha", "beta"}, 5});
    EXPECT_FALSE(bench.has<SendHeartbeat>()) << "nothing changed";
}

TEST(WorkerLink, KeepsTheBrokersClock) {
    Bench bench(bench_config());
    bench.broker_ahead = Duration{7'000};
    bench.welcome();
    bench.pass(Duration{1'000});
    EXPECT_EQ(bench.core.broker_time(bench.now()), bench.wall + Duration{7'000});
    // A jump of this machine's wall clock moves nothing.
    const WallTime before = bench.core.broker_time(bench.now());
    bench.wall += Duration{3'600'000};
    EXPECT_EQ(bench.core.broker_time(bench.now()), before);
}

// ---- Start -------------------------------------------------------------------------------------

TEST(WorkerStart, RecordsBeforeItLaunches) {
    Bench bench(bench_config());
    bench.welcome();
    bench.step(AssignEvent{{assignment_of(kRef)}});
    ASSERT_EQ(bench.all<AcceptAssignment>().size(), 1u);
    EXPECT_EQ(bench.all<AcceptAssignment>()[0].assignment.prompt, "do it");
    EXPECT_FALSE(bench.has<Launch>());
    bench.step(AcceptedEvent{kRef, std::nullopt});
    EXPECT_TRUE(bench.has<Launch>());
}

TEST(WorkerStart, NeverLaunchesAKnownAttemptAgain) {
    Bench bench(bench_config());
    bench.welcome();
    bench.run(kRef);
    bench.step(AssignEvent{{assignment_of(kRef)}});
    EXPECT_FALSE(bench.has<AcceptAssignment>());
    EXPECT_FALSE(bench.has<Launch>());
    EXPECT_TRUE(bench.has<SendReports>()) << "answered with its state";
}

TEST(WorkerStart, IgnoresAnAssignmentThatWaitedWhileItWasFrozen) {
    Bench bench(bench_config());
    bench.welcome();
    bench.pass(Duration{60'000});
    bench.step(AssignEvent{{assignment_of(kRef)}});
    EXPECT_FALSE(bench.has<AcceptAssignment>());
    EXPECT_TRUE(bench.has<Reconnect>());
    EXPECT_TRUE(bench.has<SendHello>());
    bench.welcome();
    bench.step(AssignEvent{{assignment_of(kRef)}});
    EXPECT_TRUE(bench.has<AcceptAssignment>());
    bench.step(AcceptedEvent{kRef, std::nullopt});
    EXPECT_EQ(bench.all<Launch>().size(), 1u);
}

TEST(WorkerStart, DropsAnAcceptedAttemptWhenTheBrokerFallsSilent) {
    Bench bench(bench_config());
    bench.welcome();
    bench.step(AssignEvent{{assignment_of(kRef)}});
    bench.pass(Duration{46'000});
    bench.step(AcceptedEvent{kRef, std::nullopt});
    EXPECT_FALSE(bench.has<Launch>());
    EXPECT_TRUE(bench.core.inventory().empty()) << "so that the broker sends it again";
    bench.welcome();
    bench.step(AssignEvent{{assignment_of(kRef)}});
    EXPECT_FALSE(bench.has<AcceptAssignment>()) << "it is on disk";
    EXPECT_EQ(bench.all<Launch>().size(), 1u);
}

TEST(WorkerStart, DeclinesWithTheStartTakenFirst) {
    Bench bench(bench_config());
    bench.welcome();
    bench.step(AssignEvent{{assignment_of(kRef)}});
    bench.step(AcceptedEvent{kRef, std::nullopt});
    bench.step(LaunchedEvent{kRef, LaunchOutcome::platform_fault, "disk full"});
    ASSERT_EQ(bench.all<TakeClaim>().size(), 1u);
    EXPECT_EQ(bench.all<TakeClaim>()[0].holder, StartHolder::declined);
    EXPECT_FALSE(bench.has<SendReports>());
    bench.step(ClaimedEvent{kRef, StartHolder::declined, std::nullopt});
    const Report report = only_report(bench);
    const auto* declined = std::get_if<DeclinedReport>(&report.body);
    ASSERT_NE(declined, nullptr);
    EXPECT_TRUE(declined->platform_fault);
    EXPECT_EQ(declined->reason, "disk full");
    bench.acknowledge(kRef, 1);
    EXPECT_TRUE(bench.has<RecordClosed>());
}

TEST(WorkerStart, AnUnknownAgentEndsStartFailed) {
    Bench bench(bench_config());
    bench.welcome();
    bench.step(AssignEvent{{assignment_of(kRef)}});
    bench.step(AcceptedEvent{kRef, std::nullopt});
    bench.step(LaunchedEvent{kRef, LaunchOutcome::agent_fault, "no agent alpha"});
    bench.step(ClaimedEvent{kRef, StartHolder::declined, std::nullopt});
    ASSERT_EQ(bench.all<RecordEnd>().size(), 1u);
    EXPECT_EQ(bench.all<RecordEnd>()[0].end.cause, EndCause::start_failed);
    bench.end(kRef, bench.all<RecordEnd>()[0].end);
    bench.step(JudgedEvent{kRef, {}});
    const Report report = only_report(bench);
    EXPECT_EQ(report.number, 2u);
    const auto* ended = std::get_if<EndedReport>(&report.body);
    ASSERT_NE(ended, nullptr);
    EXPECT_EQ(ended->reason, "no agent alpha");
}

TEST(WorkerStart, TakesASessionWhoseProjectStandsElsewhere) {
    Bench bench(bench_config());
    bench.welcome();
    Assignment assignment = assignment_of(kRef);
    assignment.origin = Origin{"other", "/elsewhere"};
    bench.step(AssignEvent{{assignment}});
    EXPECT_TRUE(bench.has<AcceptAssignment>());
    EXPECT_FALSE(bench.has<TakeClaim>());
}

TEST(WorkerStart, ALauncherThatWasFasterMakesADeclineMoot) {
    Bench bench(bench_config());
    bench.welcome();
    bench.step(AssignEvent{{assignment_of(kRef)}});
    bench.step(AcceptedEvent{kRef, std::nullopt});
    bench.step(LaunchedEvent{kRef, LaunchOutcome::platform_fault, "tmux did not answer"});
    bench.step(ClaimedEvent{kRef, StartHolder::launcher, std::nullopt});
    EXPECT_FALSE(bench.has<SendReports>());
    ASSERT_EQ(bench.core.inventory().size(), 1u);
    EXPECT_EQ(bench.core.inventory()[0].phase, AttemptPhase::accepted);
}

TEST(WorkerStart, AnUnclaimedSessionIsLookedForTwiceBeforeItIsGivenUp) {
    Bench bench(bench_config());
    bench.welcome();
    bench.step(AssignEvent{{assignment_of(kRef)}});
    bench.step(AcceptedEvent{kRef, std::nullopt});
    bench.step(LaunchedEvent{kRef, LaunchOutcome::launched, ""});
    bench.pass(Duration{5'000});
    bench.step(TickEvent{});
    ASSERT_TRUE(bench.has<CheckSession>());
    bench.step(SessionCheckedEvent{kRef, Presence::unknown});
    EXPECT_EQ(bench.core.inventory().size(), 1u) << "unknown is not gone";
    for (int i = 0; i < 2; ++i) {
        bench.pass(Duration{10'000});
        bench.step(HeartbeatAnsweredEvent{});
        bench.step(TickEvent{});
        bench.step(SessionCheckedEvent{kRef, Presence::absent});
    }
    EXPECT_TRUE(bench.core.inventory().empty());
}

// ---- While it runs -----------------------------------------------------------------------------

TEST(WorkerRun, WritesTheWorkspaceBeforeItReportsTheStart) {
    Bench bench(bench_config());
    bench.broker_ahead = Duration{5'000};
    bench.welcome();
    bench.step(AssignEvent{{assignment_of(kRef)}});
    bench.step(AcceptedEvent{kRef, std::nullopt});
    bench.step(LaunchedEvent{kRef, LaunchOutcome::launched, ""});
    AttemptSnapshot seen;
    seen.attempt = kRef;
    seen.holder = StartHolder::launcher;
    seen.started_at = bench.wall;
    bench.step(SeenEvent{seen});
    ASSERT_EQ(bench.all<WriteStarted>().size(), 1u);
    EXPECT_EQ(bench.all<WriteStarted>()[0].view.status, SessionStatus::running);
    EXPECT_FALSE(bench.has<SendReports>());
    bench.step(WrittenEvent{kRef, WrittenFile::started, std::nullopt});
    const Report report = only_report(bench);
    const auto* started = std::get_if<StartedReport>(&report.body);
    ASSERT_NE(started, nullptr);
    EXPECT_EQ(started->started_at, bench.wall + Duration{5'000}) << "on the broker's clock";
    EXPECT_EQ(started->workspace, "/root-folder/sessions/20251118-153042-alpha");
}

TEST(WorkerRun, StopsAtTheTimeoutWithTheWordsOfTheContract) {
    Bench bench(bench_config());
    bench.welcome();
    bench.run(kRef);
    bench.pass(Duration{1'850'000});
    bench.step(TickEvent{});
    ASSERT_EQ(bench.all<RecordStop>().size(), 1u);
    EXPECT_EQ(bench.all<RecordStop>()[0].stop.reason, "Timeout (1850s)");
    EXPECT_EQ(bench.all<RecordStop>()[0].stop.cause, Detail::timeout);
    ASSERT_EQ(bench.all<NoteSession>().size(), 1u);
    EXPECT_EQ(bench.all<NoteSession>()[0].text,
              "Session timeout: 20251118-153042-alpha (1850s > 1800s)");
    EXPECT_FALSE(bench.has<SignalLauncher>()) << "the record comes first";
    bench.step(StopRecordedEvent{kRef, std::nullopt});
    ASSERT_EQ(bench.all<SignalLauncher>().size(), 1u);
    EXPECT_FALSE(bench.all<SignalLauncher>()[0].kill);
    // A launcher that hangs is ended, its tree afterwards.
    bench.pass(Duration{41'000});
    bench.step(TickEvent{});
    ASSERT_EQ(bench.all<SignalLauncher>().size(), 1u);
    EXPECT_TRUE(bench.all<SignalLauncher>()[0].kill);
}

TEST(WorkerRun, WarnsAndStopsByDisk) {
    Bench bench(bench_config());
    bench.welcome();
    bench.run(kRef);
    bench.pass(Duration{30'000});
    bench.step(TickEvent{});
    ASSERT_TRUE(bench.has<MeasureDisk>());
    bench.step(DiskEvent{kRef, 150'000'000});
    EXPECT_EQ(bench.all<NoteSession>().size(), 1u);
    bench.step(DiskEvent{kRef, 150'000'000});
    EXPECT_FALSE(bench.has<NoteSession>()) << "one warning is enough";
    bench.step(DiskEvent{kRef, 501'000'000});
    ASSERT_EQ(bench.all<RecordStop>().size(), 1u);
    EXPECT_EQ(bench.all<RecordStop>()[0].stop.cause, Detail::disk_limit);
}

TEST(WorkerRun, EndsTheTreeOfADeadLauncherBeforeItSaysLost) {
    Bench bench(bench_config());
    bench.welcome();
    bench.run(kRef);
    bench.step(LauncherGoneEvent{kRef});
    ASSERT_EQ(bench.all<SignalTree>().size(), 1u);
    EXPECT_EQ(bench.all<SignalTree>()[0].signal, TreeSignal::term);
    bench.step(TreeEvent{kRef, 2, "two"});
    EXPECT_FALSE(bench.has<RecordEnd>());
    bench.pass(Duration{10'000});
    bench.step(TickEvent{});
    ASSERT_EQ(bench.all<SignalTree>().size(), 1u);
    EXPECT_EQ(bench.all<SignalTree>()[0].signal, TreeSignal::kill);
    bench.step(TreeEvent{kRef, 0, "none left"});
    ASSERT_EQ(bench.all<RecordEnd>().size(), 1u);
    EXPECT_EQ(bench.all<RecordEnd>()[0].end.cause, EndCause::lost);
    EXPECT_EQ(bench.all<RecordEnd>()[0].end.evidence, "none left");
}

// Without descriptors /proc looks empty: that is no word about who lives.
TEST(WorkerRun, TakesATreeThatItCouldNotLookAtNeverForGone) {
    Bench bench(bench_config());
    bench.welcome();
    bench.run(kRef);
    bench.step(LauncherGoneEvent{kRef});
    const TreeEvent blind{.attempt = kRef, .left = 0, .evidence = "blind", .whole = false};
    bench.step(blind);
    EXPECT_FALSE(bench.has<RecordEnd>());
    for (int round = 0; round < 20; ++round) {
        bench.pass(Duration{10'000});
        bench.step(TickEvent{});
        ASSERT_EQ(bench.all<SignalTree>().size(), 1u) << "in round " << round;
        bench.step(blind);
        EXPECT_FALSE(bench.has<RecordEnd>());
    }
    bench.pass(Duration{10'000});
    bench.step(TickEvent{});
    bench.step(TreeEvent{.attempt = kRef, .left = 0, .evidence = "none left", .whole = true});
    ASSERT_EQ(bench.all<RecordEnd>().size(), 1u);
}

// ---- Stops -------------------------------------------------------------------------------------

TEST(WorkerStop, AnUnknownAttemptIsTakenSoThatItsAssignmentFindsIt) {
    Bench bench(bench_config());
    bench.welcome();
    bench.step(StopEvent{{StopOrder{kRef.session, kRef.fence, Detail::killed, "enough"}}});
    ASSERT_EQ(bench.all<TakeClaim>().size(), 1u);
    EXPECT_EQ(bench.all<TakeClaim>()[0].holder, StartHolder::stopped);
    bench.step(ClaimedEvent{kRef, StartHolder::stopped, std::nullopt});
    ASSERT_EQ(bench.all<RecordEnd>().size(), 1u);
    bench.end(kRef, bench.all<RecordEnd>()[0].end);
    bench.step(JudgedEvent{kRef, {}});
    const Report report = only_report(bench);
    const auto* ended = std::get_if<EndedReport>(&report.body);
    ASSERT_NE(ended, nullptr);
    EXPECT_EQ(ended->cause, EndCause::stopped);
    EXPECT_EQ(ended->reason, "enough");
    bench.step(AssignEvent{{assignment_of(kRef)}});
    EXPECT_FALSE(bench.has<AcceptAssignment>());
    EXPECT_FALSE(bench.has<Launch>());
    EXPECT_EQ(only_report(bench).number, 2u);
}

TEST(WorkerStop, ARunningOneIsRecordedThenSignalled) {
    Bench bench(bench_config());
    bench.welcome();
    bench.run(kRef);
    const StopOrder order{kRef.session, kRef.fence, Detail::parent_killed, "its parent"};
    bench.step(StopEvent{{order}});
    ASSERT_EQ(bench.all<RecordStop>().size(), 1u);
    bench.step(StopRecordedEvent{kRef, std::nullopt});
    EXPECT_EQ(bench.all<SignalLauncher>().size(), 1u);
    bench.step(StopEvent{{order}});
    EXPECT_FALSE(bench.has<RecordStop>()) << "repeated by the broker, done once";
    EndFact end = exited(0, bench.wall);
    end.stop_sent = true;
    bench.end(kRef, end);
    bench.step(JudgedEvent{kRef, Deliverables{.success = true}});
    const Report report = bench.all<SendReports>().at(0).reports.back();
    const auto* ended = std::get_if<EndedReport>(&report.body);
    ASSERT_NE(ended, nullptr);
    EXPECT_EQ(ended->cause, EndCause::stopped) << "whatever the exit code";
    EXPECT_EQ(ended->stop_cause, Detail::parent_killed);
    EXPECT_FALSE(ended->success);
}

TEST(WorkerStop, AnEndBeforeTheStopWasSentStands) {
    Bench bench(bench_config());
    bench.welcome();
    bench.run(kRef);
    bench.step(StopEvent{{StopOrder{kRef.session, kRef.fence, Detail::killed, "late"}}});
    bench.end(kRef, exited(0, bench.wall));
    bench.step(StopRecordedEvent{kRef, std::nullopt});
    bench.step(JudgedEvent{kRef, Deliverables{.success = true}});
    const Report report = bench.all<SendReports>().at(0).reports.back();
    const auto* ended = std::get_if<EndedReport>(&report.body);
    ASSERT_NE(ended, nullptr);
    EXPECT_EQ(ended->cause, EndCause::exited);
    EXPECT_TRUE(ended->success);
}

// ---- End ---------------------------------------------------------------------------------------

TEST(WorkerEnd, ReportsWhatTravelled) {
    Bench bench(bench_config());
    bench.welcome();
    bench.run(kRef);
    bench.end(kRef, exited(0, bench.wall));
    const Delivered delivered{.manifest = std::string(64, 'a'), .files = 3, .bytes = 50};
    bench.step(JudgedEvent{kRef, Deliverables{.success = true, .delivered = delivered}});
    const Report report = bench.all<SendReports>().at(0).reports.back();
    const auto* ended = std::get_if<EndedReport>(&report.body);
    ASSERT_NE(ended, nullptr);
    EXPECT_TRUE(ended->success);
    EXPECT_EQ(ended->deliverables, delivered);
}

TEST(WorkerEnd, AFaultOfTheVerdictReplacesASuccess) {
    Bench bench(bench_config());
    bench.welcome();
    bench.run(kRef);
    bench.end(kRef, exited(0, bench.wall));
    bench.step(JudgedEvent{kRef, Deliverables{.success = true,
                                              .reason = "too much: 600 MB > 500 MB",
                                              .fault = EndCause::disk_limit}});
    const Report report = bench.all<SendReports>().at(0).reports.back();
    const auto* ended = std::get_if<EndedReport>(&report.body);
    ASSERT_NE(ended, nullptr);
    EXPECT_FALSE(ended->success);
    EXPECT_EQ(ended->cause, EndCause::disk_limit);
    EXPECT_EQ(ended->reason, "too much: 600 MB > 500 MB");
}

TEST(WorkerEnd, AFaultOfTheVerdictLeavesAStopWhatItIs) {
    Bench bench(bench_config());
    bench.welcome();
    bench.run(kRef);
    bench.step(StopEvent{{StopOrder{kRef.session, kRef.fence, Detail::killed, "by hand"}}});
    bench.step(StopRecordedEvent{kRef, std::nullopt});
    EndFact end = exited(0, bench.wall);
    end.stop_sent = true;
    bench.end(kRef, end);
    bench.step(
        JudgedEvent{kRef, Deliverables{.reason = "too much", .fault = EndCause::disk_limit}});
    const Report report = bench.all<SendReports>().at(0).reports.back();
    const auto* ended = std::get_if<EndedReport>(&report.body);
    ASSERT_NE(ended, nullptr);
    EXPECT_EQ(ended->cause, EndCause::stopped);
    EXPECT_EQ(ended->reason, "by hand");
}

TEST(WorkerEnd, WaitsForTheLogThenReportsThenWritesThenCloses) {
    Bench bench(bench_config());
    bench.welcome();
    bench.run(kRef);
    bench.acknowledge(kRef, 1);
    AttemptSnapshot seen;
    seen.attempt = kRef;
    seen.end = exited(3, bench.wall);
    bench.step(SeenEvent{seen});
    EXPECT_FALSE(bench.has<KillSession>());
    bench.pass(Duration{10'000});
    bench.step(TickEvent{});
    EXPECT_TRUE(bench.has<KillSession>()) << "the log writer is not waited for longer";
    ASSERT_TRUE(bench.has<Judge>());
    bench.step(JudgedEvent{kRef, {}});
    EXPECT_EQ(only_report(bench).number, 2u);

    ReportAck ack{kRef.session, kRef.fence, 2, std::nullopt, std::nullopt};
    ack.outcome = Outcome{outcome_of(kRef, SessionStatus::failed)};
    bench.step(AcksEvent{{ack}});
    EXPECT_TRUE(bench.has<RecordOutcome>());
    EXPECT_FALSE(bench.has<WriteFinal>()) << "the record comes first";
    bench.step(WrittenEvent{kRef, WrittenFile::outcome, std::nullopt});
    EXPECT_TRUE(bench.has<WriteFinal>());
    bench.step(WrittenEvent{kRef, WrittenFile::final_files, std::nullopt});
    EXPECT_EQ(only_report(bench).number, 3u);
    bench.acknowledge(kRef, 3);
    EXPECT_TRUE(bench.has<RecordClosed>());
    EXPECT_EQ(bench.core.counts().closed, 1u);

    bench.pass(Duration{7LL * 24 * 3600 * 1000});
    bench.step(TickEvent{});
    EXPECT_TRUE(bench.has<ForgetAttempt>());
    EXPECT_FALSE(bench.core.is_known(kRef));
}

TEST(WorkerEnd, RepeatsAReportAfterTenSecondsAndAfterAReconnect) {
    Bench bench(bench_config());
    bench.welcome();
    bench.run(kRef);
    bench.pass(Duration{9'999});
    bench.step(TickEvent{});
    EXPECT_FALSE(bench.has<SendReports>());
    bench.pass(Duration{1});
    bench.step(TickEvent{});
    EXPECT_TRUE(bench.has<SendReports>());
    bench.step(NoSessionEvent{});
    EXPECT_FALSE(bench.has<SendReports>());
    bench.welcome();
    EXPECT_TRUE(bench.has<SendReports>());
}

TEST(WorkerEnd, ABadReportDoesNotStarveItsNeighbours) {
    Bench bench(bench_config());
    bench.welcome();
    const AttemptRef bad = attempt_ref("20251118-151000-bad", 1);
    const AttemptRef good = attempt_ref("20251118-151000-good", 1);
    bench.run(bad);
    bench.run(good);
    const Error refusal = make_error(ErrorCode::bad_request, "reason is too long");

    bench.step(ReportsRefusedEvent{{{bad, 1}, {good, 1}}, refusal});
    ASSERT_EQ(bench.all<SendReports>().size(), 2u);
    for (const SendReports& message : bench.all<SendReports>())
        EXPECT_EQ(message.reports.size(), 1u);

    // Refused alone it waits for minutes, whatever the connection does; the other one is done.
    bench.acknowledge(good, 1);
    bench.step(ReportsRefusedEvent{{{bad, 1}}, refusal});
    EXPECT_FALSE(bench.has<SendReports>());
    bench.pass(Duration{20'000});
    bench.step(HeardEvent{});
    EXPECT_FALSE(bench.has<SendReports>());
}

TEST(WorkerEnd, ASupersededAttemptIsStoppedAndItsEndToldForTheRecord) {
    Bench bench(bench_config());
    bench.welcome();
    bench.run(kRef);
    ReportAck ack{kRef.session, kRef.fence, 1, std::nullopt, std::nullopt};
    ack.error = make_error(ErrorCode::stale_fence, "another attempt");
    bench.step(AcksEvent{{ack}});
    ASSERT_TRUE(bench.has<RecordStop>());
    bench.step(StopRecordedEvent{kRef, std::nullopt});
    EndFact end = exited(143, bench.wall);
    end.stop_sent = true;
    bench.end(kRef, end);
    ASSERT_TRUE(bench.has<Judge>());
    bench.step(JudgedEvent{kRef, {}});
    EXPECT_EQ(only_report(bench).number, 2u);
    ack.number = 2;
    bench.step(AcksEvent{{ack}});
    EXPECT_TRUE(bench.has<RecordClosed>());
    EXPECT_FALSE(bench.has<SendReports>());
    EXPECT_FALSE(bench.has<WriteFinal>()) << "its files are kept as they are";
}

TEST(WorkerEnd, WritesForASessionThatNeverStarted) {
    Bench bench(bench_config());
    bench.welcome();
    const AttemptRef never = attempt_ref("20251118-153042-alpha", 0);
    SessionView view = outcome_of(never, SessionStatus::killed);
    bench.step(CloseEvent{{Outcome{view}}});
    ASSERT_EQ(bench.all<WriteFinal>().size(), 1u);
    EXPECT_EQ(bench.all<WriteFinal>()[0].before, SessionStatus::created);
    bench.step(WrittenEvent{never, WrittenFile::final_files, std::nullopt});
    EXPECT_EQ(only_report(bench).number, 3u);
    bench.step(CloseEvent{{Outcome{view}}});
    EXPECT_FALSE(bench.has<WriteFinal>()) << "written once";
    EXPECT_EQ(only_report(bench).number, 3u);
}

TEST(WorkerEnd, AnEndThatCannotBeRecordedIsTriedAgain) {
    Bench bench(bench_config());
    bench.welcome();
    bench.run(kRef);
    bench.step(LauncherGoneEvent{kRef});
    bench.step(TreeEvent{kRef, 0, "none"});
    ASSERT_TRUE(bench.has<RecordEnd>());
    bench.step(WrittenEvent{kRef, WrittenFile::end, make_error(ErrorCode::io, "disk full")});
    EXPECT_FALSE(bench.has<RecordEnd>());
    bench.pass(Duration{1'000});
    bench.step(TickEvent{});
    bench.step(TreeEvent{kRef, 0, "none"});
    EXPECT_TRUE(bench.has<RecordEnd>());
}

// ---- Adoption ----------------------------------------------------------------------------------

AttemptSnapshot running_on_disk(WallTime started) {
    AttemptSnapshot snapshot;
    snapshot.attempt = kRef;
    snapshot.assignment = assignment_of(kRef);
    snapshot.holder = StartHolder::launcher;
    snapshot.started_at = started;
    snapshot.reported = 1;
    return snapshot;
}

TEST(WorkerAdoption, GoesOnWithWhatRuns) {
    Bench bench(bench_config());
    bench.step(
        RestoredEvent{running_on_disk(bench.wall - Duration{1'790'000}), LauncherState::alive});
    bench.welcome();
    EXPECT_FALSE(bench.has<Launch>());
    EXPECT_FALSE(bench.has<SendReports>());
    bench.pass(Duration{10'000});
    bench.step(TickEvent{});
    EXPECT_TRUE(bench.has<RecordStop>()) << "its time counts from its start";
}

TEST(WorkerAdoption, ReportsWhatEndedMeanwhile) {
    Bench bench(bench_config());
    AttemptSnapshot ended = running_on_disk(bench.wall);
    ended.end = exited(0, bench.wall);
    ended.log_done = true;
    bench.step(RestoredEvent{ended, LauncherState::not_asked});
    bench.step(TickEvent{});
    ASSERT_TRUE(bench.has<Judge>());
    bench.step(JudgedEvent{kRef, Deliverables{.success = true}});
    bench.welcome();
    EXPECT_EQ(only_report(bench).number, 2u);
}

TEST(WorkerAdoption, EndsTheTreeOfALauncherThatIsGone) {
    Bench bench(bench_config());
    bench.step(RestoredEvent{running_on_disk(bench.wall), LauncherState::gone});
    bench.step(TickEvent{});
    EXPECT_TRUE(bench.has<SignalTree>());
}

TEST(WorkerAdoption, AnotherBootMeansLostAtOnce) {
    Bench bench(bench_config());
    bench.step(RestoredEvent{running_on_disk(bench.wall), LauncherState::other_boot});
    bench.step(TickEvent{});
    ASSERT_EQ(bench.all<RecordEnd>().size(), 1u);
    EXPECT_EQ(bench.all<RecordEnd>()[0].end.cause, EndCause::lost);
    EXPECT_FALSE(bench.has<SignalTree>());
}

TEST(WorkerAdoption, AnUnclaimedOneStartsOnlyWhenAssignedOnceMore) {
    Bench bench(bench_config());
    AttemptSnapshot accepted;
    accepted.attempt = kRef;
    accepted.assignment = assignment_of(kRef);
    bench.step(RestoredEvent{accepted, LauncherState::not_asked});
    bench.step(TickEvent{});
    ASSERT_TRUE(bench.has<CheckSession>()) << "it may be about to start";
    bench.step(SessionCheckedEvent{kRef, Presence::absent});
    EXPECT_EQ(bench.core.inventory().size(), 1u);
    bench.pass(Duration{1'000});
    bench.step(TickEvent{});
    bench.step(SessionCheckedEvent{kRef, Presence::absent});
    EXPECT_TRUE(bench.core.inventory().empty());
    bench.welcome();
    EXPECT_FALSE(bench.has<Launch>());
    bench.step(AssignEvent{{assignment_of(kRef)}});
    EXPECT_TRUE(bench.has<Launch>());
}

TEST(WorkerAdoption, AClosedOneIsAnsweredFromItsFiles) {
    Bench bench(bench_config());
    AttemptSnapshot closed = running_on_disk(bench.wall);
    closed.end = exited(0, bench.wall);
    closed.closed_at = bench.wall;
    bench.step(RestoredEvent{closed, LauncherState::not_asked});
    bench.step(TickEvent{});
    bench.welcome();
    bench.step(AssignEvent{{assignment_of(kRef)}});
    ASSERT_TRUE(bench.has<ReopenAttempt>());
    EXPECT_FALSE(bench.has<AcceptAssignment>());
    closed.closed_at.reset();
    closed.reported = 1;
    closed.log_done = true;
    bench.step(RestoredEvent{closed, LauncherState::not_asked});
    bench.step(TickEvent{});
    bench.step(JudgedEvent{kRef, {}});
    EXPECT_EQ(only_report(bench).number, 2u);
}

TEST(WorkerShutdown, SaysGoodbyeAndStartsNothing) {
    Bench bench(bench_config());
    bench.welcome();
    bench.step(ShutdownEvent{});
    EXPECT_TRUE(bench.has<SendGoodbye>());
    bench.step(AssignEvent{{assignment_of(kRef)}});
    EXPECT_FALSE(bench.has<AcceptAssignment>());
    bench.pass(Duration{100'000});
    bench.step(TickEvent{});
    EXPECT_FALSE(bench.has<SendHello>());
}

}  // namespace
}  // namespace iw::worker::test
