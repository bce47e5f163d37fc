// What a worker knows of its broker's past, and what it does when the broker has less of it; and
// when it may start anything at all.

#include <gtest/gtest.h>

#include "tests/unit/worker/core_bench.h"

namespace iw::worker::test {
namespace {

const AttemptRef kRef = attempt_ref("20251118-153042-alpha", 1);

WelcomeReply welcome_of(const std::string& epoch, Seq seq) {
    WelcomeReply reply;
    reply.epoch = epoch;
    reply.seq = seq;
    reply.heartbeat = Duration{10'000};
    reply.unreachable = Duration{45'000};
    return reply;
}

HeartbeatAnsweredEvent answer(Seq seq, bool restored) {
    HeartbeatReply reply;
    reply.seq = seq;
    reply.restored = restored;
    return HeartbeatAnsweredEvent{reply};
}

void greet(Bench& bench, const WelcomeReply& reply) {
    bench.step(TickEvent{});
    bench.step(WelcomeEvent{reply});
}

AttemptSnapshot closed_on_disk(const AttemptRef& ref, WallTime at) {
    AttemptSnapshot snapshot;
    snapshot.attempt = ref;
    snapshot.assignment = assignment_of(ref);
    snapshot.holder = StartHolder::launcher;
    snapshot.started_at = at;
    snapshot.end = exited(0, at);
    snapshot.log_done = true;
    snapshot.reported = 3;
    snapshot.closed_at = at;
    return snapshot;
}

// ---- The newest record seen --------------------------------------------------------------------

TEST(WorkerEpoch, SaysWhatItHasSeenAndKeepsItOnDisk) {
    Bench bench(bench_config());
    bench.step(TickEvent{});
    EXPECT_FALSE(bench.all<SendHello>().at(0).hello.seen.has_value());
    bench.step(WelcomeEvent{welcome_of("a", 100)});
    ASSERT_EQ(bench.all<RecordSeen>().size(), 1u);
    EXPECT_EQ(bench.all<RecordSeen>()[0].seen.epoch, "a");
    EXPECT_EQ(bench.all<RecordSeen>()[0].seen.seq, 100u);
    bench.step(NoSessionEvent{});
    const auto hello = bench.all<SendHello>().at(0).hello;
    ASSERT_TRUE(hello.seen.has_value());
    EXPECT_EQ(hello.seen->seq, 100u);
}

TEST(WorkerEpoch, WritesItAtMostOnceAMinuteAndBeforeItAccepts) {
    Bench bench(bench_config());
    greet(bench, welcome_of("a", 100));
    for (int i = 1; i <= 5; ++i) {
        bench.pass(Duration{10'000});
        bench.step(answer(100 + static_cast<Seq>(i), false));
        EXPECT_FALSE(bench.has<RecordSeen>());
    }
    bench.step(AssignEvent{{assignment_of(kRef)}});
    ASSERT_EQ(bench.all<RecordSeen>().size(), 1u);
    EXPECT_EQ(bench.all<RecordSeen>()[0].seen.seq, 105u);
    EXPECT_TRUE(std::holds_alternative<RecordSeen>(bench.actions.front())) << "it comes first";
    bench.step(AssignEvent{{assignment_of(attempt_ref("20251118-153043-alpha", 1))}});
    EXPECT_FALSE(bench.has<RecordSeen>()) << "nothing newer was seen";
    for (int i = 0; i < 6; ++i) {
        bench.pass(Duration{10'000});
        bench.step(answer(200, false));
    }
    EXPECT_TRUE(bench.has<RecordSeen>());
}

TEST(WorkerEpoch, NeverGoesBackWithinAnEpochAndBeginsAnewWithAnother) {
    CoreConfig config = bench_config();
    config.seen = SeenHead{.epoch = "a", .seq = 500};
    Bench bench(config);
    bench.step(TickEvent{});
    EXPECT_EQ(bench.all<SendHello>().at(0).hello.seen->seq, 500u);
    bench.step(WelcomeEvent{welcome_of("a", 400)});
    EXPECT_FALSE(bench.has<RecordSeen>());
    bench.step(NoSessionEvent{});
    EXPECT_EQ(bench.all<SendHello>().at(0).hello.seen->seq, 500u);
    bench.step(WelcomeEvent{welcome_of("b", 30)});
    bench.step(answer(31, false));
    ASSERT_EQ(bench.all<RecordSeen>().size(), 1u);
    EXPECT_EQ(bench.all<RecordSeen>()[0].seen.epoch, "b");
    EXPECT_EQ(bench.all<RecordSeen>()[0].seen.seq, 31u);
}

// The epoch in its hello is why a restored broker asks for what it has closed. A broker that dies
// between the welcome and the end of the list must ask again.
TEST(WorkerEpoch, BelongsToTheOldOneUntilTheNewOneHasHeardAll) {
    CoreConfig config = bench_config();
    config.seen = SeenHead{.epoch = "a", .seq = 500};
    Bench bench(config);
    greet(bench, welcome_of("b", 30));
    bench.step(answer(31, true));
    EXPECT_FALSE(bench.has<RecordSeen>());
    bench.step(NoSessionEvent{});
    EXPECT_EQ(bench.all<SendHello>().at(0).hello.seen->epoch, "a");
    EXPECT_EQ(bench.all<SendHello>().at(0).hello.seen->seq, 500u);
    bench.step(WelcomeEvent{welcome_of("b", 32)});
    bench.step(answer(33, true));
    bench.step(answer(34, false));
    ASSERT_EQ(bench.all<RecordSeen>().size(), 1u);
    EXPECT_EQ(bench.all<RecordSeen>()[0].seen.epoch, "b");
    EXPECT_EQ(bench.all<RecordSeen>()[0].seen.seq, 34u);
}

TEST(WorkerEpoch, NewWorkIsOfTheNewOne) {
    CoreConfig config = bench_config();
    config.seen = SeenHead{.epoch = "a", .seq = 500};
    Bench bench(config);
    greet(bench, welcome_of("b", 30));
    bench.step(AssignEvent{{assignment_of(kRef)}});
    ASSERT_EQ(bench.all<RecordSeen>().size(), 1u);
    EXPECT_EQ(bench.all<RecordSeen>()[0].seen.epoch, "b");
    EXPECT_TRUE(std::holds_alternative<RecordSeen>(bench.actions.front())) << "it comes first";
}

// ---- A restored broker -------------------------------------------------------------------------

TEST(WorkerRestored, ListsWhatItHasClosedUntilTheBrokerHasAll) {
    Bench bench(bench_config());
    const AttemptRef other = attempt_ref("20251118-153043-alpha", 3);
    bench.step(RestoredEvent{closed_on_disk(kRef, bench.wall), LauncherState::not_asked});
    bench.step(RestoredEvent{closed_on_disk(other, bench.wall), LauncherState::not_asked});
    WelcomeReply restored = welcome_of("b", 10);
    restored.restored = true;
    greet(bench, restored);
    ASSERT_EQ(bench.all<SendHeartbeat>().size(), 1u);
    HeartbeatRequest heartbeat = bench.all<SendHeartbeat>()[0].heartbeat;
    ASSERT_EQ(heartbeat.closed.size(), 2u);
    EXPECT_EQ(heartbeat.closed[0].session, kRef.session);
    EXPECT_EQ(heartbeat.closed[1].fence.attempt, 3u);
    EXPECT_EQ(heartbeat.closed[0].phase, AttemptPhase::closed);
    EXPECT_TRUE(heartbeat.closed_all);
    // In turns, since the broker may have been restarted or an answer lost.
    bench.step(answer(11, true));
    bench.pass(Duration{10'000});
    bench.step(TickEvent{});
    EXPECT_EQ(bench.all<SendHeartbeat>().at(0).heartbeat.closed.size(), 2u);
    bench.step(answer(12, false));
    bench.pass(Duration{10'000});
    bench.step(TickEvent{});
    EXPECT_TRUE(bench.all<SendHeartbeat>().at(0).heartbeat.closed.empty());
    EXPECT_FALSE(bench.all<SendHeartbeat>()[0].heartbeat.closed_all);
}

TEST(WorkerRestored, ListsThemInPages) {
    Bench bench(bench_config());
    const auto ref_of = [](std::size_t number) {
        return attempt_ref("20251118-153042-alpha", static_cast<std::uint32_t>(number));
    };
    const std::size_t count = limits::kInventoryMax + 5;
    for (std::size_t i = 1; i <= count; ++i)
        bench.step(RestoredEvent{closed_on_disk(ref_of(i), bench.wall), LauncherState::not_asked});
    WelcomeReply restored = welcome_of("b", 10);
    restored.restored = true;
    greet(bench, restored);
    EXPECT_EQ(bench.all<SendHeartbeat>().at(0).heartbeat.closed.size(), limits::kInventoryMax);
    EXPECT_FALSE(bench.all<SendHeartbeat>()[0].heartbeat.closed_all);
    // A heartbeat without an answer may not have arrived: its page is sent again.
    bench.pass(Duration{10'000});
    bench.step(TickEvent{});
    EXPECT_EQ(bench.all<SendHeartbeat>().at(0).heartbeat.closed[0].fence.attempt, 1u);
    bench.step(answer(11, true));
    ASSERT_EQ(bench.all<SendHeartbeat>().size(), 1u) << "the rest at once";
    HeartbeatRequest heartbeat = bench.all<SendHeartbeat>()[0].heartbeat;
    EXPECT_EQ(heartbeat.closed.size(), 5u);
    EXPECT_EQ(heartbeat.closed[0].fence.attempt, limits::kInventoryMax + 1);
    EXPECT_TRUE(heartbeat.closed_all);
    // From the beginning again, and over a new connection it is all to be said again.
    bench.step(answer(12, true));
    bench.pass(Duration{10'000});
    bench.step(TickEvent{});
    EXPECT_EQ(bench.all<SendHeartbeat>().at(0).heartbeat.closed[0].fence.attempt, 1u);
    EXPECT_TRUE(bench.all<SendHeartbeat>()[0].heartbeat.closed_all);
    bench.step(NoSessionEvent{});
    bench.step(WelcomeEvent{restored});
    EXPECT_FALSE(bench.all<SendHeartbeat>().at(0).heartbeat.closed_all);
}

// The broker knows of a closed attempt again and asks by the assignment of the old generation.
TEST(WorkerRestored, TellsTheEndOfAClosedAttemptOnceMore) {
    Bench bench(bench_config());
    bench.step(RestoredEvent{closed_on_disk(kRef, bench.wall), LauncherState::not_asked});
    WelcomeReply restored = welcome_of("b", 10);
    restored.generation = 2;
    restored.restored = true;
    greet(bench, restored);
    bench.step(AssignEvent{{assignment_of(kRef)}});
    ASSERT_EQ(bench.all<ReopenAttempt>().size(), 1u);
    EXPECT_EQ(bench.all<ReopenAttempt>()[0].attempt, kRef);
    AttemptSnapshot reopened = closed_on_disk(kRef, bench.wall);
    reopened.closed_at.reset();
    reopened.reported = 1;
    bench.step(RestoredEvent{reopened, LauncherState::not_asked});
    bench.step(TickEvent{});
    EXPECT_FALSE(bench.has<Launch>());
    bench.step(JudgedEvent{kRef, Deliverables{.success = true}});
    ASSERT_EQ(bench.all<SendReports>().size(), 1u);
    EXPECT_EQ(bench.all<SendReports>()[0].reports[0].number, 2u);
    EXPECT_EQ(bench.all<SendReports>()[0].reports[0].fence, kRef.fence);
    ReportAck ack{kRef.session, kRef.fence, 2, std::nullopt, std::nullopt};
    ack.outcome = Outcome{outcome_of(kRef, SessionStatus::completed)};
    bench.step(AcksEvent{{ack}});
    bench.step(WrittenEvent{kRef, WrittenFile::outcome, std::nullopt});
    bench.step(WrittenEvent{kRef, WrittenFile::final_files, std::nullopt});
    EXPECT_EQ(bench.all<SendReports>().at(0).reports[0].number, 3u);
    bench.acknowledge(kRef, 3);
    EXPECT_TRUE(bench.has<RecordClosed>());
    EXPECT_EQ(bench.core.counts().closed, 1u);
}

// What can still be read of it, its old outcome, is no end that this broker knows.
TEST(WorkerRestored, TellsThatTheEndOfAClosedAttemptCannotBeRead) {
    Bench bench(bench_config());
    AttemptSnapshot on_disk = closed_on_disk(kRef, bench.wall);
    on_disk.outcome = outcome_of(kRef, SessionStatus::completed);
    bench.step(RestoredEvent{on_disk, LauncherState::not_asked});
    WelcomeReply restored = welcome_of("b", 10);
    restored.generation = 2;
    restored.restored = true;
    greet(bench, restored);
    // The wish comes twice before the attempt has been read.
    const StopOrder kill{kRef.session, kRef.fence, Detail::killed, "x"};
    bench.step(StopEvent{{kill, kill}});
    ASSERT_EQ(bench.all<ReopenAttempt>().size(), 1u);
    EXPECT_FALSE(bench.has<TakeClaim>());
    AttemptSnapshot broken;
    broken.attempt = kRef;
    broken.holder = StartHolder::launcher;
    broken.reported = 1;
    bench.step(RestoredEvent{broken, LauncherState::gone});
    bench.step(TickEvent{});
    bench.step(TreeEvent{.attempt = kRef, .left = 0, .evidence = "nobody", .whole = true});
    ASSERT_EQ(bench.all<RecordEnd>().size(), 1u);
    on_disk.closed_at.reset();
    on_disk.end = bench.all<RecordEnd>()[0].end;
    on_disk.log_done = true;
    bench.step(SeenEvent{on_disk});
    bench.step(JudgedEvent{kRef, {}});
    ASSERT_EQ(bench.all<SendReports>().size(), 1u);
    const Report report = bench.all<SendReports>()[0].reports.at(0);
    ASSERT_EQ(report.number, 2u) << "the outcome on disk is not this broker's";
    EXPECT_EQ(std::get_if<EndedReport>(&report.body)->cause, EndCause::lost);
}

// A restored broker took over an attempt that runs here, and shows it as not started.
TEST(WorkerRestored, TellsTheStartOfARunningAttemptOnceMore) {
    Bench bench(bench_config());
    bench.welcome();
    bench.run(kRef);
    bench.acknowledge(kRef, 1);
    EXPECT_FALSE(bench.has<SendReports>());
    bench.step(AssignEvent{{assignment_of(kRef)}});
    EXPECT_FALSE(bench.has<AcceptAssignment>());
    ASSERT_EQ(bench.all<SendReports>().size(), 1u);
    EXPECT_EQ(bench.all<SendReports>()[0].reports.at(0).number, 1u);
    bench.acknowledge(kRef, 1);
    bench.pass(Duration{10'000});
    bench.step(TickEvent{});
    EXPECT_FALSE(bench.has<SendReports>());
}

// ---- A read-only broker ------------------------------------------------------------------------

TEST(WorkerReadOnly, KeepsItsReportsStartsNothingAndSaysSoOnce) {
    Bench bench(bench_config());
    bench.welcome();
    bench.run(kRef);
    bench.step(ReadOnlyEvent{"the store has lost 7 records"});
    ASSERT_EQ(bench.all<Transition>().size(), 1u);
    EXPECT_EQ(bench.all<Transition>()[0].why, "the store has lost 7 records");
    bench.step(ReadOnlyEvent{"the store has lost 7 records"});
    EXPECT_FALSE(bench.has<Transition>());
    bench.step(AssignEvent{{assignment_of(attempt_ref("20251118-153043-alpha", 1))}});
    EXPECT_FALSE(bench.has<AcceptAssignment>());
    bench.end(kRef, exited(0, bench.wall));
    bench.step(JudgedEvent{kRef, {}});
    bench.pass(Duration{10'000});
    bench.step(TickEvent{});
    EXPECT_TRUE(bench.has<SendHeartbeat>()) << "asks on";
    EXPECT_FALSE(bench.has<SendReports>());
    bench.step(answer(5, false));
    ASSERT_TRUE(bench.has<SendReports>());
    EXPECT_EQ(bench.all<SendReports>()[0].reports.size(), 2u);
}

TEST(WorkerReadOnly, AnAcceptedAttemptIsNotLaunched) {
    Bench bench(bench_config());
    bench.welcome();
    bench.step(AssignEvent{{assignment_of(kRef)}});
    bench.step(ReadOnlyEvent{"less than seen"});
    bench.step(AcceptedEvent{kRef, std::nullopt});
    EXPECT_FALSE(bench.has<Launch>());
    EXPECT_TRUE(bench.core.inventory().empty()) << "so that it is assigned again";
}

TEST(WorkerReadOnly, ARefusedHelloIsRepeatedEverMoreRarely) {
    Bench bench(bench_config());
    Duration last{0};
    int notes = 0;
    for (int i = 0; i < 8; ++i) {
        bench.step(TickEvent{});
        ASSERT_TRUE(bench.has<SendHello>());
        bench.step(RefusedEvent{make_error(ErrorCode::read_only, "less than seen")});
        notes += static_cast<int>(bench.all<Transition>().size());
        const Duration pause = *bench.core.next_deadline() - bench.steady;
        EXPECT_GE(pause, last);
        EXPECT_LE(pause, Duration{30'000});
        last = pause;
        bench.pass(pause);
    }
    EXPECT_EQ(notes, 1);
}

// ---- When nothing may be started ---------------------------------------------------------------

TEST(WorkerFence, AWelcomeThatWaitedInAFrozenWorkerCountsForNothing) {
    Bench bench(bench_config());
    bench.step(TickEvent{});
    ASSERT_TRUE(bench.has<SendHello>());
    bench.pass(Duration{60'000});
    bench.step(WelcomeEvent{welcome_of("a", 1)});
    EXPECT_FALSE(bench.core.linked());
    EXPECT_TRUE(bench.has<Reconnect>()) << "with the assignments behind it";
    bench.step(AssignEvent{{assignment_of(kRef)}});
    EXPECT_FALSE(bench.has<AcceptAssignment>());
}

TEST(WorkerFence, ALaunchThatTookTooLongIsWithheldAndAssignedAgain) {
    Bench bench(bench_config());
    bench.welcome();
    const Timestamp heard = bench.steady;
    bench.step(AssignEvent{{assignment_of(kRef)}});
    bench.pass(Duration{1'000});
    bench.step(AcceptedEvent{kRef, std::nullopt});
    ASSERT_EQ(bench.all<Launch>().size(), 1u);
    EXPECT_EQ(bench.all<Launch>()[0].start_by, heard + Duration{50'000});
    EXPECT_TRUE(bench.core.may_start(bench.now()));
    bench.pass(Duration{46'000});
    EXPECT_FALSE(bench.core.may_start(bench.now()));
    bench.step(LaunchedEvent{kRef, LaunchOutcome::withheld, ""});
    EXPECT_FALSE(bench.has<Launch>());
    EXPECT_FALSE(bench.has<TakeClaim>());
    EXPECT_TRUE(bench.core.inventory().empty());
    bench.welcome();
    EXPECT_FALSE(bench.has<Launch>());
    bench.step(AssignEvent{{assignment_of(kRef)}});
    EXPECT_EQ(bench.all<Launch>().size(), 1u);
}

TEST(WorkerFence, ANewStateFolderKnowsNothingAndStartsNothingByItself) {
    Bench before(bench_config());
    before.welcome();
    before.run(kRef);
    CoreConfig config = bench_config();
    config.state_id = "another";
    Bench after(config);
    after.step(TickEvent{});
    EXPECT_EQ(after.all<SendHello>().at(0).hello.state_id, "another");
    EXPECT_TRUE(after.all<SendHello>()[0].hello.inventory.empty());
    after.welcome();
    after.pass(Duration{10'000});
    after.step(TickEvent{});
    EXPECT_FALSE(after.has<Launch>());
    EXPECT_FALSE(after.has<AcceptAssignment>());
}

}  // namespace
}  // namespace iw::worker::test
