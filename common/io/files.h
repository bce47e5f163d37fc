#pragma once

// Files and folders with the syncs that durability needs, and processes. All descriptors are CLOEXEC. Errors
// carry code io, the path and the system's words.

#include <sys/types.h>


#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/result.h"

namespace iw::io {

class UniqueFd {
  public:
    UniqueFd() = default;
    explicit UniqueFd(int fd) : fd_(fd) {}
    UniqueFd(UniqueFd&& other) noexcept : fd_(other.release()) {}
    UniqueFd& operator=(UniqueFd&& other) noexcept;
    ~UniqueFd();
    int get() const { return fd_; }
    bool valid() const { return fd_ >= 0; }
    int release();
    void reset();

  private:
    int fd_ = -1;
};

// "<what> <path>: <strerror>" with code io.
Error system_error(std::string_view what, std::string_view path);

// At most `max` bytes; a larger file is an error (too_large). not_found when it does not exist. Refuses what
// is not a regular file.
Result<std::string> read_file(const std::string& path, std::size_t max);
bool exists(const std::string& path);

enum class Sync { none, file, file_and_folder };
// Writes a temporary beside `path` (".<name>.<random>"), then renames it over `path`.
Status write_file(const std::string& path, std::string_view bytes, mode_t mode, Sync sync);
// The same, but fails with conflict when `path` exists (link(2)): whoever comes first wins.
Status write_file_new(const std::string& path, std::string_view bytes, mode_t mode, Sync sync);
// O_EXCL, written and synced with its folder; conflict when it exists. For claims.
Status create_file_exclusive(const std::string& path, std::string_view bytes, mode_t mode);
// Appends one write; makes the file when it is missing.
Status append_file(const std::string& path, std::string_view bytes, mode_t mode);
Status sync_folder(const std::string& path);
// mkdir -p; existing folders are left as they are.
Status make_folders(const std::string& path, mode_t mode);
Status remove_file(const std::string& path);  // missing is fine
Status remove_tree(const std::string& path);  // does not follow links, does not cross the tree's root
std::vector<std::string> list_folder(const std::string& path);  // names, sorted, without . and ..; empty on error

// An exclusive flock on a file, held as long as the object lives; the file holds the owner's pid.
class FileLock {
  public:
    // conflict when somebody else holds it (the message names the pid).
    static Result<FileLock> acquire(const std::string& path);
    FileLock(FileLock&&) noexcept = default;
    FileLock& operator=(FileLock&&) noexcept = default;

  private:
    explicit FileLock(UniqueFd fd) : fd_(std::move(fd)) {}
    UniqueFd fd_;
};
// The pid that holds the lock file, if somebody does.
std::optional<pid_t> lock_holder(const std::string& path);

std::string real_path(const std::string& path);  // empty when it does not exist
std::string parent_folder(const std::string& path);
std::string base_name(const std::string& path);
std::string absolute_path(const std::string& path);  // against the current directory, without resolving links
std::string current_folder();
std::string executable_path();  // of this process, links resolved
std::uint64_t free_bytes(const std::string& path);

std::string host_name();
std::string boot_id();  // /proc/sys/kernel/random/boot_id
std::string environment(const char* name);  // empty when unset
// 32 hex characters / UUIDv7 text from the system's random source (libsodium).
std::string random_hex(std::size_t bytes);
std::string make_uuid7();
std::string sha256_hex(std::string_view bytes);
std::array<std::uint8_t, 32> sha256(std::string_view bytes);

// A process as /proc shows it: pid plus start ticks name it beyond pid reuse.
struct ProcessId {
    pid_t pid = 0;
    std::uint64_t start_ticks = 0;
};
std::optional<std::uint64_t> process_start_ticks(pid_t pid);
bool is_running(const ProcessId& process);  // a zombie is not running
// Sends only if the process is still the one that is meant (pidfd, checked against its start ticks).
bool send_signal(const ProcessId& process, int signal);

// Runs a program to its end with no stdin, output captured up to `output_max`; for tmux and git. Never a shell.
struct CommandResult {
    int exit_code = 0;  // 128+n for a signal, 127 when it could not be started
    std::string output;
    std::string errors;
};
CommandResult run_command(const std::vector<std::string>& argv, const std::vector<std::string>& environment,
                          std::string_view input, std::size_t output_max, int timeout_ms);
// Starts a daemon: own session, cwd `/`, stdin /dev/null, stdout and stderr appended to `log`, no other
// descriptor of ours, exactly the given environment. Its pid.
Result<pid_t> start_daemon(const std::vector<std::string>& argv, const std::vector<std::string>& environment,
                           const std::string& log);

}  // namespace iw::io
