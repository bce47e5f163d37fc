// The terminal's output in output.log.

#include <sys/stat.h>

#include <algorithm>

#include "tests/integration/attempt_fixture.h"
#include "tests/support/child_process.h"

namespace iw::test {
namespace {

using LauncherLog = AttemptFixture;

std::uint64_t size_of(const std::string& path) {
    struct stat info {};
    return ::stat(path.c_str(), &info) == 0 ? static_cast<std::uint64_t>(info.st_size) : 0;
}

TEST_F(LauncherLog, LosesNoLineOfShortRuns) {
    for (int i = 0; i < 10; ++i) {
        const AttemptRef attempt = start(script("seq 1 2000; exit 0"));
        EXPECT_EQ(wait_end(attempt).exit_code, 0);
        const std::string text = log(attempt);
        EXPECT_TRUE(text.starts_with("1\r\n2\r\n")) << text.substr(0, 40);
        EXPECT_TRUE(text.ends_with("1999\r\n2000\r\n"));
        EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 2000);
    }
}

void expect_bounded(const std::string& folder, std::uint64_t bytes_max) {
    const std::string text = read_text(folder + "/output.log");
    EXPECT_LE(text.size(), bytes_max / 2);
    EXPECT_LE(size_of(folder + "/output.log.1"), bytes_max / 2);
    EXPECT_GE(size_of(folder + "/output.log.1"), bytes_max / 2 - 1);
    EXPECT_TRUE(text.starts_with("[output.log rotated: ")) << text.substr(0, 100);
    EXPECT_NE(text.find("bytes are gone]\n"), std::string::npos);
    EXPECT_NE(text.find("THE END"), std::string::npos) << text.substr(text.size() - 100);
}

TEST_F(LauncherLog, StaysWithinItsBound) {
    Wish wish = script(
        "yes 0123456789012345678901234567890123456789012345678901234567890123456789 |"
        " head -c 20000000; echo; echo THE END");
    const AttemptRef attempt = start(wish);
    ASSERT_TRUE(
        wait_until([&] { return store_->read_exit(attempt).has_value(); }, Duration{60'000}));
    EXPECT_EQ(wait_end(attempt).exit_code, 0);
    expect_bounded(workspace(attempt), wish.log_bytes_max);
    EXPECT_TRUE(log(attempt).ends_with("THE END\r\n"));
}

// Without a terminal in between, which costs most of the time.
TEST_F(LauncherLog, StaysWithinItsBoundHoweverMuchComes) {
    const AttemptRef attempt = plan(script("true"));
    const io::CommandResult result = run_program(
        {"/bin/sh", "-c", "{ yes | head -c 200000000; echo THE END; } | exec \"$0\" \"$1\"",
         program_path("ilogd"), attempt_name(attempt)},
        {"IW_WORKER_STATE=" + state_}, "");
    EXPECT_EQ(result.exit_code, 0) << result.errors;
    expect_bounded(workspace(attempt), 1u << 20);
    EXPECT_TRUE(store_->has_log_done(attempt));
    const std::string record = read_text(store_->folder(attempt) + "/log.json");
    EXPECT_NE(record.find("\"bytes_seen\": 200000008"), std::string::npos) << record;
}

TEST_F(LauncherLog, OutlivesSignals) {
    const AttemptRef attempt = plan(script("true"));
    const io::CommandResult result = run_program(
        {"/bin/sh", "-c",
         "{ echo one; while [ ! -e \"$2/go\" ]; do sleep 0.02; done; echo two; } | \"$0\" \"$1\" & "
         "while [ ! -s \"$2/output.log\" ]; do sleep 0.02; done; "
         "for signal in TERM HUP INT QUIT; do kill -$signal $!; done; echo > \"$2/go\"; wait $!",
         program_path("ilogd"), attempt_name(attempt), workspace(attempt)},
        {"IW_WORKER_STATE=" + state_}, "");
    EXPECT_EQ(result.exit_code, 0) << result.errors;
    EXPECT_EQ(log(attempt), "one\ntwo\n");
}

TEST_F(LauncherLog, FollowsAWorkspaceThatIsMadeAgain) {
    const AttemptRef attempt =
        start(script("echo one; while [ ! -e \"$IW_WORKSPACE/go\" ]; do sleep 0.02; done; echo "
                     "two; echo > $IW_WORKSPACE/2; "
                     "while [ ! -e \"$IW_WORKSPACE/end\" ]; do sleep 0.02; done"));
    ASSERT_TRUE(wait_until([&] { return log(attempt) == "one\r\n"; }, kCap));
    const std::string moved = root_ + "/moved";
    ASSERT_EQ(::rename(workspace(attempt).c_str(), moved.c_str()), 0);
    ASSERT_TRUE(io::make_folders(workspace(attempt), 0700).ok());
    std::ofstream(workspace(attempt) + "/go") << "go\n";
    ASSERT_TRUE(wait_until([&] { return log(attempt).ends_with("two\r\n"); }, kCap))
        << log(attempt);
    EXPECT_EQ(read_text(moved + "/output.log"), "one\r\n");
    EXPECT_TRUE(log(attempt).starts_with("[output.log rotated: 0 bytes")) << log(attempt);
    std::ofstream(workspace(attempt) + "/end") << "end\n";
    EXPECT_EQ(wait_end(attempt).exit_code, 0);
}

TEST_F(LauncherLog, KeepsDrainingWithoutAWorkspace) {
    const AttemptRef attempt =
        start(script("while [ ! -e go ]; do sleep 0.02; done; seq 1 200000; exit 0"));
    ASSERT_TRUE(wait_running(attempt));
    ASSERT_TRUE(io::remove_tree(workspace(attempt)).ok());
    std::ofstream(root_ + "/go") << "go\n";
    EXPECT_EQ(wait_end(attempt).exit_code, 0);
    EXPECT_FALSE(io::exists(workspace(attempt)));
}

TEST_F(LauncherLog, FollowsNoLink) {
    const std::string target = dir_.path("target");
    const AttemptRef attempt = plan(script("echo secret; exit 0"));
    ASSERT_EQ(::symlink(target.c_str(), (workspace(attempt) + "/output.log").c_str()), 0);
    ASSERT_TRUE(tmux_->start_session(attempt).ok());
    EXPECT_EQ(wait_end(attempt).exit_code, 0);
    EXPECT_FALSE(io::exists(target));
}

}  // namespace
}  // namespace iw::test
