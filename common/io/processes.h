#pragma once

// Processes: naming them beyond the reuse of pids, signalling them, running commands and starting
// daemons.

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/result.h"
#include "common/io/unique_fd.h"

namespace iw::io {

// A process as /proc shows it: pid plus start ticks name it beyond pid reuse (within one boot).
struct ProcessId {
    pid_t pid = 0;
    std::uint64_t start_ticks = 0;
};
std::optional<std::uint64_t> process_start_ticks(pid_t pid);
bool is_running(const ProcessId& process);  // a zombie is not running
// A descriptor that means this process as long as it is open, and is readable once it has ended;
// not valid when there is no such process.
UniqueFd open_pidfd(pid_t pid);
// Sends only if the process is still the one that is meant (pidfd, checked against its start
// ticks).
bool send_signal(const ProcessId& process, int signal);

// Runs a program to its end; for tmux and git. Never a shell. argv[0] is looked up in our PATH; an
// empty `environment` hands on our own. `input` is its stdin (empty: /dev/null); each of stdout and
// stderr is kept up to `output_max` bytes, the rest is read and dropped. What the program leaves
// running is not waited for.
struct CommandResult {
    int exit_code =
        0;  // 128+n for a signal, 127 when it could not be started, 124 after `timeout_ms`
    std::string output;
    std::string errors;
};
CommandResult run_command(const std::vector<std::string>& argv,
                          const std::vector<std::string>& environment, std::string_view input,
                          std::size_t output_max, int timeout_ms);

// The same for a caller with other work meanwhile. What still runs when this goes is killed.
class BackgroundCommand {
  public:
    // io: it could not be started.
    static Result<BackgroundCommand> start(const std::vector<std::string>& argv,
                                           const std::vector<std::string>& environment,
                                           std::string_view input, std::size_t output_max);
    ~BackgroundCommand();
    BackgroundCommand(BackgroundCommand&&) noexcept;
    BackgroundCommand& operator=(BackgroundCommand&&) noexcept;

    // Readable once the program has ended. Nobody reads its output before: one that writes more
    // than a pipe holds (64 KiB) has to be killed.
    int fd() const;
    void kill();
    // Once, after the end; before, it waits for it.
    CommandResult finish();

  private:
    struct Running;
    explicit BackgroundCommand(std::unique_ptr<Running> running);
    std::unique_ptr<Running> running_;  // none: finished, or moved from
};

// Starts a daemon: own session, cwd `/`, stdin /dev/null, stdout and stderr appended to `log` (made
// with 0600), no other descriptor of ours, default signal handling, exactly the given environment.
// argv[0] is a path. It is no child of ours. Its pid, once the program is really running; io when
// it could not be.
Result<pid_t> start_daemon(const std::vector<std::string>& argv,
                           const std::vector<std::string>& environment, const std::string& log);

}  // namespace iw::io
