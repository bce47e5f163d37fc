// Backups made while records are applied, and what a restore makes of them and of the store that is
// there.

#include "broker/backup.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <set>

#include "broker/blobs/blob_store.h"
#include "broker/restore.h"
#include "tests/store/store_support.h"
#include "tests/store/system_calls.h"

namespace iw::broker {
namespace {

using test::before_system_call;
using test::created;
using test::History;
using test::must_apply;
using test::must_open;
using test::record;
using test::session_id;
using test::TempDir;

constexpr std::size_t kSegment = test::kSmallSegment;

// A data directory with a journal and a database behind it, as a broker has them.
class Store {
  public:
    explicit Store(std::string folder) : folder_(std::move(folder)) { open(); }

    void open() {
        journal_ = must_open(test::small_journal(folder_ + "/journal"));
        database_ = must_open(DatabaseOptions{.file = folder_ + "/broker.db"});
    }
    void close() {
        journal_.reset();
        database_.reset();
    }
    void commit(RecordBody body) {
        const Record next = record(journal_->head() + 1, std::move(body));
        ASSERT_TRUE(journal_->commit({&next, 1}).ok());
    }
    void create(int from, int to) {
        for (int i = from; i < to; ++i)
            commit(created(i));
    }
    // The database follows the journal.
    void catch_up() {
        const Status read = journal_->read(database_->applied(), [this](const Record& each) {
            return database_->apply({&each, 1});
        });
        ASSERT_TRUE(read.ok()) << read.error().message;
    }
    BackupPlan plan(const std::string& folder) const {
        return {.folder = folder,
                .keep = 0,
                .reserve = 0,
                .journal = journal_->id(),
                .blobs = folder_ + "/blobs",
                .at = wall_from_ms(test::kStartMs)};
    }
    Result<BackupInfo> try_backup(const BackupPlan& plan) {
        auto backup = Backup::begin(*database_, plan);
        if (!backup) return backup.error();
        while (true) {
            const Result<bool> more = (*backup)->copy(*database_);
            if (!more) return more.error();
            if (!*more) return (*backup)->finish();
        }
    }
    BackupInfo backup(const std::string& folder) {
        catch_up();
        const Result<BackupInfo> made = try_backup(plan(folder));
        EXPECT_TRUE(made.ok()) << (made.ok() ? "" : made.error().message);
        return made.ok() ? *made : BackupInfo{};
    }
    Journal& journal() { return *journal_; }
    Database& database() { return *database_; }
    const std::string& folder() const { return folder_; }

  private:
    std::string folder_;
    std::unique_ptr<Journal> journal_;
    std::unique_ptr<Database> database_;
};

RestorePlan restore_plan(const std::string& data_dir, const std::string& backup) {
    return {.data_dir = data_dir,
            .backup = backup,
            .segment_bytes = kSegment,
            .principal = "uid:0",
            .at = wall_from_ms(test::kStartMs + 9'000'000)};
}

RestoreOutcome must_restore(const std::string& data_dir, const std::string& backup) {
    const Result<RestoreOutcome> restored = restore_backup(restore_plan(data_dir, backup));
    EXPECT_TRUE(restored.ok()) << (restored.ok() ? "" : restored.error().message);
    return restored.ok() ? *restored : RestoreOutcome{};
}

std::string remarks_of(const RestoreOutcome& outcome) {
    std::string all;
    for (const std::string& remark : outcome.remarks)
        all += remark + "\n";
    return all;
}

bool has_session(Database& database, int number) {
    const auto view = database.session(session_id(number));
    return view.ok() && view->has_value();
}

// What every restored store must be: whole, in a new epoch that holds, with a journal that goes on.
void expect_restored(Store& store, const RestoreOutcome& outcome) {
    EXPECT_TRUE(check_no_restore_pending(store.folder()).ok());
    ASSERT_EQ(store.journal().head(), outcome.seq + 1);
    store.catch_up();
    EXPECT_EQ(store.database().epoch(), outcome.epoch);
    EXPECT_EQ(store.database().generation(), outcome.generation);
    const auto live = store.database().load_live();
    ASSERT_TRUE(live.ok());
    EXPECT_TRUE(live->restored);
    EXPECT_NE(live->restored_why.find("restored from"), std::string::npos);
    store.commit(created(4000));
    store.catch_up();
}

std::unique_ptr<BlobStore> blobs_of(const std::string& data_dir) {
    auto blobs =
        BlobStore::open({.folder = data_dir + "/blobs", .bytes_max = 1u << 30, .reserve = 0});
    EXPECT_TRUE(blobs.ok()) << (blobs.ok() ? "" : blobs.error().message);
    return std::move(*blobs);
}

void put_blob(const std::string& data_dir, const std::string& bytes) {
    const Result<std::uint64_t> have = blobs_of(data_dir)->put(
        {.session = session_id(1), .fence = {.generation = 1, .attempt = 1}},
        {.blob = io::sha256_hex(bytes),
         .size = bytes.size(),
         .size_max = 100,
         .all_max = 100,
         .offset = 0,
         .data = bytes});
    ASSERT_TRUE(have.ok()) << have.error().message;
    ASSERT_EQ(*have, bytes.size());
}

bool has_blob(const std::string& data_dir, const std::string& bytes) {
    const auto piece = blobs_of(data_dir)->get(session_id(1), io::sha256_hex(bytes), 0, 100);
    return piece.ok() && piece->data == bytes;
}

std::vector<std::string> names_in(const std::string& folder) {
    return io::list_folder(folder);
}

// ---- Making backups
// -----------------------------------------------------------------------------------

TEST(Backup, FollowsWhatIsAppliedMeanwhile) {
    const TempDir dir;
    constexpr std::size_t kBefore = 9'000;
    Store store(dir.path("data"));
    History history(7);
    history.grow(12'000);
    const std::span<const Record> all(history.records());
    must_apply(store.database(), all.first(kBefore));
    ASSERT_GT(*store.database().bytes(), 1u << 20);  // more than one piece

    auto backup = Backup::begin(store.database(), store.plan(dir.path("backups")));
    ASSERT_TRUE(backup.ok()) << backup.error().message;
    std::size_t at = kBefore;
    int pieces = 1;
    while (*(*backup)->copy(store.database())) {
        const std::size_t count = std::min<std::size_t>(400, all.size() - at);
        must_apply(store.database(), all.subspan(at, count));
        at += count;
        if (pieces == 1) {
            ASSERT_TRUE(store.database().sync().ok());
        }
        ++pieces;
    }
    EXPECT_GT(pieces, 1);
    ASSERT_GT(at, kBefore);
    const std::string epoch = store.database().epoch();
    must_apply(store.database(), all.subspan(at));  // no longer in it
    const Result<BackupInfo> made = (*backup)->finish();
    ASSERT_TRUE(made.ok()) << made.error().message;
    EXPECT_EQ(made->seq, at);
    EXPECT_EQ(names_in(made->folder),
              (std::vector<std::string>{"blobs", "broker.db", "manifest.json"}));
    EXPECT_EQ(names_in(dir.path("backups")).size(), 1u);

    const Result<BackupManifest> manifest = read_manifest(made->folder);
    ASSERT_TRUE(manifest.ok()) << manifest.error().message;
    EXPECT_EQ(manifest->seq, at);
    EXPECT_EQ(manifest->epoch, epoch);
    EXPECT_EQ(manifest->journal, store.journal().id());
    EXPECT_EQ(manifest->files.at(0).bytes, made->bytes);

    auto same = must_open(DatabaseOptions{.file = dir.path("same.db")});
    must_apply(*same, all.first(at));
    same.reset();
    EXPECT_EQ(test::dump_database(made->folder + "/broker.db"),
              test::dump_database(dir.path("same.db")));
}

TEST(Backup, KeepsTheNewestAndFindsIt) {
    const TempDir dir;
    Store store(dir.path("data"));
    EXPECT_FALSE(newest_backup(dir.path("backups")).has_value());
    BackupPlan plan = store.plan(dir.path("backups"));
    plan.keep = 3;
    std::vector<std::string> made;
    for (int i = 0; i < 5; ++i) {
        store.create(i, i + 1);
        store.catch_up();
        plan.at = wall_from_ms(test::kStartMs + i * 1000);
        const Result<BackupInfo> info = store.try_backup(plan);
        ASSERT_TRUE(info.ok()) << info.error().message;
        made.push_back(io::base_name(info->folder));
    }
    EXPECT_EQ(names_in(dir.path("backups")), (std::vector<std::string>{made[2], made[3], made[4]}));
    const auto newest = newest_backup(dir.path("backups"));
    ASSERT_TRUE(newest.has_value());
    EXPECT_EQ(newest->seq, 5u);
    EXPECT_EQ(io::base_name(newest->folder), made[4]);
    // The same second and record again: a name of its own.
    const Result<BackupInfo> twin = store.try_backup(plan);
    ASSERT_TRUE(twin.ok());
    EXPECT_EQ(io::base_name(twin->folder), made[4] + "-2");
}

TEST(Backup, FailureLeavesNothingAndTakesNoOlderOne) {
    const TempDir dir;
    Store store(dir.path("data"));
    store.create(0, 20);
    const BackupInfo good = store.backup(dir.path("backups"));
    BackupPlan plan = store.plan(dir.path("backups"));
    plan.keep = 1;
    plan.reserve = std::uint64_t{1} << 60;
    EXPECT_EQ(store.try_backup(plan).error().code, ErrorCode::storage_low);
    plan.reserve = 0;
    int failed = 0;
    for (int call = 0;; ++call) {
        int left = call;
        bool met = false;
        before_system_call = [&](const std::string&) {
            if (left-- > 0) return 0;
            met = true;
            return EIO;
        };
        const Result<BackupInfo> made = store.try_backup(plan);
        before_system_call = nullptr;
        if (made.ok() && !met) break;
        ASSERT_LT(call, 500);
        if (made.ok()) continue;
        ++failed;
        // A sync of the folder that fails behind the new name leaves both: none too few.
        const auto names = names_in(dir.path("backups"));
        EXPECT_FALSE(names.empty());
        for (const std::string& name : names)
            EXPECT_TRUE(read_manifest(dir.path("backups") + "/" + name).ok()) << name;
        store.commit(created(100 + call));
        store.catch_up();
    }
    EXPECT_GT(failed, 3);
    EXPECT_EQ(names_in(dir.path("backups")).size(), 1u);
    EXPECT_NE(newest_backup(dir.path("backups"))->folder, good.folder);
}

TEST(Backup, ClearsAwayWhatACrashLeft) {
    const TempDir dir;
    Store store(dir.path("data"));
    const std::string left = dir.path("backups") + "/.making-" + store.journal().id() + "-1234";
    const std::string others = dir.path("backups") + "/.making-" + std::string(32, 'f') + "-1234";
    for (const std::string& folder : {left, others}) {
        ASSERT_TRUE(io::make_folders(folder, 0700).ok());
        test::spill(folder + "/broker.db", "half");
    }
    static_cast<void>(store.backup(dir.path("backups")));
    EXPECT_FALSE(io::exists(left));
    EXPECT_TRUE(io::exists(others));  // may be in the making
}

TEST(Backup, FoldersThatAreNoneAreCalledSo) {
    const TempDir dir;
    Store store(dir.path("data"));
    const std::string folder = store.backup(dir.path("backups")).folder;
    const std::string manifest = folder + "/manifest.json";
    const std::string good = test::slurp(manifest);
    EXPECT_EQ(read_manifest(dir.path("data")).error().code, ErrorCode::config);
    for (const std::string& bad :
         {std::string(), std::string("{}"), std::string("[1]"), good.substr(0, good.size() / 2),
          std::string(R"({"format":1,"epoch":"e","generation":1})"),
          std::string(R"({"format":1,"epoch":"e","generation":1,"files":[{"name":1}]})")}) {
        test::spill(manifest, bad);
        EXPECT_EQ(read_manifest(folder).error().code, ErrorCode::config) << bad;
    }
    test::spill(manifest, R"({"format":2})");
    const auto newer = read_manifest(folder);
    ASSERT_FALSE(newer.ok());
    EXPECT_NE(newer.error().message.find("newer version"), std::string::npos);
}

// ---- Restoring
// ----------------------------------------------------------------------------------------

TEST(Restore, RollsForwardOverTheJournalThatIsThere) {
    const TempDir dir;
    Store store(dir.path("data"));
    store.create(0, 40);
    const BackupInfo backup = store.backup(dir.path("backups"));
    store.create(40, 90);
    store.catch_up();
    const std::string epoch = store.database().epoch();
    store.close();

    const RestoreOutcome outcome = must_restore(dir.path("data"), backup.folder);
    EXPECT_EQ(outcome.backup_seq, 40u);
    EXPECT_EQ(outcome.seq, 90u);
    EXPECT_EQ(outcome.generation, 2u);
    EXPECT_NE(outcome.epoch, epoch);
    EXPECT_NE(remarks_of(outcome).find("from record 40 to 90"), std::string::npos);
    // The former store is whole where it is now.
    auto former = must_open(DatabaseOptions{.file = outcome.aside + "/broker.db"});
    EXPECT_EQ(former->applied(), 90u);
    EXPECT_EQ(must_open(test::small_journal(outcome.aside + "/journal"))->head(), 90u);

    store.open();
    expect_restored(store, outcome);
    EXPECT_TRUE(has_session(store.database(), 89));
    EXPECT_TRUE(store.database().events({.epoch = epoch, .after = 90})->gap);
}

TEST(Restore, NeedsNoFormerStore) {
    const TempDir dir;
    BackupInfo backup;
    {
        Store store(dir.path("data"));
        store.create(0, 40);
        backup = store.backup(dir.path("backups"));
    }
    ASSERT_TRUE(io::make_folders(dir.path("fresh"), 0700).ok());
    const RestoreOutcome outcome = must_restore(dir.path("fresh"), backup.folder);
    EXPECT_TRUE(outcome.aside.empty());
    EXPECT_EQ(outcome.seq, 40u);
    // Nobody can tell what generations the lost store has had.
    EXPECT_GT(outcome.generation, 1000u);
    Store store(dir.path("fresh"));
    expect_restored(store, outcome);
}

TEST(Restore, EachOneRaisesTheGenerationAboveAllBefore) {
    const TempDir dir;
    Store store(dir.path("data"));
    store.create(0, 5);
    const BackupInfo backup = store.backup(dir.path("backups"));
    store.close();
    std::set<std::string> epochs;
    for (std::uint32_t generation = 2; generation < 6; ++generation) {
        const RestoreOutcome outcome = must_restore(dir.path("data"), backup.folder);
        EXPECT_EQ(outcome.generation, generation);
        epochs.insert(outcome.epoch);
        // Every other time the broker starts in between.
        if (generation % 2 == 0) continue;
        store.open();
        store.catch_up();
        store.close();
    }
    EXPECT_EQ(epochs.size(), 4u);
}

// Its journal has gone on under a new epoch that the backup does not have: another course.
TEST(Restore, LeavesOutAJournalThatWentOnFromAnotherState) {
    const TempDir dir;
    Store store(dir.path("data"));
    store.create(0, 30);
    store.catch_up();
    store.close();
    test::copy_folder(dir.path("data"), dir.path("snapshot"));
    store.open();
    store.create(30, 60);
    const BackupInfo backup = store.backup(dir.path("backups"));
    store.close();
    test::copy_folder(dir.path("snapshot"), dir.path("data"));
    store.open();
    store.commit(EpochBegun{.epoch = "another",
                            .generation = 2,
                            .hold = true,
                            .reason = "accepted",
                            .principal = "uid:0"});
    store.create(100, 200);
    store.catch_up();
    store.close();

    const RestoreOutcome outcome = must_restore(dir.path("data"), backup.folder);
    EXPECT_EQ(outcome.seq, 60u);
    EXPECT_EQ(outcome.generation, 3u);
    EXPECT_NE(remarks_of(outcome).find("another state"), std::string::npos);
    store.open();
    expect_restored(store, outcome);
    EXPECT_TRUE(has_session(store.database(), 59));
    EXPECT_FALSE(has_session(store.database(), 150));
}

TEST(Restore, LeavesOutAnotherJournalAndOneWithAGap) {
    const TempDir dir;
    Store other(dir.path("other"));
    other.create(0, 50);
    other.catch_up();
    other.close();
    Store store(dir.path("data"));
    store.create(0, 20);
    const BackupInfo backup = store.backup(dir.path("backups"));
    store.create(20, 400);
    store.catch_up();
    ASSERT_TRUE(store.database().sync().ok());
    store.journal().release(400);
    store.close();
    ASSERT_GT(test::segments_in(dir.path("data/journal")).size(), 0u);

    RestoreOutcome outcome = must_restore(dir.path("other"), backup.folder);
    EXPECT_EQ(outcome.seq, 20u);
    EXPECT_NE(remarks_of(outcome).find("another one"), std::string::npos);
    outcome = must_restore(dir.path("data"), backup.folder);
    EXPECT_EQ(outcome.seq, 20u);
    EXPECT_NE(remarks_of(outcome).find("begins with record"), std::string::npos);
    store.open();
    expect_restored(store, outcome);
}

TEST(Restore, BlobsThatAreDamagedInTheBackupAreLeftOut) {
    const TempDir dir;
    Store store(dir.path("data"));
    store.create(0, 5);
    put_blob(dir.path("data"), "good");
    put_blob(dir.path("data"), "bad");
    const BackupInfo backup = store.backup(dir.path("backups"));
    EXPECT_EQ(read_manifest(backup.folder)->blobs, 2u);
    EXPECT_EQ(read_manifest(backup.folder)->blob_bytes, 7u);
    store.close();
    const std::string blob = "/blobs/" + session_id(1).str() + "/1-1/" + io::sha256_hex("bad");
    test::spill(backup.folder + blob, "baD");
    // A good one that is there is kept; what is only in the backup is compared with its name.
    EXPECT_EQ(remarks_of(must_restore(dir.path("data"), backup.folder)).find("damaged"),
              std::string::npos);
    EXPECT_TRUE(has_blob(dir.path("data"), "bad"));
    ASSERT_TRUE(io::make_folders(dir.path("fresh"), 0700).ok());
    EXPECT_NE(
        remarks_of(must_restore(dir.path("fresh"), backup.folder)).find("1 files of sessions"),
        std::string::npos);
    EXPECT_TRUE(has_blob(dir.path("fresh"), "good"));
    EXPECT_FALSE(has_blob(dir.path("fresh"), "bad"));
}

TEST(Restore, GoesAsFarAsADamagedJournalIsGoodAndSaysSo) {
    const TempDir dir;
    Store store(dir.path("data"));
    store.create(0, 20);
    const BackupInfo backup = store.backup(dir.path("backups"));
    store.create(20, 60);
    store.catch_up();
    store.close();
    // One commit a unit of 512 bytes: number 40 is in the middle of the part behind the backup.
    test::flip(test::segments_in(dir.path("data/journal")).back(), 512 * 41 + 40);
    ASSERT_FALSE(open_journal(test::small_journal(dir.path("data/journal"))).ok());

    const RestoreOutcome outcome = must_restore(dir.path("data"), backup.folder);
    EXPECT_EQ(outcome.seq, 40u);
    EXPECT_NE(remarks_of(outcome).find("damaged at offset"), std::string::npos);
    store.open();
    expect_restored(store, outcome);
    EXPECT_TRUE(has_session(store.database(), 39));
    EXPECT_FALSE(has_session(store.database(), 40));
}

TEST(Restore, RepairsADamagedDatabase) {
    const TempDir dir;
    Store store(dir.path("data"));
    store.create(0, 200);
    const BackupInfo backup = store.backup(dir.path("backups"));
    store.create(200, 260);
    store.catch_up();
    ASSERT_TRUE(store.database().sync().ok());
    store.close();
    std::string bytes = test::slurp(dir.path("data/broker.db"));
    std::fill(bytes.begin(), bytes.end(), '\x5a');
    test::spill(dir.path("data/broker.db"), bytes);
    const auto refused = Database::open({.file = dir.path("data/broker.db")});
    ASSERT_FALSE(refused.ok());
    EXPECT_NE(refused.error().message.find("ictl restore"), std::string::npos);

    const RestoreOutcome outcome = must_restore(dir.path("data"), backup.folder);
    EXPECT_EQ(outcome.seq, 260u);
    EXPECT_GT(outcome.generation, 1000u);
    store.open();
    expect_restored(store, outcome);
}

// A flip in any part of the copy is found before the store is touched.
TEST(Restore, DamagedBackupsAreRefusedAndNothingIsTouched) {
    const TempDir dir;
    Store store(dir.path("data"));
    store.create(0, 30);
    const BackupInfo backup = store.backup(dir.path("backups"));
    store.close();
    const std::string database = backup.folder + "/broker.db";
    const std::string good = test::slurp(database);
    const std::string manifest = test::slurp(backup.folder + "/manifest.json");
    const auto expect_refused = [&] {
        const auto refused = restore_backup(restore_plan(dir.path("data"), backup.folder));
        ASSERT_FALSE(refused.ok());
        EXPECT_EQ(refused.error().code, ErrorCode::config) << refused.error().message;
        EXPECT_TRUE(check_no_restore_pending(dir.path("data")).ok());
    };
    for (std::size_t offset = 0; offset < good.size(); offset += 1999) {
        test::flip(database, offset);
        expect_refused();
        test::spill(database, good);
    }
    test::spill(database, good.substr(0, good.size() - 4096));
    expect_refused();
    test::spill(database, good);
    std::string other = manifest;
    other.replace(other.find("\"seq\": 30"), 9, "\"seq\": 31");
    test::spill(backup.folder + "/manifest.json", other);
    expect_refused();
    store.open();
    EXPECT_EQ(store.journal().head(), 30u);
    EXPECT_EQ(store.database().applied(), 30u);
}

// Every failing call and every crash between two calls leaves the old store, the new one, or a half
// that is called so and that the same command completes.
TEST(Restore, IsSafeAtEveryPoint) {
    const TempDir dir;
    BackupInfo backup;
    {
        Store store(dir.path("good"));
        store.create(0, 20);
        put_blob(dir.path("good"), "early");
        backup = store.backup(dir.path("backups"));
        store.create(20, 30);
        store.catch_up();
        put_blob(dir.path("good"), "late");
    }
    int halves = 0;
    int failures = 0;
    for (int call = 0;; ++call) {
        test::copy_folder(dir.path("good"), dir.path("data"));
        int left = call;
        bool met = false;
        before_system_call = [&](const std::string&) {
            if (left-- > 0) return 0;
            met = true;
            return EIO;
        };
        const auto restored = restore_backup(restore_plan(dir.path("data"), backup.folder));
        before_system_call = nullptr;
        ASSERT_LT(call, 2000);
        if (!met) break;
        if (!restored.ok()) ++failures;
        const bool is_half = !check_no_restore_pending(dir.path("data")).ok();
        halves += is_half ? 1 : 0;
        if (!is_half) {
            Store store(dir.path("data"));
            store.catch_up();
            ASSERT_EQ(store.database().applied(), restored.ok() ? 31u : 30u);
            ASSERT_EQ(store.database().generation(), restored.ok() ? 2u : 1u);
        }
        if (restored.ok()) continue;
        const RestoreOutcome outcome = must_restore(dir.path("data"), backup.folder);
        EXPECT_EQ(outcome.seq, 30u);
        Store store(dir.path("data"));
        expect_restored(store, outcome);
        EXPECT_TRUE(has_session(store.database(), 29));
        for (const std::string& folder : {dir.path("data"), outcome.aside}) {
            EXPECT_TRUE(has_blob(folder, "early")) << folder;
            EXPECT_TRUE(has_blob(folder, "late")) << folder;
        }
        auto former = must_open(DatabaseOptions{.file = outcome.aside + "/broker.db"});
        EXPECT_GE(former->applied(), 30u);
    }
    EXPECT_GT(failures, 20);
    EXPECT_GT(halves, 5);
}

}  // namespace
}  // namespace iw::broker
