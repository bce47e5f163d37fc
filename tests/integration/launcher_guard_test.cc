// iexec when somebody kills a part of it, and when it is told to stop by a signal alone.

#include <algorithm>

#include "common/io/system_clock.h"
#include "tests/integration/attempt_fixture.h"

namespace iw::test {
namespace {

class LauncherGuard : public AttemptFixture {
  protected:
    // The launcher is killed, and the guard has gone on with its agent.
    void kill_launcher(const AttemptRef& attempt) {
        ASSERT_TRUE(wait_running(attempt));
        const auto process = store_->read_process(attempt);
        ASSERT_TRUE(process.has_value());
        ASSERT_GT(process->guard.pid, 0);
        ASSERT_TRUE(io::send_signal(process->launcher, SIGKILL));
        ASSERT_TRUE(wait_until(
            [&] {
                const auto now = store_->read_process(attempt);
                return now && now->launcher.pid == process->guard.pid;
            },
            kCap))
            << log(attempt);
    }
    static Wish waiting(int code) {
        return script(
            "echo ready > \"$IW_WORKSPACE/ready\"; while [ ! -e \"$IW_WORKSPACE/go\" ]; "
            "do sleep 0.05; done; exit " +
            std::to_string(code));
    }
    void let_go(const AttemptRef& attempt) { std::ofstream(workspace(attempt) + "/go") << "go\n"; }
};

TEST_F(LauncherGuard, GoesOnWithTheAgentOfAKilledLauncher) {
    const AttemptRef attempt = start(waiting(7));
    ASSERT_TRUE(wait_running(attempt));
    const auto before = store_->read_process(attempt);
    kill_launcher(attempt);
    const auto after = store_->read_process(attempt);
    EXPECT_EQ(after->agent.pid, before->agent.pid);
    EXPECT_EQ(after->started_at, before->started_at);
    let_go(attempt);
    const worker::ExitRecord record = wait_end(attempt);
    EXPECT_EQ(record.cause, EndCause::exited) << record.reason;
    EXPECT_EQ(record.exit_code, 7);
}

TEST_F(LauncherGuard, TakesTheEndThatNobodySaw) {
    const AttemptRef attempt = start(waiting(9));
    ASSERT_TRUE(wait_running(attempt));
    const auto process = store_->read_process(attempt);
    ASSERT_TRUE(io::send_signal(process->launcher, SIGSTOP));
    let_go(attempt);
    ASSERT_TRUE(wait_until([&] { return !io::is_running(process->agent); }, kCap));
    ASSERT_TRUE(io::send_signal(process->launcher, SIGKILL));
    EXPECT_EQ(wait_end(attempt).exit_code, 9);
}

TEST_F(LauncherGuard, StopsWhatItTookOver) {
    const AttemptRef attempt = start(waiting(0));
    ASSERT_TRUE(wait_running(attempt));
    kill_launcher(attempt);
    stop(attempt);
    const worker::ExitRecord record = wait_end(attempt);
    EXPECT_EQ(record.cause, EndCause::stopped);
    EXPECT_TRUE(record.stop_sent);
}

// A stop that was recorded before the launcher was killed is carried out by the guard.
TEST_F(LauncherGuard, FindsAStopByItself) {
    const AttemptRef attempt = start(waiting(0));
    ASSERT_TRUE(wait_running(attempt));
    ASSERT_TRUE(store_->write_stop(attempt, {.cause = Detail::killed, .reason = "test"}).ok());
    const auto process = store_->read_process(attempt);
    ASSERT_TRUE(io::send_signal(process->launcher, SIGKILL));
    EXPECT_EQ(wait_end(attempt).cause, EndCause::stopped);
}

// Neither environment, process session nor parent leads to this one: only that it was never given
// to anybody else.
TEST_F(LauncherGuard, EndsWhatShedEverything) {
    const AttemptRef attempt =
        start(script("env -i setsid /bin/sh -c 'echo $$ > \"'$IW_WORKSPACE'/pid\"; "
                     "while :; do sleep 0.1; done' </dev/null >/dev/null 2>&1 & "
                     "while [ ! -e \"$IW_WORKSPACE/go\" ]; do sleep 0.05; done"));
    const pid_t escaped = written_pid(attempt, "pid");
    ASSERT_TRUE(is_alive(escaped));
    kill_launcher(attempt);
    let_go(attempt);
    EXPECT_EQ(wait_end(attempt).exit_code, 0);
    EXPECT_FALSE(is_alive(escaped));
}

TEST_F(LauncherGuard, SaysLostWhenNobodyCanTellTheEnd) {
    const AttemptRef attempt =
        start(script("env -i setsid sleep 1000 & echo $! > \"$IW_WORKSPACE/pid\"; "
                     "while [ ! -e \"$IW_WORKSPACE/go\" ]; do sleep 0.05; done"));
    const pid_t left = written_pid(attempt, "pid");
    ASSERT_TRUE(wait_running(attempt));
    const auto process = store_->read_process(attempt);
    // As a launcher leaves it that was killed before it could write down whom it had started.
    ASSERT_TRUE(io::remove_file(store_->folder(attempt) + "/process.json").ok());
    ASSERT_TRUE(io::send_signal(process->launcher, SIGKILL));
    const worker::ExitRecord record = wait_end(attempt);
    EXPECT_EQ(record.cause, EndCause::lost);
    EXPECT_NE(record.evidence.find("signal 9"), std::string::npos) << record.evidence;
    EXPECT_FALSE(is_alive(left));
    EXPECT_FALSE(io::is_running(process->agent));
}

// tmux closes the terminal with its own child, whoever else holds it open.
TEST_F(LauncherGuard, ItsOwnEndTakesTheTerminalAlong) {
    const AttemptRef plain = start(script("while :; do sleep 0.1; done"));
    const AttemptRef stubborn = start(
        script("trap '' HUP; echo ready > \"$IW_WORKSPACE/ready\"; while :; do sleep 0.1; done"));
    ASSERT_TRUE(wait_file(workspace(stubborn) + "/ready"));
    for (const AttemptRef& attempt : {plain, stubborn}) {
        ASSERT_TRUE(wait_running(attempt));
        ASSERT_TRUE(io::send_signal(store_->read_process(attempt)->guard, SIGKILL));
        const worker::ExitRecord record = wait_end(attempt);
        EXPECT_EQ(record.cause, EndCause::lost);
        EXPECT_NE(record.reason.find("pane's process was killed"), std::string::npos)
            << record.reason;
        EXPECT_TRUE(marked_processes(attempt.session).empty());
    }
}

TEST_F(LauncherGuard, TellsWhyTheTerminalClosed) {
    const AttemptRef one = start(script("sleep 1000"));
    const AttemptRef other = start(script("sleep 1000"));
    ASSERT_TRUE(wait_running(one));
    ASSERT_TRUE(wait_running(other));
    ASSERT_TRUE(tmux_->kill_session(one.session).ok());
    const worker::ExitRecord ended = wait_end(one);
    EXPECT_EQ(ended.cause, EndCause::lost);
    EXPECT_NE(ended.reason.find("its tmux session was ended"), std::string::npos) << ended.reason;
    ASSERT_EQ(::kill(server_, SIGKILL), 0);
    const worker::ExitRecord killed = wait_end(other);
    EXPECT_EQ(killed.cause, EndCause::lost);
    EXPECT_NE(killed.reason.find("tmux server ended"), std::string::npos) << killed.reason;
}

TEST_F(LauncherGuard, TakesTheStopSignalWithoutARecord) {
    const AttemptRef attempt = start(waiting(0));
    ASSERT_TRUE(wait_running(attempt));
    ASSERT_TRUE(io::send_signal(store_->read_process(attempt)->launcher, worker::kStopSignal));
    const worker::ExitRecord record = wait_end(attempt);
    EXPECT_EQ(record.cause, EndCause::stopped);
    EXPECT_TRUE(record.stop_sent);
}

TEST_F(LauncherGuard, ComesTooLateForItsStart) {
    const AttemptRef attempt = plan(script("exit 0"));
    auto late = store_->read_plan(attempt);
    ASSERT_TRUE(late.ok());
    late->start_by = io::boottime_now() - Duration{1};
    ASSERT_TRUE(store_->write_plan(*late).ok());
    ASSERT_TRUE(tmux_->start_session(attempt).ok());
    EXPECT_TRUE(wait_until([&] { return tmux_->list_sessions()->empty(); }, kCap));
    EXPECT_FALSE(io::exists(store_->folder(attempt) + "/start")) << "it may be assigned again";
    late->start_by = io::boottime_now() + Duration{60'000};
    ASSERT_TRUE(store_->write_plan(*late).ok());
    ASSERT_TRUE(tmux_->start_session(attempt).ok());
    EXPECT_EQ(wait_end(attempt).exit_code, 0);
}

}  // namespace
}  // namespace iw::test
