#include "common/workspace/project_log.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <optional>

#include "common/base/text.h"
#include "common/io/files.h"

namespace iw::workspace {
namespace {

constexpr mode_t kFileMode = 0644;
// A rotation holds the lock for as long as it takes to copy what came since its last look. Who
// waits longer than this meets one that was stopped, and writes all the same.
constexpr int kTriesMax = 50;
constexpr int kPauseMs = 10;
constexpr std::size_t kFrontSize = 8 + 1 + 6;  // "20251118-151000"

std::string lock_path(const ProjectPaths& project) {
    return io::parent_folder(project.global_log) + "/." + io::base_name(project.global_log) +
           ".lock";
}

// Given back when the descriptor is closed. Not valid: it could not be had.
io::UniqueFd lock(const ProjectPaths& project, int operation) {
    io::UniqueFd fd(::open(lock_path(project).c_str(),
                           O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, kFileMode));
    for (int tries = 0; fd.valid() && tries < kTriesMax; ++tries) {
        if (::flock(fd.get(), operation | LOCK_NB) == 0) return fd;
        if (errno != EWOULDBLOCK && errno != EINTR) break;
        ::poll(nullptr, 0, kPauseMs);
    }
    return {};
}

// Appends what follows in `from` to `to`. False with errno set.
bool copy_rest(int from, int to) {
    std::array<char, 64 * 1024> buffer{};
    while (true) {
        const ssize_t size = ::read(from, buffer.data(), buffer.size());
        if (size < 0 && errno == EINTR) continue;
        if (size <= 0) return size == 0;
        errno = ENOSPC;  // of a write that takes only a part
        if (::write(to, buffer.data(), static_cast<std::size_t>(size)) != size) return false;
    }
}

// Copies all of the log, the last of it while nobody of ours writes, and empties it.
Status move_content(const ProjectPaths& project, int log, const std::string& target) {
    const std::string temporary = target + ".part";
    const io::UniqueFd copy(::open(
        temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, kFileMode));
    const auto failed = [&](const std::string& path) {
        Error error = io::system_error("cannot rotate into", path);
        static_cast<void>(io::remove_file(temporary));
        return error;
    };
    if (!copy.valid() || !copy_rest(log, copy.get()) || ::fsync(copy.get()) != 0)
        return failed(temporary);
    const io::UniqueFd held = lock(project, LOCK_EX);
    if (!held.valid()) {
        static_cast<void>(io::remove_file(temporary));
        return make_error(ErrorCode::conflict, "another process holds " + lock_path(project));
    }
    if (!copy_rest(log, copy.get()) || ::fsync(copy.get()) != 0) return failed(temporary);
    if (::rename(temporary.c_str(), target.c_str()) != 0) return failed(target);
    if (::ftruncate(log, 0) != 0) return io::system_error("cannot empty", project.global_log);
    return Done{};
}

bool is_rotated(const std::string& name, const std::string& front) {
    if (!name.starts_with(front)) return false;
    const std::string rest = name.substr(front.size());
    return rest.size() >= kFrontSize && is_session_id(rest.substr(0, kFrontSize) + "-log");
}

}  // namespace

Status append_project_log(const ProjectPaths& project, std::string_view lines) {
    const io::UniqueFd held = lock(project, LOCK_SH);
    return io::append_file(project.global_log, lines, kFileMode);
}

Result<std::string> rotate_project_log(const ProjectPaths& project, std::uint64_t bytes_max,
                                       WallTime now) {
    const io::UniqueFd log(::open(project.global_log.c_str(),
                                  O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY));
    struct stat info {};
    if (!log.valid() || ::fstat(log.get(), &info) != 0 || !S_ISREG(info.st_mode))
        return std::string();
    if (static_cast<std::uint64_t>(info.st_size) <= bytes_max) return std::string();
    // One at a time: two would each copy what the other empties.
    const Result<io::FileLock> alone = io::FileLock::acquire(lock_path(project) + ".rotate");
    if (!alone) return alone.error();
    std::string target = project.global_log + "." + format_id_second(now);
    while (io::exists(target))
        target += "-2";
    if (Status moved = move_content(project, log.get(), target); !moved) return moved.error();
    return target;
}

std::vector<std::string> remove_old_logs(const ProjectPaths& project, Duration age, WallTime now) {
    const std::string folder = io::parent_folder(project.global_log);
    const std::string front = io::base_name(project.global_log) + ".";
    std::vector<std::string> removed;
    for (const std::string& name : io::list_folder(folder)) {
        const std::string path = folder + "/" + name;
        struct stat info {};
        if (!is_rotated(name, front) || ::lstat(path.c_str(), &info) != 0) continue;
        const WallTime changed =
            wall_from_ms(static_cast<std::int64_t>(info.st_mtim.tv_sec) * 1000);
        if (!S_ISREG(info.st_mode) || now - changed <= age) continue;
        if (io::remove_file(path)) removed.push_back(path);
    }
    return removed;
}

}  // namespace iw::workspace
