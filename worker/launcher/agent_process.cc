#include "worker/launcher/agent_process.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <string>
#include <vector>

#include "common/base/text.h"
#include "common/io/files.h"
#include "common/io/find_program.h"

namespace iw::worker {
namespace {

constexpr int kNotStarted = 127;
constexpr std::size_t kScriptHeadMax = 256;

enum Stage : int { change_folder = 1, execute = 2 };

// What the child writes before it gives up; an end of the pipe without it means that the program
// runs.
struct Failure {
    int stage = 0;
    int error = 0;
};

struct Start {
    const char* folder;
    const char* program;
    char* const* arguments;
    char* const* variables;
    int stdin_file;  // -1: the terminal
    int report;
};

std::vector<char*> pointers(std::vector<std::string>& texts) {
    std::vector<char*> result;
    for (std::string& text : texts)
        result.push_back(text.data());
    result.push_back(nullptr);
    return result;
}

void default_signals() {
    struct sigaction action {};
    action.sa_handler = SIG_DFL;
    for (int signal = 1; signal < NSIG; ++signal)
        ::sigaction(signal, &action, nullptr);
    sigset_t none;
    sigemptyset(&none);
    ::sigprocmask(SIG_SETMASK, &none, nullptr);
}

[[noreturn]] void give_up(int report, Stage stage) {
    const Failure failure{.stage = stage, .error = errno};
    [[maybe_unused]] const ssize_t written = ::write(report, &failure, sizeof failure);
    ::_exit(kNotStarted);
}

[[noreturn]] void become_agent(const Start& start) {
    // SIGTTOU is still blocked, else a group in the background would be stopped for taking the
    // terminal.
    ::setpgid(0, 0);
    ::tcsetpgrp(STDOUT_FILENO, ::getpid());
    if (start.stdin_file >= 0) ::dup2(start.stdin_file, STDIN_FILENO);
    ::close_range(STDERR_FILENO + 1, ~0U, CLOSE_RANGE_CLOEXEC);
    if (::chdir(start.folder) != 0) give_up(start.report, change_folder);
    default_signals();
    ::execve(start.program, start.arguments, start.variables);
    give_up(start.report, execute);
}

// "#!/no/such/interpreter" of a script, for the case in which the kernel only says that something
// is missing.
std::string interpreter_line(const std::string& program, const std::string& folder) {
    const std::string path = program.front() == '/' ? program : folder + "/" + program;
    const io::UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    std::array<char, kScriptHeadMax> head{};
    const ssize_t size = file.valid() ? ::read(file.get(), head.data(), head.size()) : -1;
    if (size < 2 || head[0] != '#' || head[1] != '!') return "";
    const std::string_view text(head.data(), static_cast<std::size_t>(size));
    return printable(text.substr(0, text.find('\n')), true);
}

Error describe(const Failure& failure, const std::string& program, const LaunchPlan& plan) {
    const std::string words = std::strerror(failure.error);
    if (failure.stage == change_folder) {
        return make_error(ErrorCode::io,
                          "cannot enter the folder " + printable(plan.folder, true) + ": " + words);
    }
    const std::string what = "cannot run " + printable(program, true) + ": " + words;
    const std::string line = failure.error == ENOENT ? interpreter_line(program, plan.folder) : "";
    if (!line.empty())
        return make_error(ErrorCode::io, what + "; its first line is \"" + line + "\"");
    if (failure.error == ENOEXEC)
        return make_error(ErrorCode::io, what + "; a script begins with #!/path");
    return make_error(ErrorCode::io, what);
}

Result<std::string> program_of(const LaunchPlan& plan) {
    if (plan.argv.empty()) return make_error(ErrorCode::io, "the plan has no command");
    const std::string& word = plan.argv.front();
    // A word with a '/' is the kernel's to judge, from the folder that the child will be in.
    if (word.find('/') != std::string::npos) return word;
    const auto path = plan.environment.find("PATH");
    return io::find_program(word, path != plan.environment.end() ? path->second : "");
}

// Reads the child's failure, if there is one; its end shows that exec succeeded.
bool read_failure(int fd, Failure& failure) {
    ssize_t size = -1;
    do {
        size = ::read(fd, &failure, sizeof failure);
    } while (size < 0 && errno == EINTR);
    return size == static_cast<ssize_t>(sizeof failure);
}

}  // namespace

Result<pid_t> start_agent(const LaunchPlan& plan) {
    Result<std::string> program = program_of(plan);
    if (!program) return make_error(ErrorCode::io, program.error().message);
    io::UniqueFd stdin_file;
    if (!plan.stdin_file.empty()) {
        stdin_file = io::UniqueFd(::open(plan.stdin_file.c_str(), O_RDONLY | O_CLOEXEC));
        if (!stdin_file.valid()) return io::system_error("cannot open the prompt", plan.stdin_file);
    }
    std::array<int, 2> ends{};
    if (::pipe2(ends.data(), O_CLOEXEC) != 0) return io::system_error("cannot start", *program);
    const io::UniqueFd read_end(ends[0]);
    io::UniqueFd write_end(ends[1]);

    std::vector<std::string> arguments = plan.argv;
    std::vector<std::string> variables;
    for (const auto& [name, value] : plan.environment)
        variables.push_back(name + "=" + value);
    const std::vector<char*> argument_pointers = pointers(arguments);
    const std::vector<char*> variable_pointers = pointers(variables);
    const pid_t pid = ::fork();
    if (pid < 0) return io::system_error("cannot start", *program);
    if (pid == 0) {
        become_agent(Start{.folder = plan.folder.c_str(),
                           .program = program->c_str(),
                           .arguments = argument_pointers.data(),
                           .variables = variable_pointers.data(),
                           .stdin_file = stdin_file.valid() ? stdin_file.get() : -1,
                           .report = write_end.get()});
    }
    // Both sides do it, so that the group exists for whoever comes first.
    ::setpgid(pid, pid);
    write_end.reset();
    Failure failure;
    if (!read_failure(read_end.get(), failure)) return pid;
    while (::waitpid(pid, nullptr, 0) < 0 && errno == EINTR) {
    }
    return describe(failure, *program, plan);
}

}  // namespace iw::worker
