#pragma once

// Real programs in tests.

#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

#include "common/base/time.h"
#include "common/io/files.h"

namespace iw::test {

// A running program. It dies with its owner: killed by the destructor, and by the kernel should the
// test program itself be killed.
class ChildProcess {
  public:
    struct Options {
        std::vector<std::string> argv;         // argv[0] is a path
        std::vector<std::string> environment;  // NAME=VALUE, on top of `plain_environment`
        std::string log;                       // stdout and stderr are appended to it
    };
    explicit ChildProcess(const Options& options);
    ChildProcess(ChildProcess&& other) noexcept;
    ChildProcess& operator=(ChildProcess&& other) noexcept;
    ~ChildProcess();

    pid_t pid() const { return pid_; }
    // Also right for a child that has ended, as long as nobody has waited for it.
    io::ProcessId id() const;
    bool is_running() const;
    void send_signal(int signal) const;  // no effect once its end has been collected
    // Its exit code, 128+n after signal n; nothing when it still runs after `cap`. May be repeated.
    std::optional<int> wait_exit(Duration cap);
    // SIGKILL, and waits for the end.
    void kill();
    // What it has written so far, to show when an expectation fails.
    std::string log_text() const;

  private:
    pid_t pid_ = 0;  // 0: moved from
    std::string log_;
    std::optional<int> exit_code_;
};

// Our environment without what would steer the programs under test: IW_*, XDG_*, TMUX*.
std::vector<std::string> plain_environment();

// Runs a program to its end (at most a minute, then 124) with `environment` on top of
// `plain_environment`.
io::CommandResult run_program(const std::vector<std::string>& argv,
                              const std::vector<std::string>& environment, std::string_view input);

}  // namespace iw::test
