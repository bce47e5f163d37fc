#include "common/io/file_lock.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/file.h>
#include <unistd.h>

#include <array>
#include <cerrno>

#include "common/base/text.h"
#include "common/io/files.h"

namespace iw::io {
namespace {

// `lock_holder` holds the lock for the moment of its look; a start that meets it must not be
// refused.
constexpr int kTries = 5;
constexpr int kPauseMs = 10;

bool try_lock(int fd, int operation) {
    int result = -1;
    do {
        result = ::flock(fd, operation | LOCK_NB);
    } while (result != 0 && errno == EINTR);
    return result == 0;
}

pid_t read_pid(int fd) {
    std::array<char, 24> text{};
    const ssize_t size = ::pread(fd, text.data(), text.size(), 0);
    if (size <= 0) return 0;
    long long pid = 0;
    const std::string_view content(text.data(), static_cast<std::size_t>(size));
    constexpr long long kPidMax = 1 << 30;
    return parse_int(trim(content), 1, kPidMax, pid) ? static_cast<pid_t>(pid) : 0;
}

Error held_by(pid_t holder, const std::string& path) {
    const std::string who = holder > 0 ? "process " + std::to_string(holder) : "another process";
    return make_error(ErrorCode::conflict, who + " holds the lock " + path);
}

}  // namespace

Result<FileLock> FileLock::acquire(const std::string& path) {
    UniqueFd fd(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
    if (!fd.valid()) return system_error("cannot open lock file", path);
    bool locked = try_lock(fd.get(), LOCK_EX);
    for (int attempt = 1; !locked && errno == EWOULDBLOCK && attempt < kTries; ++attempt) {
        ::poll(nullptr, 0, kPauseMs);
        locked = try_lock(fd.get(), LOCK_EX);
    }
    if (!locked && errno == EWOULDBLOCK) return held_by(read_pid(fd.get()), path);
    if (!locked) return system_error("cannot lock", path);

    const std::string pid = std::to_string(::getpid()) + "\n";
    const bool written =
        ::ftruncate(fd.get(), 0) == 0 &&
        ::pwrite(fd.get(), pid.data(), pid.size(), 0) == static_cast<ssize_t>(pid.size());
    if (!written) return system_error("cannot write lock file", path);
    return FileLock(std::move(fd));
}

std::optional<pid_t> lock_holder(const std::string& path) {
    const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
    if (!fd.valid()) return std::nullopt;
    // Shared, so that two who look do not see each other.
    if (try_lock(fd.get(), LOCK_SH)) return std::nullopt;
    return read_pid(fd.get());
}

}  // namespace iw::io
