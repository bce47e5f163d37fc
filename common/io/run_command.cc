#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <string>
#include <utility>

#include "common/base/check.h"
#include "common/io/files.h"
#include "common/io/system_clock.h"

namespace iw::io {
namespace {

constexpr int kNotStarted = 127;
constexpr int kTimedOut = 124;
constexpr int kSignalBase = 128;

std::vector<char*> pointers(const std::vector<std::string>& texts) {
    std::vector<char*> result;
    for (const std::string& text : texts)
        result.push_back(const_cast<char*>(text.c_str()));
    result.push_back(nullptr);
    return result;
}

struct Pipe {
    UniqueFd read_end;
    UniqueFd write_end;
};

// Our end does not block; the child's does, as programs expect.
bool open_pipe(Pipe& pipe) {
    std::array<int, 2> ends{};
    if (::pipe2(ends.data(), O_CLOEXEC) != 0) return false;
    pipe.read_end = UniqueFd(ends[0]);
    pipe.write_end = UniqueFd(ends[1]);
    return ::fcntl(ends[0], F_SETFL, O_NONBLOCK) == 0;
}

// A file in memory instead of a pipe: no deadlock between feeding and reading, and no SIGPIPE.
UniqueFd open_input(std::string_view input) {
    if (input.empty()) return UniqueFd(::open("/dev/null", O_RDONLY | O_CLOEXEC));
    UniqueFd fd(::memfd_create("input", MFD_CLOEXEC));
    while (fd.valid() && !input.empty()) {
        const ssize_t written = ::write(fd.get(), input.data(), input.size());
        if (written < 0 && errno == EINTR) continue;
        if (written <= 0) return UniqueFd();
        input.remove_prefix(static_cast<std::size_t>(written));
    }
    if (fd.valid()) ::lseek(fd.get(), 0, SEEK_SET);
    return fd;
}

// posix_spawn copies no page tables, and so costs the same in a large process; it reports a failed
// exec.
class Spawn {
  public:
    Spawn() {
        IW_CHECK(::posix_spawn_file_actions_init(&actions_) == 0);
        IW_CHECK(::posix_spawnattr_init(&attributes_) == 0);
        sigset_t none;
        sigset_t all;
        sigemptyset(&none);
        sigfillset(&all);
        ::posix_spawnattr_setsigmask(&attributes_, &none);
        ::posix_spawnattr_setsigdefault(&attributes_, &all);
        // A group of its own, so that a timeout ends the program's helpers too.
        ::posix_spawnattr_setpgroup(&attributes_, 0);
        ::posix_spawnattr_setflags(
            &attributes_, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP);
    }
    ~Spawn() {
        ::posix_spawn_file_actions_destroy(&actions_);
        ::posix_spawnattr_destroy(&attributes_);
    }
    Spawn(const Spawn&) = delete;
    Spawn& operator=(const Spawn&) = delete;

    void connect(int fd, int as) { ::posix_spawn_file_actions_adddup2(&actions_, fd, as); }

    // 0 or the error number.
    int run(const std::vector<std::string>& argv, const std::vector<std::string>& environment,
            pid_t& pid) {
        ::posix_spawn_file_actions_addclosefrom_np(&actions_, STDERR_FILENO + 1);
        const std::vector<char*> arguments = pointers(argv);
        const std::vector<char*> variables = pointers(environment);
        return ::posix_spawnp(&pid, arguments[0], &actions_, &attributes_, arguments.data(),
                              environment.empty() ? environ : variables.data());
    }

  private:
    posix_spawn_file_actions_t actions_{};
    posix_spawnattr_t attributes_{};
};

// Reads what is there; closes the end at its end.
void drain(UniqueFd& fd, std::string& kept, std::size_t max) {
    std::array<char, 65536> buffer{};
    while (fd.valid()) {
        const ssize_t size = ::read(fd.get(), buffer.data(), buffer.size());
        if (size < 0 && errno == EINTR) continue;
        if (size < 0 && errno == EAGAIN) return;
        if (size <= 0) {
            fd.reset();
            return;
        }
        const std::size_t room = max - std::min(max, kept.size());
        kept.append(buffer.data(), std::min(room, static_cast<std::size_t>(size)));
    }
}

int exit_code_of(int status) {
    return WIFSIGNALED(status) ? kSignalBase + WTERMSIG(status) : WEXITSTATUS(status);
}

// Zero once the deadline has passed.
int milliseconds_until(Timestamp deadline) {
    return static_cast<int>(std::max(Duration(0), deadline - steady_now()).count());
}

struct Child {
    pid_t pid = 0;
    UniqueFd exited;  // pidfd
    UniqueFd output;
    UniqueFd errors;
};

// Until the program has ended, not until its pipes are closed: what it leaves behind may hold them
// for ever. False after the timeout.
bool collect(Child& child, CommandResult& result, std::size_t output_max, int timeout_ms) {
    const Timestamp deadline = steady_now() + Duration(timeout_ms);
    while (true) {
        std::array<pollfd, 3> items = {pollfd{child.exited.get(), POLLIN, 0},
                                       pollfd{child.output.get(), POLLIN, 0},
                                       pollfd{child.errors.get(), POLLIN, 0}};
        const int ready = ::poll(items.data(), items.size(), milliseconds_until(deadline));
        drain(child.output, result.output, output_max);
        drain(child.errors, result.errors, output_max);
        if (items[0].revents != 0) return true;
        if (ready <= 0 && milliseconds_until(deadline) == 0) return false;
    }
}

// 0 or the error number.
int start_child(const std::vector<std::string>& argv, const std::vector<std::string>& environment,
                std::string_view input, Child& child) {
    IW_CHECK(!argv.empty());
    const UniqueFd stdin_file = open_input(input);
    Pipe output;
    Pipe errors;
    if (!stdin_file.valid() || !open_pipe(output) || !open_pipe(errors)) return errno;
    Spawn spawn;
    spawn.connect(stdin_file.get(), STDIN_FILENO);
    spawn.connect(output.write_end.get(), STDOUT_FILENO);
    spawn.connect(errors.write_end.get(), STDERR_FILENO);
    const int error = spawn.run(argv, environment, child.pid);
    if (error != 0) return error;
    child.exited = open_pidfd(child.pid);
    child.output = std::move(output.read_end);
    child.errors = std::move(errors.read_end);
    return 0;
}

int reap(pid_t pid) {
    int status = 0;
    while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    return status;
}

Error not_started(const std::string& program, int error) {
    errno = error;
    return system_error("cannot start", program);
}

}  // namespace

CommandResult run_command(const std::vector<std::string>& argv,
                          const std::vector<std::string>& environment, std::string_view input,
                          std::size_t output_max, int timeout_ms) {
    Child child;
    if (const int error = start_child(argv, environment, input, child); error != 0) {
        return CommandResult{.exit_code = kNotStarted,
                             .output = "",
                             .errors = not_started(argv[0], error).message + "\n"};
    }
    CommandResult result;
    const bool ended = child.exited.valid() && collect(child, result, output_max, timeout_ms);
    if (!ended) ::kill(-child.pid, SIGKILL);
    const int status = reap(child.pid);
    result.exit_code = ended ? exit_code_of(status) : kTimedOut;
    return result;
}

// ---- In the background -------------------------------------------------------------------------

struct BackgroundCommand::Running {
    Child child;
    std::size_t output_max = 0;
};

BackgroundCommand::BackgroundCommand(std::unique_ptr<Running> running)
    : running_(std::move(running)) {}
BackgroundCommand::BackgroundCommand(BackgroundCommand&&) noexcept = default;
BackgroundCommand& BackgroundCommand::operator=(BackgroundCommand&&) noexcept = default;

BackgroundCommand::~BackgroundCommand() {
    if (running_ == nullptr) return;
    kill();
    static_cast<void>(reap(running_->child.pid));
}

Result<BackgroundCommand> BackgroundCommand::start(const std::vector<std::string>& argv,
                                                   const std::vector<std::string>& environment,
                                                   std::string_view input, std::size_t output_max) {
    auto running = std::make_unique<Running>();
    running->output_max = output_max;
    if (const int error = start_child(argv, environment, input, running->child); error != 0)
        return not_started(argv[0], error);
    BackgroundCommand command(std::move(running));
    if (command.fd() < 0) return make_error(ErrorCode::io, "cannot watch " + argv[0]);
    return command;
}

int BackgroundCommand::fd() const {
    return running_->child.exited.get();
}

void BackgroundCommand::kill() {
    ::kill(-running_->child.pid, SIGKILL);
}

CommandResult BackgroundCommand::finish() {
    const std::unique_ptr<Running> done = std::move(running_);
    CommandResult result;
    const int status = reap(done->child.pid);
    drain(done->child.output, result.output, done->output_max);
    drain(done->child.errors, result.errors, done->output_max);
    result.exit_code = exit_code_of(status);
    return result;
}

}  // namespace iw::io
