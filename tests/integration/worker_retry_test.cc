// Attempts that follow one another, run timeouts that change, and sessions whose terminal or disk
// is taken away, through a real broker, worker and agent.

#include <gtest/gtest.h>

#include "tests/integration/worker_fixture.h"

namespace iw::test {
namespace {

constexpr const char* kWaiting =
    "#!/bin/sh\nwhile [ ! -e \"$IW_WORKSPACE/go\" ]; do sleep 0.05; done\n";

Submission retried(const std::string& agent, std::uint32_t attempts) {
    Submission submission = make_submission(agent, "x", "");
    submission.retry = RetryPolicy{
        .attempts_max = attempts, .backoff = Duration{50}, .backoff_max = Duration{100}};
    return submission;
}

TEST(WorkerRetry, EachAttemptFindsWhatTheOneBeforeLeft) {
    TestFleet fleet;
    fleet.add_agent("stubborn",
                    "#!/bin/sh\n"
                    "[ -e \"$IW_RESULT_FILE\" ] && exit 9\n"
                    "echo \"$IW_ATTEMPT $IW_GENERATION\" >> \"$IW_PROJECT_ROOT/starts\"\n"
                    "echo \"{\\\"status\\\": \\\"$IW_ATTEMPT\\\"}\" > \"$IW_RESULT_FILE\"\n"
                    "echo output of $IW_ATTEMPT\n"
                    "[ \"$IW_ATTEMPT\" = 3 ] && [ -e \"$IW_WORKSPACE/attempts/1/result.json\" ]\n");
    ASSERT_TRUE(fleet.start());
    const SessionId id = fleet.submit(retried("stubborn", 3));
    const SessionView view = fleet.wait_status(id, SessionStatus::completed);
    ASSERT_EQ(view.status, SessionStatus::completed) << fleet.text(fleet.log());
    EXPECT_EQ(view.attempt, 3u);
    EXPECT_EQ(view.result_status, "3");
    EXPECT_EQ(fleet.text(fleet.root() + "/starts"), "1 1\n2 1\n3 1\n");
    for (const char* number : {"1", "2"}) {
        const std::string earlier = fleet.workspace(id) + "/attempts/" + number;
        EXPECT_NE(fleet.text(earlier + "/result.json").find(number), std::string::npos);
        EXPECT_NE(fleet.text(earlier + "/output.log").find(std::string("output of ") + number),
                  std::string::npos);
    }
    const std::string log = fleet.text(fleet.workspace(id) + "/session.log");
    const std::string line = "Status: RUNNING → CREATED (retrying)\n";
    EXPECT_NE(log.find(line), std::string::npos) << log;
    EXPECT_NE(log.find(line), log.rfind(line)) << "two returns:\n" << log;
    EXPECT_NE(log.find("Status: RUNNING → COMPLETED\n"), std::string::npos) << log;
    EXPECT_EQ(fleet.state_json(id)["status"], "COMPLETED");
}

TEST(WorkerRetry, ShowsThatAnotherAttemptFollows) {
    TestFleet fleet;
    fleet.add_agent("failing", "#!/bin/sh\nexit 4\n");
    ASSERT_TRUE(fleet.start());
    Submission submission = retried("failing", 2);
    submission.retry->backoff = Duration{600'000};
    submission.retry->backoff_max = Duration{600'000};
    const SessionId id = fleet.submit(submission);
    EXPECT_TRUE(wait_until([&] { return fleet.state_json(id)["detail"] == "retrying"; }, kCap))
        << fleet.state_json(id).dump(2) << fleet.text(fleet.log());
    EXPECT_EQ(fleet.state_json(id)["status"], "CREATED");
    EXPECT_EQ(fleet.state_json(id)["tmux_active"], false);
    EXPECT_TRUE(io::exists(fleet.workspace(id) + "/output.log")) << "moved only by the next one";
}

TEST(WorkerRetry, AChangedTimeoutHoldsOverARestartOfTheWorker) {
    TestFleet fleet;
    fleet.add_agent("waiting", kWaiting);
    ASSERT_TRUE(fleet.start());
    const SessionId id = fleet.submit("waiting", "x");
    ASSERT_EQ(fleet.wait_status(id, SessionStatus::running).status, SessionStatus::running);
    const std::string file = fleet.state() + "/attempts/" + id.str() + "-1-1/limits.json";
    const auto extend = [&](Duration timeout) {
        ExtendRequest request;
        request.id = id.str();
        request.timeout = timeout;
        return fleet.peer().call<ExtendReply>(request).ok();
    };
    ASSERT_TRUE(extend(Duration{7'000'000}));
    EXPECT_TRUE(
        wait_until([&] { return fleet.text(file).find("7000000") != std::string::npos; }, kCap));
    fleet.worker().kill();
    ASSERT_TRUE(extend(Duration{1'000}));
    fleet.start_worker();
    const SessionView view = fleet.wait_status(id, SessionStatus::killed);
    EXPECT_EQ(view.status, SessionStatus::killed) << fleet.text(fleet.log());
    EXPECT_EQ(view.detail, Detail::timeout);
}

TEST(WorkerTerminal, AKilledTmuxServerLosesItsSessionsAndNoOther) {
    TestFleet fleet;
    fleet.add_agent("waiting", kWaiting);
    fleet.add_agent("quick", "#!/bin/sh\nexit 0\n");
    ASSERT_TRUE(fleet.start());
    const std::vector<SessionId> ids = {fleet.submit("waiting", "x"), fleet.submit("waiting", "y")};
    for (const SessionId& id : ids)
        ASSERT_EQ(fleet.wait_status(id, SessionStatus::running).status, SessionStatus::running);
    const std::string before = fleet.text(fleet.state() + "/tmux.pid");
    ASSERT_EQ(::kill(static_cast<pid_t>(std::atol(before.c_str())), SIGKILL), 0);
    for (const SessionId& id : ids) {
        const SessionView view = fleet.wait_status(id, SessionStatus::failed);
        EXPECT_EQ(view.detail, Detail::lost) << fleet.text(fleet.log());
        EXPECT_NE(view.reason.find("tmux server ended"), std::string::npos) << view.reason;
    }
    EXPECT_NE(fleet.text(fleet.log()).find("the tmux server ended"), std::string::npos);
    const SessionId next = fleet.submit("quick", "x");
    EXPECT_EQ(fleet.wait_status(next, SessionStatus::completed).status, SessionStatus::completed);
    EXPECT_NE(fleet.text(fleet.state() + "/tmux.pid"), before);
}

TEST(WorkerTerminal, ARemovedSocketComesBack) {
    TestFleet fleet;
    fleet.add_agent("waiting", kWaiting);
    ASSERT_TRUE(fleet.start());
    const SessionId id = fleet.submit("waiting", "x");
    ASSERT_EQ(fleet.wait_status(id, SessionStatus::running).status, SessionStatus::running);
    const std::string before = fleet.text(fleet.state() + "/tmux.pid");
    const std::string socket = fleet.state() + "/tmux.sock";
    ASSERT_TRUE(io::remove_file(socket).ok());
    EXPECT_TRUE(wait_until([&] { return io::exists(socket); }, kCap)) << fleet.text(fleet.log());
    EXPECT_EQ(fleet.text(fleet.state() + "/tmux.pid"), before);
    EXPECT_EQ(fleet.view(id)->status, SessionStatus::running);
}

// As on a full disk: neither a stop nor an end can be written down, nor is there a process record.
TEST(WorkerTerminal, AStopWorksWithoutAFolderToWriteItDown) {
    TestFleet fleet;
    fleet.add_agent("waiting", kWaiting);
    ASSERT_TRUE(fleet.start());
    const SessionId id = fleet.submit("waiting", "x");
    ASSERT_EQ(fleet.wait_status(id, SessionStatus::running).status, SessionStatus::running);
    const auto agent = fleet.process_of(id, "agent");
    ASSERT_TRUE(agent.has_value());
    const std::string folder = fleet.state() + "/attempts/" + id.str() + "-1-1";
    const std::string away = fleet.file("away");
    ASSERT_EQ(::rename(folder.c_str(), away.c_str()), 0);
    ASSERT_TRUE(io::write_file(folder, "in the way", 0600, io::Sync::none).ok());
    fleet.kill_session(id, "enough");
    EXPECT_TRUE(wait_until([&] { return !io::is_running(*agent); }, kCap))
        << fleet.text(fleet.log());
    EXPECT_EQ(fleet.view(id)->status, SessionStatus::running) << "nothing is reported unrecorded";
    ASSERT_TRUE(io::remove_file(folder).ok());
    ASSERT_EQ(::rename(away.c_str(), folder.c_str()), 0);
    const SessionView view = fleet.wait_status(id, SessionStatus::killed);
    EXPECT_EQ(view.status, SessionStatus::killed) << fleet.text(fleet.log());
    EXPECT_EQ(view.kill_reason, "enough");
}

}  // namespace
}  // namespace iw::test
