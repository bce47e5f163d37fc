// Journal and database together under one mixed load, with a disk that fails, fills up and turns
// bits: whatever was acknowledged is there afterwards, or the store says that it is damaged.

#include <gtest/gtest.h>

#include <algorithm>
#include <cerrno>
#include <map>
#include <optional>

#include "common/base/random.h"
#include "tests/store/store_support.h"
#include "tests/store/system_calls.h"

namespace iw::broker {
namespace {

using test::before_system_call;
using test::copy_folder;
using test::dump_database;
using test::History;
using test::must_apply;
using test::must_open;
using test::small_journal;
using test::TempDir;
using test::text_of;

constexpr std::size_t kRecords = 150;

std::vector<Record> mixed_records() {
    History history(77);
    history.grow(kRecords);
    return history.records();
}

// What a database holds that has applied so many of the records.
const std::string& dump_of_first(std::size_t count) {
    static std::map<std::size_t, std::string> known;
    const auto [found, is_new] = known.try_emplace(count);
    if (!is_new) return found->second;
    const TempDir dir;
    const std::string file = dir.path("broker.db");
    auto database = must_open(DatabaseOptions{.file = file});
    const std::vector<Record> all = mixed_records();
    must_apply(*database, std::span(all).first(count));
    database.reset();
    return found->second = dump_database(file);
}

// How far a life came.
struct Life {
    Seq acked = 0;               // the journal has said so
    std::optional<Error> ended;  // what ended it early
    bool was_full = false;       // the database said so at least once
};

// What the two threads of a broker do with the store, in one: commit a turn, apply it some turns
// later, sync and release at times. A full database is tried again, anything else ends the life.
class Load {
  public:
    explicit Load(const std::string& folder) : folder_(folder), records_(mixed_records()) {}

    Life run() {
        auto journal = open_journal(small_journal(folder_ + "/journal"));
        if (!journal) return end(journal.error());
        auto database = Database::open({.file = folder_ + "/broker.db"});
        if (!database) return end(database.error());
        journal_ = std::move(*journal);
        database_ = std::move(*database);
        for (Seq turn = 0; !life_.ended && journal_->head() < records_.size(); ++turn) {
            commit();
            if (!life_.ended && turn % 3 == 2) catch_up();
            if (!life_.ended && turn % 7 == 6) sync();
        }
        if (!life_.ended) catch_up();
        return life_;
    }

  private:
    Life end(const Error& error) {
        life_.ended = error;
        return life_;
    }
    void commit() {
        const std::size_t head = journal_->head();
        const std::size_t count = std::min<std::size_t>(5, records_.size() - head);
        const Status done = journal_->commit(std::span(records_).subspan(head, count));
        if (!done) return static_cast<void>(end(done.error()));
        life_.acked = journal_->head();
    }
    void catch_up() {
        const std::size_t from = database_->applied();
        const auto missing = std::span(records_).subspan(from, journal_->head() - from);
        for (int tries = 0; tries < 3; ++tries) {
            const Status done = database_->apply(missing);
            if (done.ok()) return;
            if (done.error().code != ErrorCode::storage_low)
                return static_cast<void>(end(done.error()));
            life_.was_full = true;
        }
        end(make_error(ErrorCode::storage_low, "full for good"));
    }
    void sync() {
        const Result<Seq> synced = database_->sync();
        if (synced.ok()) return journal_->release(*synced);
        if (synced.error().code != ErrorCode::storage_low) end(synced.error());
    }

    std::string folder_;
    std::vector<Record> records_;
    std::unique_ptr<Journal> journal_;
    std::unique_ptr<Database> database_;
    Life life_;
};

// What a start makes of a store; nothing where it refuses.
struct Recovered {
    Seq head = 0;
    std::string dump;
};
Result<Recovered> recover(const std::string& folder) {
    auto journal = open_journal(small_journal(folder + "/journal"));
    if (!journal) return journal.error();
    auto database = Database::open({.file = folder + "/broker.db"});
    if (!database) return database.error();
    if ((*database)->applied() > (*journal)->head())
        return make_error(ErrorCode::config, "the database is ahead");
    const auto live = (*database)->load_live();
    if (!live) return live.error();
    const Status read =
        (*journal)->read((*database)->applied(), [&](const Record& record) -> Status {
            return (*database)->apply({&record, 1});
        });
    if (!read) return read.error();
    Recovered recovered{.head = (*journal)->head(), .dump = {}};
    // Every prompt and every result, as they would be handed out.
    for (const Record& record : mixed_records()) {
        const SessionId* id = session_of(record.body);
        if (id == nullptr) continue;
        const auto prompt = (*database)->prompt(*id);
        if (!prompt) return prompt.error();
        const auto result = (*database)->result(*id);
        if (!result) return result.error();
    }
    database->reset();
    // What neither start nor questions came by, a backup's check does.
    const auto checked = check_database(folder + "/broker.db");
    if (!checked) return checked.error();
    recovered.dump = dump_database(folder + "/broker.db");
    return recovered;
}

std::size_t sessions_in(const std::string& dump) {
    std::size_t count = 0;
    for (std::size_t at = dump.find("\nsessions|"); at != std::string::npos;
         at = dump.find("\nsessions|", at + 1)) {
        ++count;
    }
    return count;
}

class StoreFailure : public ::testing::TestWithParam<int> {};

// The n-th write, sync or rename fails, for every n: nothing acknowledged is missing afterwards,
// and nothing is there that was never committed.
TEST_P(StoreFailure, EveryCallInTurn) {
    const TempDir dir;
    const int error = GetParam();
    int ended = 0;
    for (int call = 0;; ++call) {
        const std::string folder = dir.path("store");
        std::filesystem::remove_all(folder);
        ASSERT_TRUE(io::make_folders(folder, 0700).ok());
        int left = call;
        bool met = false;
        before_system_call = [&](const std::string&) {
            if (left-- != 0) return 0;
            met = true;
            return error;
        };
        const Life life = Load(folder).run();
        before_system_call = nullptr;
        ASSERT_LT(call, 3000);
        const Result<Recovered> recovered = recover(folder);
        ASSERT_TRUE(recovered.ok()) << call << ": " << recovered.error().message;
        ASSERT_GE(recovered->head, life.acked) << call;
        ASSERT_LE(recovered->head, life.acked + 5) << call;
        ASSERT_EQ(recovered->dump, dump_of_first(recovered->head)) << call;
        ended += life.ended ? 1 : 0;
        if (!met) break;
    }
    EXPECT_GT(ended, 10);
}

INSTANTIATE_TEST_SUITE_P(Errors, StoreFailure, ::testing::Values(EIO, ENOSPC));

// The disk of the database is full for a while: the journal goes on, and the database catches up
// without help.
TEST(StoreFull, RecoversUnaided) {
    const TempDir dir;
    const std::string folder = dir.path("store");
    ASSERT_TRUE(io::make_folders(folder, 0700).ok());
    int writes = 0;
    before_system_call = [&](const std::string& call) {
        if (call != "pwrite") return 0;
        ++writes;
        return writes % 300 >= 290 ? ENOSPC : 0;
    };
    Life life;
    Seq acked = 0;
    // A commit that the disk refuses ends the process; the next start goes on from there.
    for (int start = 0; start < 100 && acked < kRecords; ++start) {
        const Life next = Load(folder).run();
        life.was_full = life.was_full || next.was_full;
        acked = std::max(acked, next.acked);
    }
    before_system_call = nullptr;
    EXPECT_EQ(acked, kRecords);
    EXPECT_TRUE(life.was_full);
    const Result<Recovered> recovered = recover(folder);
    ASSERT_TRUE(recovered.ok()) << recovered.error().message;
    EXPECT_EQ(recovered->dump, dump_of_first(kRecords));
}

// ---- Damage
// -------------------------------------------------------------------------------------------

// A store after a whole life, closed, with its database behind for the last records.
class StoreDamage : public ::testing::Test {
  protected:
    void SetUp() override {
        ASSERT_TRUE(io::make_folders(good_, 0700).ok());
        const std::vector<Record> all = mixed_records();
        auto journal = must_open(small_journal(good_ + "/journal"));
        auto database = must_open(DatabaseOptions{.file = good_ + "/broker.db"});
        for (std::size_t at = 0; at < all.size(); at += 4) {
            const auto turn = std::span(all).subspan(at, std::min<std::size_t>(4, all.size() - at));
            ASSERT_TRUE(journal->commit(turn).ok());
        }
        must_apply(*database, std::span(all).first(kRecords - 8));
        ASSERT_TRUE(database->sync().ok());
        whole_ = dump_of_first(kRecords);
    }

    // Refused, or whole, or without the last unit, which cannot be told from a torn one.
    enum class Found { refused, whole, cut, silent };
    Found look() {
        const Result<Recovered> recovered = recover(copy_);
        if (!recovered.ok()) return Found::refused;
        if (recovered->dump == whole_) return Found::whole;
        const bool is_cut = recovered->head < kRecords && recovered->head + 4 >= kRecords &&
                            recovered->dump == dump_of_first(recovered->head);
        return is_cut ? Found::cut : Found::silent;
    }

    TempDir dir_;
    std::string good_ = dir_.path("good");
    std::string copy_ = dir_.path("copy");
    std::string whole_;
};

TEST_F(StoreDamage, FlipsInTheJournalAreNeverSilent) {
    const std::string segment = io::base_name(test::segments_in(good_ + "/journal").back());
    const std::string bytes = test::slurp(good_ + "/journal/" + segment);
    const std::size_t used = bytes.find_last_not_of('\0') + 1;
    int refused = 0;
    Random random(5);
    // Every block of the used part, and some behind it.
    for (std::size_t block = 0; block < used + 8 * 512 && block < bytes.size(); block += 512) {
        copy_folder(good_, copy_);
        test::flip(copy_ + "/journal/" + segment, block + random.below(512));
        const Found found = look();
        ASSERT_NE(found, Found::silent) << "in the block at " << block;
        refused += found == Found::refused ? 1 : 0;
    }
    EXPECT_GT(refused, 20);
}

TEST_F(StoreDamage, TruncationsOfTheJournalAreNeverSilent) {
    const std::string segment = io::base_name(test::segments_in(good_ + "/journal").back());
    const std::string bytes = test::slurp(good_ + "/journal/" + segment);
    for (std::size_t size = 0; size < bytes.size(); size += 512 * 7 + 1) {
        copy_folder(good_, copy_);
        test::spill(copy_ + "/journal/" + segment, bytes.substr(0, size));
        ASSERT_EQ(look(), Found::refused) << size;
    }
}

// Units of the file's earlier life behind the tail, whole as they are: never taken for new ones.
TEST_F(StoreDamage, OldUnitsBehindTheTailAreNotTaken) {
    const std::string segment = io::base_name(test::segments_in(good_ + "/journal").back());
    const std::string path = copy_ + "/journal/" + segment;
    copy_folder(good_, copy_);
    ASSERT_TRUE(recover(copy_).ok());  // writes the tail anew, under another number
    const std::string earlier = test::slurp(good_ + "/journal/" + segment);
    const std::string now_path = test::segments_in(copy_ + "/journal").back();
    std::string bytes = test::slurp(now_path);
    const std::size_t used = (bytes.find_last_not_of('\0') / 512 + 1) * 512;
    // The older half of them fits behind.
    const std::size_t size = std::min(used - 512, bytes.size() - used);
    ASSERT_GT(size, 10'000u);
    bytes.replace(used, size, earlier, 512, size);
    test::spill(now_path, bytes);
    EXPECT_EQ(look(), Found::whole);
}

// A flip in the structure of the database is found by SQLite, one in a prompt or a result by its
// digest. What stands in other columns nobody can check: a flip there may only change a value, and
// never how many sessions there are or which.
TEST_F(StoreDamage, FlipsInTheDatabaseLoseNoSession) {
    const std::string good = test::slurp(good_ + "/broker.db");
    int refused = 0;
    int flips = 0;
    Random random(6);
    for (std::size_t at = 0; at < good.size(); at += 1801) {
        copy_folder(good_, copy_);
        test::flip(copy_ + "/broker.db", std::min(good.size() - 1, at + random.below(1801)));
        ++flips;
        const Result<Recovered> recovered = recover(copy_);
        if (!recovered.ok()) {
            ++refused;
            continue;
        }
        EXPECT_EQ(sessions_in(recovered->dump), sessions_in(whole_)) << at;
    }
    EXPECT_GT(refused, flips / 10);
}

TEST_F(StoreDamage, ChangedPromptsAreNotHandedOut) {
    const std::string prompt = "do what is number ";
    std::string bytes = test::slurp(good_ + "/broker.db");
    std::size_t changed = 0;
    for (std::size_t at = bytes.find(prompt); at != std::string::npos;
         at = bytes.find(prompt, at + 1)) {
        bytes[at] = 'g';
        ++changed;
    }
    ASSERT_GT(changed, 5u);
    copy_folder(good_, copy_);
    test::spill(copy_ + "/broker.db", bytes);
    const Result<Recovered> recovered = recover(copy_);
    ASSERT_FALSE(recovered.ok());
    EXPECT_EQ(recovered.error().code, ErrorCode::config);
    EXPECT_NE(recovered.error().message.find("not what was written"), std::string::npos);
}

// An empty file is a new database, which the journal fills as long as it has all of it.
TEST_F(StoreDamage, TruncationsOfTheDatabaseAreNeverSilent) {
    const std::string good = test::slurp(good_ + "/broker.db");
    for (std::size_t size = 1; size < good.size(); size += 4096 * 3 + 17) {
        copy_folder(good_, copy_);
        test::spill(copy_ + "/broker.db", good.substr(0, size));
        ASSERT_EQ(look(), size < 512 ? Found::whole : Found::refused) << size;
    }
}

}  // namespace
}  // namespace iw::broker
