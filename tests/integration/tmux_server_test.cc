// The private tmux server itself.

#include <poll.h>
#include <pty.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <algorithm>

#include "tests/integration/attempt_fixture.h"

namespace iw::test {
namespace {

class TmuxServer : public AttemptFixture {
  protected:
    io::CommandResult tmux(std::vector<std::string> words) {
        std::vector<std::string> argv = {"tmux", "-S", tmux_->socket()};
        argv.insert(argv.end(), words.begin(), words.end());
        return io::run_command(argv, {}, "", 65536, 5000);
    }
    std::string option(const std::string& scope, const std::string& name) {
        return tmux({"show-options", scope, "-v", name}).output;
    }
};

TEST_F(TmuxServer, HasOurOptions) {
    EXPECT_EQ(option("-s", "exit-empty"), "off\n");
    EXPECT_EQ(option("-s", "escape-time"), "0\n");
    EXPECT_EQ(option("-s", "set-clipboard"), "off\n");
    EXPECT_EQ(option("-gw", "remain-on-exit"), "off\n");
    EXPECT_EQ(option("-g", "status"), "off\n");
    EXPECT_EQ(option("-g", "history-limit"), "10000\n");
    EXPECT_EQ(option("-g", "default-size"), "200x50\n");
    EXPECT_EQ(option("-g", "prefix"), "C-b\n");
    EXPECT_EQ(option("-g", "destroy-unattached"), "off\n");
}

TEST_F(TmuxServer, HasNothingOfOurs) {
    const std::string proc = "/proc/" + std::to_string(server_);
    EXPECT_EQ(io::real_path(proc + "/cwd"), "/");
    EXPECT_EQ(::getsid(server_), server_);
    std::string environment = read_text(proc + "/environ");
    std::replace(environment.begin(), environment.end(), '\0', '\n');
    for (const std::string& line : {"IW_WORKER_STATE=" + state_, std::string("SHELL=/bin/sh")}) {
        EXPECT_NE(environment.find(line + "\n"), std::string::npos) << environment;
    }
    EXPECT_EQ(environment.find("GTEST"), std::string::npos);
    EXPECT_EQ(environment.find("TMUX"), std::string::npos);
    for (const std::string& fd : io::list_folder(proc + "/fd")) {
        const std::string target = io::real_path(proc + "/fd/" + fd);
        EXPECT_TRUE(target.empty() || target.starts_with("/dev/") ||
                    target == state_ + "/tmux.log" || target.starts_with("/proc/"))
            << fd << " is " << target;
    }
}

TEST_F(TmuxServer, StartsOnce) {
    ASSERT_TRUE(tmux_->start_server().ok());
    EXPECT_EQ(tmux_->server_pid(), server_);
}

TEST_F(TmuxServer, ListsSessions) {
    auto none = tmux_->list_sessions();
    ASSERT_TRUE(none.ok()) << none.error().message;
    EXPECT_TRUE(none->empty());
    const AttemptRef attempt = start(script("sleep 1000"));
    ASSERT_TRUE(wait_running(attempt));
    auto sessions = tmux_->list_sessions();
    ASSERT_TRUE(sessions.ok());
    ASSERT_EQ(sessions->size(), 1u);
    EXPECT_EQ(sessions->front().id, attempt.session);
    EXPECT_EQ(sessions->front().pane_pid, store_->read_process(attempt)->guard.pid);
    EXPECT_FALSE(sessions->front().attached);
    stop(attempt);
    wait_end(attempt);
    EXPECT_TRUE(wait_until([&] { return tmux_->list_sessions()->empty(); }, kCap));
}

TEST_F(TmuxServer, RefusesASecondSessionOfTheName) {
    const AttemptRef attempt = start(script("sleep 1000"));
    const Status second = tmux_->start_session(attempt);
    ASSERT_FALSE(second.ok());
    EXPECT_EQ(second.error().code, ErrorCode::conflict);
    ASSERT_TRUE(wait_running(attempt));
    stop(attempt);
    wait_end(attempt);
    EXPECT_TRUE(tmux_->kill_session(attempt.session).ok());
    EXPECT_TRUE(tmux_->kill_session(SessionId("20251118-153042-never")).ok());
    EXPECT_EQ(tmux_->kill_session(SessionId("#(touch pwned)")).error().code,
              ErrorCode::bad_request);
}

TEST_F(TmuxServer, KeepsItsSizeWhateverViews) {
    Wish wish =
        script("while [ ! -e go ]; do sleep 0.02; done; stty size > \"$IW_WORKSPACE/size\"");
    wish.stdin_from_prompt = false;
    const AttemptRef attempt = start(wish);
    EXPECT_EQ(tmux({"show-options", "-w", "-t", "=iw-" + attempt.session.str() + ":", "-v",
                    "window-size"})
                  .output,
              "manual\n");
    std::ofstream(root_ + "/go") << "go\n";
    wait_end(attempt);
    EXPECT_EQ(read_text(workspace(attempt) + "/size"), "50 200\n");
}

TEST_F(TmuxServer, LetsAViewerGoAgain) {
    const AttemptRef attempt = start(script("echo welcome; sleep 1000"));
    ASSERT_TRUE(wait_running(attempt));
    const std::string target = "=iw-" + attempt.session.str();
    const std::string socket = tmux_->socket();
    int terminal = -1;
    const pid_t viewer = ::forkpty(&terminal, nullptr, nullptr, nullptr);
    if (viewer == 0) {
        ::setenv("TERM", "xterm", 1);
        ::unsetenv("TMUX");
        ::execlp("tmux", "tmux", "-u", "-S", socket.c_str(), "attach", "-t", target.c_str(),
                 nullptr);
        ::_exit(127);
    }
    ASSERT_GT(viewer, 0);
    std::string seen;
    const auto read_screen = [&] {
        pollfd readable{.fd = terminal, .events = POLLIN, .revents = 0};
        char buffer[4096];
        while (::poll(&readable, 1, 0) == 1 && (readable.revents & POLLIN) != 0) {
            const ssize_t size = ::read(terminal, buffer, sizeof buffer);
            if (size <= 0) break;
            seen.append(buffer, static_cast<std::size_t>(size));
        }
        return seen.find("welcome") != std::string::npos;
    };
    EXPECT_TRUE(wait_until(read_screen, kCap));
    EXPECT_TRUE(tmux_->list_sessions()->front().attached);
    ASSERT_EQ(::write(terminal,
                      "\x02"
                      "d",
                      2),
              2);
    int status = 0;
    EXPECT_TRUE(wait_until(
        [&] { return read_screen(), ::waitpid(viewer, &status, WNOHANG) == viewer; }, kCap));
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    ::close(terminal);
    ASSERT_EQ(tmux_->list_sessions()->size(), 1u);
    EXPECT_FALSE(tmux_->list_sessions()->front().attached);
    stop(attempt);
    wait_end(attempt);
}

TEST_F(TmuxServer, GetsItsSocketBack) {
    const AttemptRef attempt = start(script("sleep 1000"));
    ASSERT_TRUE(wait_running(attempt));
    ASSERT_EQ(::unlink(tmux_->socket().c_str()), 0);
    // It lives, so nobody may say that there is none.
    const auto unknown = tmux_->list_sessions();
    ASSERT_FALSE(unknown.ok());
    EXPECT_EQ(unknown.error().code, ErrorCode::io);
    ASSERT_TRUE(tmux_->start_server().ok());
    EXPECT_EQ(tmux_->server_pid(), server_);
    EXPECT_EQ(tmux_->list_sessions()->size(), 1u);
    stop(attempt);
    wait_end(attempt);
}

TEST_F(TmuxServer, SaysThatThereIsNone) {
    ::kill(server_, SIGKILL);
    ASSERT_TRUE(wait_until([&] { return !is_alive(server_); }, kCap));
    const auto none = tmux_->list_sessions();
    ASSERT_FALSE(none.ok());
    EXPECT_EQ(none.error().code, ErrorCode::not_found);
    EXPECT_FALSE(tmux_->server_pid().has_value());
    // A client must not start one by the way: it would have our folder and variables.
    EXPECT_FALSE(tmux_->start_session(plan(script("true"))).ok());
    EXPECT_FALSE(tmux_->server_pid().has_value());
    ASSERT_TRUE(tmux_->start_server().ok());
    server_ = tmux_->server_pid().value_or(0);
    EXPECT_EQ(wait_end(start(script("exit 2"))).exit_code, 2);
}

TEST_F(TmuxServer, RefusesATooLongPath) {
    const std::string folder = dir_.path(std::string(120, 'x'));
    ASSERT_TRUE(io::make_folders(folder, 0700).ok());
    const auto tmux = worker::Tmux::open(
        {.state_folder = folder, .launcher = "/x/iexec", .log_writer = "/x/ilogd"});
    ASSERT_FALSE(tmux.ok());
    EXPECT_EQ(tmux.error().code, ErrorCode::config);
}

}  // namespace
}  // namespace iw::test
