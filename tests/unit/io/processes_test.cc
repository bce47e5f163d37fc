#include "common/io/processes.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <string>
#include <vector>

#include "common/base/text.h"
#include "common/io/files.h"
#include "common/io/process_end.h"
#include "common/io/system_clock.h"
#include "tests/support/child_process.h"
#include "tests/support/temp_dir.h"
#include "tests/support/wait_until.h"

namespace iw::io {
namespace {

constexpr std::size_t kMax = 1u << 20;
constexpr int kCapMs = 30'000;
constexpr Duration kCap{30'000};

CommandResult run_shell(const std::string& script) {
    return run_command({"/bin/sh", "-c", script}, {}, "", kMax, kCapMs);
}

TEST(RunCommand, GivesExitCodeAndBothOutputs) {
    const CommandResult result = run_shell("echo out; echo err >&2; exit 3");
    EXPECT_EQ(result.exit_code, 3);
    EXPECT_EQ(result.output, "out\n");
    EXPECT_EQ(result.errors, "err\n");
}

TEST(RunCommand, FindsProgramsInThePath) {
    EXPECT_EQ(run_command({"true"}, {}, "", kMax, kCapMs).exit_code, 0);
}

TEST(RunCommand, TellsASignalAndAProgramThatIsMissing) {
    EXPECT_EQ(run_shell("kill -TERM $$").exit_code, 128 + SIGTERM);
    const CommandResult missing = run_command({"/does/not/exist"}, {}, "", kMax, kCapMs);
    EXPECT_EQ(missing.exit_code, 127);
    EXPECT_NE(missing.errors.find("/does/not/exist"), std::string::npos);
}

TEST(RunCommand, FeedsInputOfAnySizeAndOtherwiseNone) {
    const std::string input(300'000, 'x');
    const CommandResult fed = run_command({"/bin/cat"}, {}, input, kMax, kCapMs);
    EXPECT_EQ(fed.output, input);
    EXPECT_EQ(run_command({"/bin/cat"}, {}, "", kMax, kCapMs).output, "");
    // A program that does not read its input disturbs nobody.
    EXPECT_EQ(run_command({"/bin/true"}, {}, input, kMax, kCapMs).exit_code, 0);
}

TEST(RunCommand, KeepsOnlySoMuchAndLetsTheProgramFinish) {
    const CommandResult result =
        run_command({"/bin/sh", "-c", "head -c 500000 /dev/zero; exit 4"}, {}, "", 1000, kCapMs);
    EXPECT_EQ(result.output.size(), 1000u);
    EXPECT_EQ(result.exit_code, 4);
}

TEST(RunCommand, HandsOnTheGivenEnvironmentOnly) {
    const CommandResult given = run_command({"/usr/bin/env"}, {"A=1", "B=2"}, "", kMax, kCapMs);
    EXPECT_EQ(given.output, "A=1\nB=2\n");
    const CommandResult own = run_command({"/usr/bin/env"}, {}, "", kMax, kCapMs);
    EXPECT_NE(own.output.find("PATH="), std::string::npos);
}

TEST(RunCommand, EndsAProgramThatTakesTooLongWithItsHelpers) {
    const test::TempDir dir;
    const std::string script = "sleep 1000 & echo $! > " + dir.path("helper") + "; wait";
    const CommandResult result = run_command({"/bin/sh", "-c", script}, {}, "", kMax, 500);
    EXPECT_EQ(result.exit_code, 124);
    const Result<std::string> text = read_file(dir.path("helper"), kMax);
    ASSERT_TRUE(text.ok());
    const pid_t helper = std::stoi(*text);
    EXPECT_TRUE(test::wait_until(
        [&] {
            return !is_running(
                {.pid = helper, .start_ticks = process_start_ticks(helper).value_or(0)});
        },
        kCap));
}

TEST(RunCommand, DoesNotWaitForWhatTheProgramLeavesRunning) {
    const Timestamp before = steady_now();
    const CommandResult result = run_shell("sleep 1000 & echo $!");
    EXPECT_EQ(result.exit_code, 0);
    EXPECT_LT(steady_now() - before, kCap);
    const pid_t left = std::stoi(result.output);
    EXPECT_TRUE(
        send_signal({.pid = left, .start_ticks = process_start_ticks(left).value_or(0)}, SIGKILL));
}

TEST(RunCommand, HandsOnNoDescriptorAndNoBlockedSignal) {
    std::array<int, 2> ends{};
    ASSERT_EQ(::pipe(ends.data()), 0);  // on purpose without CLOEXEC
    sigset_t blocked;
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGTERM);
    ASSERT_EQ(pthread_sigmask(SIG_BLOCK, &blocked, nullptr), 0);
    // The shell itself blocks signals for a moment around each fork, hence exec and its own status.
    const CommandResult result = run_shell("ls /proc/$$/fd; exec grep SigBlk /proc/self/status");
    pthread_sigmask(SIG_UNBLOCK, &blocked, nullptr);
    EXPECT_TRUE(result.output.starts_with("0\n1\n2\n")) << result.output;
    EXPECT_EQ(result.output.find(std::to_string(ends[1]) + "\nSig"), std::string::npos);
    EXPECT_NE(result.output.find("SigBlk:\t0000000000000000"), std::string::npos) << result.output;
    ::close(ends[0]);
    ::close(ends[1]);
}

TEST(ProcessIds, AreTheirPidAndStart) {
    const std::optional<std::uint64_t> own = process_start_ticks(::getpid());
    ASSERT_TRUE(own.has_value());
    EXPECT_TRUE(is_running({.pid = ::getpid(), .start_ticks = *own}));
    EXPECT_FALSE(is_running({.pid = ::getpid(), .start_ticks = *own + 1}));
    EXPECT_FALSE(is_running({.pid = 0, .start_ticks = 0}));
    EXPECT_FALSE(process_start_ticks(-1).has_value());
}

TEST(ProcessIds, AreReadBehindAnAwkwardName) {
    const test::TempDir dir;
    const std::string program = dir.path("a) Z 1 (b");
    ASSERT_TRUE(run_command({"cp", "/bin/sleep", program}, {}, "", kMax, kCapMs).exit_code == 0);
    const test::ChildProcess child(
        {.argv = {program, "1000"}, .environment = {}, .log = dir.path("log")});
    EXPECT_TRUE(test::wait_until(
        [&] {
            const Result<std::string> name =
                read_file("/proc/" + std::to_string(child.pid()) + "/comm", kMax);
            return name.ok() && *name == "a) Z 1 (b\n";
        },
        kCap));
    EXPECT_TRUE(child.is_running());
}

TEST(ProcessIds, AZombieIsNotRunning) {
    const pid_t child = ::fork();
    if (child == 0) ::_exit(0);
    const ProcessId id{.pid = child, .start_ticks = process_start_ticks(child).value_or(0)};
    EXPECT_TRUE(test::wait_until([&] { return !is_running(id); }, kCap));
    EXPECT_FALSE(send_signal(id, SIGTERM));
    EXPECT_EQ(::waitpid(child, nullptr, 0), child);
}

TEST(SendSignal, RefusesAProcessThatOnlyHasThePid) {
    const test::TempDir dir;
    test::ChildProcess child(
        {.argv = {"/bin/sleep", "1000"}, .environment = {}, .log = dir.path("log")});
    const ProcessId id = child.id();
    EXPECT_FALSE(send_signal({.pid = id.pid, .start_ticks = id.start_ticks + 1}, SIGKILL));
    EXPECT_FALSE(send_signal({.pid = 0, .start_ticks = id.start_ticks}, SIGKILL));
    EXPECT_FALSE(send_signal({.pid = -1, .start_ticks = id.start_ticks}, SIGKILL));
    EXPECT_TRUE(child.is_running());
    EXPECT_TRUE(send_signal(id, SIGTERM));
    EXPECT_EQ(child.wait_exit(kCap), 128 + SIGTERM);
    EXPECT_FALSE(send_signal(id, SIGTERM));
}

// A daemon for the length of a test.
class Daemon {
  public:
    Daemon(const std::vector<std::string>& argv, const std::vector<std::string>& environment,
           const std::string& log)
        : started_(start_daemon(argv, environment, log)) {
        if (started_.ok()) {
            id_ = {.pid = *started_, .start_ticks = process_start_ticks(*started_).value_or(0)};
        }
    }
    ~Daemon() { send_signal(id_, SIGKILL); }
    Daemon(const Daemon&) = delete;
    Daemon& operator=(const Daemon&) = delete;

    bool ok() const { return started_.ok(); }
    const ProcessId& id() const { return id_; }
    std::string proc(const std::string& name) const {
        return "/proc/" + std::to_string(id_.pid) + "/" + name;
    }
    std::string read_proc(const std::string& name) const {
        const Result<std::string> text = read_file(proc(name), kMax);
        return text.ok() ? *text : text.error().message;
    }

  private:
    Result<pid_t> started_;
    ProcessId id_;
};

TEST(StartDaemon, LeavesNoDescriptorOfOursWithIt) {
    const test::TempDir dir;
    std::array<int, 2> ends{};
    ASSERT_EQ(::pipe(ends.data()), 0);  // on purpose without CLOEXEC, as a caller's may be
    const Daemon daemon({"/bin/sleep", "1000"}, {}, dir.path("log"));
    ASSERT_TRUE(daemon.ok());
    EXPECT_EQ(list_folder(daemon.proc("fd")), (std::vector<std::string>{"0", "1", "2"}));
    EXPECT_EQ(real_path(daemon.proc("fd/0")), "/dev/null");
    EXPECT_EQ(real_path(daemon.proc("fd/1")), real_path(dir.path("log")));

    // Who reads the other end sees its end although the daemon lives.
    ::close(ends[1]);
    pollfd item{ends[0], POLLIN, 0};
    ASSERT_EQ(::poll(&item, 1, kCapMs), 1);
    char byte = 0;
    EXPECT_EQ(::read(ends[0], &byte, 1), 0);
    EXPECT_TRUE(is_running(daemon.id()));
    ::close(ends[0]);
}

TEST(StartDaemon, DetachesFromUsAndResetsSignals) {
    const test::TempDir dir;
    sigset_t blocked;
    sigset_t before;
    sigfillset(&blocked);
    ASSERT_EQ(pthread_sigmask(SIG_BLOCK, &blocked, &before), 0);
    const auto handler = ::signal(SIGPIPE, SIG_IGN);
    const Daemon daemon({"/bin/sleep", "1000"}, {"ONE=1", "TWO=2"}, dir.path("log"));
    ::signal(SIGPIPE, handler);
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    ASSERT_TRUE(daemon.ok());

    EXPECT_NE(::getsid(daemon.id().pid), ::getsid(0));
    EXPECT_NE(::getpgid(daemon.id().pid), ::getpgid(0));
    EXPECT_EQ(::waitpid(daemon.id().pid, nullptr, WNOHANG), -1);  // no child of ours
    EXPECT_EQ(real_path(daemon.proc("cwd")), "/");
    EXPECT_EQ(daemon.read_proc("environ"), std::string("ONE=1\0TWO=2\0", 12));
    const std::string status = daemon.read_proc("status");
    EXPECT_NE(status.find("SigBlk:\t0000000000000000"), std::string::npos) << status;
    EXPECT_NE(status.find("SigIgn:\t0000000000000000"), std::string::npos) << status;
}

TEST(StartDaemon, AppendsBothOutputsToItsLog) {
    const test::TempDir dir;
    const std::string log = dir.path("log");
    ASSERT_TRUE(write_file(log, "before\n", 0600, Sync::none).ok());
    const Daemon daemon({"/bin/sh", "-c", "echo out; echo err >&2"}, {}, log);
    ASSERT_TRUE(daemon.ok());
    EXPECT_TRUE(
        test::wait_until([&] { return *read_file(log, kMax) == "before\nout\nerr\n"; }, kCap));
}

TEST(StartDaemon, TellsWhyItCouldNotStart) {
    const test::TempDir dir;
    const Result<pid_t> missing = start_daemon({"/does/not/exist"}, {}, dir.path("log"));
    ASSERT_FALSE(missing.ok());
    EXPECT_EQ(missing.error().code, ErrorCode::io);
    EXPECT_NE(missing.error().message.find("/does/not/exist: No such file"), std::string::npos)
        << missing.error().message;
    const Result<pid_t> no_log = start_daemon({"/bin/true"}, {}, dir.path("none/log"));
    ASSERT_FALSE(no_log.ok());
    EXPECT_NE(no_log.error().message.find("none/log"), std::string::npos);
}

TEST(ChildProcess, IsWaitedForWithACapAndKilledAtTheEnd) {
    const test::TempDir dir;
    ProcessId id;
    {
        test::ChildProcess child({.argv = {"/bin/sh", "-c", "echo $WORD; exec sleep 1000"},
                                  .environment = {"WORD=hello"},
                                  .log = dir.path("log")});
        id = child.id();
        EXPECT_FALSE(child.wait_exit(Duration(1)).has_value());
        EXPECT_TRUE(test::wait_until([&] { return child.log_text() == "hello\n"; }, kCap));
    }
    EXPECT_FALSE(is_running(id));
    EXPECT_EQ(test::run_program({"/bin/sh", "-c", "cat; exit 5"}, {}, "in").exit_code, 5);
}

TEST(HasEnded, IsSaidOnlyOfWhatSurelyHas) {
    const ProcessId own{.pid = ::getpid(), .start_ticks = process_start_ticks(::getpid()).value()};
    EXPECT_FALSE(has_ended(own));
    EXPECT_TRUE(has_ended({.pid = own.pid, .start_ticks = own.start_ticks + 1}));
    EXPECT_TRUE(has_ended({}));
    const pid_t child = ::fork();
    if (child == 0) ::_exit(0);
    siginfo_t info{};
    ASSERT_EQ(::waitid(P_PID, static_cast<id_t>(child), &info, WEXITED | WNOWAIT), 0);
    const ProcessId ended{.pid = child, .start_ticks = process_start_ticks(child).value()};
    EXPECT_TRUE(has_ended(ended)) << "a zombie";
    ASSERT_EQ(::waitpid(child, nullptr, 0), child);
    EXPECT_TRUE(has_ended(ended));

    rlimit before{};
    ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &before), 0);
    const rlimit none{.rlim_cur = 0, .rlim_max = before.rlim_max};
    ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &none), 0);
    const bool lives = !has_ended(own);
    const bool gone = has_ended(ended);
    ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &before), 0);
    EXPECT_TRUE(lives) << "who cannot be looked at has not ended";
    EXPECT_TRUE(gone);
}

}  // namespace
}  // namespace iw::io
