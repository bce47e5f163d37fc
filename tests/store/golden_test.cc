// Files of this and of every earlier version are read for ever: the ones beside this test were
// written once and are never written again (tests/store/golden/README.md).

#include <gtest/gtest.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>

#include "broker/journal/segment.h"
#include "tests/store/store_support.h"
#include "tests/store/system_calls.h"

namespace iw::broker {
namespace {

using test::every_kind;
using test::every_kind_to_15;
using test::every_kind_to_16;
using test::must_open;
using test::small_journal;
using test::TempDir;
using test::texts_of;

const std::string kGolden = std::string(IW_SOURCE_DIR) + "/tests/store/golden";

// A golden segment is kept without the zeros behind its last unit.
std::string filled_up(std::string bytes, std::size_t size) {
    EXPECT_LE(bytes.size(), size);
    bytes.resize(size, '\0');
    return bytes;
}

TEST(Golden, JournalOfVersion1IsRead) {
    const TempDir dir;
    ASSERT_TRUE(io::make_folders(dir.path("journal"), 0700).ok());
    test::spill(dir.path("journal/0000000000000001.segment"),
                filled_up(test::slurp(kGolden + "/journal-1.segment"), test::kSmallSegment));
    auto journal = must_open(small_journal(dir.path("journal")));
    ASSERT_NE(journal, nullptr);
    EXPECT_EQ(texts_of(test::read_all(*journal, 0)), texts_of(every_kind()));
}

TEST(Golden, JournalWithKindsUpTo15IsRead) {
    const TempDir dir;
    ASSERT_TRUE(io::make_folders(dir.path("journal"), 0700).ok());
    test::spill(
        dir.path("journal/0000000000000001.segment"),
        filled_up(test::slurp(kGolden + "/journal-1-kinds-15.segment"), test::kSmallSegment));
    auto journal = must_open(small_journal(dir.path("journal")));
    ASSERT_NE(journal, nullptr);
    EXPECT_EQ(texts_of(test::read_all(*journal, 0)), texts_of(every_kind_to_15()));
}

TEST(Golden, JournalWithKindsUpTo16IsRead) {
    const TempDir dir;
    ASSERT_TRUE(io::make_folders(dir.path("journal"), 0700).ok());
    test::spill(
        dir.path("journal/0000000000000001.segment"),
        filled_up(test::slurp(kGolden + "/journal-1-kinds-16.segment"), test::kSmallSegment));
    auto journal = must_open(small_journal(dir.path("journal")));
    ASSERT_NE(journal, nullptr);
    EXPECT_EQ(texts_of(test::read_all(*journal, 0)), texts_of(every_kind_to_16()));
}

// What it becomes differs from a database of today in nothing that version 1 knew of.
TEST(Golden, DatabaseOfVersion1IsBroughtUp) {
    const TempDir dir;
    test::spill(dir.path("broker.db"), test::slurp(kGolden + "/database-1.db"));
    const test::Columns old_columns = test::columns_of(dir.path("broker.db"));
    ASSERT_FALSE(old_columns.contains("holds"));
    auto database = must_open(DatabaseOptions{.file = dir.path("broker.db")});
    ASSERT_NE(database, nullptr);
    const std::size_t count = every_kind().size();
    EXPECT_EQ(database->applied(), count);
    EXPECT_EQ((*database->session(test::session_id(7)))->status, SessionStatus::killed);
    EXPECT_EQ((**database->prompt(test::session_id(7))).prompt,
              test::full_created(7).submission.prompt);
    test::must_apply(*database, std::vector{test::record(count + 1, test::created(8))});
    database.reset();

    auto fresh = must_open(DatabaseOptions{.file = dir.path("fresh.db")});
    test::must_apply(*fresh, every_kind());
    test::must_apply(*fresh, std::vector{test::record(count + 1, test::created(8))});
    fresh.reset();
    EXPECT_EQ(test::dump_database(dir.path("broker.db"), old_columns),
              test::dump_database(dir.path("fresh.db"), old_columns));
    EXPECT_EQ(test::columns_of(dir.path("broker.db")), test::columns_of(dir.path("fresh.db")));
}

// A crash in the step from version to version leaves the old version, and the next opening goes on.
TEST(Golden, BringingUpIsOneTransaction) {
    const TempDir dir;
    const std::string golden = test::slurp(kGolden + "/database-1.db");
    int points = 0;
    for (int good = 0;; ++good) {
        test::spill(dir.path("broker.db"), golden);
        std::filesystem::remove(dir.path("broker.db-wal"));
        int left = good;
        bool failed = false;
        test::before_system_call = [&](const std::string&) {
            if (left-- > 0) return 0;
            failed = true;
            return EIO;
        };
        const bool opened = Database::open({.file = dir.path("broker.db")}).ok();
        test::before_system_call = nullptr;
        ASSERT_EQ(opened, !failed);
        auto database = must_open(DatabaseOptions{.file = dir.path("broker.db")});
        ASSERT_NE(database, nullptr);
        EXPECT_EQ(database->applied(), every_kind().size());
        if (!failed) break;
        ++points;
    }
    EXPECT_GT(points, 5);
}

TEST(Golden, DatabaseOfVersion2IsBroughtUp) {
    const TempDir dir;
    test::spill(dir.path("broker.db"), test::slurp(kGolden + "/database-2.db"));
    const test::Columns old_columns = test::columns_of(dir.path("broker.db"));
    ASSERT_EQ(std::ranges::count(old_columns.at("sessions"), "manifest"), 0);
    auto database = must_open(DatabaseOptions{.file = dir.path("broker.db")});
    ASSERT_NE(database, nullptr);
    EXPECT_EQ(database->epoch(), std::string(32, 'e'));
    EXPECT_EQ(database->generation(), 2u);
    const SessionView view = **database->session(test::session_id(7));
    EXPECT_EQ(view.attempts_max, 4u);
    EXPECT_EQ(view.attempts_used, 2u);
    database.reset();
    auto fresh = must_open(DatabaseOptions{.file = dir.path("fresh.db")});
    test::must_apply(*fresh, every_kind_to_15());
    fresh.reset();
    EXPECT_EQ(test::dump_database(dir.path("broker.db")),
              test::dump_database(dir.path("fresh.db")));
}

TEST(Golden, DatabaseOfVersion3IsRead) {
    const TempDir dir;
    test::spill(dir.path("broker.db"), test::slurp(kGolden + "/database-3.db"));
    auto database = must_open(DatabaseOptions{.file = dir.path("broker.db")});
    ASSERT_NE(database, nullptr);
    const SessionView view = **database->session(test::session_id(7));
    EXPECT_EQ(view.estimate, Duration(300'000));
    ASSERT_TRUE(view.deliverables.has_value());
    EXPECT_EQ(view.deliverables->files, 3u);
    EXPECT_EQ((**database->prompt(test::session_id(7))).result_schema, R"({"type":"object"})");
    database.reset();
    auto fresh = must_open(DatabaseOptions{.file = dir.path("fresh.db")});
    test::must_apply(*fresh, every_kind_to_16());
    fresh.reset();
    EXPECT_EQ(test::dump_database(dir.path("broker.db")),
              test::dump_database(dir.path("fresh.db")));
}

// All that a segment's units say but checksums and the journal's id, which differ from journal to
// journal.
std::vector<std::string> payloads(const std::string& bytes) {
    std::vector<std::string> all;
    const Result<SegmentHeader> header = decode_header(bytes, "segment");
    EXPECT_TRUE(header.ok());
    const Result<Scan> scan = scan_segment(bytes, *header, [&](const Unit& unit) -> Status {
        all.push_back(std::to_string(unit.first) + ":" + std::string(unit.payload));
        return Done{};
    });
    EXPECT_TRUE(scan.ok());
    return all;
}

// What is written today is what was written then. With IW_WRITE_GOLDEN=<folder> it stays there, for
// the day on which a format changes.
TEST(Golden, TodaysFilesAreOfThisVersion) {
    const TempDir dir;
    {
        auto journal = must_open(small_journal(dir.path("journal")));
        for (const Record& each : every_kind_to_16()) {
            ASSERT_TRUE(journal->commit({&each, 1}).ok());
        }
        auto database = must_open(DatabaseOptions{.file = dir.path("broker.db")});
        test::must_apply(*database, every_kind_to_16());
        ASSERT_TRUE(database->sync().ok());
    }
    std::string bytes = test::slurp(test::segments_in(dir.path("journal")).front());
    bytes.resize((bytes.find_last_not_of('\0') / kUnitAlign + 1) * kUnitAlign);
    if (const char* folder = std::getenv("IW_WRITE_GOLDEN")) {
        test::spill(std::string(folder) + "/journal.segment", bytes);
        test::spill(std::string(folder) + "/database.db", test::slurp(dir.path("broker.db")));
    }
    EXPECT_EQ(payloads(bytes), payloads(test::slurp(kGolden + "/journal-1-kinds-16.segment")));
}

}  // namespace
}  // namespace iw::broker
