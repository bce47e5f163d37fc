// LD_PRELOAD for ibroker, iworker, iexec and ilogd: logs what a power cut would forget (undo_log.h)
// and does what the switches say (switches.h). Every function here has the name of the one of the C
// library that it stands in for, and reaches the kernel by itself.
//
//   IW_FAULTS_FOLDER    the tree whose unsynced changes can be forgotten
//   IW_FAULTS_LOG       folder of the undo log, outside of that tree
//   IW_FAULTS_SAVED     folder for second names of files, on that tree's file system, outside of it
//   IW_FAULTS_SWITCHES  folder of the switches

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <climits>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "tests/support/faults/switches.h"
#include "tests/support/faults/undo_log.h"

namespace iw::faults {
namespace {

constexpr int kDescriptorsMax = 4096;
constexpr const char* kBootId = "/proc/sys/kernel/random/boot_id";
constexpr std::int64_t kMsPerSecond = 1000;
constexpr std::int64_t kNsPerMs = 1'000'000;
constexpr std::int64_t kNsPerSecond = 1'000'000'000;

std::string variable(const char* name) {
    const char* value = std::getenv(name);
    return value == nullptr ? "" : value;
}

// Never destroyed: other destructors may still write.
UndoLog& undo_log() {
    static auto* log = new UndoLog(variable("IW_FAULTS_FOLDER"), variable("IW_FAULTS_LOG"),
                                   variable("IW_FAULTS_SAVED"));
    return *log;
}

Switches& switches() {
    static auto* all = new Switches(variable("IW_FAULTS_SWITCHES"));
    return *all;
}

// Inode of the file that each descriptor was opened for, 0 for files that are not ours. A number
// that has come to mean another file is told by its inode.
std::array<std::atomic<ino_t>, kDescriptorsMax> opened;

bool is_ours(int fd) {
    if (fd < 0 || fd >= kDescriptorsMax) return false;
    const ino_t inode = opened[static_cast<std::size_t>(fd)].load(std::memory_order_relaxed);
    if (inode == 0) return false;
    struct stat info {};
    return ::fstat(fd, &info) == 0 && info.st_ino == inode &&
           (S_ISREG(info.st_mode) || S_ISDIR(info.st_mode));
}

// As the kernel would find it; links inside a path are not followed, and ours has none.
std::string full_path(int folder, const char* path) {
    if (path[0] == '/') return path;
    std::array<char, PATH_MAX> front{};
    const std::string where =
        folder == AT_FDCWD ? "/proc/self/cwd" : "/proc/self/fd/" + std::to_string(folder);
    const long size =
        ::syscall(SYS_readlinkat, AT_FDCWD, where.c_str(), front.data(), front.size() - 1);
    if (size <= 0) return path;
    return std::string(front.data(), static_cast<std::size_t>(size)) + "/" + path;
}

void note_truncation(const std::string& path) {
    const int fd =
        static_cast<int>(::syscall(SYS_openat, AT_FDCWD, path.c_str(), O_RDONLY | O_CLOEXEC, 0));
    if (fd < 0) return;
    undo_log().will_resize(fd, 0);
    ::syscall(SYS_close, fd);
}

int open_file(int folder, const char* path, int flags, mode_t mode) {
    const std::string full = full_path(folder, path);
    if (full == kBootId) {
        const std::string other = switches().boot_id_file();
        const char* wanted = other.empty() ? path : other.c_str();
        return static_cast<int>(::syscall(SYS_openat, folder, wanted, flags, mode));
    }
    UndoLog& log = undo_log();
    if (!log.knows(full)) return static_cast<int>(::syscall(SYS_openat, folder, path, flags, mode));
    const UndoLog::Turn turn(log);
    const bool there = inode_of(full) != 0;
    if ((flags & O_CREAT) != 0 && !there) log.will_create(full);
    if ((flags & O_TRUNC) != 0 && there) note_truncation(full);
    const int fd = static_cast<int>(::syscall(SYS_openat, folder, path, flags, mode));
    struct stat info {};
    if (fd >= 0 && fd < kDescriptorsMax && ::fstat(fd, &info) == 0)
        opened[static_cast<std::size_t>(fd)].store(info.st_ino, std::memory_order_relaxed);
    return fd;
}

mode_t mode_of(int flags, va_list arguments) {
    const bool has_mode = (flags & O_CREAT) != 0 || (flags & O_TMPFILE) == O_TMPFILE;
    return has_mode ? va_arg(arguments, mode_t) : 0;
}

off_t place_of_write(int fd) {
    const int flags = ::fcntl(fd, F_GETFL);
    const bool append = flags >= 0 && (flags & O_APPEND) != 0;
    struct stat info {};
    if (append && ::fstat(fd, &info) == 0) return info.st_size;
    return ::lseek(fd, 0, SEEK_CUR);
}

ssize_t write_at(int fd, const void* bytes, size_t size, off_t offset) {
    if (!is_ours(fd)) return ::syscall(SYS_pwrite64, fd, bytes, size, offset);
    const UndoLog::Turn turn(undo_log());
    undo_log().will_write(fd, offset, size);
    return ::syscall(SYS_pwrite64, fd, bytes, size, offset);
}

int resize(int fd, off_t size) {
    if (!is_ours(fd)) return static_cast<int>(::syscall(SYS_ftruncate, fd, size));
    const UndoLog::Turn turn(undo_log());
    undo_log().will_resize(fd, size);
    return static_cast<int>(::syscall(SYS_ftruncate, fd, size));
}

int reserve(int fd, int mode, off_t offset, off_t size) {
    if (!is_ours(fd)) return static_cast<int>(::syscall(SYS_fallocate, fd, mode, offset, size));
    const UndoLog::Turn turn(undo_log());
    struct stat info {};
    const bool grows = ::fstat(fd, &info) == 0 && info.st_size < offset + size;
    if (grows && (mode & FALLOC_FL_KEEP_SIZE) == 0) undo_log().will_resize(fd, offset + size);
    return static_cast<int>(::syscall(SYS_fallocate, fd, mode, offset, size));
}

int sync_file(int fd, long call) {
    const bool ours = is_ours(fd);
    if (!ours) return static_cast<int>(::syscall(call, fd));
    const off_t began = undo_log().now();
    if (switches().sync_fails()) {
        errno = EIO;
        return -1;
    }
    const int result = static_cast<int>(::syscall(call, fd));
    if (result != 0) return result;
    const UndoLog::Turn turn(undo_log());
    undo_log().did_sync(fd, began);
    return 0;
}

// One name that changes: what is to be logged, then the call.
template <typename Log, typename Call>
int change_name(const std::string& path, Log&& will, Call&& call) {
    if (!undo_log().covers(path)) return static_cast<int>(call());
    const UndoLog::Turn turn(undo_log());
    will(undo_log());
    return static_cast<int>(call());
}

int rename_file(int from_folder, const char* from, int to_folder, const char* to, unsigned flags) {
    const std::string source = full_path(from_folder, from);
    const std::string target = full_path(to_folder, to);
    return change_name(
        target, [&](UndoLog& log) { log.will_rename(source, target); },
        [&] { return ::syscall(SYS_renameat2, from_folder, from, to_folder, to, flags); });
}

int link_file(int from_folder, const char* from, int to_folder, const char* to, int flags) {
    const std::string source = full_path(from_folder, from);
    const std::string target = full_path(to_folder, to);
    return change_name(
        target, [&](UndoLog& log) { log.will_link(source, target); },
        [&] { return ::syscall(SYS_linkat, from_folder, from, to_folder, to, flags); });
}

int remove_name(int folder, const char* name, int flags) {
    const std::string path = full_path(folder, name);
    const auto will = [&](UndoLog& log) {
        if ((flags & AT_REMOVEDIR) != 0) return log.will_remove_folder(path);
        log.will_unlink(path);
    };
    return change_name(path, will, [&] { return ::syscall(SYS_unlinkat, folder, name, flags); });
}

int make_folder(int folder, const char* name, mode_t mode) {
    const std::string path = full_path(folder, name);
    const auto will = [&](UndoLog& log) {
        if (inode_of(path) == 0) log.will_make_folder(path);
    };
    return change_name(path, will, [&] { return ::syscall(SYS_mkdirat, folder, name, mode); });
}

int make_symlink(const char* text, int folder, const char* name) {
    const std::string path = full_path(folder, name);
    return change_name(
        path, [&](UndoLog& log) { log.will_create(path); },
        [&] { return ::syscall(SYS_symlinkat, text, folder, name); });
}

void shift(timespec& time) {
    const std::int64_t ahead = switches().clock_ahead_ms();
    std::int64_t nanoseconds = time.tv_nsec + ahead % kMsPerSecond * kNsPerMs;
    time.tv_sec += ahead / kMsPerSecond;
    if (nanoseconds < 0) {
        nanoseconds += kNsPerSecond;
        --time.tv_sec;
    }
    time.tv_sec += nanoseconds / kNsPerSecond;
    time.tv_nsec = nanoseconds % kNsPerSecond;
}

}  // namespace
}  // namespace iw::faults

extern "C" {

#define IW_OPEN(name)                                              \
    int name(const char* path, int flags, ...) {                   \
        va_list arguments;                                         \
        va_start(arguments, flags);                                \
        const mode_t mode = iw::faults::mode_of(flags, arguments); \
        va_end(arguments);                                         \
        return iw::faults::open_file(AT_FDCWD, path, flags, mode); \
    }
#define IW_OPENAT(name)                                            \
    int name(int folder, const char* path, int flags, ...) {       \
        va_list arguments;                                         \
        va_start(arguments, flags);                                \
        const mode_t mode = iw::faults::mode_of(flags, arguments); \
        va_end(arguments);                                         \
        return iw::faults::open_file(folder, path, flags, mode);   \
    }
IW_OPEN(open)
IW_OPEN(open64)
IW_OPENAT(openat)
IW_OPENAT(openat64)
#undef IW_OPEN
#undef IW_OPENAT

ssize_t write(int fd, const void* bytes, size_t size) {
    using namespace iw::faults;
    if (!is_ours(fd)) return ::syscall(SYS_write, fd, bytes, size);
    const UndoLog::Turn turn(undo_log());
    undo_log().will_write(fd, place_of_write(fd), size);
    return ::syscall(SYS_write, fd, bytes, size);
}
ssize_t pwrite(int fd, const void* bytes, size_t size, off_t offset) {
    return iw::faults::write_at(fd, bytes, size, offset);
}
ssize_t pwrite64(int fd, const void* bytes, size_t size, off64_t offset) {
    return iw::faults::write_at(fd, bytes, size, offset);
}
int ftruncate(int fd, off_t size) noexcept {
    return iw::faults::resize(fd, size);
}
int ftruncate64(int fd, off64_t size) noexcept {
    return iw::faults::resize(fd, size);
}
int fallocate(int fd, int mode, off_t offset, off_t size) {
    return iw::faults::reserve(fd, mode, offset, size);
}
int fallocate64(int fd, int mode, off64_t offset, off64_t size) {
    return iw::faults::reserve(fd, mode, offset, size);
}
int posix_fallocate(int fd, off_t offset, off_t size) {
    return iw::faults::reserve(fd, 0, offset, size) == 0 ? 0 : errno;
}
int posix_fallocate64(int fd, off64_t offset, off64_t size) {
    return iw::faults::reserve(fd, 0, offset, size) == 0 ? 0 : errno;
}
int fsync(int fd) {
    return iw::faults::sync_file(fd, SYS_fsync);
}
int fdatasync(int fd) {
    return iw::faults::sync_file(fd, SYS_fdatasync);
}

int rename(const char* from, const char* to) noexcept {
    return iw::faults::rename_file(AT_FDCWD, from, AT_FDCWD, to, 0);
}
int renameat(int from_folder, const char* from, int to_folder, const char* to) noexcept {
    return iw::faults::rename_file(from_folder, from, to_folder, to, 0);
}
int renameat2(int from_folder, const char* from, int to_folder, const char* to,
              unsigned flags) noexcept {
    return iw::faults::rename_file(from_folder, from, to_folder, to, flags);
}
int link(const char* from, const char* to) noexcept {
    return iw::faults::link_file(AT_FDCWD, from, AT_FDCWD, to, 0);
}
int linkat(int from_folder, const char* from, int to_folder, const char* to, int flags) noexcept {
    return iw::faults::link_file(from_folder, from, to_folder, to, flags);
}
int unlink(const char* path) noexcept {
    return iw::faults::remove_name(AT_FDCWD, path, 0);
}
int unlinkat(int folder, const char* name, int flags) noexcept {
    return iw::faults::remove_name(folder, name, flags);
}
int rmdir(const char* path) noexcept {
    return iw::faults::remove_name(AT_FDCWD, path, AT_REMOVEDIR);
}
int mkdir(const char* path, mode_t mode) noexcept {
    return iw::faults::make_folder(AT_FDCWD, path, mode);
}
int mkdirat(int folder, const char* path, mode_t mode) noexcept {
    return iw::faults::make_folder(folder, path, mode);
}
int symlink(const char* text, const char* path) noexcept {
    return iw::faults::make_symlink(text, AT_FDCWD, path);
}
int symlinkat(const char* text, int folder, const char* path) noexcept {
    return iw::faults::make_symlink(text, folder, path);
}

int clock_gettime(clockid_t clock, timespec* time) noexcept {
    const int result = static_cast<int>(::syscall(SYS_clock_gettime, clock, time));
    if (result == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        iw::faults::shift(*time);
    return result;
}
int gettimeofday(timeval* time, void*) noexcept {
    timespec now{};
    const int result = ::clock_gettime(CLOCK_REALTIME, &now);
    time->tv_sec = now.tv_sec;
    time->tv_usec = now.tv_nsec / 1000;
    return result;
}
time_t time(time_t* out) noexcept {
    timespec now{};
    ::clock_gettime(CLOCK_REALTIME, &now);
    if (out != nullptr) *out = now.tv_sec;
    return now.tv_sec;
}

}  // extern "C"
