#include "tests/support/child_process.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "common/base/check.h"
#include "common/io/system_clock.h"

namespace iw::test {
namespace {

constexpr std::size_t kLogMax = 64u << 20;
constexpr std::size_t kOutputMax = 64u << 20;
constexpr int kRunCapMs = 60'000;

std::vector<char*> pointers(const std::vector<std::string>& texts) {
    std::vector<char*> result;
    for (const std::string& text : texts)
        result.push_back(const_cast<char*>(text.c_str()));
    result.push_back(nullptr);
    return result;
}

std::string name_of(const std::string& variable) {
    return variable.substr(0, variable.find('='));
}

// A variable of `extra` replaces the plain one: with two of a name, programs differ in which they
// see.
std::vector<std::string> joined_environment(const std::vector<std::string>& extra) {
    std::vector<std::string> result = plain_environment();
    std::erase_if(result, [&](const std::string& plain) {
        return std::ranges::any_of(
            extra, [&](const std::string& other) { return name_of(other) == name_of(plain); });
    });
    result.insert(result.end(), extra.begin(), extra.end());
    return result;
}

// Only async-signal-safe calls: the test may have threads.
[[noreturn]] void become(char* const* arguments, char* const* variables, int null_file,
                         int log_file, pid_t parent) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (::getppid() != parent) ::_exit(127);
    ::dup2(null_file, STDIN_FILENO);
    ::dup2(log_file, STDOUT_FILENO);
    ::dup2(log_file, STDERR_FILENO);
    sigset_t none;
    ::sigemptyset(&none);
    ::sigprocmask(SIG_SETMASK, &none, nullptr);
    ::execve(arguments[0], arguments, variables);
    ::_exit(127);
}

}  // namespace

ChildProcess::ChildProcess(const Options& options) : log_(options.log) {
    const std::vector<std::string> environment = joined_environment(options.environment);
    const std::vector<char*> arguments = pointers(options.argv);
    const std::vector<char*> variables = pointers(environment);
    const io::UniqueFd null_file(::open("/dev/null", O_RDONLY | O_CLOEXEC));
    const io::UniqueFd log_file(
        ::open(log_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600));
    IW_CHECK(null_file.valid() && log_file.valid());
    const pid_t parent = ::getpid();
    pid_ = ::fork();
    if (pid_ == 0) {
        become(arguments.data(), variables.data(), null_file.get(), log_file.get(), parent);
    }
    IW_CHECK(pid_ > 0);
}

ChildProcess::ChildProcess(ChildProcess&& other) noexcept
    : pid_(std::exchange(other.pid_, 0)),
      log_(std::move(other.log_)),
      exit_code_(std::exchange(other.exit_code_, std::nullopt)) {}

ChildProcess& ChildProcess::operator=(ChildProcess&& other) noexcept {
    std::swap(pid_, other.pid_);
    std::swap(log_, other.log_);
    std::swap(exit_code_, other.exit_code_);
    return *this;
}

ChildProcess::~ChildProcess() {
    kill();
}

io::ProcessId ChildProcess::id() const {
    return {.pid = pid_, .start_ticks = io::process_start_ticks(pid_).value_or(0)};
}

bool ChildProcess::is_running() const {
    return pid_ > 0 && !exit_code_ && io::is_running(id());
}

void ChildProcess::send_signal(int signal) const {
    // Until we have waited for it the pid is its own, even when it has ended.
    if (pid_ > 0 && !exit_code_) ::kill(pid_, signal);
}

std::optional<int> ChildProcess::wait_exit(Duration cap) {
    if (exit_code_ || pid_ == 0) return exit_code_;
    const io::UniqueFd ended = io::open_pidfd(pid_);
    IW_CHECK(ended.valid());
    const Timestamp deadline = io::steady_now() + cap;
    pollfd item{ended.get(), POLLIN, 0};
    do {
        const Duration left = std::max(Duration(0), deadline - io::steady_now());
        ::poll(&item, 1, static_cast<int>(left.count()));
    } while (item.revents == 0 && io::steady_now() < deadline);
    if (item.revents == 0) return std::nullopt;
    int status = 0;
    while (::waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
    }
    exit_code_ = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
    return exit_code_;
}

void ChildProcess::kill() {
    constexpr Duration kCap{60'000};
    send_signal(SIGKILL);
    [[maybe_unused]] const std::optional<int> code = wait_exit(kCap);
}

std::string ChildProcess::log_text() const {
    const Result<std::string> text = io::read_file(log_, kLogMax);
    return text.ok() ? *text : text.error().message;
}

std::vector<std::string> plain_environment() {
    std::vector<std::string> variables = io::environment_variables();
    std::erase_if(variables, [](const std::string& variable) {
        return variable.starts_with("IW_") || variable.starts_with("XDG_") ||
               variable.starts_with("TMUX");
    });
    return variables;
}

io::CommandResult run_program(const std::vector<std::string>& argv,
                              const std::vector<std::string>& environment, std::string_view input) {
    return io::run_command(argv, joined_environment(environment), input, kOutputMax, kRunCapMs);
}

}  // namespace iw::test
