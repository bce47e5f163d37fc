// The journal as its caller sees it: what was committed is read back, whatever was done to the
// files after.

#include "broker/journal/journal.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <algorithm>

#include "broker/journal/segment.h"
#include "tests/store/store_support.h"

namespace iw::broker {
namespace {

using test::copy_folder;
using test::created;
using test::every_kind;
using test::flip;
using test::must_open;
using test::read_all;
using test::record;
using test::segments_in;
using test::slurp;
using test::small_journal;
using test::spill;
using test::TempDir;
using test::texts_of;

std::vector<Record> some_records(Seq first, int count, std::size_t prompt_bytes) {
    std::vector<Record> records;
    for (int i = 0; i < count; ++i) {
        const Seq seq = first + static_cast<Seq>(i);
        SessionCreated body = created(static_cast<int>(seq));
        body.submission.prompt.assign(prompt_bytes, static_cast<char>('a' + seq % 26));
        records.push_back(record(seq, body));
    }
    return records;
}

void must_commit(Journal& journal, const std::vector<Record>& records) {
    const Status committed = journal.commit(records);
    ASSERT_TRUE(committed.ok()) << committed.error().message;
}

// One commit per record.
void commit_each(Journal& journal, const std::vector<Record>& records) {
    for (const Record& each : records)
        must_commit(journal, {each});
}

TEST(Journal, BeginsEmpty) {
    const TempDir dir;
    auto journal = must_open(small_journal(dir.path("journal")));
    EXPECT_EQ(journal->head(), 0u);
    EXPECT_TRUE(read_all(*journal, 0).empty());
    must_commit(*journal, {});
    EXPECT_EQ(journal->head(), 0u);
}

TEST(Journal, GivesBackWhatWasCommitted) {
    const TempDir dir;
    const std::vector<Record> records = every_kind();
    {
        auto journal = must_open(small_journal(dir.path("journal")));
        must_commit(*journal, {records.begin(), records.begin() + 4});
        must_commit(*journal, {records.begin() + 4, records.end()});
        EXPECT_EQ(journal->head(), records.size());
        EXPECT_EQ(texts_of(read_all(*journal, 0)), texts_of(records));
    }
    auto journal = must_open(small_journal(dir.path("journal")));
    EXPECT_EQ(journal->head(), records.size());
    EXPECT_EQ(texts_of(read_all(*journal, 0)), texts_of(records));
    EXPECT_EQ(texts_of(read_all(*journal, 6)), texts_of({records.begin() + 6, records.end()}));
    EXPECT_TRUE(read_all(*journal, 99).empty());
}

TEST(Journal, StopsReadingAtTheCallersError) {
    const TempDir dir;
    auto journal = must_open(small_journal(dir.path("journal")));
    must_commit(*journal, every_kind());
    int seen = 0;
    const Status read = journal->read(0, [&](const Record&) -> Status {
        if (++seen == 3) return make_error(ErrorCode::internal, "enough");
        return Done{};
    });
    EXPECT_EQ(read.error().message, "enough");
    EXPECT_EQ(seen, 3);
}

TEST(Journal, GoesThroughSegmentsAndManyOpenings) {
    const TempDir dir;
    std::vector<Record> all;
    for (int round = 0; round < 8; ++round) {
        auto journal = must_open(small_journal(dir.path("journal")));
        ASSERT_EQ(journal->head(), all.size());
        const std::vector<Record> more = some_records(all.size() + 1, 25, 3000);
        commit_each(*journal, more);
        all.insert(all.end(), more.begin(), more.end());
    }
    auto journal = must_open(small_journal(dir.path("journal")));
    EXPECT_GT(segments_in(dir.path("journal")).size(), 5u);
    EXPECT_EQ(texts_of(read_all(*journal, 0)), texts_of(all));
    EXPECT_EQ(read_all(*journal, 150).front().seq, 151u);
}

TEST(Journal, CutsATurnThatIsLargerThanASegment) {
    const TempDir dir;
    const std::vector<Record> records = some_records(1, 60, 5000);
    {
        auto journal = must_open(small_journal(dir.path("journal")));
        must_commit(*journal, records);
    }
    auto journal = must_open(small_journal(dir.path("journal")));
    EXPECT_EQ(texts_of(read_all(*journal, 0)), texts_of(records));
}

TEST(Journal, RefusesARecordThatNoSegmentHolds) {
    const TempDir dir;
    auto journal = must_open(small_journal(dir.path("journal")));
    EXPECT_EQ(journal->commit(some_records(1, 1, 100'000)).error().code, ErrorCode::too_large);
}

TEST(Journal, FilesArePrivateAndOfOneSize) {
    const TempDir dir;
    auto journal = must_open(small_journal(dir.path("journal")));
    commit_each(*journal, some_records(1, 60, 3000));
    for (const std::string& path : segments_in(dir.path("journal"))) {
        struct stat status {};
        ASSERT_EQ(::stat(path.c_str(), &status), 0);
        EXPECT_EQ(status.st_mode & 0777u, 0600u);
        EXPECT_EQ(static_cast<std::size_t>(status.st_size), test::kSmallSegment);
        // Allocated throughout: a later write needs no metadata.
        EXPECT_GE(static_cast<std::size_t>(status.st_blocks) * 512, test::kSmallSegment);
    }
}

TEST(Journal, RefusesSegmentSizesThatCannotBe) {
    const TempDir dir;
    JournalOptions options = small_journal(dir.path("journal"));
    options.segment_bytes = 1000;
    EXPECT_EQ(open_journal(options).error().code, ErrorCode::config);
    options.segment_bytes = test::kSmallSegment + 1;
    EXPECT_EQ(open_journal(options).error().code, ErrorCode::config);
}

TEST(Journal, TakesAnotherSegmentSizeLater) {
    const TempDir dir;
    JournalOptions options = small_journal(dir.path("journal"));
    const std::vector<Record> records = some_records(1, 90, 3000);
    const std::vector<std::size_t> sizes = {128u << 10, 64u << 10, 256u << 10};
    for (std::size_t round = 0; round < sizes.size(); ++round) {
        options.segment_bytes = sizes[round];
        auto journal = must_open(options);
        for (std::size_t i = round * 30; i < round * 30 + 30; ++i)
            must_commit(*journal, {records[i]});
    }
    auto journal = must_open(options);
    EXPECT_EQ(texts_of(read_all(*journal, 0)), texts_of(records));
}

// ---- Recycling
// ------------------------------------------------------------------------------------------

TEST(Journal, RecyclesReleasedSegmentsAndSaysWhatIsGone) {
    const TempDir dir;
    const std::string folder = dir.path("journal");
    auto journal = must_open(small_journal(folder));
    commit_each(*journal, some_records(1, 100, 3000));
    const std::size_t before = io::list_folder(folder).size();
    journal->release(100);
    EXPECT_EQ(segments_in(folder).size(), 1u);
    const Status read = journal->read(0, [](const Record&) -> Status { return Done{}; });
    EXPECT_EQ(read.error().code, ErrorCode::gone);
    // The released files are used again: the folder does not grow.
    commit_each(*journal, some_records(101, 100, 3000));
    EXPECT_LE(io::list_folder(folder).size(), before + 1);
    EXPECT_EQ(texts_of(read_all(*journal, 100)), texts_of(some_records(101, 100, 3000)));
}

TEST(Journal, OldUnitsInARecycledSegmentAreNotTakenForNew) {
    const TempDir dir;
    const std::string folder = dir.path("journal");
    {
        auto journal = must_open(small_journal(folder));
        commit_each(*journal, some_records(1, 100, 3000));
        journal->release(100);
        // Into a recycled file, whose later part still holds whole units of its earlier life.
        commit_each(*journal, some_records(101, 22, 3000));
    }
    auto journal = must_open(small_journal(folder));
    EXPECT_EQ(journal->head(), 122u);
    EXPECT_EQ(texts_of(read_all(*journal, 100)), texts_of(some_records(101, 22, 3000)));
}

TEST(Journal, KeepsSegmentsForRollForward) {
    const TempDir dir;
    JournalOptions options = small_journal(dir.path("journal"));
    options.keep_bytes = 3 * test::kSmallSegment;
    auto journal = must_open(options);
    commit_each(*journal, some_records(1, 150, 3000));
    const std::size_t before = segments_in(options.folder).size();
    ASSERT_GT(before, 4u);
    journal->release(1);  // the database is only in the first
    EXPECT_EQ(segments_in(options.folder).size(), before);
    journal->release(150);
    EXPECT_EQ(segments_in(options.folder).size(), 3u);
}

TEST(Journal, NumbersOfSegmentsAreNeverUsedTwice) {
    const TempDir dir;
    const std::string folder = dir.path("journal");
    std::vector<std::string> seen;
    for (int round = 0; round < 4; ++round) {
        auto journal = must_open(small_journal(folder));
        for (const std::string& path : segments_in(folder)) {
            EXPECT_EQ(std::ranges::count(seen, path), 0) << path;
            seen.push_back(path);
        }
        must_commit(*journal, some_records(journal->head() + 1, 1, 10));
    }
}

// ---- Torn and damaged
// ------------------------------------------------------------------------------------

// A journal of three commits, and where its last one begins and ends.
struct Written {
    std::string path;
    std::size_t last_begin = 0;
    std::size_t last_end = 0;
};

Written write_three(const std::string& folder) {
    auto journal = must_open(small_journal(folder));
    Written written;
    commit_each(*journal, some_records(1, 3, 500));
    written.path = segments_in(folder).back();
    const std::string bytes = slurp(written.path);
    const std::size_t used = bytes.find_last_not_of('\0') + 1;
    const std::size_t unit = unit_size(4 + (used - kSegmentHeaderBytes) / 3);
    written.last_end = used;
    written.last_begin = (used + kUnitAlign - 1) / kUnitAlign * kUnitAlign - unit;
    return written;
}

TEST(JournalDamage, TornLastUnitIsCutAtEveryByte) {
    const TempDir dir;
    const Written written = write_three(dir.path("journal"));
    const std::string whole = slurp(written.path);
    for (std::size_t cut = written.last_begin; cut < written.last_end; ++cut) {
        copy_folder(dir.path("journal"), dir.path("torn"));
        std::string torn = whole;
        std::fill(torn.begin() + static_cast<long>(cut),
                  torn.begin() + static_cast<long>(written.last_end), '\0');
        const bool ends_in_zero = torn == whole;
        spill(dir.path("torn/") + io::base_name(written.path), torn);
        auto journal = must_open(small_journal(dir.path("torn")));
        ASSERT_NE(journal, nullptr);
        ASSERT_EQ(journal->head(), ends_in_zero ? 3u : 2u) << cut;
        if (cut % 16 != 0) continue;
        // And it goes on from there.
        must_commit(*journal, some_records(journal->head() + 1, 1, 50));
        journal = must_open(small_journal(dir.path("torn")));
        ASSERT_EQ(journal->head(), ends_in_zero ? 4u : 3u);
    }
}

TEST(JournalDamage, FlipInTheMiddleIsRefused) {
    const TempDir dir;
    const Written written = write_three(dir.path("journal"));
    for (std::size_t at = kSegmentHeaderBytes; at < written.last_begin; at += 97) {
        copy_folder(dir.path("journal"), dir.path("bad"));
        flip(dir.path("bad/") + io::base_name(written.path), at);
        const auto refused = open_journal(small_journal(dir.path("bad")));
        if (refused.ok()) {
            // The padding behind a unit carries nothing and is not looked at.
            EXPECT_EQ((*refused)->head(), 3u) << at;
            continue;
        }
        EXPECT_EQ(refused.error().code, ErrorCode::config);
        EXPECT_NE(refused.error().message.find("offset"), std::string::npos);
        EXPECT_NE(refused.error().message.find(io::base_name(written.path)), std::string::npos);
        EXPECT_NE(refused.error().message.find("backup"), std::string::npos);
    }
}

// Nothing behind it tells a damaged last unit from a torn one: it is cut. That the database has
// applied more than the journal then has is for the caller to see.
TEST(JournalDamage, FlipInTheLastUnitLooksLikeATornOne) {
    const TempDir dir;
    const Written written = write_three(dir.path("journal"));
    flip(written.path, written.last_begin + 100);
    EXPECT_EQ(must_open(small_journal(dir.path("journal")))->head(), 2u);
}

TEST(JournalDamage, FlipInAnEarlierSegmentIsRefusedWhenItIsNeeded) {
    const TempDir dir;
    const std::string folder = dir.path("journal");
    {
        auto journal = must_open(small_journal(folder));
        commit_each(*journal, some_records(1, 60, 3000));
    }
    ASSERT_GE(segments_in(folder).size(), 3u);
    flip(segments_in(folder)[1], 10'000);
    auto journal = must_open(small_journal(folder));
    const auto nothing = [](const Record&) -> Status { return Done{}; };
    const Status read = journal->read(0, nothing);
    EXPECT_EQ(read.error().code, ErrorCode::config);
    EXPECT_NE(read.error().message.find(segments_in(folder)[1]), std::string::npos);
    EXPECT_TRUE(journal->read(59, nothing).ok());
}

TEST(JournalDamage, LastUnitOfAnEarlierSegmentIsNotCut) {
    const TempDir dir;
    const std::string folder = dir.path("journal");
    {
        auto journal = must_open(small_journal(folder));
        commit_each(*journal, some_records(1, 60, 3000));
    }
    const std::string first = segments_in(folder)[0];
    std::string bytes = slurp(first);
    const std::size_t end = bytes.find_last_not_of('\0');
    std::fill(bytes.begin() + static_cast<long>(end) - 200, bytes.end(), '\0');
    spill(first, bytes);
    auto journal = must_open(small_journal(folder));
    EXPECT_FALSE(journal->read(0, [](const Record&) -> Status { return Done{}; }).ok());
}

TEST(JournalDamage, MissingShortAndForeignSegmentsAreRefused) {
    const TempDir dir;
    const std::string folder = dir.path("journal");
    {
        auto journal = must_open(small_journal(folder));
        commit_each(*journal, some_records(1, 60, 3000));
    }
    const std::string second = io::base_name(segments_in(folder)[1]);

    copy_folder(folder, dir.path("missing"));
    ASSERT_TRUE(io::remove_file(dir.path("missing/") + second).ok());
    auto missing = must_open(small_journal(dir.path("missing")));
    EXPECT_EQ(missing->read(0, [](const Record&) -> Status { return Done{}; }).error().code,
              ErrorCode::config);

    copy_folder(folder, dir.path("short"));
    std::filesystem::resize_file(dir.path("short/") + second, 5000);
    EXPECT_EQ(open_journal(small_journal(dir.path("short"))).error().code, ErrorCode::config);

    copy_folder(folder, dir.path("header"));
    flip(dir.path("header/") + second, 20);
    EXPECT_EQ(open_journal(small_journal(dir.path("header"))).error().code, ErrorCode::config);

    must_open(small_journal(dir.path("other")));
    copy_folder(folder, dir.path("mixed"));
    std::filesystem::copy(segments_in(dir.path("other"))[0],
                          dir.path("mixed/0000000000009999.segment"));
    EXPECT_EQ(open_journal(small_journal(dir.path("mixed"))).error().code, ErrorCode::config);
}

TEST(JournalDamage, UnreadableFolderIsNamed) {
    const TempDir dir;
    spill(dir.path("file"), "x");
    const auto refused = open_journal(small_journal(dir.path("file/journal")));
    ASSERT_FALSE(refused.ok());
    EXPECT_NE(refused.error().message.find("file"), std::string::npos);
}

}  // namespace
}  // namespace iw::broker
