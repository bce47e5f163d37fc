#include "broker/restore.h"

#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "broker/backup.h"
#include "broker/backup_files.h"
#include "broker/blobs/blob_copy.h"
#include "broker/database/database.h"
#include "broker/journal/journal.h"
#include "broker/journal/salvage.h"
#include "common/io/files.h"

namespace iw::broker {
namespace {

using Json = nlohmann::json;

constexpr mode_t kPrivateFolder = 0700;
constexpr mode_t kPrivateFile = 0600;
constexpr std::size_t kMarkMax = 1u << 20;
// Says that the new store is whole and that it is being put in place: from here on there is only
// forward.
constexpr const char* kMark = "restore-pending";
constexpr const char* kStaging = "restoring";
constexpr const char* kJournalName = "journal";
// Records of one transaction of the roll-forward.
constexpr std::size_t kBatch = 2'000;
// Above whatever the generation of a store was that can no longer be read.
constexpr std::uint32_t kUnknownGenerations = 1'000;

struct Mark {
    std::string backup;
    RestoreOutcome outcome;
};

// ---- The mark
// -----------------------------------------------------------------------------------------

Status write_mark(const std::string& data_dir, const Mark& mark) {
    const RestoreOutcome& outcome = mark.outcome;
    const Json json = {
        {"backup", mark.backup},     {"backup_seq", outcome.backup_seq}, {"seq", outcome.seq},
        {"epoch", outcome.epoch},    {"generation", outcome.generation}, {"aside", outcome.aside},
        {"remarks", outcome.remarks}};
    return io::write_file(data_dir + "/" + kMark,
                          json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n",
                          kPrivateFile, io::Sync::file_and_folder);
}

// Nothing: no restore is under way.
Result<std::optional<Mark>> read_mark(const std::string& data_dir) {
    const std::string path = data_dir + "/" + kMark;
    if (!io::exists(path)) return std::optional<Mark>();
    const Result<std::string> bytes = io::read_file(path, kMarkMax);
    if (!bytes) return bytes.error();
    const Json json = Json::parse(*bytes, nullptr, false);
    try {
        Mark mark{.backup = json.at("backup").get<std::string>(),
                  .outcome = {.backup_seq = json.at("backup_seq").get<Seq>(),
                              .seq = json.at("seq").get<Seq>(),
                              .epoch = json.at("epoch").get<std::string>(),
                              .generation = json.at("generation").get<std::uint32_t>(),
                              .aside = json.at("aside").get<std::string>(),
                              .remarks = json.at("remarks").get<std::vector<std::string>>()}};
        return std::optional(std::move(mark));
    } catch (const Json::exception&) {
        return make_error(ErrorCode::config, path + " is damaged; look at it and at " + data_dir +
                                                 "/" + kStaging + " beside it");
    }
}

// ---- Putting the new store in place
// -------------------------------------------------------------------

Status move(const std::string& from, const std::string& to) {
    if (std::rename(from.c_str(), to.c_str()) == 0) return Done{};
    return io::system_error("cannot rename", from);
}

// On disk under its new name before anything takes its place.
Status put_aside(const std::string& data_dir, const std::string& aside, const std::string& name) {
    const Status moved = move(data_dir + "/" + name, aside + "/" + name);
    if (!moved) return moved;
    const Status kept = io::sync_folder(aside);
    if (!kept) return kept;
    return io::sync_folder(data_dir);
}

// The former one goes aside, then the new one comes: a new one that is no longer in the staging
// folder is in its place already. May be cut off anywhere and begun again.
Status put_in_place(const std::string& data_dir, const std::string& aside,
                    const std::string& name) {
    const std::string fresh = data_dir + "/" + kStaging + "/" + name;
    const std::string place = data_dir + "/" + name;
    if (!io::exists(fresh)) return Done{};
    if (io::exists(place) && !io::exists(aside + "/" + name)) {
        const Status moved = put_aside(data_dir, aside, name);
        if (!moved) return moved;
    }
    const Status come = move(fresh, place);
    if (!come) return come;
    const Status synced = io::sync_folder(data_dir);
    if (!synced) return synced;
    return io::sync_folder(data_dir + "/" + kStaging);
}

// What stands beside the former database and would be taken for the new one's. Moved while the new
// database is not yet in place.
Status clear_beside(const std::string& data_dir, const std::string& aside) {
    if (!io::exists(data_dir + "/" + kStaging + "/" + kDatabaseName)) return Done{};
    for (const char* suffix : {"-wal", "-shm", "-journal"}) {
        const std::string name = std::string(kDatabaseName) + suffix;
        if (!io::exists(data_dir + "/" + name)) continue;
        const Status moved = put_aside(data_dir, aside, name);
        if (!moved) return moved;
    }
    return Done{};
}

Status swap_stores(const std::string& data_dir, const std::string& aside) {
    if (!aside.empty()) {
        const Status made = io::make_folders(aside, kPrivateFolder);
        if (!made) return made;
        const Status cleared = clear_beside(data_dir, aside);
        if (!cleared) return cleared;
    }
    for (const char* name : {kJournalName, kDatabaseName, kBlobsName}) {
        const Status placed = put_in_place(data_dir, aside, name);
        if (!placed) return placed;
    }
    const Status removed = io::remove_file(data_dir + "/" + kMark);
    if (!removed) return removed;
    // The store is in place, whatever comes now: a mark that a power cut brings back finds nothing
    // left to do, and what stays in the staging folder goes with the next restore.
    static_cast<void>(io::sync_folder(data_dir));
    static_cast<void>(io::remove_tree(data_dir + "/" + kStaging));
    return Done{};
}

// ---- Making the new store
// -----------------------------------------------------------------------------

// What the store that is there can still tell.
struct Former {
    bool is_there = false;
    bool is_known = false;         // its generation could be read
    std::uint32_t generation = 0;  // the highest one met
    Salvage journal;
    // Of the newest EpochBegun in the journal that the backup must hold as well; empty: none.
    std::string epoch;
};

class Restorer {
  public:
    Restorer(const RestorePlan& plan, BackupManifest manifest)
        : plan_(plan), manifest_(std::move(manifest)), staging_(plan.data_dir + "/" + kStaging) {}

    Result<RestoreOutcome> run();

  private:
    Status look_at_former();
    Status check_room() const;
    Status stage_database();
    // Why the journal that is there does not continue the backup; empty: it does.
    std::string why_not_forward() const;
    Status roll_forward();
    Status apply_journal(Database& database);
    Status stage_journal(Seq applied);
    Status stage_blobs();
    std::uint32_t next_generation(std::uint32_t restored) const;
    std::string choose_aside() const;
    std::string database_path() const { return staging_ + "/" + kDatabaseName; }
    void remark(std::string text) { outcome_.remarks.push_back(std::move(text)); }

    const RestorePlan& plan_;
    BackupManifest manifest_;
    std::string staging_;
    Former former_;
    RestoreOutcome outcome_;
};

Result<RestoreOutcome> Restorer::run() {
    outcome_.backup_seq = manifest_.seq;
    const Status looked = look_at_former();
    if (!looked) return looked.error();
    const Status room = check_room();
    if (!room) return room.error();
    const Status staged = stage_database();
    if (!staged) return staged.error();
    const Status rolled = roll_forward();
    if (!rolled) return rolled.error();
    const Status blobs = stage_blobs();
    if (!blobs) return blobs.error();
    outcome_.aside = choose_aside();
    const Status marked = write_mark(plan_.data_dir, {plan_.backup, outcome_});
    if (!marked) return marked.error();
    const Status swapped = swap_stores(plan_.data_dir, outcome_.aside);
    if (swapped) return outcome_;
    return make_error(
        swapped.error().code,
        swapped.error().message + "; the new store is whole but not in place: repeat the restore");
}

Status Restorer::look_at_former() {
    const std::string database = plan_.data_dir + "/" + kDatabaseName;
    const std::string journal = plan_.data_dir + "/" + kJournalName;
    const bool has_records = io::exists(database) || io::exists(journal);
    former_.is_there = has_records || io::exists(plan_.data_dir + "/" + kBlobsName);
    if (!has_records) return Done{};
    const Result<DatabaseIdentity> identity = look_at_database(database);
    former_.is_known = identity.ok();
    if (identity.ok()) former_.generation = identity->generation;
    // Epochs that its log holds besides are in the journal, which is released only behind a
    // checkpoint.
    Result<Salvage> salvage = salvage_journal(journal, [this](const Record& record) -> Status {
        const auto* begun = std::get_if<EpochBegun>(&record.body);
        if (begun == nullptr) return Done{};
        former_.generation = std::max(former_.generation, begun->generation);
        if (record.seq <= manifest_.seq) former_.epoch = begun->epoch;
        return Done{};
    });
    if (!salvage) return salvage.error();
    former_.journal = std::move(*salvage);
    return Done{};
}

Status Restorer::check_room() const {
    std::uint64_t needed = 2 * plan_.segment_bytes;
    for (const BackupManifest::File& file : manifest_.files)
        needed += file.bytes;
    const std::uint64_t free = io::free_bytes(plan_.data_dir);
    if (free >= needed) return Done{};
    return make_error(ErrorCode::storage_low,
                      "a restore needs " + std::to_string(needed >> 20) + " MiB free at " +
                          plan_.data_dir + ", where " + std::to_string(free >> 20) +
                          " MiB are: the former store is kept beside the new one");
}

Status Restorer::stage_database() {
    const auto file =
        std::ranges::find(manifest_.files, kDatabaseName, &BackupManifest::File::name);
    if (file == manifest_.files.end()) {
        return make_error(ErrorCode::config, plan_.backup + " holds no " + kDatabaseName);
    }
    const Status cleared = io::remove_tree(staging_);
    if (!cleared) return cleared;
    const Status made = io::make_folders(staging_, kPrivateFolder);
    if (!made) return made;
    const std::string from = plan_.backup + "/" + kDatabaseName;
    const Result<std::string> sum = copy_file(from, database_path());
    if (!sum) return sum.error();
    if (*sum != file->sha256) {
        return make_error(ErrorCode::config,
                          from +
                              " is not what its manifest says: it is damaged; take another "
                              "backup");
    }
    const Result<DatabaseIdentity> identity = check_database(database_path());
    if (!identity) return identity.error();
    const bool fits = identity->epoch == manifest_.epoch &&
                      identity->generation == manifest_.generation &&
                      identity->applied == manifest_.seq;
    if (fits) return Done{};
    return make_error(ErrorCode::config, "the manifest of " + plan_.backup +
                                             " belongs to another database; take another backup");
}

std::string Restorer::why_not_forward() const {
    const Salvage& journal = former_.journal;
    const std::string seq = std::to_string(manifest_.seq);
    if (journal.id.empty()) {
        return journal.damage.empty() ? "there is no journal" : "its journal: " + journal.damage;
    }
    if (journal.id != manifest_.journal) return "the journal there is another one";
    if (!former_.epoch.empty() && former_.epoch != manifest_.epoch) {
        return "the journal there went on from another state (epoch " + former_.epoch + ")";
    }
    if (journal.first > manifest_.seq + 1) {
        return "the journal there begins with record " + std::to_string(journal.first) +
               ", the backup ends with " + seq;
    }
    if (journal.last > manifest_.seq) return "";
    return journal.damage.empty() ? "the journal there holds nothing newer"
                                  : "its journal: " + journal.damage;
}

// Without the journal when that turns out not to fit: then the copy is made again, for it has taken
// a part of it.
Status Restorer::roll_forward() {
    std::string why_not = why_not_forward();
    std::optional<Error> unfit;
    while (true) {
        Result<std::unique_ptr<Database>> database = Database::open({.file = database_path()});
        if (!database) return database.error();
        const Status applied = why_not.empty() ? apply_journal(**database) : Status(Done{});
        if (!applied && applied.error().code != ErrorCode::internal) return applied;
        if (!applied) {
            database->reset();
            why_not = "the journal there does not fit it (" + applied.error().message + ")";
            const Status again = stage_database();
            if (!again) return again;
            continue;
        }
        const Result<Seq> synced = (*database)->sync();
        if (!synced) return synced.error();
        outcome_.seq = *synced;
        outcome_.generation = next_generation((*database)->generation());
        break;
    }
    if (!former_.is_known) {
        remark("the generation of the former store cannot be read: the new one is " +
               std::to_string(outcome_.generation) + ", far above what it can have been");
    }
    if (!why_not.empty() && former_.is_there) {
        remark("not rolled forward: " + why_not + "; what came after record " +
               std::to_string(manifest_.seq) + " is lost");
    }
    const Salvage& journal = former_.journal;
    if (why_not.empty()) {
        remark("rolled forward over the journal from record " + std::to_string(manifest_.seq) +
               " to " + std::to_string(outcome_.seq));
        if (!journal.damage.empty()) remark("the journal ends there: " + journal.damage);
    }
    return stage_journal(outcome_.seq);
}

Status Restorer::apply_journal(Database& database) {
    std::vector<Record> batch;
    const auto flush = [&]() -> Status {
        Status applied = database.apply(batch);
        batch.clear();
        return applied;
    };
    const Result<Salvage> read =
        salvage_journal(plan_.data_dir + "/" + kJournalName, [&](const Record& record) -> Status {
            if (record.seq <= manifest_.seq) return Done{};
            batch.push_back(record);
            return batch.size() < kBatch ? Status(Done{}) : flush();
        });
    if (!read) return read.error();
    return flush();
}

// A journal of its own, with the new epoch as its first record: another than the one that the
// former store went on with, so that neither can be taken for the other's.
Status Restorer::stage_journal(Seq applied) {
    outcome_.epoch = io::random_hex(16);
    Result<std::unique_ptr<Journal>> journal =
        open_journal({.folder = staging_ + "/" + kJournalName,
                      .segment_bytes = plan_.segment_bytes,
                      .first = applied + 1});
    if (!journal) return journal.error();
    const Record begun{.seq = applied + 1,
                       .time = plan_.at,
                       .body = EpochBegun{.epoch = outcome_.epoch,
                                          .generation = outcome_.generation,
                                          .hold = true,
                                          .reason = "restored from " + plan_.backup + " of " +
                                                    format_utc(manifest_.at),
                                          .principal = plan_.principal}};
    const Status committed = (*journal)->commit({&begun, 1});
    if (!committed) return committed;
    return io::sync_folder(staging_);
}

// Those of both: the sessions of the roll-forward have theirs in the former store. What no session
// of the new store has goes when a broker starts on it; the former store keeps it.
Status Restorer::stage_blobs() {
    BlobCopyPlan plan{.from = plan_.data_dir + "/" + kBlobsName,
                      .to = staging_ + "/" + kBlobsName,
                      .earlier = {},
                      .reserve = 0,
                      .verify = false};
    const Result<BlobCopy> former = copy_blobs(plan);
    if (!former) return former.error();
    plan.from = plan_.backup + "/" + kBlobsName;
    plan.verify = true;
    const Result<BlobCopy> backup = copy_blobs(plan);
    if (!backup) return backup.error();
    const std::uint64_t left_out = former->left_out + backup->left_out;
    if (left_out > 0) {
        return make_error(ErrorCode::storage_low,
                          std::to_string(left_out) + " files of sessions have no room at " +
                              plan_.data_dir + "; make room there, then repeat the restore");
    }
    if (backup->damaged > 0) {
        remark(std::to_string(backup->damaged) +
               " files of sessions are damaged in the backup and were left out");
    }
    return io::sync_folder(staging_);
}

// Fences of the new epoch have to be above every one that was ever given out, by this store or by
// one that an earlier restore began from the same backup.
std::uint32_t Restorer::next_generation(std::uint32_t restored) const {
    std::uint32_t highest = std::max({restored, manifest_.generation, former_.generation});
    const std::string folder = io::parent_folder(plan_.backup);
    for (const std::string& name : io::list_folder(folder)) {
        const Result<BackupManifest> other = read_manifest(folder + "/" + name);
        if (other.ok()) highest = std::max(highest, other->generation);
    }
    return highest + (former_.is_known ? 1 : kUnknownGenerations);
}

std::string Restorer::choose_aside() const {
    if (!former_.is_there) return "";
    const std::string base = plan_.data_dir + "/replaced-" + format_id_second(plan_.at);
    std::string aside = base;
    for (int other = 2; io::exists(aside); ++other)
        aside = base + "-" + std::to_string(other);
    return aside;
}

}  // namespace

Result<RestoreOutcome> restore_backup(const RestorePlan& plan) {
    const Result<std::optional<Mark>> mark = read_mark(plan.data_dir);
    if (!mark) return mark.error();
    if (*mark) {
        const Status swapped = swap_stores(plan.data_dir, (*mark)->outcome.aside);
        if (!swapped) return swapped.error();
        if ((*mark)->backup == plan.backup) return (*mark)->outcome;
    }
    Result<BackupManifest> manifest = read_manifest(plan.backup);
    if (!manifest) return manifest.error();
    return Restorer(plan, std::move(*manifest)).run();
}

Status check_no_restore_pending(const std::string& data_dir) {
    const Result<std::optional<Mark>> mark = read_mark(data_dir);
    if (!mark) return mark.error();
    if (!*mark) return Done{};
    return make_error(ErrorCode::conflict,
                      "a restore of " + (*mark)->backup +
                          " was cut off in its middle; complete it with `ictl restore " +
                          (*mark)->backup + "`");
}

}  // namespace iw::broker
