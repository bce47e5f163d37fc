#include <gtest/gtest.h>

#include "tests/unit/broker/core_driver.h"

namespace iw::broker {
namespace {

using testing::CoreDriver;
using testing::seconds;

// Runs everything that waits through one slot and gives the order in which it went.
std::vector<SessionId> order_of_running(CoreDriver& driver) {
    std::vector<SessionId> order;
    WorkerHello worker = CoreDriver::worker("w");
    worker.slots = 1;
    std::vector<SessionId> given = CoreDriver::assigned(driver.hello(worker, 7));
    while (!given.empty()) {
        const SessionId id = given.at(0);
        order.push_back(id);
        driver.report("w", 7, id, driver.fence(id), driver.exited(0));
        given = CoreDriver::assigned(driver.last);
    }
    return order;
}

SessionId submit(CoreDriver& driver, int priority) {
    Submission submission = CoreDriver::submission("a");
    submission.priority = priority;
    return driver.submitted(submission);
}

TEST(Dispatch, PriorityThenOrderOfAcceptance) {
    CoreDriver driver;
    const SessionId low = submit(driver, -10);
    const SessionId first = submit(driver, 0);
    const SessionId second = submit(driver, 0);
    const SessionId high = submit(driver, 10);
    EXPECT_EQ(order_of_running(driver), (std::vector{high, first, second, low}));
}

TEST(Dispatch, OrderOfAcceptanceAlsoBeyondNineOfASecond) {
    CoreDriver driver;
    std::vector<SessionId> ids;
    for (int i = 0; i < 12; ++i)
        ids.push_back(submit(driver, 0));
    EXPECT_EQ(order_of_running(driver), ids);
}

TEST(Dispatch, WaitingIsWorthPriority) {
    CoreDriver driver;
    const SessionId low = submit(driver, -10);
    driver.advance(limits::kAgeingPerPriority * 10 - Duration(1));
    const SessionId before = submit(driver, 0);
    driver.advance(Duration(2));
    const SessionId after = submit(driver, 0);
    EXPECT_EQ(order_of_running(driver), (std::vector{before, low, after}));
}

TEST(Dispatch, SettingTheWallClockBackDoesNotJumpTheQueue) {
    CoreDriver driver;
    const SessionId first = submit(driver, 0);
    driver.time.wall -= seconds(3600);
    driver.advance(seconds(1));
    const SessionId second = submit(driver, 0);
    EXPECT_EQ(order_of_running(driver), (std::vector{first, second}));
}

TEST(Dispatch, DueTimeCountsAsAge) {
    CoreDriver driver;
    Submission delayed = CoreDriver::submission("a");
    delayed.delay = seconds(10);
    const SessionId late = driver.submitted(delayed);
    driver.advance(seconds(5));
    const SessionId early = submit(driver, 0);
    driver.advance(seconds(10));
    const SessionId last = submit(driver, 0);
    driver.tick();
    EXPECT_EQ(order_of_running(driver), (std::vector{early, late, last}));
}

TEST(Dispatch, OrderSurvivesRecovery) {
    CoreDriver driver;
    const SessionId low = submit(driver, -10);
    driver.advance(seconds(1));
    const SessionId first = submit(driver, 0);
    const SessionId high = submit(driver, 10);
    driver.core = driver.replayed();
    EXPECT_EQ(order_of_running(driver), (std::vector{high, first, low}));
}

TEST(Dispatch, NeverMoreThanTheSlots) {
    CoreDriver driver;
    for (int i = 0; i < 5; ++i)
        submit(driver, 0);
    const Actions actions = driver.hello(CoreDriver::worker("w"), 7);
    const std::vector<SessionId> given = CoreDriver::assigned(actions);
    EXPECT_EQ(given.size(), 2u);
    EXPECT_EQ(driver.used("w"), 2u);
    EXPECT_EQ(driver.core.counts().queued, 3u);
    const SessionId waiting = driver.core.match("", 9).at(2);
    EXPECT_EQ(driver.shown(waiting), "CREATED/queued");
    EXPECT_EQ(driver.view(waiting).reason, "waiting for a slot");
    // The slot is free in the step of the report.
    driver.report("w", 7, given[0], driver.fence(given[0]), driver.exited(0));
    EXPECT_EQ(CoreDriver::assigned(driver.last).size(), 1u);
    EXPECT_EQ(driver.used("w"), 2u);
}

TEST(Dispatch, AssignmentCarriesEverythingButThePrompt) {
    CoreDriver driver;
    driver.hello(CoreDriver::worker("w"), 7);
    Submission submission = CoreDriver::submission("a");
    submission.project = "p";
    submission.origin = {"h", "/r"};
    submission.tags = {"t"};
    submission.metadata = "{}";
    submission.disk_limit = 5;
    submission.priority = 3;
    submission.timeout = seconds(9);
    submission.estimate = seconds(5);
    submission.result_schema = "{}";
    const SessionId id = driver.submitted(submission);
    const auto pushes = CoreDriver::pushes<AssignPush>(driver.last);
    ASSERT_EQ(pushes.size(), 1u);
    const Assignment& assignment = pushes[0].assignments.at(0);
    EXPECT_EQ(assignment.session, id);
    EXPECT_EQ(assignment.fence, (Fence{1, 1}));
    EXPECT_EQ(assignment.agent.str(), "a");
    EXPECT_EQ(assignment.project, "p");
    EXPECT_EQ(assignment.origin, submission.origin);
    EXPECT_EQ(assignment.tags, submission.tags);
    EXPECT_EQ(assignment.metadata, "{}");
    EXPECT_EQ(assignment.disk_limit, 5u);
    EXPECT_EQ(assignment.priority, 3);
    EXPECT_EQ(assignment.timeout, seconds(9));
    EXPECT_EQ(assignment.prompt, "");
    EXPECT_EQ(assignment.result_schema, "");  // stands beside the prompt
    EXPECT_EQ(driver.view(id).estimate, seconds(5));
    EXPECT_EQ(driver.shown(id), "CREATED/assigned");
    EXPECT_EQ(driver.view(id).reason, "given to w");
}

TEST(Dispatch, Eligibility) {
    WorkerHello worker = CoreDriver::worker("w");
    worker.labels = {{"gpu", "yes"}, {"os", "debian"}};
    const auto runs = [&](auto change) {
        CoreDriver driver;
        driver.hello(worker, 7);
        Submission submission = CoreDriver::submission("a");
        submission.queue_anyway = true;
        change(submission);
        return driver.shown(driver.submitted(submission)) == "CREATED/assigned";
    };
    using S = Submission;
    EXPECT_TRUE(runs([](S&) {}));
    EXPECT_FALSE(runs([](S& s) { s.agent = AgentName("b"); }));
    EXPECT_TRUE(runs([](S& s) { s.project = "p"; }));
    EXPECT_FALSE(runs([](S& s) { s.project = "q"; }));
    const auto own_agent = [](S& s, const char* project) {
        s.agent = AgentName("own");
        s.agent_in_project = true;
        s.project = project;
    };
    EXPECT_TRUE(runs([&](S& s) { own_agent(s, "p"); }));
    EXPECT_FALSE(runs([&](S& s) { own_agent(s, "q"); }));
    EXPECT_FALSE(runs([&](S& s) { own_agent(s, ""); }));
    // Without a project it stays where it is from, with one its files may travel.
    EXPECT_TRUE(runs([](S& s) { s.origin = {"h", "/r"}; }));
    EXPECT_FALSE(runs([](S& s) { s.origin = {"h", "/other"}; }));
    EXPECT_FALSE(runs([](S& s) { s.origin = {"other", "/r"}; }));
    const auto from = [](S& s, const char* root) {
        s.project = "p";
        s.origin = {"h", root};
    };
    EXPECT_TRUE(runs([&](S& s) { from(s, "/r"); }));
    EXPECT_TRUE(runs([&](S& s) { from(s, "/other"); }));
    // An agent that was seen in one root of the project need not be in another.
    EXPECT_TRUE(runs([&](S& s) { own_agent(s, "p"), from(s, "/r"); }));
    EXPECT_FALSE(runs([&](S& s) { own_agent(s, "p"), from(s, "/other"); }));
    EXPECT_TRUE(runs([](S& s) { s.host = "h"; }));
    EXPECT_TRUE(runs([](S& s) { s.host = "w"; }));
    EXPECT_FALSE(runs([](S& s) { s.host = "other"; }));
    EXPECT_TRUE(runs([](S& s) { s.require = {{"gpu", "yes"}}; }));
    EXPECT_FALSE(runs([](S& s) { s.require = {{"gpu", "no"}}; }));
    EXPECT_FALSE(runs([](S& s) { s.require = {{"gpu", "yes"}, {"ram", "big"}}; }));
}

// Its files need not travel then, however loaded it is; another one comes next.
TEST(Dispatch, TheOwnerIsPreferredWhileItHasRoom) {
    CoreDriver driver;
    driver.hello(CoreDriver::worker("w"), 7);
    driver.hello(CoreDriver::worker("x"), 8);
    Submission submission = CoreDriver::submission("a");
    submission.project = "p";
    submission.origin = {"h", "/r/x"};
    EXPECT_EQ(driver.view(driver.submitted(submission)).worker, "x");
    EXPECT_EQ(driver.view(driver.submitted(submission)).worker, "x");
    EXPECT_EQ(driver.view(driver.submitted(submission)).worker, "w");
    const SessionId from_nowhere = driver.submitted("a");
    EXPECT_EQ(driver.view(from_nowhere).worker, "w");
    EXPECT_EQ(driver.shown(driver.submitted(submission)), "CREATED/queued");
}

TEST(Dispatch, LeastLoadedInProportionThenByName) {
    CoreDriver driver;
    WorkerHello small = CoreDriver::worker("small");
    WorkerHello large = CoreDriver::worker("large");
    large.slots = 4;
    driver.hello(small, 7);
    driver.hello(large, 8);
    std::vector<std::string> workers;
    for (int i = 0; i < 6; ++i)
        workers.push_back(driver.view(submit(driver, 0)).worker);
    EXPECT_EQ(workers,
              (std::vector<std::string>{"large", "small", "large", "large", "small", "large"}));
}

TEST(Dispatch, AClassWithoutAWorkerDoesNotBlockTheOthers) {
    CoreDriver driver;
    Submission stuck = CoreDriver::submission("b");
    stuck.priority = 100;
    const SessionId nobody = driver.submitted(stuck);
    const SessionId runs = submit(driver, -100);
    const Actions actions = driver.hello(CoreDriver::worker("w"), 7);
    EXPECT_EQ(CoreDriver::assigned(actions), std::vector{runs});
    EXPECT_EQ(driver.shown(nobody), "CREATED/no-worker");
}

TEST(Dispatch, NewAgentsAndSlotsOfAHeartbeatCount) {
    CoreDriver driver;
    driver.hello(CoreDriver::worker("w"), 7);
    Submission other = CoreDriver::submission("b");
    other.queue_anyway = true;
    std::vector<SessionId> ids;
    for (int i = 0; i < 4; ++i)
        ids.push_back(driver.submitted(other));
    HeartbeatEvent event{CoreDriver::caller(7), WorkerName("w"), {}};
    event.heartbeat.agents = std::vector<std::string>{"a", "b"};
    Actions actions = driver.step(event);
    EXPECT_EQ(CoreDriver::assigned(actions), (std::vector{ids[0], ids[1]}));
    EXPECT_EQ(CoreDriver::records<WorkerRegistered>(actions).size(), 1u);
    event.heartbeat.slots = 3;
    actions = driver.step(event);
    EXPECT_EQ(CoreDriver::assigned(actions), (std::vector{ids[2]}));
    // The same again changes nothing durable.
    EXPECT_TRUE(driver.step(event).records.empty());
    // Fewer slots take nothing away and give nothing new.
    event.heartbeat.slots = 1;
    EXPECT_TRUE(CoreDriver::records<AttemptAssigned>(driver.step(event)).empty());
    EXPECT_EQ(driver.core.counts().assigned, 3u);
}

TEST(Dispatch, AttemptsThatAreNotOursTakeRoom) {
    CoreDriver driver;
    WorkerHello worker = CoreDriver::worker("w");
    worker.inventory = {
        testing::attempt(SessionId("20240101-000000-x"), {1, 1}, AttemptPhase::running),
        testing::attempt(SessionId("20240101-000000-y"), {1, 1}, AttemptPhase::ended)};
    const Actions hello = driver.hello(worker, 7);
    EXPECT_EQ(driver.used("w"), 1u);
    // Unknown here is not wrong: it is told of and left alone.
    EXPECT_TRUE(CoreDriver::pushes<StopPush>(hello).empty());
    EXPECT_TRUE(std::any_of(
        hello.transitions.begin(), hello.transitions.end(), [](const Transition& transition) {
            return transition.why.find("unknown attempt 20240101-000000-x") != std::string::npos;
        }));
    submit(driver, 0);
    submit(driver, 0);
    EXPECT_EQ(driver.core.counts().assigned, 1u);
    const Fence fence{1, 1};
    const ReportAck ack =
        driver.report("w", 7, SessionId("20240101-000000-x"), fence, driver.exited(0));
    EXPECT_EQ(ack.error->code, ErrorCode::not_found);
    EXPECT_EQ(driver.core.counts().assigned, 2u);
}

TEST(Dispatch, SendsAgainWhatTheWorkersListDoesNotShow) {
    CoreDriver driver;
    driver.hello(CoreDriver::worker("w"), 7);
    const SessionId id = submit(driver, 0);
    // The first heartbeat may have been made before the assignment arrived.
    EXPECT_TRUE(CoreDriver::assigned(driver.heartbeat("w", 7, {})).empty());
    const Actions again = driver.heartbeat("w", 7, {});
    EXPECT_EQ(CoreDriver::assigned(again), std::vector{id});
    EXPECT_TRUE(again.records.empty());
    EXPECT_EQ(driver.fence(id), (Fence{1, 1}));
    EXPECT_TRUE(CoreDriver::assigned(driver.heartbeat("w", 7, {})).empty());
    const AttemptState listed = testing::attempt(id, {1, 1}, AttemptPhase::accepted);
    for (int beat = 0; beat < 3; ++beat) {
        EXPECT_TRUE(CoreDriver::assigned(driver.heartbeat("w", 7, {listed})).empty());
    }
}

// The cost of a step must not grow with what is queued: this is quadratic and takes minutes if it
// does.
TEST(Dispatch, AFullQueueIsCheap) {
    CoreConfig config;
    BrokerCore core(config, 1);
    Now time{Timestamp(Duration(1)), wall_from_ms(testing::kStartMs)};
    core.started(time);
    WorkerHello worker = CoreDriver::worker("w");
    core.step(time, HelloEvent{CoreDriver::caller(7), worker, "test"});
    std::vector<SessionId> running;
    for (int batch = 0; batch < 100; ++batch) {
        SubmitEvent event;
        event.caller = CoreDriver::caller(1);
        for (int i = 0; i < 500; ++i) {
            event.items.push_back({CoreDriver::submission("a"), CoreDriver::hash(1), std::nullopt});
        }
        time.steady += Duration(100);
        time.wall += Duration(100);
        const Actions actions = core.step(time, std::move(event));
        for (const SessionId& id : CoreDriver::assigned(actions))
            running.push_back(id);
    }
    EXPECT_EQ(core.counts().queued, 49'998u);
    ASSERT_EQ(running.size(), 2u);
    for (int i = 0; i < 20'000; ++i) {
        EndedReport ended;
        ended.success = true;
        ended.ended_at = time.wall;
        Report report{.session = running.back(), .fence = {1, 1}, .number = 2, .body = ended};
        running.pop_back();
        const Actions actions = core.step(
            time, ReportEvent{CoreDriver::caller(7), WorkerName("w"), {std::move(report)}});
        for (const SessionId& id : CoreDriver::assigned(actions))
            running.push_back(id);
        ASSERT_EQ(running.size(), 2u);
    }
    core.check_invariants();
}

// The queue of a connection is bounded, so a full house is not given out in one go.
TEST(Dispatch, OneStepSendsAWorkerABoundedNumber) {
    CoreDriver driver;
    for (int i = 0; i < 100; ++i)
        driver.submitted("a");
    WorkerHello worker = CoreDriver::worker("w");
    worker.slots = 1000;
    EXPECT_EQ(CoreDriver::assigned(driver.hello(worker, 7)).size(), 64u);
    EXPECT_EQ(driver.core.next_deadline(), driver.time.steady);
    EXPECT_EQ(CoreDriver::assigned(driver.tick()).size(), 36u);
    EXPECT_EQ(driver.core.next_deadline(), driver.time.steady + limits::kUnreachableAfter);
}

}  // namespace
}  // namespace iw::broker
