// How agents end by themselves, and what iexec records of it.

#include <sys/stat.h>

#include <algorithm>
#include <thread>

#include "tests/integration/attempt_fixture.h"
#include "tests/support/child_process.h"

namespace iw::test {
namespace {

using LauncherExit = AttemptFixture;

TEST_F(LauncherExit, RecordsExitCodes) {
    const AttemptRef good = start(script("echo fine"));
    const AttemptRef bad = start(script("echo bad; exit 3"));
    const worker::ExitRecord first = wait_end(good);
    EXPECT_EQ(first.cause, EndCause::exited);
    EXPECT_EQ(first.exit_code, 0);
    EXPECT_TRUE(first.started_at.has_value());
    EXPECT_EQ(first.swept, 0u);
    EXPECT_EQ(log(good), "fine\r\n");
    const worker::ExitRecord second = wait_end(bad);
    EXPECT_EQ(second.cause, EndCause::exited);
    EXPECT_EQ(second.exit_code, 3);
    EXPECT_FALSE(second.stop_sent);
    EXPECT_FALSE(second.hangup);
}

TEST_F(LauncherExit, RecordsSignals) {
    const AttemptRef attempt = start(script("kill -SEGV $$"));
    const worker::ExitRecord record = wait_end(attempt);
    EXPECT_EQ(record.cause, EndCause::signal);
    EXPECT_EQ(record.exit_code, 128 + SIGSEGV);
    EXPECT_NE(record.reason.find("SIGSEGV"), std::string::npos) << record.reason;
}

TEST_F(LauncherExit, NamesWhatCannotBeStarted) {
    const std::string plain = dir_.path("plain");
    const std::string shebang = dir_.path("shebang");
    std::ofstream(plain) << "echo no\n";
    std::ofstream(shebang) << "#!/no/such/interpreter\n";
    ::chmod(shebang.c_str(), 0755);
    const std::map<std::string, std::string> reasons = {
        {"no-such-command", "there is no command no-such-command"},
        {dir_.path("missing"), "No such file"},
        {plain, "Permission denied"},
        {shebang, "#!/no/such/interpreter"}};
    for (const auto& [command, reason] : reasons) {
        const AttemptRef attempt = start(Wish{.argv = {command}});
        const worker::ExitRecord record = wait_end(attempt);
        EXPECT_EQ(record.cause, EndCause::start_failed) << command;
        EXPECT_FALSE(record.exit_code.has_value());
        EXPECT_NE(record.reason.find(reason), std::string::npos) << record.reason;
        EXPECT_NE(log(attempt).find(reason), std::string::npos) << log(attempt);
        EXPECT_FALSE(store_->read_process(attempt).has_value());
    }
}

TEST_F(LauncherExit, NamesAMissingFolder) {
    const AttemptRef attempt = plan(script("echo no"));
    auto changed = store_->read_plan(attempt);
    ASSERT_TRUE(changed.ok());
    changed->folder = root_ + "/gone";
    ASSERT_TRUE(store_->write_plan(*changed).ok());
    ASSERT_TRUE(tmux_->start_session(attempt).ok());
    const worker::ExitRecord record = wait_end(attempt);
    EXPECT_EQ(record.cause, EndCause::start_failed);
    EXPECT_NE(record.reason.find(root_ + "/gone"), std::string::npos) << record.reason;
}

TEST_F(LauncherExit, GivesThePromptByteForByte) {
    std::string prompt;
    const std::string nasty =
        "say 'a' \"b\" `touch pwned` $(touch pwned) #{pane_id} #(touch pwned) %Y "
        ";\r\n\\;\xF0\x9F\x9A\x80 \x1b[0m\x04\x03\n";
    while (prompt.size() < (1u << 20))
        prompt += nasty;
    Wish wish = script("cat > \"$IW_WORKSPACE/got\"; ls > \"$IW_WORKSPACE/files\"");
    wish.prompt = prompt;
    const AttemptRef attempt = start(wish);
    EXPECT_EQ(wait_end(attempt).exit_code, 0);
    EXPECT_TRUE(read_text(workspace(attempt) + "/got") == prompt);
    EXPECT_EQ(read_text(workspace(attempt) + "/files"), "sessions\n");
}

TEST_F(LauncherExit, GivesExactlyThePlansEnvironmentAndArguments) {
    const AttemptRef attempt = start(Wish{.argv = {"/bin/sh", "-c",
                                                   "env | cut -d= -f1 | sort > $IW_WORKSPACE/env; "
                                                   "printf '%s|' \"$@\" > $IW_WORKSPACE/argv",
                                                   "name", "a b", "", "#{x};", "$(touch pwned)"}});
    EXPECT_EQ(wait_end(attempt).exit_code, 0);
    EXPECT_EQ(read_text(workspace(attempt) + "/argv"), "a b||#{x};|$(touch pwned)|");
    EXPECT_EQ(read_text(workspace(attempt) + "/env"),
              "IW_ATTEMPT\nIW_SESSION_ID\nIW_WORKSPACE\nPATH\nPWD\nTERM\n");
}

TEST_F(LauncherExit, RunsInAFolderOfAnyName) {
    open("st ate #{x} %Y'\"$HOME;");
    const AttemptRef attempt = start(script("echo here; exit 4"));
    EXPECT_EQ(wait_end(attempt).exit_code, 4);
    EXPECT_EQ(log(attempt), "here\r\n");
}

TEST_F(LauncherExit, TakesTheLongestId) {
    Wish wish = script("exit 5");
    wish.agent = std::string(64, 'a') + "-1234567";
    const AttemptRef attempt = start(wish);
    EXPECT_EQ(wait_end(attempt).exit_code, 5);
}

TEST_F(LauncherExit, StartsAnAttemptOnce) {
    const AttemptRef attempt = plan(script("echo run >> \"$IW_WORKSPACE/runs\""));
    std::vector<ChildProcess> launchers;
    for (int i = 0; i < 20; ++i) {
        launchers.emplace_back(
            ChildProcess::Options{.argv = {program_path("iexec"), attempt_name(attempt)},
                                  .environment = {"IW_WORKER_STATE=" + state_},
                                  .log = dir_.path("launchers.log")});
    }
    int ran = 0;
    int refused = 0;
    for (ChildProcess& launcher : launchers) {
        const auto code = launcher.wait_exit(kCap);
        ran += code == 0 ? 1 : 0;
        refused += code == 75 ? 1 : 0;
    }
    EXPECT_EQ(ran, 1);
    EXPECT_EQ(refused, 19);
    EXPECT_EQ(read_text(workspace(attempt) + "/runs"), "run\n");
    const auto facts = store_->load(attempt);
    ASSERT_TRUE(facts.ok()) << facts.error().message;
    EXPECT_EQ(facts->claim, worker::Claim::launcher);
    EXPECT_EQ(facts->exit->exit_code, 0);
}

TEST_F(LauncherExit, LeavesADeclinedAttemptAlone) {
    const AttemptRef attempt = plan(script("echo run >> \"$IW_WORKSPACE/runs\""));
    ASSERT_TRUE(store_->claim(attempt, worker::Claim::declined, "no room").ok());
    ASSERT_TRUE(tmux_->start_session(attempt).ok());
    EXPECT_TRUE(wait_until([&] { return store_->has_log_done(attempt); }, kCap));
    EXPECT_FALSE(store_->read_exit(attempt).has_value());
    EXPECT_EQ(read_text(workspace(attempt) + "/runs"), "");
    EXPECT_NE(log(attempt).find("not run again"), std::string::npos) << log(attempt);
}

TEST_F(LauncherExit, RefusesWhatIsNoAttempt) {
    for (const std::string name : {"", "../x", "20251118-153042-a-1-1", "20251118-153042-a"}) {
        const io::CommandResult result = io::run_command(
            {program_path("iexec"), name}, {"IW_WORKER_STATE=" + state_}, "", 4096, 5000);
        EXPECT_EQ(result.exit_code, 64) << name;
    }
    EXPECT_TRUE(io::list_folder(state_ + "/attempts").empty());
    EXPECT_EQ(io::run_command({program_path("iexec")}, {"PATH=/bin"}, "", 4096, 5000).exit_code,
              64);
}

TEST_F(LauncherExit, GivesTheTerminalBackToASuspendedAgent) {
    // As if somebody had typed Ctrl+Z while attached.
    const AttemptRef attempt = start(script("kill -TSTP $$; echo back; exit 6"));
    EXPECT_EQ(wait_end(attempt).exit_code, 6);
    EXPECT_NE(log(attempt).find("back"), std::string::npos);
}

TEST_F(LauncherExit, ReadsTheTerminalWithoutAPromptFile) {
    Wish wish = script("read line; echo \"got $line\" > \"$IW_WORKSPACE/got\"");
    wish.stdin_from_prompt = false;
    const AttemptRef attempt = start(wish);
    ASSERT_TRUE(wait_running(attempt));
    const io::CommandResult sent =
        io::run_command({"tmux", "-S", tmux_->socket(), "send-keys", "-t",
                         "=iw-" + attempt.session.str() + ":", "hello", "Enter"},
                        {}, "", 4096, 5000);
    EXPECT_EQ(sent.exit_code, 0) << sent.errors;
    EXPECT_EQ(wait_end(attempt).exit_code, 0);
    EXPECT_EQ(read_text(workspace(attempt) + "/got"), "got hello\n");
}

TEST_F(LauncherExit, PassesCtrlCToTheAgent) {
    Wish wish = script(
        "trap 'exit 9' INT; echo ready > \"$IW_WORKSPACE/ready\"; while :; do sleep 0.05; done");
    const AttemptRef attempt = start(wish);
    ASSERT_TRUE(wait_file(workspace(attempt) + "/ready"));
    io::run_command({"tmux", "-S", tmux_->socket(), "send-keys", "-t",
                     "=iw-" + attempt.session.str() + ":", "C-c"},
                    {}, "", 4096, 5000);
    const worker::ExitRecord record = wait_end(attempt);
    EXPECT_EQ(record.cause, EndCause::exited);
    EXPECT_EQ(record.exit_code, 9);
}

}  // namespace
}  // namespace iw::test
