// Stand-ins for the system calls of system_calls.h. The linker takes them before those of the C
// library.

#include "tests/store/system_calls.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <utility>

#include "common/io/files.h"

namespace iw::test {

std::function<int(const std::string& call)> before_system_call;

namespace {

// Whether the call goes on; else errno is set. What the hook itself does is not hooked.
bool may_go_on(const char* call) {
    if (!before_system_call) return true;
    const std::function<int(const std::string&)> hook = std::exchange(before_system_call, nullptr);
    const int error = hook(call);
    if (!before_system_call) before_system_call = hook;
    errno = error;
    return error == 0;
}

}  // namespace

// Thousands of stores are made and thrown away here, and none needs a disk: where there is memory
// to keep them in, folders go there. Whoever names a place keeps it.
[[maybe_unused]] const bool kInMemory = [] {
    constexpr const char* kMemory = "/dev/shm";
    constexpr std::uint64_t kEnough = 1u << 30;
    if (io::free_bytes(kMemory) < kEnough || ::access(kMemory, W_OK) != 0) return false;
    return ::setenv("TMPDIR", kMemory, 0) == 0;
}();

TEST(SystemCalls, AreOurs) {
    int calls = 0;
    before_system_call = [&](const std::string&) {
        ++calls;
        return EIO;
    };
    EXPECT_EQ(::fsync(0), -1);
    EXPECT_EQ(errno, EIO);
    EXPECT_EQ(::fdatasync(0), -1);
    EXPECT_EQ(std::rename("/nowhere/a", "/nowhere/b"), -1);
    EXPECT_EQ(::pwrite(0, "", 0, 0), -1);
    before_system_call = nullptr;
    EXPECT_EQ(calls, 4);
}

}  // namespace iw::test

extern "C" {

int fsync(int) {
    return iw::test::may_go_on("fsync") ? 0 : -1;
}
int fdatasync(int) {
    return iw::test::may_go_on("fdatasync") ? 0 : -1;
}

int rename(const char* from, const char* to) noexcept {
    if (!iw::test::may_go_on("rename")) return -1;
    return static_cast<int>(::syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0));
}

ssize_t pwrite(int fd, const void* bytes, size_t size, off_t offset) {
    if (!iw::test::may_go_on("pwrite")) return -1;
    return ::syscall(SYS_pwrite64, fd, bytes, size, offset);
}

// The name under which SQLite asks for it.
ssize_t pwrite64(int fd, const void* bytes, size_t size, off64_t offset) {
    return ::pwrite(fd, bytes, size, offset);
}
}
