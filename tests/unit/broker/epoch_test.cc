// A store that was brought back from a backup under workers that know more than it.

#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "tests/unit/broker/core_driver.h"

namespace iw::broker {
namespace {

using testing::attempt;
using testing::CoreDriver;
using testing::seconds;

// `backup` marks the moment; what happens after it is forgotten by `restore`.
struct Scene : CoreDriver {
    Scene() { hello(worker("w"), 7); }
    void backup() { kept = journal.size(); }
    Actions restore() { return restore(seconds(100)); }
    Actions restore(Duration after) {
        journal.resize(kept);
        advance(after);
        core = replayed();
        return begin();
    }
    Actions begin() {
        return step(BeginEpochEvent{.caller = std::nullopt,
                                    .epoch = "second",
                                    .reason = "backup of Monday",
                                    .principal = "uid:0"});
    }
    Actions comes(const std::string& name, std::uint64_t peer, std::vector<AttemptState> has) {
        WorkerHello again = worker(name);
        again.inventory = std::move(has);
        return hello(again, peer);
    }
    Actions lists(const std::string& name, std::uint64_t peer, std::vector<AttemptState> has,
                  std::vector<AttemptState> closed) {
        HeartbeatEvent event{caller(peer), WorkerName(name), {}};
        event.heartbeat.attempts = std::move(has);
        event.heartbeat.closed = std::move(closed);
        event.heartbeat.closed_all = true;
        last = step(std::move(event));
        return last;
    }
    Actions release(bool force) {
        return step(ReleaseEvent{.caller = caller(1), .force = force, .reason = "all are here"});
    }
    std::string refused(const Actions& actions) {
        EXPECT_TRUE(actions.records.empty());
        const std::optional<Error> error = refusal(actions);
        return error ? std::string(name(error->code)) + ": " + error->message : "ok";
    }
    void complete(const SessionId& id, Fence fence) {
        report("w", 7, id, fence, started());
        report("w", 7, id, fence, exited(0));
        report("w", 7, id, fence, ClosedReport{});
    }
    std::size_t kept = 0;
};

AttemptState closed(const SessionId& id, Fence fence) {
    return attempt(id, fence, AttemptPhase::closed);
}
AttemptState running(const SessionId& id, Fence fence) {
    return attempt(id, fence, AttemptPhase::running);
}

TEST(Epoch, HoldsEverythingUntilItIsReleased) {
    Scene scene;
    scene.goodbye("w", 7);
    const SessionId id = scene.submitted("a");
    scene.backup();
    const auto begun = CoreDriver::records<EpochBegun>(scene.restore());
    ASSERT_EQ(begun.size(), 1u);
    EXPECT_EQ(begun[0].generation, 2u);
    EXPECT_TRUE(begun[0].hold);
    EXPECT_TRUE(CoreDriver::assigned(scene.comes("w", 8, {})).empty());
    scene.lists("w", 8, {}, {});
    EXPECT_EQ(scene.shown(id), "CREATED/paused");
    EXPECT_EQ(scene.view(id).reason,
              "restored (backup of Monday); nothing is handed out before `ictl resume "
              "--after-restore`");
    // Nor what is submitted now; and nothing wakes the broker for it.
    EXPECT_EQ(scene.shown(scene.submitted("a")), "CREATED/paused");
    EXPECT_EQ(scene.core.next_deadline(), scene.time.steady + limits::kUnreachableAfter);
    FleetReply fleet = scene.core.fleet(scene.time);
    EXPECT_TRUE(fleet.restored);
    EXPECT_EQ(fleet.restored_why, "backup of Monday");
    EXPECT_EQ(fleet.epoch, "second");
    EXPECT_EQ(fleet.generation, 2u);
    EXPECT_EQ(fleet.queued, 2u);
    const Actions actions = scene.release(false);
    EXPECT_EQ(CoreDriver::records<RestoreReleased>(actions).at(0).reason, "all are here");
    const auto reply = CoreDriver::reply<ReleaseReply>(actions);
    EXPECT_EQ(reply.generation, 2u);
    EXPECT_FALSE(reply.held);
    EXPECT_EQ(CoreDriver::assigned(actions).size(), 2u);
    EXPECT_EQ(scene.fence(id), (Fence{2, 1}));
    fleet = scene.core.fleet(scene.time);
    EXPECT_FALSE(fleet.restored);
    EXPECT_TRUE(fleet.unheard.empty());
}

// A worker that has not started it drops what it accepted and waits to be given it once more.
TEST(Epoch, AnAcceptedAttemptThatIsDroppedIsSentAgainAfterTheRelease) {
    Scene scene;
    const SessionId id = scene.submitted("a");
    scene.backup();
    scene.restore();
    scene.comes("w", 8, {attempt(id, {1, 1}, AttemptPhase::accepted)});
    scene.lists("w", 8, {}, {});
    scene.release(false);
    EXPECT_EQ(CoreDriver::assigned(scene.heartbeat("w", 8, {})), std::vector<SessionId>{id});
    EXPECT_EQ(scene.fence(id), (Fence{1, 1}));
}

// A restore within the second of the last submission: the worker has run that id already, and its
// attempt must not be taken for the new session's.
TEST(Epoch, ASubmissionInTheSecondOfAForgottenOneGetsAnotherId) {
    Scene scene;
    scene.backup();
    const SessionId forgotten = scene.submitted("a");
    scene.restore(Duration(1));
    const SessionId fresh = scene.submitted("a");
    EXPECT_NE(fresh, forgotten);
    scene.comes("w", 8, {running(forgotten, {1, 1})});
    EXPECT_EQ(scene.shown(fresh), "CREATED/paused");
    // Nor does a broker that is started once more in that second give it out.
    scene.core = scene.replayed();
    EXPECT_NE(scene.submitted("a"), forgotten);
}

// What the database tells counts like what the journal tells.
TEST(Epoch, WhatIsKnownAndOverIsNoNewsToAStoreThatWasLoaded) {
    Scene scene;
    const SessionId known = scene.submitted("a");
    scene.complete(known, {1, 1});
    LiveState loaded;
    loaded.seq = scene.journal.back().seq;
    loaded.id_second = wall_from_ms(testing::kStartMs);
    loaded.newest_ids = {known};
    scene.core = BrokerCore(CoreConfig{}, 1);
    scene.core.restore(loaded);
    scene.core.started(scene.time);
    scene.begin();
    scene.comes("w", 8, {});
    const SessionId forgotten(known.str() + "-2");
    scene.lists("w", 8, {}, {closed(known, {1, 1}), closed(forgotten, {1, 1})});
    EXPECT_EQ(scene.core.workers(scene.time).workers.at(0).unknown,
              (std::vector<AttemptRef>{{forgotten, {1, 1}}}));
}

TEST(Epoch, WorkersAreAskedForWhatTheyClosedUntilThatIsComplete) {
    Scene scene;
    scene.backup();
    scene.restore();
    const Actions hello = scene.comes("w", 8, {});
    EXPECT_TRUE(CoreDriver::reply<WelcomeReply>(hello).restored);
    EXPECT_EQ(CoreDriver::reply<WelcomeReply>(hello).generation, 2u);
    const auto first = CoreDriver::reply<HeartbeatReply>(scene.heartbeat("w", 8, {}));
    EXPECT_TRUE(first.restored);
    EXPECT_EQ(first.seq, scene.core.head());
    EXPECT_FALSE(CoreDriver::reply<HeartbeatReply>(scene.lists("w", 8, {}, {})).restored);
    EXPECT_FALSE(CoreDriver::reply<HeartbeatReply>(scene.heartbeat("w", 8, {})).restored);
}

// It ran and is over: nobody may run it again, and its end becomes known here.
TEST(Epoch, AClosedAttemptIsAdoptedAndItsEndAskedFor) {
    Scene scene;
    scene.goodbye("w", 7);
    const SessionId id = scene.submitted("a");
    scene.backup();
    scene.hello(CoreDriver::worker("w"), 7);
    scene.complete(id, {1, 1});
    EXPECT_EQ(scene.shown(id), "gone");
    scene.restore();
    EXPECT_EQ(scene.shown(id), "CREATED/paused");
    scene.comes("w", 8, {});
    const Actions actions = scene.lists("w", 8, {}, {closed(id, {1, 1})});
    const auto adopted = CoreDriver::records<AttemptAdopted>(actions);
    ASSERT_EQ(adopted.size(), 1u);
    EXPECT_EQ(adopted[0].fence, (Fence{1, 1}));
    EXPECT_EQ(adopted[0].worker.str(), "w");
    EXPECT_EQ(adopted[0].host, "h");
    EXPECT_EQ(CoreDriver::assigned(actions), std::vector{id});
    // Until it has answered nobody can know whether the session is to be run again.
    EXPECT_EQ(scene.refused(scene.release(false)),
              "CONFLICT: worker w has not yet reported how attempts have ended; try again in a few "
              "seconds");
    // Asked again: the first message may have got lost.
    EXPECT_TRUE(CoreDriver::assigned(scene.heartbeat("w", 8, {})).empty());
    EXPECT_EQ(CoreDriver::assigned(scene.heartbeat("w", 8, {})), std::vector{id});
    const ReportAck ack = scene.report("w", 8, id, {1, 1}, scene.exited(0));
    ASSERT_TRUE(ack.outcome.has_value());
    EXPECT_EQ(ack.outcome->session.status, SessionStatus::completed);
    EXPECT_FALSE(scene.report("w", 8, id, {1, 1}, ClosedReport{}).error.has_value());
    EXPECT_EQ(scene.outcome_text(id), "COMPLETED/done");
    EXPECT_EQ(scene.shown(id), "gone");
}

TEST(Epoch, ARunningAttemptIsAdoptedWithItsOldFence) {
    Scene scene;
    scene.goodbye("w", 7);
    Submission submission = CoreDriver::submission("a");
    submission.retry = RetryPolicy{.attempts_max = 2, .backoff = seconds(1)};
    const SessionId id = scene.submitted(submission);
    scene.backup();
    scene.restore();
    const Actions actions = scene.comes("w", 8, {running(id, {1, 3})});
    EXPECT_EQ(CoreDriver::records<AttemptAdopted>(actions).size(), 1u);
    EXPECT_EQ(CoreDriver::assigned(actions), std::vector{id});
    EXPECT_EQ(scene.used("w"), 1u);
    EXPECT_TRUE(CoreDriver::pushes<StopPush>(actions).empty());
    scene.report("w", 8, id, {1, 3}, scene.started());
    EXPECT_EQ(scene.shown(id), "RUNNING/working");
    EXPECT_TRUE(scene.core.is_current({id, {1, 3}}, WorkerName("w")));
    // Over a restart as well.
    scene.core = scene.replayed();
    EXPECT_TRUE(
        CoreDriver::records<AttemptAdopted>(scene.comes("w", 9, {running(id, {1, 3})})).empty());
    scene.lists("w", 9, {running(id, {1, 3})}, {});
    EXPECT_FALSE(CoreDriver::refusal(scene.release(false)).has_value());
    EXPECT_TRUE(scene.core.is_current({id, {1, 3}}));
    // The next one is above all that were given out before.
    EXPECT_FALSE(scene.report("w", 9, id, {1, 3}, scene.exited(1)).error.has_value());
    scene.tick_after(seconds(5));
    EXPECT_EQ(scene.fence(id), (Fence{2, 4}));
    EXPECT_TRUE(scene.report("w", 9, id, {1, 2}, scene.exited(0)).error.has_value());
}

TEST(Epoch, TheNewestOfSeveralAttemptsIsAdopted) {
    Scene scene;
    const SessionId id = scene.submitted("a");
    scene.report("w", 7, id, {1, 1}, scene.started());
    scene.hello(CoreDriver::worker("x"), 6);
    scene.backup();
    scene.restore();
    EXPECT_EQ(scene.shown(id), "RUNNING/working");
    EXPECT_EQ(
        CoreDriver::records<AttemptAdopted>(scene.comes("x", 8, {running(id, {1, 2})})).size(), 1u);
    EXPECT_EQ(scene.view(id).worker, "x");
    EXPECT_EQ(scene.used("w"), 0u);
    // The one before it runs still where this store took it to be.
    const Actions actions = scene.comes("w", 9, {running(id, {1, 1})});
    const auto stops = CoreDriver::pushes<StopPush>(actions);
    ASSERT_EQ(stops.size(), 1u);
    EXPECT_EQ(stops[0].stops.at(0).fence, (Fence{1, 1}));
    EXPECT_EQ(scene.fence(id), (Fence{1, 2}));
}

TEST(Epoch, WhatIsOnRecordHereIsNotLearntAgain) {
    Scene scene;
    Submission submission = CoreDriver::submission("a");
    submission.retry = RetryPolicy{.attempts_max = 3, .backoff = seconds(600)};
    const SessionId retried = scene.submitted(submission);
    scene.report("w", 7, retried, {1, 1}, scene.started());
    scene.report("w", 7, retried, {1, 1}, scene.exited(1));
    const SessionId declined = scene.submitted("a");
    scene.goodbye("w", 7);
    const SessionId never = scene.submitted("a");
    scene.backup();
    scene.restore();
    const Actions actions = scene.comes("w", 8,
                                        {attempt(never, {1, 1}, AttemptPhase::declined),
                                         attempt(declined, {1, 1}, AttemptPhase::accepted)});
    EXPECT_TRUE(CoreDriver::records<AttemptAdopted>(actions).empty());
    const Actions list = scene.lists("w", 8, {attempt(declined, {1, 1}, AttemptPhase::accepted)},
                                     {closed(retried, {1, 1})});
    EXPECT_TRUE(CoreDriver::records<AttemptAdopted>(list).empty());
    EXPECT_EQ(scene.shown(retried), "CREATED/retrying");
    EXPECT_EQ(scene.view(retried).attempts_used, 1u);
    EXPECT_EQ(scene.shown(declined), "CREATED/assigned");
}

TEST(Epoch, UnknownSessionsAreShownAndNeverKilled) {
    Scene scene;
    scene.goodbye("w", 7);
    scene.submitted("a");
    scene.backup();
    scene.advance(seconds(10));
    const SessionId alive = scene.submitted("a");
    const SessionId done = scene.submitted("a");
    scene.restore();
    const SessionId old("20200101-000000-a");
    const Actions hello = scene.comes("w", 8, {running(alive, {1, 1})});
    EXPECT_TRUE(CoreDriver::pushes<StopPush>(hello).empty());
    EXPECT_EQ(scene.used("w"), 1u);
    // An older one may well be final in the database.
    const Actions list =
        scene.lists("w", 8, {running(alive, {1, 1})}, {closed(done, {1, 1}), closed(old, {1, 1})});
    EXPECT_TRUE(CoreDriver::reply<HeartbeatReply>(list).stops.empty());
    const WorkerView view = scene.core.workers(scene.time).workers.at(0);
    EXPECT_EQ(view.unknown, (std::vector<AttemptRef>{{alive, {1, 1}}, {done, {1, 1}}}));
    scene.release(false);
    EXPECT_TRUE(CoreDriver::reply<HeartbeatReply>(scene.heartbeat("w", 8, {running(alive, {1, 1})}))
                    .stops.empty());
    scene.heartbeat("w", 8, {});
    EXPECT_EQ(scene.core.workers(scene.time).workers.at(0).unknown,
              (std::vector<AttemptRef>{{done, {1, 1}}}));
}

// The same backup twice: what the first restore gave out must not be given out again.
TEST(Epoch, AGenerationThatAWorkerKnowsIsLeftToIt) {
    Scene scene;
    scene.backup();
    scene.restore();
    const SessionId id = scene.submitted("a");
    scene.restore();
    scene.comes("w", 8, {running(id, {2, 1})});
    EXPECT_EQ(scene.core.fleet(scene.time).generation, 3u);
    EXPECT_EQ(scene.core.fleet(scene.time).epoch, "second");
    scene.lists("w", 8, {running(id, {2, 1}), running(id, {4'100'000'000, 1})}, {});
    EXPECT_EQ(scene.core.fleet(scene.time).generation, 3u);
    scene.release(false);
    scene.heartbeat("w", 8, {});
    EXPECT_EQ(scene.fence(scene.submitted("a")), (Fence{3, 1}));
    // Afterwards nobody's word raises it.
    scene.heartbeat("w", 8, {running(id, {3, 1})});
    EXPECT_EQ(scene.core.fleet(scene.time).generation, 3u);
}

// No store gives these out, and there would be nothing above them, or nothing at all.
TEST(Epoch, AFenceThatNobodyCanHaveIsNotAdopted) {
    for (const Fence fence :
         {Fence{5, 0}, Fence{0, 7}, Fence{1, 4'294'967'295}, Fence{4'294'967'295, 2}}) {
        Scene scene;
        Submission submission = CoreDriver::submission("a");
        submission.retry = RetryPolicy{.attempts_max = 9, .backoff = seconds(1)};
        const SessionId id = scene.submitted(submission);
        scene.backup();
        scene.restore();
        scene.comes("w", 8, {running(id, fence)});
        const Actions list = scene.lists("w", 8, {running(id, fence)}, {closed(id, fence)});
        EXPECT_TRUE(CoreDriver::records<AttemptAdopted>(list).empty());
        EXPECT_EQ(scene.fence(id), (Fence{1, 1}));
        scene.release(true);
        scene.report("w", 8, id, fence, scene.exited(1));
        scene.report("w", 8, id, {1, 1}, scene.exited(1));
        scene.heartbeat("w", 8, {});
        scene.tick_after(seconds(5));
        EXPECT_GT(scene.fence(id), (Fence{2, 1}));
    }
}

// Two forced releases of one backup leap differently far; of the further one a worker comes late.
TEST(Epoch, AfterAnAttemptOfALaterGenerationTheNextOneIsAboveIt) {
    Scene scene;
    Submission submission = CoreDriver::submission("a");
    submission.retry = RetryPolicy{.attempts_max = 9, .backoff = seconds(1)};
    const SessionId id = scene.submitted(submission);
    scene.report("w", 7, id, {1, 1}, scene.started());
    scene.backup();
    scene.restore();
    scene.release(true);
    WorkerHello late = CoreDriver::worker("w");
    late.start_count = 2;
    late.seen = SeenHead{.epoch = "another second", .seq = 3};
    late.inventory = {running(id, {3'000'000, 2})};
    EXPECT_EQ(CoreDriver::records<AttemptAdopted>(scene.hello(late, 8)).size(), 1u);
    scene.lists("w", 8, late.inventory, {});
    for (std::uint32_t attempt = 2; attempt < 5; ++attempt) {
        const Fence fence{2'999'998 + attempt, attempt};
        EXPECT_EQ(scene.fence(id), fence);
        scene.report("w", 8, id, fence, scene.exited(1));
        scene.tick_after(seconds(200));
        scene.heartbeat("w", 8, {});
    }
    scene.replayed();
}

// Nobody was asked, so nobody could say that the generation had been there before.
TEST(Epoch, AForcedReleaseLeapsToAGenerationOfItsOwn) {
    std::set<std::uint32_t> generations;
    for (const std::string epoch : {"second", "third", "fourth"}) {
        Scene scene;
        scene.backup();
        scene.core = scene.replayed();
        scene.step(BeginEpochEvent{
            .caller = std::nullopt, .epoch = epoch, .reason = "r", .principal = "uid:0"});
        const Actions actions = scene.release(true);
        EXPECT_EQ(CoreDriver::reply<ReleaseReply>(actions).epoch, epoch);
        generations.insert(CoreDriver::reply<ReleaseReply>(actions).generation);
    }
    EXPECT_EQ(generations.size(), 3u);
    EXPECT_GT(*generations.begin(), 2u);
}

// The clock was set back, so that the same second comes again.
TEST(Epoch, AForgottenIdIsNotGivenToAnotherSession) {
    Scene scene;
    scene.backup();
    scene.advance(seconds(200));
    const SessionId lost = scene.submitted("a");
    const SessionId far("20990101-000000-a");
    scene.restore();
    scene.time.wall -= seconds(100);
    scene.comes("w", 8, {});
    scene.lists("w", 8, {}, {closed(lost, {1, 1}), closed(far, {1, 1})});
    const SessionId fresh = scene.submitted("a");
    EXPECT_LT(lost, fresh);
    EXPECT_LT(fresh, far);
}

// What this store takes to be on its way may have been declined, or have gone to another worker.
TEST(Epoch, AnAssignmentThatIsNotListedWaitsForTheRelease) {
    Scene scene;
    const SessionId id = scene.submitted("a");
    scene.backup();
    scene.restore();
    EXPECT_TRUE(CoreDriver::assigned(scene.comes("w", 8, {})).empty());
    scene.lists("w", 8, {}, {});
    for (int beat = 0; beat < 3; ++beat)
        EXPECT_TRUE(CoreDriver::assigned(scene.heartbeat("w", 8, {})).empty());
    EXPECT_FALSE(CoreDriver::refusal(scene.release(false)).has_value());
    EXPECT_EQ(CoreDriver::assigned(scene.heartbeat("w", 8, {})), std::vector{id});
    EXPECT_EQ(scene.fence(id), (Fence{1, 1}));
}

TEST(Epoch, WhatEndedMeanwhileIsAskedForThoughItRunsHere) {
    Scene scene;
    const SessionId id = scene.submitted("a");
    scene.report("w", 7, id, {1, 1}, scene.started());
    scene.backup();
    scene.complete(id, {1, 1});
    scene.restore();
    // Its hello lists no closed ones, and that is no loss.
    scene.comes("w", 8, {});
    EXPECT_EQ(scene.shown(id), "RUNNING/working");
    const Actions actions = scene.lists("w", 8, {}, {closed(id, {1, 1})});
    EXPECT_TRUE(actions.records.empty());
    EXPECT_EQ(CoreDriver::assigned(actions), std::vector{id});
    scene.release(true);
    EXPECT_EQ(scene.shown(id), "RUNNING/working");
    scene.heartbeat("w", 8, {});
    EXPECT_EQ(CoreDriver::assigned(scene.heartbeat("w", 8, {})), std::vector{id});
    EXPECT_TRUE(scene.report("w", 8, id, {1, 1}, scene.exited(0)).outcome.has_value());
}

TEST(Epoch, WhatAWorkerNeverListedIsLostWithTheRelease) {
    Scene scene;
    const SessionId gone = scene.submitted("a");
    const SessionId runs = scene.submitted("a");
    scene.report("w", 7, gone, {1, 1}, scene.started());
    scene.report("w", 7, runs, {1, 1}, scene.started());
    scene.backup();
    scene.restore();
    scene.comes("w", 8, {running(runs, {1, 1})});
    scene.lists("w", 8, {running(runs, {1, 1})}, {});
    EXPECT_EQ(scene.shown(gone), "RUNNING/working");
    scene.release(false);
    EXPECT_EQ(scene.outcome_text(gone), "FAILED/lost");
    EXPECT_EQ(scene.outcome(gone).evidence,
              "worker w has listed all its attempts, and this one is not among them");
    EXPECT_EQ(scene.shown(runs), "RUNNING/working");
}

TEST(Epoch, NothingEndsByItsDeadlineMeanwhile) {
    Scene scene;
    Submission submission = CoreDriver::submission("a");
    submission.on_lost = OnLost::fail;
    const SessionId held = scene.submitted(submission);
    scene.report("w", 7, held, {1, 1}, scene.started());
    scene.goodbye("w", 7);
    submission.expires = seconds(150);
    const SessionId expires = scene.submitted(submission);
    scene.backup();
    scene.restore();
    scene.tick_after(limits::kLostAfter);
    scene.tick_after(limits::kLostAfter);
    EXPECT_EQ(scene.shown(held), "RUNNING/unreachable");
    EXPECT_EQ(scene.shown(expires), "CREATED/paused");
    EXPECT_EQ(scene.core.next_deadline(), std::nullopt);
    scene.release(true);
    EXPECT_EQ(scene.outcome_text(expires), "KILLED/expired");
    scene.tick();
    EXPECT_EQ(scene.outcome_text(held), "FAILED/lost");
}

TEST(Epoch, ReleaseWaitsForEveryWorker) {
    Scene scene;
    scene.hello(CoreDriver::worker("x"), 6);
    scene.backup();
    scene.restore();
    EXPECT_EQ(scene.refused(scene.release(false)),
              "CONFLICT: not heard since the restore: w, x; start them, confirm them dead, or "
              "release with force: what they ran may then run twice");
    EXPECT_EQ(scene.core.fleet(scene.time).unheard,
              (std::vector{WorkerName("w"), WorkerName("x")}));
    scene.comes("w", 8, {});
    EXPECT_EQ(scene.core.fleet(scene.time).unheard, std::vector{WorkerName("x")});
    scene.comes("x", 9, {});
    scene.lists("x", 9, {}, {});
    EXPECT_EQ(scene.refused(scene.release(false)),
              "CONFLICT: worker w has not yet listed all its attempts; try again in a few seconds");
    scene.lists("w", 8, {}, {});
    EXPECT_FALSE(CoreDriver::refusal(scene.release(false)).has_value());
}

TEST(Epoch, AWorkerThatIsConfirmedDeadOrRenamedIsNotWaitedFor) {
    Scene scene;
    scene.hello(CoreDriver::worker("x"), 6);
    scene.backup();
    scene.restore();
    WorkerHello renamed = CoreDriver::worker("w");
    renamed.name = WorkerName("new");
    renamed.start_count = 2;
    scene.tick_after(limits::kUnreachableAfter);
    scene.hello(renamed, 8);
    scene.lists("new", 8, {}, {});
    EXPECT_EQ(scene.core.fleet(scene.time).unheard, std::vector{WorkerName("x")});
    scene.step(ConfirmDeadEvent{CoreDriver::caller(1), {.worker = "x", .reason = "burnt"}});
    EXPECT_TRUE(scene.core.fleet(scene.time).unheard.empty());
    EXPECT_FALSE(CoreDriver::refusal(scene.release(false)).has_value());
}

// Asked for the end, it may not have heard the question: that its next hello lists nothing is no
// loss.
TEST(Epoch, AnEndThatIsOwedIsWaitedForOverANewConnection) {
    for (const std::uint64_t start : {2, 3}) {
        Scene scene;
        const SessionId id = scene.submitted("a");
        scene.report("w", 7, id, {1, 1}, scene.started());
        scene.backup();
        scene.complete(id, {1, 1});
        scene.restore();
        scene.release(true);
        WorkerHello late = CoreDriver::worker("w");
        late.start_count = 2;
        late.seen = SeenHead{.epoch = "first", .seq = 3};
        scene.hello(late, 8);
        const Actions list = scene.lists("w", 8, {}, {closed(id, {1, 1})});
        // It belongs to this epoch once its ends are known as well.
        EXPECT_TRUE(CoreDriver::reply<HeartbeatReply>(list).restored);
        scene.step(PeerGoneEvent{{8}});
        late.start_count = start;
        late.seen->epoch = "second";
        scene.hello(late, 9);
        EXPECT_EQ(scene.shown(id), "RUNNING/working");
        scene.heartbeat("w", 9, {});
        EXPECT_EQ(CoreDriver::assigned(scene.heartbeat("w", 9, {})), std::vector{id});
        EXPECT_TRUE(scene.report("w", 9, id, {1, 1}, scene.exited(0)).outcome.has_value());
        EXPECT_FALSE(CoreDriver::reply<HeartbeatReply>(scene.heartbeat("w", 9, {})).restored);
    }
}

// What it had ended is not run again because an admin took it for dead before it came.
TEST(Epoch, AWorkerThatComesAfterItWasConfirmedDeadStillTells) {
    for (const OnLost policy : {OnLost::wait, OnLost::requeue}) {
        Scene scene;
        Submission submission = CoreDriver::submission("a");
        submission.on_lost = policy;
        const SessionId id = scene.submitted(submission);
        scene.report("w", 7, id, {1, 1}, scene.started());
        scene.backup();
        scene.complete(id, {1, 1});
        scene.restore();
        scene.tick_after(limits::kUnreachableAfter);
        const ConfirmDeadEvent of_session{CoreDriver::caller(1),
                                          {.id = id.str(), .reason = "burnt"}};
        EXPECT_EQ(scene.refused(scene.step(of_session)),
                  "CONFLICT: the store was restored, and how the attempt went on is not known "
                  "here; confirm its worker dead, or do this after `ictl resume --after-restore`");
        const Actions actions =
            scene.step(ConfirmDeadEvent{CoreDriver::caller(1), {.host = "h", .reason = "burnt"}});
        EXPECT_TRUE(actions.records.empty());
        const SessionView view = CoreDriver::reply<ConfirmDeadReply>(actions).sessions.at(0);
        EXPECT_EQ(view.status, SessionStatus::running);
        EXPECT_EQ(view.reason, "worker w is unreachable; lost with `ictl resume --after-restore`");
        scene.comes("w", 8, {});
        scene.lists("w", 8, {}, {closed(id, {1, 1})});
        EXPECT_TRUE(scene.report("w", 8, id, {1, 1}, scene.exited(0)).outcome.has_value());
        scene.report("w", 8, id, {1, 1}, ClosedReport{});
        EXPECT_EQ(scene.outcome_text(id), "COMPLETED/done");
        EXPECT_FALSE(CoreDriver::refusal(scene.release(false)).has_value());
        EXPECT_EQ(scene.shown(id), "gone");
    }
}

TEST(Epoch, WhoStaysAwayIsLostWithTheRelease) {
    for (const OnLost policy : {OnLost::wait, OnLost::requeue}) {
        Scene scene;
        Submission submission = CoreDriver::submission("a");
        submission.on_lost = policy;
        const SessionId id = scene.submitted(submission);
        scene.report("w", 7, id, {1, 1}, scene.started());
        scene.backup();
        scene.restore();
        scene.tick_after(limits::kUnreachableAfter);
        scene.step(ConfirmDeadEvent{CoreDriver::caller(1), {.worker = "w", .reason = "burnt"}});
        EXPECT_EQ(scene.shown(id), "RUNNING/unreachable");
        EXPECT_FALSE(CoreDriver::refusal(scene.release(false)).has_value());
        if (policy == OnLost::requeue) {
            EXPECT_EQ(scene.shown(id), "CREATED/retrying");
            continue;
        }
        EXPECT_EQ(scene.outcome_text(id), "FAILED/lost");
        EXPECT_EQ(scene.outcome(id).evidence, "confirmed dead by uid:1000: burnt");
    }
}

TEST(Epoch, ReleaseRefusesWhatItIsNotAbout) {
    Scene scene;
    EXPECT_EQ(scene.refused(scene.release(true)),
              "CONFLICT: nothing is held back by a restore; pauses are lifted by `ictl resume`");
    scene.begin();
    ReleaseEvent inside{.caller = CoreDriver::caller(7), .force = true, .reason = ""};
    inside.caller.inside = AttemptRef{SessionId("x"), {1, 1}};
    EXPECT_EQ(CoreDriver::refusal(scene.step(inside))->code, ErrorCode::forbidden);
    BeginEpochEvent begin{.caller = inside.caller, .epoch = "e", .reason = "", .principal = "x"};
    EXPECT_EQ(CoreDriver::refusal(scene.step(begin))->code, ErrorCode::forbidden);
}

TEST(Epoch, AnAdminMayBeginOneUnderConnectedWorkers) {
    Scene scene;
    const SessionId id = scene.submitted("a");
    const Actions actions = scene.step(BeginEpochEvent{.caller = CoreDriver::caller(1),
                                                       .epoch = "second",
                                                       .reason = "the disk lost a page",
                                                       .principal = "uid:0"});
    const auto reply = CoreDriver::reply<ReleaseReply>(actions);
    EXPECT_TRUE(reply.held);
    EXPECT_EQ(reply.epoch, "second");
    EXPECT_EQ(reply.generation, 2u);
    EXPECT_EQ(scene.core.fleet(scene.time).unheard, std::vector{WorkerName("w")});
    const AttemptState has = attempt(id, {1, 1}, AttemptPhase::accepted);
    EXPECT_TRUE(CoreDriver::reply<HeartbeatReply>(scene.heartbeat("w", 7, {has})).restored);
    EXPECT_TRUE(scene.core.fleet(scene.time).unheard.empty());
    scene.lists("w", 7, {has}, {});
    EXPECT_FALSE(CoreDriver::refusal(scene.release(false)).has_value());
    EXPECT_EQ(scene.shown(id), "CREATED/assigned");
}

TEST(Epoch, TheHoldSurvivesARestartAndAllMustBeHeardAgain) {
    Scene scene;
    scene.backup();
    scene.restore();
    scene.comes("w", 8, {});
    scene.lists("w", 8, {}, {});
    scene.core = scene.replayed();
    EXPECT_TRUE(scene.core.fleet(scene.time).restored);
    EXPECT_NE(scene.refused(scene.release(false)).find("not heard since the restore: w"),
              std::string::npos);
    EXPECT_TRUE(CoreDriver::reply<WelcomeReply>(scene.comes("w", 9, {})).restored);
}

// Its last epoch tells that it has not been merged, though the restore was released by force.
TEST(Epoch, ALateWorkerListsBeforeItIsGivenAnything) {
    Scene scene;
    const SessionId id = scene.submitted("a");
    scene.report("w", 7, id, {1, 1}, scene.started());
    scene.backup();
    scene.restore();
    scene.release(true);
    const SessionId waits = scene.submitted("a");
    WorkerHello late = CoreDriver::worker("w");
    late.start_count = 2;
    late.seen = SeenHead{.epoch = "first", .seq = 3};
    const Actions hello = scene.hello(late, 8);
    EXPECT_TRUE(CoreDriver::reply<WelcomeReply>(hello).restored);
    EXPECT_TRUE(CoreDriver::assigned(hello).empty());
    EXPECT_EQ(scene.shown(id), "RUNNING/working");
    const Actions list = scene.lists("w", 8, {}, {closed(id, {1, 1})});
    const std::vector<SessionId> given = CoreDriver::assigned(list);
    EXPECT_EQ(given.size(), 2u);
    EXPECT_TRUE(std::find(given.begin(), given.end(), waits) != given.end());
    EXPECT_GT(scene.fence(waits), (Fence{2, 1}));
    EXPECT_TRUE(scene.report("w", 8, id, {1, 1}, scene.exited(0)).outcome.has_value());
    // Of this epoch now, and like any other.
    late.seen->epoch = "second";
    EXPECT_FALSE(CoreDriver::reply<WelcomeReply>(scene.hello(late, 9)).restored);
}

}  // namespace
}  // namespace iw::broker
