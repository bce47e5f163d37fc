// The journal when it is interrupted: at every system call, by failing calls, and by kill -9.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>

#include "broker/journal/journal.h"
#include "common/base/random.h"
#include "common/io/unique_fd.h"
#include "tests/store/store_support.h"
#include "tests/store/system_calls.h"
#include "tests/support/wait_until.h"

namespace iw::broker {
namespace {

using test::before_system_call;
using test::copy_folder;
using test::created;
using test::must_open;
using test::read_all;
using test::record;
using test::small_journal;
using test::TempDir;
using test::text_of;

Record numbered(Seq seq, std::size_t prompt_bytes) {
    SessionCreated body = created(static_cast<int>(seq));
    body.submission.prompt.assign(prompt_bytes, 'p');
    return record(seq, body);
}

class Hook {
  public:
    explicit Hook(std::function<int(const std::string&)> hook) {
        before_system_call = std::move(hook);
    }
    ~Hook() { before_system_call = nullptr; }
    Hook(const Hook&) = delete;
    Hook& operator=(const Hook&) = delete;
};

// Opens a copy of the folder as a crash would have left it and looks for all that was acknowledged.
void expect_recovers(const std::string& folder, const std::string& copy, Seq released, Seq acked) {
    copy_folder(folder, copy);
    auto journal = must_open(small_journal(copy));
    ASSERT_NE(journal, nullptr);
    ASSERT_GE(journal->head(), acked);
    ASSERT_LE(journal->head(), acked + 1);
    Seq next = released + 1;
    const Status read = journal->read(released, [&](const Record& found) -> Status {
        EXPECT_EQ(text_of(found), text_of(numbered(next, 9000)));
        ++next;
        return Done{};
    });
    ASSERT_TRUE(read.ok()) << read.error().message;
    ASSERT_EQ(next, journal->head() + 1);
    ASSERT_TRUE(journal->commit(std::vector{numbered(next, 9000)}).ok());
}

// Before every write, sync and rename of a life with openings, switches, preparation and recycling.
TEST(JournalCrash, RecoversFromEveryPoint) {
    const TempDir dir;
    const std::string folder = dir.path("journal");
    Seq acked = 0;
    Seq released = 0;
    int points = 0;
    const Hook hook([&](const std::string&) {
        ++points;
        expect_recovers(folder, dir.path("copy"), released, acked);
        return 0;
    });
    for (int life = 0; life < 4; ++life) {
        auto journal = must_open(small_journal(folder));
        ASSERT_NE(journal, nullptr);
        for (int i = 0; i < 16; ++i) {
            ASSERT_TRUE(journal->commit(std::vector{numbered(acked + 1, 9000)}).ok());
            ++acked;
            if (i % 8 != 7) continue;
            released = acked - 2;
            journal->release(released);
        }
    }
    EXPECT_GT(points, 150);
}

// A power cut may also lose the newest writes, whole or in part, as long as they were not synced.
// Here: all that was written since the last sync.
TEST(JournalCrash, RecoversWithoutTheUnsyncedWrites) {
    const TempDir dir;
    const std::string folder = dir.path("journal");
    std::string synced_copy = dir.path("synced");
    Seq acked = 0;
    const Hook hook([&](const std::string& call) {
        // Between this write and the sync before it nothing else was promised.
        if (call == "pwrite") copy_folder(folder, synced_copy);
        if (call == "fdatasync") expect_recovers(synced_copy, dir.path("copy"), 0, acked);
        return 0;
    });
    auto journal = must_open(small_journal(folder));
    for (int i = 0; i < 20; ++i) {
        ASSERT_TRUE(journal->commit(std::vector{numbered(acked + 1, 9000)}).ok());
        ++acked;
    }
}

class JournalFailure : public testing::TestWithParam<const char*> {};

TEST_P(JournalFailure, FailingCallEndsAllCommits) {
    const TempDir dir;
    const std::string folder = dir.path("journal");
    const std::string failing = GetParam();
    // The first such call after 0, 1, 2 ... good ones, until one run gets through without meeting
    // it.
    for (int good = 0;; ++good) {
        std::filesystem::remove_all(folder);
        auto journal = must_open(small_journal(folder));
        ASSERT_NE(journal, nullptr);
        int left = good;
        const Hook hook(
            [&](const std::string& call) { return call == failing && left-- == 0 ? EIO : 0; });
        Seq acked = 0;
        std::optional<Error> error;
        while (!error && acked < 12) {
            const Status committed = journal->commit(std::vector{numbered(acked + 1, 9000)});
            if (committed.ok()) ++acked;
            if (!committed.ok()) error = committed.error();
        }
        before_system_call = nullptr;
        if (!error) break;
        EXPECT_EQ(error->code, ErrorCode::io);
        // The disk is well again, but nobody knows what the failed call left.
        EXPECT_EQ(journal->commit(std::vector{numbered(journal->head() + 1, 10)}).error().code,
                  ErrorCode::io);
        EXPECT_EQ(journal->head(), acked);
        journal.reset();
        EXPECT_GE(must_open(small_journal(folder))->head(), acked);
    }
}

INSTANTIATE_TEST_SUITE_P(Calls, JournalFailure,
                         testing::Values("pwrite", "fdatasync", "fsync", "rename"));

TEST(JournalFailureOnOpening, IsAnErrorAndHarmless) {
    const TempDir dir;
    const std::string folder = dir.path("journal");
    {
        auto journal = must_open(small_journal(folder));
        for (Seq seq = 1; seq <= 10; ++seq) {
            ASSERT_TRUE(journal->commit(std::vector{numbered(seq, 9000)}).ok());
        }
    }
    for (int good = 0;; ++good) {
        int left = good;
        const Hook hook([&](const std::string&) { return left-- == 0 ? EIO : 0; });
        const auto journal = open_journal(small_journal(folder));
        before_system_call = nullptr;
        if (journal.ok()) break;
        EXPECT_EQ(journal.error().code, ErrorCode::io);
        EXPECT_EQ(must_open(small_journal(folder))->head(), 10u);
    }
}

// The kernel's own refusal instead of ours.
TEST(JournalFailureOfTheKernel, FileSizeLimit) {
    const TempDir dir;
    auto journal = must_open(small_journal(dir.path("journal")));
    const pid_t child = ::fork();
    if (child == 0) {
        ::signal(SIGXFSZ, SIG_IGN);
        const rlimit limit{.rlim_cur = 20'000, .rlim_max = 20'000};
        ::setrlimit(RLIMIT_FSIZE, &limit);
        const bool first = journal->commit(std::vector{numbered(1, 9000)}).ok();
        const Status second = journal->commit(std::vector{numbered(2, 16'000)});
        const Status third = journal->commit(std::vector{numbered(2, 10)});
        ::_exit(first && !second.ok() && !third.ok() ? 0 : 1);
    }
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

// ---- kill -9
// --------------------------------------------------------------------------------------------

// Commits records of changing size for ever, and tells each one's seq only after it was
// acknowledged.
[[noreturn]] void commit_until_killed(const std::string& folder, int pipe) {
    auto journal = open_journal(small_journal(folder));
    if (!journal.ok()) ::_exit(1);
    while (true) {
        const Seq seq = (*journal)->head() + 1;
        if (!(*journal)->commit(std::vector{numbered(seq, seq * 37 % 8000)}).ok()) ::_exit(1);
        if (::write(pipe, &seq, sizeof seq) != sizeof seq) ::_exit(1);
        if (seq % 50 == 0) (*journal)->release(seq > 100 ? seq - 100 : 0);
    }
}

// The last seq that came through the pipe; reads until nobody can write to it any more.
Seq last_told(int pipe, Seq before) {
    Seq last = before;
    Seq seq = 0;
    while (::read(pipe, &seq, sizeof seq) == sizeof seq)
        last = seq;
    return last;
}

TEST(JournalKill, AcknowledgedRecordsSurviveKill) {
    const TempDir dir;
    const std::string folder = dir.path("journal");
    Random random(20251118);
    Seq acked = 0;
    for (int round = 0; round < 20; ++round) {
        int ends[2];
        ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
        io::UniqueFd reading(ends[0]);
        io::UniqueFd writing(ends[1]);
        const pid_t child = ::fork();
        ASSERT_GE(child, 0);
        if (child == 0) commit_until_killed(folder, writing.get());
        writing.reset();
        // Kills at some point after a random number of commits.
        const std::uint64_t wanted = 1 + random.below(150);
        for (std::uint64_t i = 0; i < wanted; ++i) {
            Seq seq = 0;
            ASSERT_EQ(::read(reading.get(), &seq, sizeof seq), static_cast<ssize_t>(sizeof seq));
            acked = seq;
        }
        ::kill(child, SIGKILL);
        int status = 0;
        ASSERT_EQ(::waitpid(child, &status, 0), child);
        acked = last_told(reading.get(), acked);

        auto journal = must_open(small_journal(folder));
        ASSERT_NE(journal, nullptr);
        ASSERT_GE(journal->head(), acked);
        Seq next = acked > 100 ? acked - 100 : 1;
        for (const Record& found : read_all(*journal, next - 1)) {
            ASSERT_EQ(text_of(found), text_of(numbered(next, next * 37 % 8000)));
            ++next;
        }
        EXPECT_EQ(next, journal->head() + 1);
    }
}

}  // namespace
}  // namespace iw::broker
