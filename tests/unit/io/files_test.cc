#include "common/io/files.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <string>
#include <vector>

#include "tests/support/temp_dir.h"

namespace iw::io {
namespace {

constexpr std::size_t kMax = 1u << 20;

mode_t mode_of(const std::string& path) {
    struct stat info {};
    EXPECT_EQ(::stat(path.c_str(), &info), 0) << path;
    return info.st_mode & 07777;
}

TEST(ReadFile, ReadsUpToItsLimitAndSaysWhatIsWrong) {
    const test::TempDir dir;
    const std::string path = dir.path("file");
    EXPECT_EQ(read_file(path, kMax).error().code, ErrorCode::not_found);
    ASSERT_TRUE(write_file(path, "12345", 0600, Sync::none).ok());
    EXPECT_EQ(*read_file(path, 5), "12345");
    EXPECT_EQ(read_file(path, 4).error().code, ErrorCode::too_large);
}

TEST(ReadFile, RefusesWhatIsNoRegularFileWithoutWaiting) {
    const test::TempDir dir;
    const std::string fifo = dir.path("fifo");
    ASSERT_EQ(::mkfifo(fifo.c_str(), 0600), 0);
    for (const std::string& path : {fifo, dir.path(), std::string("/dev/null")}) {
        const Result<std::string> text = read_file(path, kMax);
        ASSERT_FALSE(text.ok()) << path;
        EXPECT_EQ(text.error().code, ErrorCode::io);
        EXPECT_NE(text.error().message.find(path), std::string::npos);
    }
}

TEST(WriteFile, ReplacesTheContentAndSetsTheModeWhateverTheUmask) {
    const test::TempDir dir;
    const std::string path = dir.path("file");
    const mode_t before = ::umask(0077);
    EXPECT_TRUE(write_file(path, "first", 0600, Sync::file).ok());
    EXPECT_TRUE(write_file(path, "second", 0644, Sync::file_and_folder).ok());
    ::umask(before);
    EXPECT_EQ(*read_file(path, kMax), "second");
    EXPECT_EQ(mode_of(path), 0644u);
    EXPECT_EQ(list_folder(dir.path()), std::vector<std::string>{"file"});
}

TEST(WriteFile, LeavesNothingBehindWhenItFails) {
    const test::TempDir dir;
    const std::string path = dir.path("taken");
    ASSERT_TRUE(make_folders(path + "/full", 0700).ok());
    const Status written = write_file(path, "x", 0600, Sync::none);
    ASSERT_FALSE(written.ok());
    EXPECT_EQ(written.error().code, ErrorCode::io);
    EXPECT_EQ(list_folder(dir.path()), std::vector<std::string>{"taken"});
    EXPECT_FALSE(write_file(dir.path("none/file"), "x", 0600, Sync::none).ok());
}

// Runs `body` in a child whose files may not grow beyond `size` bytes, and gives back its exit
// code.
template <typename Body>
int with_file_limit(rlim_t size, Body body) {
    const pid_t child = ::fork();
    if (child == 0) {
        std::signal(SIGXFSZ, SIG_IGN);
        const rlimit limit{.rlim_cur = size, .rlim_max = size};
        if (::setrlimit(RLIMIT_FSIZE, &limit) != 0) ::_exit(99);
        ::_exit(body());
    }
    int status = 0;
    EXPECT_EQ(::waitpid(child, &status, 0), child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

TEST(WriteFile, TurnsAShortWriteIntoAnErrorAndKeepsTheOldContent) {
    const test::TempDir dir;
    const std::string path = dir.path("file");
    ASSERT_TRUE(write_file(path, "old", 0600, Sync::none).ok());
    const std::string large(100'000, 'x');
    const int code = with_file_limit(4096, [&] {
        const Status written = write_file(path, large, 0600, Sync::file);
        const Status appended = append_file(path, large, 0600);
        return !written.ok() && !appended.ok() ? 0 : 1;
    });
    EXPECT_EQ(code, 0);
    EXPECT_TRUE(read_file(path, kMax)->starts_with("old"));
    EXPECT_EQ(list_folder(dir.path()), std::vector<std::string>{"file"});
}

TEST(WriteFileNew, RefusesToReplace) {
    const test::TempDir dir;
    const std::string path = dir.path("file");
    ASSERT_TRUE(write_file_new(path, "first", 0600, Sync::file_and_folder).ok());
    const Status second = write_file_new(path, "second", 0600, Sync::file_and_folder);
    ASSERT_FALSE(second.ok());
    EXPECT_EQ(second.error().code, ErrorCode::conflict);
    EXPECT_EQ(*read_file(path, kMax), "first");
    EXPECT_EQ(list_folder(dir.path()), std::vector<std::string>{"file"});
}

TEST(CreateFileExclusive, HasOneWinnerAmongProcesses) {
    constexpr int kRounds = 25;
    constexpr int kProcesses = 4;
    const test::TempDir dir;
    for (int round = 0; round < kRounds; ++round) {
        const std::string path = dir.path("claim-" + std::to_string(round));
        // All wait for the end of this pipe, so that they start together.
        std::array<int, 2> gate{};
        ASSERT_EQ(::pipe2(gate.data(), O_CLOEXEC), 0);
        std::vector<pid_t> children;
        for (int i = 0; i < kProcesses; ++i) {
            const pid_t child = ::fork();
            if (child == 0) {
                ::close(gate[1]);
                char byte = 0;
                [[maybe_unused]] const ssize_t end = ::read(gate[0], &byte, 1);
                const Status made = create_file_exclusive(path, std::to_string(i), 0600);
                if (made.ok()) ::_exit(0);
                ::_exit(made.error().code == ErrorCode::conflict ? 1 : 2);
            }
            children.push_back(child);
        }
        ::close(gate[0]);
        ::close(gate[1]);
        std::array<int, 3> outcomes{};
        for (const pid_t child : children) {
            int status = 0;
            ASSERT_EQ(::waitpid(child, &status, 0), child);
            ++outcomes.at(static_cast<std::size_t>(WEXITSTATUS(status)));
        }
        EXPECT_EQ(outcomes, (std::array<int, 3>{1, kProcesses - 1, 0}));
        EXPECT_EQ(mode_of(path), 0600u);
    }
}

TEST(AppendFile, MakesTheFileAndAddsToIt) {
    const test::TempDir dir;
    const std::string path = dir.path("log");
    ASSERT_TRUE(append_file(path, "a\n", 0600).ok());
    ASSERT_TRUE(append_file(path, "b\n", 0600).ok());
    EXPECT_EQ(*read_file(path, kMax), "a\nb\n");
    EXPECT_FALSE(append_file(dir.path(), "x", 0600).ok());
}

TEST(MakeFolders, MakesAllAndLeavesWhatIsThere) {
    const test::TempDir dir;
    ASSERT_TRUE(make_folders(dir.path("a/b/c/"), 0700).ok());
    ASSERT_EQ(::chmod(dir.path("a").c_str(), 0750), 0);
    EXPECT_TRUE(make_folders(dir.path("a/b/c"), 0700).ok());
    EXPECT_TRUE(make_folders("/", 0700).ok());
    EXPECT_EQ(mode_of(dir.path("a")), 0750u);
    EXPECT_EQ(mode_of(dir.path("a/b/c")), 0700u);
}

TEST(MakeFolders, MakesDurableOnes) {
    const test::TempDir dir;
    ASSERT_TRUE(make_durable_folders(dir.path("a/b/c/"), 0700).ok());
    EXPECT_TRUE(make_durable_folders(dir.path("a/b/c"), 0700).ok());
    EXPECT_EQ(mode_of(dir.path("a/b/c")), 0700u);
    ASSERT_TRUE(write_file(dir.path("file"), "", 0600, Sync::none).ok());
    EXPECT_FALSE(make_durable_folders(dir.path("file/below"), 0700).ok());
}

TEST(MakeFolders, SaysWhatStandsInTheWay) {
    const test::TempDir dir;
    ASSERT_TRUE(write_file(dir.path("file"), "", 0600, Sync::none).ok());
    for (const std::string& path : {dir.path("file"), dir.path("file/below"), std::string()}) {
        const Status made = make_folders(path, 0700);
        ASSERT_FALSE(made.ok()) << path;
        EXPECT_EQ(made.error().code, ErrorCode::io);
    }
}

TEST(RemoveTree, RemovesLinksAndNotWhatTheyPointTo) {
    const test::TempDir dir;
    ASSERT_TRUE(make_folders(dir.path("kept"), 0700).ok());
    ASSERT_TRUE(write_file(dir.path("kept/file"), "x", 0600, Sync::none).ok());
    ASSERT_TRUE(make_folders(dir.path("tree/deep/er"), 0700).ok());
    ASSERT_EQ(::symlink(dir.path("kept").c_str(), dir.path("tree/deep/link").c_str()), 0);
    ASSERT_EQ(::symlink("/nowhere", dir.path("tree/dangling").c_str()), 0);
    EXPECT_TRUE(remove_tree(dir.path("tree")).ok());
    EXPECT_FALSE(exists(dir.path("tree")));
    EXPECT_TRUE(exists(dir.path("kept/file")));

    // A link in the place of the tree itself is removed as a link, too.
    ASSERT_EQ(::symlink(dir.path("kept").c_str(), dir.path("tree").c_str()), 0);
    EXPECT_TRUE(remove_tree(dir.path("tree/")).ok());
    EXPECT_TRUE(exists(dir.path("kept/file")));
    EXPECT_TRUE(remove_tree(dir.path("missing")).ok());
}

TEST(RemoveTree, RefusesTheRootUnderAnyName) {
    for (const char* path : {"", "/", "//", "/.", "/tmp/.."}) {
        EXPECT_FALSE(remove_tree(path).ok()) << path;
    }
}

TEST(RemoveFile, TakesAMissingFileForRemoved) {
    const test::TempDir dir;
    ASSERT_TRUE(write_file(dir.path("file"), "x", 0600, Sync::none).ok());
    EXPECT_TRUE(remove_file(dir.path("file")).ok());
    EXPECT_TRUE(remove_file(dir.path("file")).ok());
    EXPECT_FALSE(remove_file(dir.path()).ok());
}

TEST(ListFolder, IsSortedAndEmptyOnError) {
    const test::TempDir dir;
    for (const char* name : {"b", ".hidden", "a"}) {
        ASSERT_TRUE(write_file(dir.path(name), "", 0600, Sync::none).ok());
    }
    EXPECT_EQ(list_folder(dir.path()), (std::vector<std::string>{".hidden", "a", "b"}));
    EXPECT_TRUE(list_folder(dir.path("missing")).empty());
}

TEST(Paths, AreTakenApart) {
    struct Row {
        std::string path;
        std::string parent;
        std::string base;
    };
    const std::vector<Row> rows = {{"/a/b", "/a", "b"}, {"/a/b/", "/a", "b"}, {"/a//b", "/a", "b"},
                                   {"/a", "/", "a"},    {"/", "/", "/"},      {"a", ".", "a"},
                                   {"a/b", "a", "b"},   {"", ".", ""}};
    for (const Row& row : rows) {
        EXPECT_EQ(parent_folder(row.path), row.parent) << row.path;
        EXPECT_EQ(base_name(row.path), row.base) << row.path;
    }
}

TEST(Paths, BecomeAbsoluteWithoutResolvingLinks) {
    EXPECT_EQ(absolute_path("/a/./b/../c/"), "/a/c");
    EXPECT_EQ(absolute_path("x"), current_folder() + "/x");
    EXPECT_EQ(absolute_path("/"), "/");
    const test::TempDir dir;
    ASSERT_EQ(::symlink("/usr", dir.path("link").c_str()), 0);
    EXPECT_EQ(absolute_path(dir.path("link")), dir.path("link"));
    EXPECT_EQ(real_path(dir.path("link")), "/usr");
    EXPECT_EQ(real_path(dir.path("missing")), "");
}

TEST(FileLock, ExcludesOtherProcessesAndNamesTheHolder) {
    const test::TempDir dir;
    const std::string path = dir.path("lock");
    EXPECT_FALSE(lock_holder(path).has_value());
    {
        const Result<FileLock> lock = FileLock::acquire(path);
        ASSERT_TRUE(lock.ok());
        const pid_t child = ::fork();
        if (child == 0) {
            const Result<FileLock> second = FileLock::acquire(path);
            const std::string pid = std::to_string(::getppid());
            const bool refused = !second.ok() && second.error().code == ErrorCode::conflict &&
                                 second.error().message.find(pid) != std::string::npos;
            ::_exit(refused && lock_holder(path) == ::getppid() ? 0 : 1);
        }
        int status = 0;
        ASSERT_EQ(::waitpid(child, &status, 0), child);
        EXPECT_EQ(status, 0);
    }
    EXPECT_FALSE(lock_holder(path).has_value());
    EXPECT_TRUE(FileLock::acquire(path).ok());
}

TEST(FileLock, EndsWithItsProcess) {
    const test::TempDir dir;
    const std::string path = dir.path("lock");
    std::array<int, 2> held{};
    ASSERT_EQ(::pipe2(held.data(), O_CLOEXEC), 0);
    const pid_t child = ::fork();
    if (child == 0) {
        const Result<FileLock> lock = FileLock::acquire(path);
        const char byte = lock.ok() ? '1' : '0';
        [[maybe_unused]] const ssize_t written = ::write(held[1], &byte, 1);
        ::pause();
        ::_exit(0);
    }
    char byte = '0';
    ASSERT_EQ(::read(held[0], &byte, 1), 1);
    EXPECT_EQ(byte, '1');
    EXPECT_EQ(lock_holder(path), child);
    ::kill(child, SIGKILL);
    ASSERT_EQ(::waitpid(child, nullptr, 0), child);
    EXPECT_TRUE(FileLock::acquire(path).ok());
    ::close(held[0]);
    ::close(held[1]);
}

TEST(UniqueFd, ClosesOnceAndMoves) {
    UniqueFd first(::open("/dev/null", O_RDONLY | O_CLOEXEC));
    const int number = first.get();
    UniqueFd second(std::move(first));
    EXPECT_EQ(second.get(), number);
    first = std::move(second);
    EXPECT_TRUE(first.valid());
    first.reset();
    EXPECT_EQ(::fcntl(number, F_GETFD), -1);
}

TEST(Machine, KnowsItself) {
    EXPECT_FALSE(host_name().empty());
    EXPECT_EQ(boot_id().size(), 36u);
    EXPECT_EQ(base_name(executable_path()), "io_test");
    EXPECT_GT(free_bytes("/"), 0u);
    EXPECT_EQ(free_bytes("/does/not/exist"), 0u);
    EXPECT_EQ(environment("IW_SURELY_NOT_SET"), "");
}

TEST(Entropy, HashesAndNamesAreWellFormed) {
    EXPECT_EQ(sha256_hex("abc"),
              "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    EXPECT_EQ(random_hex(16).size(), 32u);
    EXPECT_NE(random_hex(16), random_hex(16));
    const std::string first = make_uuid7();
    ASSERT_EQ(first.size(), 36u);
    EXPECT_EQ(first[14], '7');
    EXPECT_NE(std::string("89ab").find(first[19]), std::string::npos);
    for (const std::size_t dash : {8, 13, 18, 23})
        EXPECT_EQ(first[dash], '-');
    // The time is in front, so that keys made later sort later, to the millisecond.
    EXPECT_LE(first.substr(0, 13), make_uuid7().substr(0, 13));
}

}  // namespace
}  // namespace iw::io
