// A session's life through a real broker, worker, tmux, launcher and agent.

#include <gtest/gtest.h>

#include "tests/integration/worker_fixture.h"

namespace iw::test {
namespace {

constexpr const char* kGood =
    "#!/bin/sh\n"
    "cat > \"$IW_WORKSPACE/got\"\n"
    "echo \"hello from $IW_SESSION_ID\"\n"
    "echo '{\"status\":\"success\",\"n\":1}' > \"$IW_RESULT_FILE\"\n";

bool contains(const std::string& text, const std::string& part) {
    return text.find(part) != std::string::npos;
}

TEST(WorkerLife, APromptGoesInAndAResultComesOut) {
    TestFleet fleet;
    fleet.add_agent("good", kGood);
    ASSERT_TRUE(fleet.start()) << fleet.text(fleet.log());
    const std::string prompt = "do `it`; $(touch pwned) #{x};\r\n\"quotes\" \xf0\x9f\x98\x80";
    const SessionId id = fleet.submit("good", prompt);
    const SessionView view = fleet.wait_status(id, SessionStatus::completed);
    ASSERT_EQ(view.status, SessionStatus::completed) << fleet.text(fleet.log());
    EXPECT_EQ(view.exit_code, 0);
    EXPECT_EQ(view.result_status, "success");
    EXPECT_EQ(view.host, "here");

    // Complete at the moment that the final status shows.
    EXPECT_EQ(fleet.text(fleet.workspace(id) + "/prompt.md"), prompt);
    EXPECT_EQ(fleet.text(fleet.workspace(id) + "/got"), prompt) << "byte for byte";
    EXPECT_FALSE(io::exists(fleet.root() + "/pwned"));
    const auto state = fleet.state_json(id);
    EXPECT_EQ(state["status"], "COMPLETED");
    EXPECT_TRUE(
        contains(fleet.text(fleet.workspace(id) + "/output.log"), "hello from " + id.str()));
    const std::string log = fleet.text(fleet.workspace(id) + "/session.log");
    EXPECT_TRUE(contains(log, "Session created: " + id.str()));
    EXPECT_TRUE(contains(log, "Status: CREATED → RUNNING"));
    EXPECT_TRUE(contains(log, "Status: RUNNING → COMPLETED"));

    const auto result = fleet.peer().call<ResultReply>(ResultRequest{.id = id.str()});
    ASSERT_TRUE(result.ok());
    EXPECT_EQ(result->result, "{\"status\":\"success\",\"n\":1}\n");
    EXPECT_TRUE(wait_until(
        [&] { return io::exists(fleet.state() + "/attempts/" + id.str() + "-1-1/closed"); }, kCap));
}

TEST(WorkerLife, EndsTellApart) {
    TestFleet fleet;
    fleet.add_agent("three", "#!/bin/sh\nexit 3\n");
    fleet.add_agent("shot", "#!/bin/sh\nkill -SEGV $$\n");
    fleet.add_agent("nothing", "#!/no/such/interpreter\n");
    ASSERT_TRUE(fleet.start());
    const SessionId three = fleet.submit("three", "x");
    const SessionId shot = fleet.submit("shot", "x");
    const SessionId nothing = fleet.submit("nothing", "x");
    const SessionView exited = fleet.wait_status(three, SessionStatus::failed);
    EXPECT_EQ(exited.detail, Detail::exited);
    EXPECT_EQ(exited.exit_code, 3);
    const SessionView signal = fleet.wait_status(shot, SessionStatus::failed);
    EXPECT_EQ(signal.detail, Detail::signal);
    EXPECT_EQ(signal.exit_code, 128 + SIGSEGV);
    const SessionView failed = fleet.wait_status(nothing, SessionStatus::failed);
    EXPECT_EQ(failed.detail, Detail::start_failed) << fleet.text(fleet.log());
}

TEST(WorkerLife, TheTimeoutEndsIt) {
    TestFleet fleet;
    fleet.add_agent("slow", "#!/bin/sh\nsleep 600\n");
    ASSERT_TRUE(fleet.start());
    Submission submission = make_submission("slow", "x", "");
    submission.timeout = Duration{1'000};
    const SessionId id = fleet.submit(std::move(submission));
    const SessionView view = fleet.wait_status(id, SessionStatus::killed);
    ASSERT_EQ(view.status, SessionStatus::killed) << fleet.text(fleet.log());
    EXPECT_EQ(view.detail, Detail::timeout);
    EXPECT_EQ(view.kill_reason, "Timeout (1s)");
    EXPECT_TRUE(contains(fleet.text(fleet.root() + "/logs/orchestrator.log"),
                         "[WARN] Session timeout: " + id.str() + " (1s > 1s)"));
}

TEST(WorkerLife, AnAgentThatIgnoresTermIsStoppedWithItsTree) {
    TestFleet fleet;
    fleet.add_agent("stubborn",
                    "#!/bin/bash\ntrap '' TERM HUP\n"
                    "(trap '' TERM HUP; sleep 600) & echo $! > \"$IW_WORKSPACE/child\"\n"
                    "while true; do sleep 1; done\n");
    ASSERT_TRUE(fleet.start());
    const SessionId id = fleet.submit("stubborn", "x");
    const std::string child = fleet.workspace(id) + "/child";
    ASSERT_TRUE(wait_until([&] { return fleet.lines(child) == 1; }, kCap));
    long long pid = 0;
    ASSERT_TRUE(parse_int(trim(fleet.text(child)), 2, INT32_MAX, pid));
    const io::ProcessId grandchild{static_cast<pid_t>(pid),
                                   io::process_start_ticks(static_cast<pid_t>(pid)).value_or(0)};
    ASSERT_TRUE(io::is_running(grandchild));
    fleet.kill_session(id, "enough");
    const SessionView view = fleet.wait_status(id, SessionStatus::killed);
    ASSERT_EQ(view.status, SessionStatus::killed) << fleet.text(fleet.log());
    EXPECT_EQ(view.detail, Detail::killed);
    EXPECT_EQ(view.kill_reason, "enough");
    EXPECT_FALSE(io::is_running(grandchild)) << "nothing of it lives when it shows as final";
}

TEST(WorkerLife, AKilledLauncherDisturbsNothing) {
    TestFleet fleet;
    fleet.add_agent("waiting",
                    "#!/bin/sh\nwhile [ ! -e \"$IW_WORKSPACE/go\" ]; do sleep 0.05; done\n");
    ASSERT_TRUE(fleet.start());
    const SessionId id = fleet.submit("waiting", "x");
    ASSERT_EQ(fleet.wait_status(id, SessionStatus::running).status, SessionStatus::running);
    const auto launcher = fleet.process_of(id, "launcher");
    const auto guard = fleet.process_of(id, "guard");
    ASSERT_TRUE(launcher && guard);
    ASSERT_TRUE(io::send_signal(*launcher, SIGKILL));
    ASSERT_TRUE(
        wait_until([&] { return fleet.process_of(id, "launcher")->pid == guard->pid; }, kCap));
    ASSERT_TRUE(io::write_file(fleet.workspace(id) + "/go", "", 0644, io::Sync::none).ok());
    EXPECT_EQ(fleet.wait_status(id, SessionStatus::completed).status, SessionStatus::completed)
        << fleet.text(fleet.log());
}

TEST(WorkerLife, AKilledLauncherWithItsGuardIsFoundLostAndItsAgentEnded) {
    TestFleet fleet;
    fleet.add_agent("slow", "#!/bin/sh\ntrap '' HUP\nsleep 600\n");
    ASSERT_TRUE(fleet.start());
    const SessionId id = fleet.submit("slow", "x");
    ASSERT_EQ(fleet.wait_status(id, SessionStatus::running).status, SessionStatus::running);
    const auto launcher = fleet.process_of(id, "launcher");
    const auto guard = fleet.process_of(id, "guard");
    const auto agent = fleet.process_of(id, "agent");
    ASSERT_TRUE(launcher && guard && agent);
    // Neither may see the other's end.
    ASSERT_TRUE(io::send_signal(*guard, SIGSTOP));
    ASSERT_TRUE(io::send_signal(*launcher, SIGKILL));
    ASSERT_TRUE(io::send_signal(*guard, SIGKILL));
    const SessionView view = fleet.wait_status(id, SessionStatus::failed);
    ASSERT_EQ(view.status, SessionStatus::failed) << fleet.text(fleet.log());
    EXPECT_EQ(view.detail, Detail::lost);
    EXPECT_FALSE(io::is_running(*agent));
}

TEST(WorkerLife, AgentsAndSlotsFollowTheProject) {
    TestFleet fleet;
    ASSERT_TRUE(fleet.start());
    const auto worker = [&] {
        const auto workers = fleet.peer().call<WorkersReply>(WorkersRequest{});
        return workers.ok() && !workers->workers.empty() ? workers->workers[0] : WorkerView{};
    };
    EXPECT_EQ(worker().slots, 5u);
    fleet.add_agent("late", kGood);
    const auto offers = [&] {
        for (const std::string& agent : worker().agents) {
            if (agent == "late") return true;
        }
        return false;
    };
    EXPECT_TRUE(wait_until(offers, kCap));
    ASSERT_TRUE(io::write_file(fleet.root() + "/scripts/ops/config.sh",
                               "# limits\nMAX_CONCURRENT_SESSIONS=2\n", 0644, io::Sync::none)
                    .ok());
    EXPECT_TRUE(wait_until([&] { return worker().slots == 2; }, kCap));
    const SessionId id = fleet.submit("late", "x");
    EXPECT_EQ(fleet.wait_status(id, SessionStatus::completed).status, SessionStatus::completed);
}

TEST(WorkerLife, AProcessInsideASessionSpeaksThroughItsSocket) {
    TestFleet fleet;
    fleet.add_agent("parent",
                    "#!/bin/sh\nprintf %s \"$IW_SOCKET\" > \"$IW_WORKSPACE/.s\"\n"
                    "mv \"$IW_WORKSPACE/.s\" \"$IW_WORKSPACE/socket\"\n"
                    "while [ ! -e \"$IW_WORKSPACE/go\" ]; do sleep 0.05; done\n");
    fleet.add_agent("child", kGood);
    ASSERT_TRUE(fleet.start());
    const SessionId id = fleet.submit("parent", "x");
    const std::string socket = fleet.workspace(id) + "/socket";
    ASSERT_TRUE(wait_until([&] { return io::exists(socket); }, kCap));
    TestPeer inside(fleet.context(), "ipc://" + fleet.text(socket));
    ASSERT_TRUE(inside.hello().ok());
    const Result<SubmitOutcome> outcome =
        submit_one(inside, make_submission("child", "work", "key-1"));
    ASSERT_TRUE(outcome.ok()) << outcome.error().message;
    const SessionView child = fleet.wait_status(outcome->id, SessionStatus::completed);
    EXPECT_EQ(child.status, SessionStatus::completed) << fleet.text(fleet.log());
    EXPECT_EQ(child.parent, id) << "vouched for by the socket";
    // Who must not wait learns at once that nobody can tell, and that nothing was done.
    fleet.broker().kill9();
    ErrorCode code = ErrorCode::internal;
    EXPECT_TRUE(wait_until(
        [&] {
            const auto status = inside.call<StatusReply>(
                StatusRequest{.id = id.str(), .exact = true}, Duration{100});
            code = status ? ErrorCode::internal : status.error().code;
            return code == ErrorCode::unreachable;
        },
        kCap));
    EXPECT_EQ(code, ErrorCode::unreachable);
    fleet.broker().start();
    ASSERT_TRUE(fleet.peer().hello().ok());
    ASSERT_TRUE(io::write_file(fleet.workspace(id) + "/go", "", 0644, io::Sync::none).ok());
    EXPECT_EQ(fleet.wait_status(id, SessionStatus::completed).status, SessionStatus::completed);
}

TEST(WorkerLife, ARunningWorkspaceSurvivesEditsAndMoves) {
    TestFleet fleet;
    fleet.add_agent("slow",
                    "#!/bin/sh\nwhile [ ! -e \"$IW_PROJECT_ROOT/go\" ]; do sleep 0.05; done\n");
    ASSERT_TRUE(fleet.start());
    const SessionId id = fleet.submit("slow", "prompt");
    ASSERT_EQ(fleet.wait_status(id, SessionStatus::running).status, SessionStatus::running);
    const std::string state = fleet.workspace(id) + "/state.json";
    auto edited = fleet.state_json(id);
    edited["status"] = "FAILED";
    edited["mine"] = 7;
    ASSERT_TRUE(io::write_file(state, edited.dump(), 0644, io::Sync::none).ok());
    EXPECT_TRUE(wait_until([&] { return fleet.state_json(id)["status"] == "RUNNING"; }, kCap));
    EXPECT_EQ(fleet.state_json(id)["mine"], 7) << "a field of the script's own survives";

    const std::string moved = fleet.file("moved");
    ASSERT_EQ(::rename(fleet.workspace(id).c_str(), moved.c_str()), 0);
    EXPECT_TRUE(wait_until([&] { return fleet.state_json(id)["status"] == "RUNNING"; }, kCap));
    EXPECT_EQ(fleet.text(fleet.workspace(id) + "/prompt.md"), "prompt");
    EXPECT_TRUE(io::exists(moved + "/state.json"));
    ASSERT_TRUE(io::write_file(fleet.root() + "/go", "", 0644, io::Sync::none).ok());
    EXPECT_EQ(fleet.wait_status(id, SessionStatus::completed).status, SessionStatus::completed);
    EXPECT_EQ(fleet.state_json(id)["status"], "COMPLETED");
}

TEST(WorkerLife, AnAgentThatRuinsItsWorkspaceStillEnds) {
    TestFleet fleet;
    // Renamed into place: what the worker makes again in between is not in the way.
    fleet.add_agent("ruin",
                    "#!/bin/sh\ncd \"$IW_WORKSPACE\" || exit 1\nmkfifo a b c\nmv -f a session.log\n"
                    "mv -f b result.json\nmv -f c \"$IW_PROJECT_ROOT/logs/orchestrator.log\"\n"
                    "rm -f state.json\nmkdir state.json\nexit 0\n");
    fleet.add_agent("good", kGood);
    ASSERT_TRUE(fleet.start());
    const SessionId id = fleet.submit("ruin", "x");
    EXPECT_EQ(fleet.wait_status(id, SessionStatus::completed).status, SessionStatus::completed)
        << fleet.text(fleet.log());
    EXPECT_TRUE(wait_until([&] { return fleet.state_json(id)["status"] == "COMPLETED"; }, kCap));
    const SessionId next = fleet.submit("good", "x");
    EXPECT_EQ(fleet.wait_status(next, SessionStatus::completed).status, SessionStatus::completed)
        << fleet.text(fleet.log());
}

// ---- Result schema -----------------------------------------------------------------------------

Submission with_schema(const std::string& agent, const std::string& schema) {
    Submission submission = make_submission(agent, "p", "");
    submission.result_schema = schema;
    return submission;
}

TEST(WorkerLife, AResultIsHeldAgainstItsSchema) {
    TestFleet fleet;
    fleet.add_agent("good", "#!/bin/sh\necho '{\"status\": \"success\"}' > \"$IW_RESULT_FILE\"\n");
    fleet.add_agent("bad", "#!/bin/sh\necho '{\"status\": 7}' > \"$IW_RESULT_FILE\"\n");
    fleet.add_agent("none", "#!/bin/sh\nexit 0\n");
    ASSERT_TRUE(fleet.start());
    const std::string schema = R"({"properties": {"status": {"type": "string"}}})";
    const SessionId good = fleet.submit(with_schema("good", schema));
    const SessionId bad = fleet.submit(with_schema("bad", schema));
    const SessionId none = fleet.submit(with_schema("none", schema));
    EXPECT_EQ(fleet.wait_status(good, SessionStatus::completed).detail, Detail::done);
    const SessionView unfit = fleet.wait_status(bad, SessionStatus::failed);
    EXPECT_EQ(unfit.detail, Detail::result_invalid);
    EXPECT_NE(unfit.reason.find("/status: "), std::string::npos) << unfit.reason;
    EXPECT_EQ(fleet.wait_status(none, SessionStatus::failed).detail, Detail::result_missing);
}

// The broker takes a worker for unreachable after 1.5 s.
TEST(WorkerLife, ASlowCheckOfAResultHoldsUpNobody) {
    TestFleet fleet;
    fleet.add_agent("slow",
                    "#!/bin/sh\nprintf '\"%s!\"' aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa > "
                    "\"$IW_RESULT_FILE\"\n");
    fleet.add_agent("quick", "#!/bin/sh\nexit 0\n");
    ASSERT_TRUE(fleet.start());
    const SessionId slow = fleet.submit(with_schema("slow", R"({"pattern": "^(a+)+$"})"));
    const std::string ended = fleet.state() + "/attempts/" + slow.str() + "-1-1/exit.json";
    ASSERT_TRUE(wait_until([&] { return io::exists(ended); }, kCap));
    const SessionId quick = fleet.submit("quick", "p");
    EXPECT_EQ(fleet.wait_status(quick, SessionStatus::completed).detail, Detail::done);
    EXPECT_EQ(fleet.view(slow)->status, SessionStatus::running);
    // It takes its check along.
    fleet.worker().send_signal(SIGTERM);
    EXPECT_EQ(fleet.worker().wait_exit(kCap), 0);
}

}  // namespace
}  // namespace iw::test
