#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <string>
#include <utility>

#include "common/base/check.h"
#include "common/io/files.h"

namespace iw::io {
namespace {

constexpr int kNotStarted = 127;
// Above the standard ones, so that putting those in their places overwrites none of what is needed.
constexpr int kHighFd = 10;
constexpr int kReportFd = 3;

struct Plan {
    char* const* arguments;
    char* const* variables;
    int null_file;
    int log_file;
    int report;  // takes the daemon's pid and, should exec fail, the error number
};

std::vector<char*> pointers(const std::vector<std::string>& texts) {
    std::vector<char*> result;
    for (const std::string& text : texts)
        result.push_back(const_cast<char*>(text.c_str()));
    result.push_back(nullptr);
    return result;
}

// From here to exec only async-signal-safe calls: the process may have had threads, and one of them
// may have held the lock of the allocator.

void report_number(int fd, int number) {
    // A pipe takes four bytes whole; if nobody reads any more, there is nobody to tell.
    [[maybe_unused]] const ssize_t written = ::write(fd, &number, sizeof number);
}

[[noreturn]] void become_daemon(const Plan& plan) {
    report_number(plan.report, ::getpid());
    ::dup2(plan.null_file, STDIN_FILENO);
    ::dup2(plan.log_file, STDOUT_FILENO);
    ::dup2(plan.log_file, STDERR_FILENO);
    ::dup3(plan.report, kReportFd, O_CLOEXEC);
    ::close_range(kReportFd + 1, ~0U, 0);
    struct sigaction default_action {};
    default_action.sa_handler = SIG_DFL;
    for (int signal = 1; signal < NSIG; ++signal)
        ::sigaction(signal, &default_action, nullptr);
    sigset_t none;
    ::sigemptyset(&none);
    ::sigprocmask(SIG_SETMASK, &none, nullptr);
    ::execve(plan.arguments[0], plan.arguments, plan.variables);
    report_number(kReportFd, errno);
    ::_exit(kNotStarted);
}

// The process between: leads the new session and goes, so that init adopts the daemon and no
// terminal can become its own.
[[noreturn]] void start_from_between(const Plan& plan) {
    ::setsid();
    if (::chdir("/") != 0) ::_exit(kNotStarted);
    const pid_t daemon = ::_Fork();
    if (daemon == 0) become_daemon(plan);
    ::_exit(daemon < 0 ? kNotStarted : 0);
}

// Signals stay blocked over the fork, so that no handler of ours runs in the child.
pid_t fork_blocked(const Plan& plan) {
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    const pid_t pid = ::fork();
    if (pid == 0) start_from_between(plan);
    const int error = errno;
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    errno = error;
    return pid;
}

UniqueFd high_copy(int fd) {
    return UniqueFd(fd < 0 ? -1 : ::fcntl(fd, F_DUPFD_CLOEXEC, kHighFd));
}

// How many of {pid, error number} came before the end of the pipe.
std::size_t read_report(int fd, std::array<int, 2>& numbers) {
    std::size_t count = 0;
    while (count < numbers.size()) {
        const ssize_t size = ::read(fd, &numbers[count], sizeof(int));
        if (size < 0 && errno == EINTR) continue;
        if (size != static_cast<ssize_t>(sizeof(int))) break;
        ++count;
    }
    return count;
}

}  // namespace

Result<pid_t> start_daemon(const std::vector<std::string>& argv,
                           const std::vector<std::string>& environment, const std::string& log) {
    IW_CHECK(!argv.empty());
    const UniqueFd null_file(::open("/dev/null", O_RDONLY | O_CLOEXEC));
    const UniqueFd log_file(
        ::open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY, 0600));
    if (!log_file.valid()) return system_error("cannot open log file", log);
    std::array<int, 2> ends{};
    if (::pipe2(ends.data(), O_CLOEXEC) != 0) return system_error("cannot start", argv[0]);
    const UniqueFd report(ends[0]);
    UniqueFd report_write(ends[1]);

    UniqueFd high_null = high_copy(null_file.get());
    UniqueFd high_log = high_copy(log_file.get());
    UniqueFd high_report = high_copy(report_write.get());
    if (!high_null.valid() || !high_log.valid() || !high_report.valid()) {
        return system_error("cannot start", argv[0]);
    }
    const std::vector<char*> arguments = pointers(argv);
    const std::vector<char*> variables = pointers(environment);
    const pid_t between = fork_blocked(Plan{.arguments = arguments.data(),
                                            .variables = variables.data(),
                                            .null_file = high_null.get(),
                                            .log_file = high_log.get(),
                                            .report = high_report.get()});
    if (between < 0) return system_error("cannot start", argv[0]);
    report_write.reset();
    high_report.reset();

    std::array<int, 2> numbers{};
    const std::size_t count = read_report(report.get(), numbers);
    while (::waitpid(between, nullptr, 0) < 0 && errno == EINTR) {
    }
    if (count == 1) return static_cast<pid_t>(numbers[0]);
    errno = count == 2 ? numbers[1] : EAGAIN;  // nothing at all: there was no room for a process
    return system_error("cannot start", argv[0]);
}

}  // namespace iw::io
