#pragma once

// Attempts run for real: tmux, iexec and ilogd of the build tree in a state folder of the test's
// own. At the end the tmux server is ended by its pid, and nothing that the test's agents started
// may be left.

#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <fstream>
#include <map>
#include <memory>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include "common/io/files.h"
#include "tests/support/temp_dir.h"
#include "tests/support/wait_until.h"
#include "worker/attempt_store/attempt_store.h"
#include "worker/tmux/tmux.h"

namespace iw::test {

inline constexpr Duration kCap{15'000};

inline std::string program_path(const std::string& name) {
    return std::string(IW_BUILD_DIR) + "/libexec/native-orchestrator/" + name;
}

inline std::string read_text(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    std::ostringstream text;
    text << file.rdbuf();
    return text.str();
}

// Pids of this machine that carry the session's id in their environment; written anew here, so that
// a fault in the product's own search is seen.
inline std::vector<pid_t> marked_processes(const SessionId& session) {
    std::vector<pid_t> found;
    for (const std::string& name : io::list_folder("/proc")) {
        if (name.find_first_not_of("0123456789") != std::string::npos) continue;
        const std::string environment = '\0' + read_text("/proc/" + name + "/environ");
        if (environment.find('\0' + ("IW_SESSION_ID=" + session.str()) + '\0') == std::string::npos)
            continue;
        found.push_back(static_cast<pid_t>(std::stol(name)));
    }
    return found;
}

inline bool is_alive(pid_t pid) {
    const auto ticks = io::process_start_ticks(pid);
    return ticks && io::is_running({.pid = pid, .start_ticks = *ticks});
}

class AttemptFixture : public testing::Test {
  protected:
    // `name`: of the state folder, below the test's own folder.
    void open(const std::string& name) {
        end_server();
        state_ = dir_.path(name);
        root_ = dir_.path("project");
        ASSERT_TRUE(io::make_folders(state_, 0700).ok());
        ASSERT_TRUE(io::make_folders(root_, 0700).ok());
        auto store = worker::AttemptStore::open(state_);
        ASSERT_TRUE(store.ok()) << store.error().message;
        store_ = std::make_unique<worker::AttemptStore>(std::move(*store));
        auto tmux = worker::Tmux::open({.state_folder = state_,
                                        .launcher = program_path("iexec"),
                                        .log_writer = program_path("ilogd")});
        ASSERT_TRUE(tmux.ok()) << tmux.error().message;
        tmux_ = std::make_unique<worker::Tmux>(std::move(*tmux));
        const Status started = tmux_->start_server();
        ASSERT_TRUE(started.ok()) << started.error().message;
        server_ = tmux_->server_pid().value_or(0);
        ASSERT_NE(server_, 0);
    }
    void SetUp() override { open("state"); }

    void end_server() {
        if (server_ <= 0) return;
        ::kill(server_, SIGKILL);
        EXPECT_TRUE(wait_until([&] { return !is_alive(server_); }, kCap));
    }
    void TearDown() override {
        end_server();
        for (const SessionId& session : sessions_) {
            EXPECT_TRUE(wait_until([&] { return marked_processes(session).empty(); }, kCap))
                << session.str() << " left a process";
            for (const pid_t pid : marked_processes(session))
                ::kill(pid, SIGKILL);
        }
    }

    struct Wish {
        std::vector<std::string> argv;
        std::string prompt = "do it\n";
        std::string agent;
        std::uint64_t log_bytes_max = 1u << 20;
        Duration stop_grace{1'000};
        Duration settle{250};
        bool stdin_from_prompt = true;
    };
    static Wish script(const std::string& text) { return Wish{.argv = {"/bin/sh", "-c", text}}; }

    // Records assignment and plan of a new attempt, as a worker does, and starts nothing.
    AttemptRef plan(const Wish& wish) {
        static int count = 0;
        const std::string agent =
            wish.agent.empty() ? "t" + std::to_string(::getpid()) + "-" + std::to_string(++count)
                               : wish.agent;
        const AttemptRef attempt{.session = SessionId("20251118-153042-" + agent),
                                 .fence = Fence{.generation = 1, .attempt = 1}};
        sessions_.push_back(attempt.session);
        Assignment assignment;
        assignment.session = attempt.session;
        assignment.fence = attempt.fence;
        assignment.agent = AgentName(agent);
        assignment.prompt = wish.prompt;
        EXPECT_TRUE(store_->accept(assignment).ok());
        EXPECT_TRUE(io::make_folders(workspace(attempt), 0700).ok());

        worker::LaunchPlan plan;
        plan.attempt = attempt;
        plan.folder = root_;
        plan.workspace = workspace(attempt);
        plan.argv = wish.argv;
        plan.environment = {{"PATH", "/usr/bin:/bin"},
                            {"TERM", "screen-256color"},
                            {"IW_SESSION_ID", attempt.session.str()},
                            {"IW_ATTEMPT", "1"},
                            {"IW_WORKSPACE", workspace(attempt)}};
        if (wish.stdin_from_prompt) plan.stdin_file = store_->folder(attempt) + "/prompt.md";
        plan.log_bytes_max = wish.log_bytes_max;
        plan.stop_grace = wish.stop_grace;
        plan.settle = wish.settle;
        EXPECT_TRUE(store_->write_plan(plan).ok());
        return attempt;
    }

    AttemptRef start(const Wish& wish) {
        const AttemptRef attempt = plan(wish);
        const Status started = tmux_->start_session(attempt);
        EXPECT_TRUE(started.ok()) << (started.ok() ? "" : started.error().message);
        return attempt;
    }

    // A worker's stop: recorded first, then signalled.
    void stop(const AttemptRef& attempt) {
        ASSERT_TRUE(store_->write_stop(attempt, {.cause = Detail::killed, .reason = "test"}).ok());
        if (const auto process = store_->read_process(attempt))
            io::send_signal(process->launcher, SIGTERM);
    }

    bool wait_running(const AttemptRef& attempt) {
        return wait_until([&] { return store_->read_process(attempt).has_value(); }, kCap);
    }
    bool wait_file(const std::string& path) {
        return wait_until([&] { return !read_text(path).empty(); }, kCap);
    }
    // The exit record, once the log is whole too.
    worker::ExitRecord wait_end(const AttemptRef& attempt) {
        EXPECT_TRUE(wait_until([&] { return store_->read_exit(attempt).has_value(); }, kCap))
            << log(attempt);
        EXPECT_TRUE(wait_until([&] { return store_->has_log_done(attempt); }, kCap))
            << log(attempt);
        return store_->read_exit(attempt).value_or(worker::ExitRecord{});
    }
    // Waits for a pid that an agent wrote into its workspace.
    pid_t written_pid(const AttemptRef& attempt, const std::string& name) {
        const std::string path = workspace(attempt) + "/" + name;
        EXPECT_TRUE(wait_until([&] { return read_text(path).ends_with('\n'); }, kCap)) << path;
        return static_cast<pid_t>(std::atol(read_text(path).c_str()));
    }

    std::string workspace(const AttemptRef& attempt) const {
        return root_ + "/sessions/" + attempt.session.str();
    }
    std::string log(const AttemptRef& attempt) const {
        return read_text(workspace(attempt) + "/output.log");
    }

    TempDir dir_;
    std::string state_;
    std::string root_;
    std::unique_ptr<worker::AttemptStore> store_;
    std::unique_ptr<worker::Tmux> tmux_;
    pid_t server_ = 0;
    std::vector<SessionId> sessions_;
};

}  // namespace iw::test
