#include "tests/support/faults/switches.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <utility>

namespace iw::faults {
namespace {

// Nothing when it is missing. Numbers are short.
std::string read_small(const std::string& path) {
    const int fd =
        static_cast<int>(::syscall(SYS_openat, AT_FDCWD, path.c_str(), O_RDONLY | O_CLOEXEC, 0));
    if (fd < 0) return "";
    std::array<char, 64> text{};
    const long size = ::syscall(SYS_read, fd, text.data(), text.size() - 1);
    ::syscall(SYS_close, fd);
    return size > 0 ? std::string(text.data(), static_cast<std::size_t>(size)) : "";
}

void stall(double seconds) {
    timespec left{};
    left.tv_sec = static_cast<time_t>(seconds);
    left.tv_nsec = static_cast<long>((seconds - static_cast<double>(left.tv_sec)) * 1e9);
    while (::syscall(SYS_nanosleep, &left, &left) != 0 && errno == EINTR) {
    }
}

}  // namespace

Switches::Switches(std::string folder)
    : folder_(std::move(folder)), program_(program_invocation_short_name) {
    if (folder_.empty()) return;
    const std::string path = folder_ + "/all.clock";
    const int fd =
        static_cast<int>(::syscall(SYS_openat, AT_FDCWD, path.c_str(), O_RDONLY | O_CLOEXEC, 0));
    if (fd < 0) return;
    void* page = ::mmap(nullptr, sizeof(std::int64_t), PROT_READ, MAP_SHARED, fd, 0);
    if (page != MAP_FAILED) clock_ = static_cast<const std::int64_t*>(page);
    ::syscall(SYS_close, fd);
}

bool Switches::sync_fails() {
    if (folder_.empty()) return false;
    const std::string front = folder_ + "/" + program_;
    if (const std::string seconds = read_small(front + ".sync-stall"); !seconds.empty())
        stall(std::strtod(seconds.c_str(), nullptr));
    const std::string path = front + ".sync-error";
    const std::string count = read_small(path);
    if (count.empty()) return false;
    const long left = std::strtol(count.c_str(), nullptr, 10) - 1;
    if (left <= 0) return ::syscall(SYS_unlinkat, AT_FDCWD, path.c_str(), 0) == 0;
    const std::string text = std::to_string(left);
    const int fd = static_cast<int>(
        ::syscall(SYS_openat, AT_FDCWD, path.c_str(), O_WRONLY | O_TRUNC | O_CLOEXEC, 0));
    if (fd < 0) return false;
    [[maybe_unused]] const long put = ::syscall(SYS_write, fd, text.data(), text.size());
    ::syscall(SYS_close, fd);
    return false;
}

std::int64_t Switches::clock_ahead_ms() const {
    return clock_ == nullptr ? 0 : *const_cast<const volatile std::int64_t*>(clock_);
}

std::string Switches::boot_id_file() const {
    if (folder_.empty()) return "";
    std::string path = folder_ + "/all.boot-id";
    struct stat info {};
    return ::stat(path.c_str(), &info) == 0 ? path : "";
}

}  // namespace iw::faults
