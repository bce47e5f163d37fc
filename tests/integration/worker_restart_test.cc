// Workers that are killed, frozen or started twice.

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <cstdlib>

#include "tests/integration/worker_fixture.h"

namespace iw::test {
namespace {

// Notes its start, then runs until it is told to end.
constexpr const char* kWaiting =
    "#!/bin/sh\n"
    "echo \"$IW_SESSION_ID\" >> \"$IW_PROJECT_ROOT/starts\"\n"
    "while [ ! -e \"$IW_WORKSPACE/go\" ]; do sleep 0.05; done\n";

void let_go(const TestFleet& fleet, const SessionId& id) {
    ASSERT_TRUE(io::write_file(fleet.workspace(id) + "/go", "", 0644, io::Sync::none).ok());
}

TEST(WorkerRestart, AdoptsWhatRunsAndReportsWhatEndedMeanwhile) {
    TestFleet fleet;
    fleet.add_agent("waiting", kWaiting);
    ASSERT_TRUE(fleet.start());
    std::vector<SessionId> ids;
    for (int i = 0; i < 3; ++i)
        ids.push_back(fleet.submit("waiting", "x"));
    for (const SessionId& id : ids) {
        ASSERT_EQ(fleet.wait_status(id, SessionStatus::running).status, SessionStatus::running);
    }
    fleet.worker().kill();
    const auto ended = fleet.process_of(ids[0], "launcher");
    ASSERT_TRUE(ended.has_value());
    let_go(fleet, ids[0]);
    ASSERT_TRUE(wait_until([&] { return !io::is_running(*ended); }, kCap));

    fleet.start_worker();
    EXPECT_EQ(fleet.wait_status(ids[0], SessionStatus::completed).status, SessionStatus::completed)
        << fleet.text(fleet.log());
    for (int i = 1; i < 3; ++i) {
        EXPECT_EQ(fleet.view(ids[static_cast<std::size_t>(i)])->status, SessionStatus::running);
        let_go(fleet, ids[static_cast<std::size_t>(i)]);
    }
    for (const SessionId& id : ids) {
        const SessionView view = fleet.wait_status(id, SessionStatus::completed);
        EXPECT_EQ(view.status, SessionStatus::completed);
        EXPECT_EQ(view.attempt, 1u);
    }
    EXPECT_EQ(fleet.lines(fleet.root() + "/starts"), 3u) << "none was started again";
}

TEST(WorkerRestart, ManyKillsLoseNothingAndStartNothingTwice) {
    TestFleet fleet;
    fleet.add_agent(
        "quick", "#!/bin/sh\necho \"$IW_SESSION_ID\" >> \"$IW_PROJECT_ROOT/starts\"\nsleep 0.1\n");
    ASSERT_TRUE(fleet.start());
    std::vector<SessionId> ids;
    for (int i = 0; i < 30; ++i)
        ids.push_back(fleet.submit("quick", "x"));
    for (std::size_t part = 1; part <= 3; ++part) {
        ASSERT_TRUE(
            wait_until([&] { return fleet.lines(fleet.root() + "/starts") >= part * 5; }, kCap));
        fleet.worker().kill();
        fleet.start_worker();
    }
    for (const SessionId& id : ids) {
        const SessionView view = fleet.wait_status(id, SessionStatus::completed);
        EXPECT_EQ(view.status, SessionStatus::completed)
            << id.str() << " " << name(view.detail) << "\n"
            << fleet.text(fleet.log());
    }
    EXPECT_EQ(fleet.lines(fleet.root() + "/starts"), ids.size());
}

TEST(WorkerRestart, GoesOnThroughADeathOfTheBroker) {
    TestFleet fleet;
    fleet.add_agent("waiting", kWaiting);
    ASSERT_TRUE(fleet.start());
    const SessionId id = fleet.submit("waiting", "x");
    ASSERT_EQ(fleet.wait_status(id, SessionStatus::running).status, SessionStatus::running);
    const auto launcher = fleet.process_of(id, "launcher");
    fleet.broker().kill9();
    let_go(fleet, id);
    ASSERT_TRUE(wait_until([&] { return !io::is_running(*launcher); }, kCap));
    fleet.broker().start();
    ASSERT_TRUE(fleet.peer().hello().ok());
    EXPECT_EQ(fleet.wait_status(id, SessionStatus::completed).status, SessionStatus::completed)
        << fleet.text(fleet.log());
}

// Of the descriptor by which `owner` watches a process; -1 when it has none.
int watching_fd(pid_t owner, pid_t watched) {
    const std::string folder = "/proc/" + std::to_string(owner) + "/fdinfo/";
    for (const std::string& number : io::list_folder(folder)) {
        const Result<std::string> text = io::read_file(folder + number, 4096);
        const std::string line = "\nPid:\t" + std::to_string(watched) + "\n";
        if (text && text->find(line) != std::string::npos) return std::atoi(number.c_str());
    }
    return -1;
}

// When its launcher dies the worker gets back the one descriptor by which it watched it: enough to
// read that a guard is there, too few to look at the guard while watching it.
TEST(WorkerRestart, AGuardThatCannotBeLookedAtIsNotTakenForGone) {
    TestFleet fleet;
    fleet.add_agent("waiting", kWaiting);
    ASSERT_TRUE(fleet.start());
    const SessionId id = fleet.submit("waiting", "x");
    ASSERT_EQ(fleet.wait_status(id, SessionStatus::running).status, SessionStatus::running);
    const auto launcher = fleet.process_of(id, "launcher");
    const auto guard = fleet.process_of(id, "guard");
    ASSERT_TRUE(launcher && guard);
    const pid_t worker = fleet.worker().pid();
    const int watching = watching_fd(worker, launcher->pid);
    ASSERT_GE(watching, 0);
    rlim_t used = 0;
    while (io::exists("/proc/" + std::to_string(worker) + "/fdinfo/" + std::to_string(used)))
        ++used;
    ASSERT_GT(used, static_cast<rlim_t>(watching));
    rlimit before{};
    ASSERT_EQ(::prlimit(worker, RLIMIT_NOFILE, nullptr, &before), 0);
    const rlimit tight{.rlim_cur = used, .rlim_max = before.rlim_max};
    ASSERT_EQ(::prlimit(worker, RLIMIT_NOFILE, &tight, nullptr), 0);
    ASSERT_TRUE(io::send_signal(*launcher, SIGKILL));
    EXPECT_TRUE(wait_until([&] { return watching_fd(worker, guard->pid) >= 0; }, kCap))
        << fleet.text(fleet.log());
    ASSERT_EQ(::prlimit(worker, RLIMIT_NOFILE, &before, nullptr), 0);
    let_go(fleet, id);
    EXPECT_EQ(fleet.wait_status(id, SessionStatus::completed).status, SessionStatus::completed)
        << fleet.text(fleet.log());
}

TEST(WorkerRestart, AFrozenWorkerStartsWhatItMissedExactlyOnce) {
    TestFleet fleet;
    fleet.add_agent("quick", "#!/bin/sh\necho x >> \"$IW_PROJECT_ROOT/starts\"\n");
    ASSERT_TRUE(fleet.start());
    fleet.worker().send_signal(SIGSTOP);
    const SessionId id = fleet.submit("quick", "x");
    ASSERT_TRUE(fleet.worker_state("unreachable"));
    fleet.worker().send_signal(SIGCONT);
    EXPECT_EQ(fleet.wait_status(id, SessionStatus::completed).status, SessionStatus::completed)
        << fleet.text(fleet.log());
    EXPECT_EQ(fleet.lines(fleet.root() + "/starts"), 1u);
}

TEST(WorkerRestart, TermLeavesSessionsRunning) {
    TestFleet fleet;
    fleet.add_agent("waiting", kWaiting);
    ASSERT_TRUE(fleet.start());
    const SessionId id = fleet.submit("waiting", "x");
    ASSERT_EQ(fleet.wait_status(id, SessionStatus::running).status, SessionStatus::running);
    fleet.worker().send_signal(SIGTERM);
    EXPECT_EQ(fleet.worker().wait_exit(kCap), 0);
    ASSERT_TRUE(fleet.worker_state("away"));
    const auto launcher = fleet.process_of(id, "launcher");
    ASSERT_TRUE(launcher && io::is_running(*launcher));
    fleet.start_worker();
    let_go(fleet, id);
    EXPECT_EQ(fleet.wait_status(id, SessionStatus::completed).status, SessionStatus::completed);
    EXPECT_EQ(fleet.lines(fleet.root() + "/starts"), 1u);
}

TEST(WorkerRestart, AnAttemptWithAGarbledStartBecomesFinal) {
    TestFleet fleet;
    fleet.add_agent("waiting", kWaiting);
    ASSERT_TRUE(fleet.start());
    const SessionId id = fleet.submit("waiting", "x");
    ASSERT_EQ(fleet.wait_status(id, SessionStatus::running).status, SessionStatus::running);
    const auto agent = fleet.process_of(id, "agent");
    fleet.worker().kill();
    const std::string start = fleet.state() + "/attempts/" + id.str() + "-1-1/start";
    ASSERT_TRUE(io::write_file(start, "", 0600, io::Sync::none).ok());
    fleet.start_worker();
    const SessionView view = fleet.wait_status(id, SessionStatus::failed);
    EXPECT_EQ(view.status, SessionStatus::failed) << fleet.text(fleet.log());
    ASSERT_TRUE(agent.has_value());
    EXPECT_TRUE(wait_until([&] { return !io::is_running(*agent); }, kCap));
}

// Under another state folder it is another worker: what it knows nothing of it does not touch, and
// the session waits for the one that does.
TEST(WorkerRestart, AReplacedStateFolderStartsNothingAgain) {
    TestFleet fleet;
    fleet.add_agent("waiting", kWaiting);
    ASSERT_TRUE(fleet.start());
    const SessionId id = fleet.submit("waiting", "x");
    ASSERT_EQ(fleet.wait_status(id, SessionStatus::running).status, SessionStatus::running);
    const auto agent = fleet.process_of(id, "agent");
    fleet.worker().kill();
    const std::string away = fleet.file("away");
    ASSERT_EQ(::rename(fleet.state().c_str(), away.c_str()), 0);
    ASSERT_TRUE(fleet.worker_state("unreachable"));
    fleet.start_worker();
    ASSERT_TRUE(fleet.worker_state("up")) << fleet.text(fleet.log());
    const SessionId other = fleet.submit("waiting", "y");
    ASSERT_EQ(fleet.wait_status(other, SessionStatus::running).status, SessionStatus::running);
    EXPECT_EQ(fleet.view(id)->status, SessionStatus::running);
    EXPECT_EQ(fleet.lines(fleet.root() + "/starts"), 2u) << "each once";
    ASSERT_TRUE(agent && io::is_running(*agent));
    let_go(fleet, other);
    EXPECT_EQ(fleet.wait_status(other, SessionStatus::completed).status, SessionStatus::completed);
    // The launcher writes its end into the folder that was moved, and nobody reads it there.
    const pid_t server = static_cast<pid_t>(std::atol(fleet.text(away + "/tmux.pid").c_str()));
    ASSERT_GT(server, 1);
    ASSERT_EQ(::kill(server, SIGTERM), 0);
    EXPECT_TRUE(wait_until([&] { return !io::is_running(*agent); }, kCap));
}

TEST(WorkerStartUp, ASecondOneIsRefused) {
    TestFleet fleet;
    ASSERT_TRUE(fleet.start());
    ChildProcess::Options options = fleet.worker_options();
    options.log = fleet.file("second.log");
    ChildProcess same(options);
    EXPECT_EQ(same.wait_exit(kCap), 75) << same.log_text();
    for (std::size_t i = 0; i < options.argv.size(); ++i) {
        if (options.argv[i] == "--state-dir") options.argv[i + 1] = fleet.file("other");
    }
    ChildProcess other(options);
    EXPECT_EQ(other.wait_exit(kCap), 75) << "one worker per root: " << other.log_text();
    EXPECT_NE(other.log_text().find("another worker serves root"), std::string::npos);
    // Another user's folders, or a container's: only the root itself is common to both.
    options.environment = {"IW_CFG_STATE_DIR=" + fleet.file("elsewhere")};
    ChildProcess apart(options);
    EXPECT_EQ(apart.wait_exit(kCap), 75) << apart.log_text();
}

TEST(WorkerStartUp, BadSettingsAreNamed) {
    TestFleet fleet;
    const std::vector<std::string> base = {worker_program(), "--state-dir", fleet.state()};
    const auto run = [&](std::vector<std::string> more,
                         const std::vector<std::string>& environment) {
        std::vector<std::string> argv = base;
        argv.insert(argv.end(), more.begin(), more.end());
        std::vector<std::string> variables = environment;
        variables.push_back("IW_CFG_STATE_DIR=" + fleet.file("shared"));
        return run_program(argv, variables, "");
    };
    io::CommandResult result = run({}, {});
    EXPECT_EQ(result.exit_code, 78);
    EXPECT_NE(result.errors.find("--root"), std::string::npos) << result.errors;
    result = run({"--root", fleet.root() + "/missing"}, {});
    EXPECT_EQ(result.exit_code, 78);
    EXPECT_NE(result.errors.find("does not exist"), std::string::npos) << result.errors;
    result = run({"--root", fleet.root(), "--slots", "5000"}, {});
    EXPECT_EQ(result.exit_code, 78);
    result = run({"--no-such-flag"}, {});
    EXPECT_EQ(result.exit_code, 64);
    result = run({"--root", fleet.root(), "--broker", "tcp://127.0.0.1:1"}, {});
    EXPECT_EQ(result.exit_code, 78);
    result = run({"--root", fleet.root(), "--check-config"}, {});
    EXPECT_EQ(result.exit_code, 0) << result.errors;
    result = run({"--root", fleet.root()}, {"PATH=/nowhere"});
    EXPECT_EQ(result.exit_code, 69);
    EXPECT_NE(result.errors.find("install tmux"), std::string::npos) << result.errors;
}

}  // namespace
}  // namespace iw::test
