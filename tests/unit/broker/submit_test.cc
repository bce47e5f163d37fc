#include <gtest/gtest.h>

#include "tests/unit/broker/core_driver.h"

namespace iw::broker {
namespace {

using testing::CoreDriver;
using testing::seconds;

SubmitEvent::Item item(Submission submission, std::uint8_t hash) {
    return {std::move(submission), CoreDriver::hash(hash), std::nullopt};
}

Submission keyed(const std::string& key) {
    Submission submission = CoreDriver::submission("a");
    submission.key = key;
    return submission;
}

TEST(Submit, QueuesAndKeepsThePromptInTheRecordOnly) {
    CoreDriver driver;
    const SessionId id = driver.submitted("a");
    EXPECT_EQ(id.str(), "20251118-153320-a");
    const auto created = CoreDriver::records<SessionCreated>(driver.last);
    ASSERT_EQ(created.size(), 1u);
    EXPECT_EQ(created[0].submission.prompt, "do it");
    EXPECT_EQ(driver.shown(id), "CREATED/no-worker");
    EXPECT_EQ(driver.view(id).reason, "waiting for a worker that offers a");
    EXPECT_EQ(driver.core.counts().queued, 1u);
    EXPECT_EQ(driver.core.match("2025", 10), std::vector<SessionId>{id});
    EXPECT_TRUE(driver.core.match("2026", 10).empty());
}

TEST(Submit, SameKeySameBodyIsTheSameSession) {
    CoreDriver driver;
    const SubmitOutcome first = driver.submit(keyed("k"), CoreDriver::hash(1));
    const SubmitOutcome again = driver.submit(keyed("k"), CoreDriver::hash(1));
    EXPECT_FALSE(first.duplicate);
    EXPECT_TRUE(again.duplicate);
    EXPECT_EQ(again.id, first.id);
    EXPECT_TRUE(driver.last.records.empty());
    const SubmitOutcome other = driver.submit(keyed("k"), CoreDriver::hash(2));
    ASSERT_TRUE(other.error.has_value());
    EXPECT_EQ(other.error->code, ErrorCode::idem_mismatch);
    EXPECT_NE(other.error->message.find(first.id.str()), std::string::npos);
}

TEST(Submit, KeysAreApartForEachPrincipal) {
    CoreDriver driver;
    driver.submit(keyed("k"), CoreDriver::hash(1));
    SubmitEvent event;
    event.caller = CoreDriver::caller(2);
    event.caller.principal = "uid:2000";
    event.items.push_back(item(keyed("k"), 2));
    const Actions actions = driver.step(std::move(event));
    EXPECT_FALSE(CoreDriver::reply<SubmitReply>(actions).sessions.at(0).error.has_value());
}

TEST(Submit, KeyTwiceInOneRequest) {
    CoreDriver driver;
    SubmitEvent event;
    event.caller = CoreDriver::caller(1);
    event.items = {item(keyed("k"), 1), item(keyed("k"), 1), item(keyed("k"), 2),
                   item(keyed("j"), 1)};
    const auto reply = CoreDriver::reply<SubmitReply>(driver.step(std::move(event)));
    ASSERT_EQ(reply.sessions.size(), 4u);
    EXPECT_TRUE(reply.sessions[1].duplicate);
    EXPECT_EQ(reply.sessions[1].id, reply.sessions[0].id);
    EXPECT_EQ(reply.sessions[2].error->code, ErrorCode::idem_mismatch);
    EXPECT_FALSE(reply.sessions[3].duplicate);
    EXPECT_EQ(reply.sessions[3].id.str(), "20251118-153320-a-2");
}

TEST(Submit, KeyOfASessionThatIsFinalAlready) {
    CoreDriver driver;
    const SubmitOutcome first = driver.submit(keyed("k"), CoreDriver::hash(1));
    driver.kill(first.id, "enough");
    EXPECT_EQ(driver.shown(first.id), "gone");
    EXPECT_EQ(driver.submit(keyed("k"), CoreDriver::hash(1)).id, first.id);
    EXPECT_EQ(driver.submit(keyed("k"), CoreDriver::hash(9)).error->code, ErrorCode::idem_mismatch);
}

TEST(Submit, KeyThatTheDatabaseKnows) {
    CoreDriver driver;
    SubmitEvent event;
    event.caller = CoreDriver::caller(1);
    event.items = {item(keyed("k"), 1), item(keyed("k"), 2)};
    const KnownKey known{.id = SessionId("20240101-000000-a"), .body_hash = CoreDriver::hash(1)};
    event.items[0].known = known;
    event.items[1].known = known;
    const Actions actions = driver.step(std::move(event));
    const auto reply = CoreDriver::reply<SubmitReply>(actions);
    EXPECT_EQ(reply.sessions[0].id, known.id);
    EXPECT_TRUE(reply.sessions[0].duplicate);
    EXPECT_EQ(reply.sessions[1].error->code, ErrorCode::idem_mismatch);
    EXPECT_TRUE(actions.records.empty());
}

TEST(Submit, KeyIsKnownAfterRecovery) {
    CoreDriver driver;
    const SubmitOutcome live = driver.submit(keyed("live"), CoreDriver::hash(1));
    const SubmitOutcome gone = driver.submit(keyed("gone"), CoreDriver::hash(1));
    driver.kill(gone.id, "");
    BrokerCore other = driver.replayed();
    SubmitEvent event;
    event.caller = CoreDriver::caller(1);
    event.items = {item(keyed("live"), 1), item(keyed("gone"), 1), item(keyed("gone"), 2)};
    const auto reply = CoreDriver::reply<SubmitReply>(other.step(driver.time, std::move(event)));
    EXPECT_EQ(reply.sessions[0].id, live.id);
    EXPECT_EQ(reply.sessions[1].id, gone.id);
    EXPECT_EQ(reply.sessions[2].error->code, ErrorCode::idem_mismatch);
}

TEST(Submit, UnknownAgent) {
    CoreDriver driver;
    WorkerHello worker = CoreDriver::worker("w");
    worker.agents = {"grafana-agent", "writer"};
    driver.hello(worker, 7);
    const auto refused = driver.submit(CoreDriver::submission("grafana-agnet"));
    ASSERT_TRUE(refused.error.has_value());
    EXPECT_EQ(refused.error->code, ErrorCode::unknown_agent);
    EXPECT_NE(refused.error->message.find("did you mean \"grafana-agent\"?"), std::string::npos);
    EXPECT_NE(refused.error->message.find("grafana-agent, writer"), std::string::npos);

    Submission elsewhere = CoreDriver::submission("writer");
    elsewhere.project = "other";
    EXPECT_EQ(driver.submit(elsewhere).error->code, ErrorCode::unknown_agent);
    elsewhere.queue_anyway = true;
    EXPECT_FALSE(driver.submit(elsewhere).error.has_value());
    Submission in_project = CoreDriver::submission("mine");
    in_project.agent_in_project = true;
    EXPECT_FALSE(driver.submit(in_project).error.has_value());
    EXPECT_FALSE(driver.submit(CoreDriver::submission("writer")).error.has_value());
}

TEST(Submit, OneBadItemDoesNotHarmTheOthers) {
    CoreDriver driver;
    SubmitEvent event;
    event.caller = CoreDriver::caller(1);
    event.items = {item(CoreDriver::submission("a"), 1),
                   item(CoreDriver::submission("Bad Name"), 1),
                   item(CoreDriver::submission("b"), 1)};
    const auto reply = CoreDriver::reply<SubmitReply>(driver.step(std::move(event)));
    EXPECT_FALSE(reply.sessions[0].error.has_value());
    EXPECT_EQ(reply.sessions[1].error->code, ErrorCode::bad_request);
    EXPECT_FALSE(reply.sessions[2].error.has_value());
}

TEST(Submit, RefusesWhatIsOutOfRange) {
    CoreDriver driver;
    const auto refused = [&](auto change) {
        Submission submission = CoreDriver::submission("a");
        change(submission);
        const SubmitOutcome outcome = driver.submit(submission);
        return outcome.error ? outcome.error->code : ErrorCode::internal;
    };
    using S = Submission;
    EXPECT_EQ(refused([](S& s) { s.prompt.clear(); }), ErrorCode::bad_request);
    EXPECT_EQ(refused([](S& s) { s.priority = 101; }), ErrorCode::bad_request);
    EXPECT_EQ(refused([](S& s) { s.priority = -101; }), ErrorCode::bad_request);
    EXPECT_EQ(refused([](S& s) { s.delay = Duration(-1); }), ErrorCode::bad_request);
    EXPECT_EQ(refused([](S& s) { s.delay = Duration::max(); }), ErrorCode::bad_request);
    EXPECT_EQ(refused([](S& s) { s.expires = Duration(0); }), ErrorCode::bad_request);
    EXPECT_EQ(refused([](S& s) { s.timeout = Duration(0); }), ErrorCode::bad_request);
    EXPECT_EQ(refused([](S& s) { s.parent = SessionId("20240101-000000-x"); }),
              ErrorCode::not_found);
    EXPECT_EQ(driver.core.counts().queued, 0u);
    EXPECT_EQ(CoreDriver::refusal(driver.step(SubmitEvent{CoreDriver::caller(1), {}}))->code,
              ErrorCode::bad_request);
}

TEST(Submit, DepthOfDescendants) {
    CoreDriver driver;
    SessionId parent = driver.submitted("a");
    for (int depth = 1; depth <= limits::kSessionDepthMax; ++depth) {
        Submission child = CoreDriver::submission("a");
        child.parent = parent;
        parent = driver.submitted(child);
    }
    Submission too_deep = CoreDriver::submission("a");
    too_deep.parent = parent;
    EXPECT_EQ(driver.submit(too_deep).error->code, ErrorCode::conflict);
}

TEST(Submit, FromInsideASession) {
    CoreDriver driver;
    driver.hello(CoreDriver::worker("w"), 7);
    const SessionId parent = driver.submitted("a");
    SubmitEvent event;
    event.caller = CoreDriver::caller(7);
    event.caller.inside = AttemptRef{.session = parent, .fence = driver.fence(parent)};
    Submission child = CoreDriver::submission("a");
    child.parent = SessionId("20240101-000000-made-up");
    event.items = {item(child, 1)};
    const auto reply = CoreDriver::reply<SubmitReply>(driver.step(event));
    EXPECT_EQ(driver.view(reply.sessions.at(0).id).parent, parent);
    event.caller.inside->fence.attempt = 2;
    EXPECT_EQ(CoreDriver::refusal(driver.step(event))->code, ErrorCode::stale_fence);
}

TEST(Submit, DelayAndExpiryFollowTheSteadyClock) {
    CoreDriver driver;
    driver.hello(CoreDriver::worker("w"), 7);
    Submission submission = CoreDriver::submission("a");
    submission.delay = seconds(10);
    const SessionId id = driver.submitted(submission);
    EXPECT_EQ(driver.shown(id), "CREATED/delayed");
    EXPECT_EQ(driver.view(id).reason, "until 2025-11-18T15:33:30Z");
    driver.time.wall += seconds(3600);
    driver.tick_after(Duration(9'999));
    EXPECT_EQ(driver.shown(id), "CREATED/delayed");
    EXPECT_EQ(driver.core.next_deadline(), driver.time.steady + Duration(1));
    const Actions actions = driver.tick_after(Duration(1));
    EXPECT_EQ(CoreDriver::assigned(actions), std::vector<SessionId>{id});
}

TEST(Submit, AClockSetBackBeforeAStartMakesNoDelayOrExpiryLonger) {
    CoreDriver driver;
    Submission submission = CoreDriver::submission("a");
    submission.delay = seconds(10);
    submission.expires = seconds(90);
    const SessionId id = driver.submitted(submission);
    driver.time.wall -= seconds(24 * 3600);
    BrokerCore other = driver.replayed();
    EXPECT_EQ(other.next_deadline(), driver.time.steady + seconds(10));
    driver.time.steady += seconds(90);
    static_cast<void>(other.step(driver.time, TickEvent{}));
    EXPECT_FALSE(other.is_live(id));
}

TEST(Submit, ExpiresExactlyAtItsDeadline) {
    CoreDriver driver;
    Submission submission = CoreDriver::submission("a");
    submission.expires = seconds(90);
    const SessionId id = driver.submitted(submission);
    driver.tick_after(Duration(89'999));
    EXPECT_EQ(driver.shown(id), "CREATED/no-worker");
    driver.tick_after(Duration(1));
    EXPECT_EQ(driver.shown(id), "gone");
    EXPECT_EQ(driver.outcome_text(id), "KILLED/expired");
    EXPECT_EQ(driver.outcome(id).kill_reason, "not started within 90s");
    EXPECT_EQ(driver.core.next_deadline(), std::nullopt);
}

TEST(Submit, ExpiryGoesBeforeDueTimeAndNotBehindAssignment) {
    CoreDriver driver;
    driver.hello(CoreDriver::worker("w"), 7);
    Submission submission = CoreDriver::submission("a");
    submission.expires = seconds(10);
    const SessionId running = driver.submitted(submission);
    submission.delay = seconds(10);
    const SessionId late = driver.submitted(submission);
    driver.tick_after(seconds(10));
    EXPECT_EQ(driver.shown(running), "CREATED/assigned");
    EXPECT_EQ(driver.outcome_text(late), "KILLED/expired");
    // Back in the queue after its time, it ends instead of waiting.
    driver.report("w", 7, running, driver.fence(running), CoreDriver::declined(true));
    EXPECT_EQ(driver.outcome_text(running), "KILLED/expired");
}

TEST(Submit, IdsAfterRecovery) {
    CoreDriver driver;
    const SessionId first = driver.submitted("a");
    BrokerCore other = driver.replayed();
    SubmitEvent event;
    event.caller = CoreDriver::caller(1);
    event.items = {item(CoreDriver::submission("a"), 1)};
    const auto reply = CoreDriver::reply<SubmitReply>(other.step(driver.time, std::move(event)));
    EXPECT_EQ(first.str(), "20251118-153320-a");
    EXPECT_EQ(reply.sessions[0].id.str(), "20251118-153321-a");
}

TEST(Submit, ARootNeedsItsHost) {
    CoreDriver driver;
    Submission submission = CoreDriver::submission("a");
    submission.origin = {"", "/r"};
    const SubmitOutcome outcome = driver.submit(submission);
    ASSERT_TRUE(outcome.error.has_value());
    EXPECT_EQ(outcome.error->code, ErrorCode::bad_request);
    EXPECT_EQ(outcome.error->message, "origin.host: is required with origin.root");
}

// Parents end and go; who was above a session is in its own record.
TEST(Submit, RecordsTheAttemptAndAllAncestors) {
    CoreDriver driver;
    driver.hello(CoreDriver::worker("w"), 7);
    const SessionId root = driver.submitted("a");
    Submission below = CoreDriver::submission("a");
    below.parent = root;
    const SessionId parent = driver.submitted(below);
    SubmitEvent event;
    event.caller = CoreDriver::caller(7);
    event.caller.inside = AttemptRef{parent, {1, 1}};
    event.items.push_back(item(CoreDriver::submission("a"), 1));
    const Actions actions = driver.step(std::move(event));
    const auto created = CoreDriver::records<SessionCreated>(actions);
    ASSERT_EQ(created.size(), 1u);
    EXPECT_EQ(created[0].submission.parent, parent);
    EXPECT_EQ(created[0].parent_fence, (Fence{1, 1}));
    EXPECT_EQ(created[0].ancestors, (std::vector<SessionId>{root, parent}));
    // Said from outside, a parent has no attempt that asked.
    driver.submitted(below);
    const auto outside = CoreDriver::records<SessionCreated>(driver.last);
    EXPECT_FALSE(outside.at(0).parent_fence.has_value());
    EXPECT_EQ(outside.at(0).ancestors, std::vector<SessionId>{root});
}

TEST(Submit, TheViewShowsWhatWasAskedFor) {
    CoreDriver driver;
    Submission submission = CoreDriver::submission("a");
    submission.delay = seconds(10);
    submission.expires = seconds(60);
    submission.on_lost = OnLost::requeue;
    submission.retry = RetryPolicy{.attempts_max = 4};
    const SessionId id = driver.submitted(submission);
    const SessionView view = driver.view(id);
    EXPECT_EQ(view.not_before, driver.time.wall + seconds(10));
    EXPECT_EQ(view.expires_at, driver.time.wall + seconds(60));
    EXPECT_EQ(view.on_lost, OnLost::requeue);
    EXPECT_EQ(view.attempts_used, 0u);
    EXPECT_EQ(view.attempts_max, 4u);
    EXPECT_EQ(driver.view(driver.submitted("a")).attempts_max, 1u);
}

}  // namespace
}  // namespace iw::broker
