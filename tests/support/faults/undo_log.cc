#include "tests/support/faults/undo_log.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

namespace iw::faults {
namespace {

constexpr int kLogMode = 0600;
const std::string kMark = "\1IW\t";

// A shim that cannot keep its log would let a test pass that proves nothing.
[[noreturn]] void give_up(const char* what) {
    constexpr std::string_view kFront = "faults: cannot keep the undo log: ";
    [[maybe_unused]] ssize_t put = ::syscall(SYS_write, 2, kFront.data(), kFront.size());
    put = ::syscall(SYS_write, 2, what, std::char_traits<char>::length(what));
    put = ::syscall(SYS_write, 2, "\n", 1);
    ::_exit(99);
}

std::string parent_of(const std::string& path) {
    return path.substr(0, path.find_last_of('/'));
}

std::string number(std::uint64_t value) {
    return std::to_string(value);
}

std::string of_descriptor(int fd) {
    return "/proc/self/fd/" + std::to_string(fd);
}

struct FileNow {
    ino_t inode = 0;
    off_t size = 0;
};

FileNow look_at(int fd) {
    struct stat info {};
    if (::fstat(fd, &info) != 0) give_up("fstat");
    return {.inode = info.st_ino, .size = info.st_size};
}

}  // namespace

ino_t inode_of(const std::string& path) {
    struct stat info {};
    return ::lstat(path.c_str(), &info) == 0 ? info.st_ino : 0;
}

UndoLog::UndoLog(std::string folder, const std::string& log, std::string saved)
    : folder_(std::move(folder)), saved_(std::move(saved)) {
    if (folder_.empty() || log.empty() || saved_.empty()) return;
    const std::string path = log + "/undo.log";
    fd_ = static_cast<int>(::syscall(SYS_openat, AT_FDCWD, path.c_str(),
                                     O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, kLogMode));
    if (fd_ < 0) give_up(path.c_str());
}

bool UndoLog::covers(const std::string& path) const {
    return fd_ >= 0 && path.size() > folder_.size() && path.starts_with(folder_) &&
           path[folder_.size()] == '/';
}

bool UndoLog::knows(const std::string& path) const {
    return covers(path) || (fd_ >= 0 && path == folder_);
}

UndoLog::Turn::Turn(UndoLog& log) : log_(log) {
    log_.mutex_.lock();
    while (::flock(log_.fd_, LOCK_EX) != 0 && errno == EINTR) {
    }
}

UndoLog::Turn::~Turn() {
    // The caller's own call has set errno by now.
    const int error = errno;
    ::flock(log_.fd_, LOCK_UN);
    log_.mutex_.unlock();
    errno = error;
}

void UndoLog::append(const std::string& line, const std::string& bytes) {
    const std::string record = kMark + line + "\t" + number(bytes.size()) + "\n" + bytes;
    const long put = ::syscall(SYS_write, fd_, record.data(), record.size());
    if (put != static_cast<long>(record.size())) give_up("write");
}

// A second name for a file, by which it is found whatever becomes of its own.
// `source` is a name of its own, or that of a descriptor in /proc, which is a link to be followed.
void UndoLog::keep(const std::string& source, ino_t file) {
    const std::string name = saved_ + "/" + number(file);
    const int flags = source.starts_with("/proc/") ? AT_SYMLINK_FOLLOW : 0;
    const long made =
        ::syscall(SYS_linkat, AT_FDCWD, source.c_str(), AT_FDCWD, name.c_str(), flags);
    // ENOENT: it has no name any more, so no power cut can bring it back. ENOSPC: what is done to
    // it on a full disk cannot be forgotten.
    if (made != 0 && errno != EEXIST && errno != ENOENT && errno != ENOSPC) give_up(source.c_str());
}

// Only what differs from zeros is kept: preallocated files are large.
void UndoLog::save_range(const std::string& head, int fd, off_t offset, off_t end) {
    std::string old(end > offset ? static_cast<std::size_t>(end - offset) : 0, '\0');
    const std::string path = of_descriptor(fd);
    const int reader =
        static_cast<int>(::syscall(SYS_openat, AT_FDCWD, path.c_str(), O_RDONLY | O_CLOEXEC, 0));
    std::size_t done = 0;
    while (reader >= 0 && done < old.size()) {
        const long got = ::syscall(SYS_pread64, reader, old.data() + done, old.size() - done,
                                   offset + static_cast<off_t>(done));
        if (got <= 0) break;
        done += static_cast<std::size_t>(got);
    }
    if (reader >= 0) ::syscall(SYS_close, reader);
    const bool zeros = std::ranges::all_of(old, [](char byte) { return byte == '\0'; });
    append(head, zeros ? "" : old);
}

void UndoLog::will_write(int fd, off_t offset, std::size_t size) {
    const FileNow file = look_at(fd);
    keep(of_descriptor(fd), file.inode);
    const off_t end = offset + static_cast<off_t>(size);
    const std::string head = "write\t" + number(file.inode) + "\t" +
                             number(static_cast<std::uint64_t>(offset)) + "\t" + number(size) +
                             "\t" + number(static_cast<std::uint64_t>(file.size));
    save_range(head, fd, offset, std::min(end, file.size));
}

void UndoLog::will_resize(int fd, off_t size) {
    const FileNow file = look_at(fd);
    if (file.size == size) return;
    keep(of_descriptor(fd), file.inode);
    const std::string head = "resize\t" + number(file.inode) + "\t" +
                             number(static_cast<std::uint64_t>(size)) + "\t" +
                             number(static_cast<std::uint64_t>(file.size));
    save_range(head, fd, size, file.size);
}

void UndoLog::will_create(const std::string& path) {
    append("create\t" + number(inode_of(parent_of(path))) + "\t" + path, "");
}

void UndoLog::will_make_folder(const std::string& path) {
    append("mkdir\t" + number(inode_of(parent_of(path))) + "\t" + path, "");
}

void UndoLog::will_remove_folder(const std::string& path) {
    append("rmdir\t" + number(inode_of(parent_of(path))) + "\t" + path, "");
}

void UndoLog::will_link(const std::string& from, const std::string& to) {
    append("link\t" + number(inode_of(parent_of(to))) + "\t" + number(inode_of(from)) + "\t" + to,
           "");
}

void UndoLog::will_rename(const std::string& from, const std::string& to) {
    const ino_t replaced = inode_of(to);
    struct stat info {};
    const bool folder = ::lstat(to.c_str(), &info) == 0 && S_ISDIR(info.st_mode);
    if (replaced != 0 && !folder) keep(to, replaced);
    append("rename\t" + number(inode_of(parent_of(to))) + "\t" + number(inode_of(from)) + "\t" +
               number(folder ? 0 : replaced) + "\t" + from + "\t" + to,
           "");
}

void UndoLog::will_unlink(const std::string& path) {
    const ino_t file = inode_of(path);
    if (file == 0) return;
    keep(path, file);
    append("unlink\t" + number(inode_of(parent_of(path))) + "\t" + number(file) + "\t" + path, "");
}

off_t UndoLog::now() {
    struct stat info {};
    return ::fstat(fd_, &info) == 0 ? info.st_size : 0;
}

void UndoLog::did_sync(int fd, off_t began) {
    append("sync\t" + number(look_at(fd).inode) + "\t" + number(static_cast<std::uint64_t>(began)),
           "");
}

}  // namespace iw::faults
