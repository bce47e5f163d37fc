// Stops, closed terminals, and processes that do not want to end.

#include "tests/integration/attempt_fixture.h"

namespace iw::test {
namespace {

using LauncherStop = AttemptFixture;

// A grandchild behind an agent that goes on, in the ways in which processes escape. Each writes its
// pid.
constexpr const char* kGrandchild = "sh -c 'echo $$ > \"$IW_WORKSPACE/pid\"; ";

TEST_F(LauncherStop, StopsARunningAgent) {
    const AttemptRef attempt = start(script("sleep 1000"));
    ASSERT_TRUE(wait_running(attempt));
    stop(attempt);
    const worker::ExitRecord record = wait_end(attempt);
    EXPECT_EQ(record.cause, EndCause::stopped);
    EXPECT_TRUE(record.stop_sent);
    EXPECT_EQ(record.exit_code, 128 + SIGTERM);
}

TEST_F(LauncherStop, LetsTheAgentSayGoodbye) {
    const AttemptRef attempt =
        start(script("trap 'echo bye; exit 0' TERM; echo ready > \"$IW_WORKSPACE/ready\"; while :; "
                     "do sleep 0.05; done"));
    ASSERT_TRUE(wait_file(workspace(attempt) + "/ready"));
    ASSERT_TRUE(wait_running(attempt));
    stop(attempt);
    const worker::ExitRecord record = wait_end(attempt);
    // The stop was sent before the agent ended: that decides, whatever the code.
    EXPECT_EQ(record.cause, EndCause::stopped);
    EXPECT_TRUE(record.stop_sent);
    EXPECT_EQ(record.exit_code, 0);
    EXPECT_NE(log(attempt).find("bye"), std::string::npos);
}

TEST_F(LauncherStop, StopsBeforeTheStart) {
    const AttemptRef attempt = plan(script("echo run > \"$IW_WORKSPACE/ran\""));
    ASSERT_TRUE(store_->write_stop(attempt, {.cause = Detail::killed, .reason = "early"}).ok());
    ASSERT_TRUE(tmux_->start_session(attempt).ok());
    const worker::ExitRecord record = wait_end(attempt);
    EXPECT_EQ(record.cause, EndCause::stopped);
    EXPECT_FALSE(record.stop_sent);
    EXPECT_FALSE(record.exit_code.has_value());
    EXPECT_EQ(read_text(workspace(attempt) + "/ran"), "");
}

// A folder under the record's name stands for a disk that is full.
TEST_F(LauncherStop, TriesOnToRecordTheProcessAndFindsAStopByItself) {
    const AttemptRef late = plan(script("sleep 1000"));
    const AttemptRef stopped = plan(script("sleep 1000"));
    for (const AttemptRef& attempt : {late, stopped}) {
        const std::string record = store_->folder(attempt) + "/process.json";
        ASSERT_TRUE(io::make_folders(record, 0700).ok());
        ASSERT_TRUE(tmux_->start_session(attempt).ok());
        ASSERT_TRUE(wait_file(store_->folder(attempt) + "/start"));
    }
    ASSERT_TRUE(store_->write_stop(stopped, {.cause = Detail::killed, .reason = "x"}).ok());
    EXPECT_EQ(wait_end(stopped).cause, EndCause::stopped);

    ASSERT_TRUE(io::remove_tree(store_->folder(late) + "/process.json").ok());
    ASSERT_TRUE(wait_running(late));
    stop(late);
    EXPECT_EQ(wait_end(late).cause, EndCause::stopped);
}

TEST_F(LauncherStop, KeepsTheAgentsOwnEnd) {
    const AttemptRef attempt = start(script("exit 3"));
    wait_end(attempt);
    stop(attempt);
    const auto record = store_->read_exit(attempt);
    ASSERT_TRUE(record.has_value());
    EXPECT_EQ(record->cause, EndCause::exited);
    EXPECT_FALSE(record->stop_sent);
    EXPECT_EQ(store_->write_exit(attempt, {.cause = EndCause::lost}).error().code,
              ErrorCode::conflict);
}

TEST_F(LauncherStop, DecidesARaceOneWay) {
    for (int i = 0; i < 8; ++i) {
        const AttemptRef attempt =
            start(script("while [ ! -e \"$IW_WORKSPACE/go\" ]; do :; done; exit 5"));
        ASSERT_TRUE(wait_running(attempt));
        std::ofstream(workspace(attempt) + "/go") << "go\n";
        stop(attempt);
        const worker::ExitRecord record = wait_end(attempt);
        EXPECT_EQ(record.cause, record.stop_sent ? EndCause::stopped : EndCause::exited);
        EXPECT_TRUE(record.stop_sent || record.exit_code == 5);
    }
}

TEST_F(LauncherStop, TakesNoSignalForAStopWithoutARecord) {
    const AttemptRef attempt =
        start(script("echo ready > \"$IW_WORKSPACE/ready\"; while [ ! -e \"$IW_WORKSPACE/go\" ]; "
                     "do sleep 0.05; done; exit 7"));
    ASSERT_TRUE(wait_running(attempt));
    const auto process = store_->read_process(attempt);
    io::send_signal(process->launcher, SIGTERM);
    io::send_signal(process->launcher, SIGHUP);
    ASSERT_TRUE(wait_file(workspace(attempt) + "/ready"));
    std::ofstream(workspace(attempt) + "/go") << "go\n";
    const worker::ExitRecord record = wait_end(attempt);
    EXPECT_EQ(record.cause, EndCause::exited);
    EXPECT_EQ(record.exit_code, 7);
}

TEST_F(LauncherStop, KillsAnAgentThatIgnoresEverything) {
    Wish wish = script(
        "trap '' TERM HUP INT QUIT; echo ready > \"$IW_WORKSPACE/ready\"; while :; do sleep 0.05; "
        "done");
    wish.stop_grace = Duration{300};
    const AttemptRef attempt = start(wish);
    ASSERT_TRUE(wait_file(workspace(attempt) + "/ready"));
    ASSERT_TRUE(wait_running(attempt));
    stop(attempt);
    const worker::ExitRecord record = wait_end(attempt);
    EXPECT_EQ(record.cause, EndCause::stopped);
    EXPECT_EQ(record.exit_code, 128 + SIGKILL);
}

TEST_F(LauncherStop, StopsASuspendedAgent) {
    const AttemptRef attempt =
        start(script("echo $$ > \"$IW_WORKSPACE/pid\"; kill -STOP $$; exit 1"));
    written_pid(attempt, "pid");
    ASSERT_TRUE(wait_running(attempt));
    stop(attempt);
    EXPECT_EQ(wait_end(attempt).exit_code, 128 + SIGTERM);
}

struct Escape {
    const char* name;
    const char* script;  // of the agent; it runs on
};
constexpr Escape kEscapes[] = {
    {"background", "%sexec sleep 1000' &"},
    {"own session", "setsid %sexec sleep 1000' &"},
    {"ignores signals", "setsid %strap \"\" TERM HUP INT; while :; do sleep 0.1; done' &"},
    {"double fork", "(setsid %sexec sleep 1000' </dev/null >/dev/null 2>&1 & ) &"},
    {"closed descriptors", "setsid %sexec 0<&- 1>&- 2>&-; while :; do sleep 0.1; done' &"},
    {"without environment", "setsid %sexec env -i /bin/sleep 1000' &"},
};

std::string escape_script(const Escape& escape, const std::string& end) {
    std::string text = escape.script;
    text.replace(text.find("%s"), 2, kGrandchild);
    return text + " while [ ! -s \"$IW_WORKSPACE/pid\" ]; do sleep 0.02; done; " + end;
}

TEST_F(LauncherStop, StopsWhateverTheAgentStarted) {
    for (const Escape& escape : kEscapes) {
        Wish wish = script(escape_script(escape, "while :; do sleep 0.1; done"));
        wish.stop_grace = Duration{300};
        const AttemptRef attempt = start(wish);
        const pid_t grandchild = written_pid(attempt, "pid");
        ASSERT_TRUE(wait_running(attempt));
        stop(attempt);
        EXPECT_EQ(wait_end(attempt).cause, EndCause::stopped) << escape.name;
        EXPECT_FALSE(is_alive(grandchild)) << escape.name;
    }
}

TEST_F(LauncherStop, SweepsWhatAnEndedAgentLeft) {
    for (const Escape& escape : kEscapes) {
        const AttemptRef attempt = start(script(escape_script(escape, "exit 3")));
        const pid_t grandchild = written_pid(attempt, "pid");
        const worker::ExitRecord record = wait_end(attempt);
        EXPECT_EQ(record.cause, EndCause::exited) << escape.name;
        EXPECT_EQ(record.exit_code, 3) << escape.name;
        EXPECT_GE(record.swept, 1u) << escape.name;
        EXPECT_FALSE(is_alive(grandchild)) << escape.name;
    }
}

TEST_F(LauncherStop, LetsAPipelineFinish) {
    // What is on its way out by itself is not hurried: the last lines of a `tee` in the background
    // count.
    Wish wish = script(
        "mkfifo \"$IW_WORKSPACE/f\"; { cat; sleep 0.1; echo last; } < \"$IW_WORKSPACE/f\" & "
        "echo first > \"$IW_WORKSPACE/f\"; exit 0");
    wish.settle = kCap;  // however slow the machine is
    const AttemptRef attempt = start(wish);
    const worker::ExitRecord record = wait_end(attempt);
    EXPECT_EQ(record.swept, 0u);
    EXPECT_NE(log(attempt).find("last"), std::string::npos) << log(attempt);
}

TEST_F(LauncherStop, SurvivesAnAgentThatClosesItsTerminal) {
    const AttemptRef attempt =
        start(script("exec 0<&- 1>&- 2>&-; sleep 0.3; echo done > \"$IW_WORKSPACE/done\"; exit 8"));
    const worker::ExitRecord record = wait_end(attempt);
    EXPECT_EQ(record.cause, EndCause::exited);
    EXPECT_EQ(record.exit_code, 8);
    EXPECT_EQ(read_text(workspace(attempt) + "/done"), "done\n");
}

TEST_F(LauncherStop, EndsTheAgentWithItsTerminal) {
    const AttemptRef plain = start(script("sleep 1000"));
    Wish stubborn_wish = script(
        "trap '' HUP TERM; echo ready > \"$IW_WORKSPACE/ready\"; while :; do sleep 0.1; done");
    stubborn_wish.stop_grace = Duration{300};
    const AttemptRef stubborn = start(stubborn_wish);
    ASSERT_TRUE(wait_running(plain));
    ASSERT_TRUE(wait_running(stubborn));
    ASSERT_TRUE(wait_file(workspace(stubborn) + "/ready"));
    ASSERT_EQ(::kill(server_, SIGKILL), 0);
    for (const AttemptRef& attempt : {plain, stubborn}) {
        const worker::ExitRecord record = wait_end(attempt);
        EXPECT_EQ(record.cause, EndCause::lost);
        EXPECT_TRUE(record.hangup);
        EXPECT_FALSE(record.stop_sent);
        EXPECT_NE(record.reason.find("terminal closed"), std::string::npos) << record.reason;
        EXPECT_TRUE(marked_processes(attempt.session).empty());
    }
}

TEST_F(LauncherStop, TakesAClosedTerminalForAStopWhenOneIsRecorded) {
    const AttemptRef attempt = start(script("sleep 1000"));
    ASSERT_TRUE(wait_running(attempt));
    ASSERT_TRUE(store_->write_stop(attempt, {.cause = Detail::timeout, .reason = "test"}).ok());
    ASSERT_TRUE(tmux_->kill_session(attempt.session).ok());
    const worker::ExitRecord record = wait_end(attempt);
    EXPECT_EQ(record.cause, EndCause::stopped);
    EXPECT_TRUE(record.stop_sent);
}

TEST_F(LauncherStop, HarmsNoOtherSession) {
    const AttemptRef neighbour = start(script("sleep 0.5; exit 0"));
    const AttemptRef killer = start(script("tmux kill-server; exit 0"));
    EXPECT_EQ(wait_end(killer).exit_code, 0);
    const worker::ExitRecord record = wait_end(neighbour);
    EXPECT_EQ(record.cause, EndCause::exited);
    EXPECT_EQ(record.exit_code, 0);
}

}  // namespace
}  // namespace iw::test
