#include "broker/backup.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <utility>

#include "broker/backup_files.h"
#include "common/base/version.h"
#include "common/io/files.h"

namespace iw::broker {
namespace {

using Json = nlohmann::json;

constexpr mode_t kPrivateFolder = 0700;
constexpr mode_t kPrivateFile = 0600;
constexpr const char* kMaking = ".making-";
constexpr std::size_t kManifestMax = 1u << 20;
// What a backup takes besides the database.
constexpr std::uint64_t kOverhead = 1u << 20;

std::string text_of(const BackupManifest& manifest) {
    Json files = Json::array();
    for (const BackupManifest::File& file : manifest.files) {
        files.push_back({{"name", file.name}, {"bytes", file.bytes}, {"sha256", file.sha256}});
    }
    const Json json = {{"format", kBackupFormat},           {"software", manifest.software},
                       {"journal", manifest.journal},       {"epoch", manifest.epoch},
                       {"generation", manifest.generation}, {"seq", manifest.seq},
                       {"at", to_ms(manifest.at)},          {"at_utc", format_utc(manifest.at)},
                       {"blobs", manifest.blobs},           {"blob_bytes", manifest.blob_bytes},
                       {"files", std::move(files)}};
    return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

// As many as there may be in one second: the number tells them apart.
std::string name_of(const BackupManifest& manifest) {
    return "backup-" + format_id_second(manifest.at) + "-" + std::to_string(manifest.seq);
}

bool is_unfinished(const std::string& name) {
    return name.starts_with(kMaking);
}

// Several brokers may keep their backups in one folder: what a crash left is told by the journal.
std::string unfinished_prefix(const BackupPlan& plan) {
    return kMaking + plan.journal + "-";
}

// Large files in slices; the tree then holds only what is small.
Status remove_backup(const std::string& folder) {
    static_cast<void>(io::remove_large_file(folder + "/" + kDatabaseName));
    return io::remove_tree(folder);
}

struct Kept {
    std::string folder;
    BackupManifest manifest;
};

// Whole backups in a folder of backups, oldest first. By time, not by number: a restored store has
// numbers that an earlier one had, too.
std::vector<Kept> backups_in(const std::string& folder) {
    std::vector<Kept> kept;
    for (const std::string& name : io::list_folder(folder)) {
        if (is_unfinished(name)) continue;
        Result<BackupManifest> manifest = read_manifest(folder + "/" + name);
        if (!manifest) continue;
        kept.push_back({.folder = folder + "/" + name, .manifest = std::move(*manifest)});
    }
    std::ranges::sort(
        kept, {}, [](const Kept& each) { return std::pair(each.manifest.at, each.manifest.seq); });
    return kept;
}

void clear_unfinished(const BackupPlan& plan) {
    for (const std::string& name : io::list_folder(plan.folder)) {
        if (!name.starts_with(unfinished_prefix(plan))) continue;
        static_cast<void>(remove_backup(plan.folder + "/" + name));
    }
}

std::uint64_t bytes_of(const BackupManifest& manifest) {
    std::uint64_t bytes = manifest.blob_bytes;
    for (const BackupManifest::File& file : manifest.files)
        bytes += file.bytes;
    return bytes;
}

std::string missing_text(const BlobCopy& blobs) {
    if (blobs.left_out + blobs.damaged == 0) return "";
    return "of the files of sessions, " + std::to_string(blobs.left_out) +
           " had no room there and " + std::to_string(blobs.damaged) +
           " are damaged: these are not in it";
}

Status check_room(Database& database, const BackupPlan& plan) {
    const Result<std::uint64_t> bytes = database.bytes();
    if (!bytes) return bytes.error();
    const std::uint64_t free = io::free_bytes(plan.folder);
    const std::uint64_t needed = *bytes + kOverhead + plan.reserve;
    if (free >= needed) return Done{};
    return make_error(ErrorCode::storage_low,
                      "a backup needs " + std::to_string(needed >> 20) + " MiB free at " +
                          plan.folder + ", where " + std::to_string(free >> 20) +
                          " MiB are; make room there or name another folder");
}

Result<BackupManifest> manifest_of(const Json& json, const std::string& path) {
    const auto bad = [&path](const std::string& what) {
        return make_error(ErrorCode::config, path + " is no manifest of a backup: " + what);
    };
    const auto text = [&json](const char* key) {
        return json.contains(key) && json[key].is_string() ? json[key].get<std::string>()
                                                           : std::string();
    };
    const auto number = [&json](const char* key) {
        return json.contains(key) && json[key].is_number_unsigned() ? json[key].get<std::uint64_t>()
                                                                    : std::uint64_t{0};
    };
    if (!json.is_object()) return bad("it is not JSON");
    const std::uint64_t format = number("format");
    if (format > kBackupFormat) {
        return make_error(ErrorCode::config, path + " has format " + std::to_string(format) +
                                                 ", this version reads up to " +
                                                 std::to_string(kBackupFormat) +
                                                 ": install the newer version");
    }
    if (format < 1) return bad("it has no format");
    BackupManifest manifest{.software = text("software"),
                            .journal = text("journal"),
                            .epoch = text("epoch"),
                            .generation = static_cast<std::uint32_t>(number("generation")),
                            .seq = number("seq"),
                            .at = wall_from_ms(static_cast<std::int64_t>(number("at"))),
                            .files = {},
                            .blobs = number("blobs"),
                            .blob_bytes = number("blob_bytes")};
    if (manifest.epoch.empty() || manifest.generation < 1) return bad("it names no epoch");
    if (!json.contains("files") || !json["files"].is_array()) return bad("it lists no files");
    for (const Json& file : json["files"]) {
        const bool whole = file.is_object() && file.contains("name") && file.contains("bytes") &&
                           file.contains("sha256") && file["name"].is_string() &&
                           file["bytes"].is_number_unsigned() && file["sha256"].is_string();
        if (!whole) return bad("an entry of its files is not whole");
        manifest.files.push_back({.name = file["name"].get<std::string>(),
                                  .bytes = file["bytes"].get<std::uint64_t>(),
                                  .sha256 = file["sha256"].get<std::string>()});
    }
    return manifest;
}

}  // namespace

Result<BackupManifest> read_manifest(const std::string& backup_folder) {
    const std::string path = backup_folder + "/" + kManifestName;
    const Result<std::string> bytes = io::read_file(path, kManifestMax);
    if (!bytes) {
        return make_error(ErrorCode::config, backup_folder + " is no backup: it has no " +
                                                 kManifestName + " that can be read");
    }
    return manifest_of(Json::parse(*bytes, nullptr, false), path);
}

std::optional<BackupInfo> newest_backup(const std::string& folder) {
    const std::vector<Kept> kept = backups_in(folder);
    if (kept.empty()) return std::nullopt;
    const Kept& newest = kept.back();
    return BackupInfo{.folder = newest.folder,
                      .seq = newest.manifest.seq,
                      .bytes = bytes_of(newest.manifest),
                      .at = newest.manifest.at,
                      .missing = {}};
}

// ---- Making one
// ---------------------------------------------------------------------------------------

Backup::Backup(BackupPlan plan) : plan_(std::move(plan)) {
    making_ = plan_.folder + "/" + unfinished_prefix(plan_) + io::random_hex(4);
}

Backup::~Backup() {
    if (!done_) static_cast<void>(remove_backup(making_));
}

Result<std::unique_ptr<Backup>> Backup::begin(Database& database, BackupPlan plan) {
    const Status made = io::make_folders(plan.folder, kPrivateFolder);
    if (!made) return made.error();
    clear_unfinished(plan);
    const Status room = check_room(database, plan);
    if (!room) return room.error();
    std::unique_ptr<Backup> backup(new Backup(std::move(plan)));
    const Status own = io::make_folders(backup->making_, kPrivateFolder);
    if (!own) return own.error();
    const Status begun = database.begin_copy(backup->making_ + "/" + kDatabaseName);
    if (!begun) return begun.error();
    return backup;
}

Result<bool> Backup::copy(Database& database) {
    Result<bool> more = database.copy_more();
    if (!more) return more;
    const std::string path = making_ + "/" + kDatabaseName;
    // Sets the disk to work as the copy grows; a whole database written back by one sync at the end
    // would stall the journal's.
    const io::UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (fd.valid()) ::sync_file_range(fd.get(), 0, 0, SYNC_FILE_RANGE_WRITE);
    return more;
}

Result<BackupInfo> Backup::finish() {
    const std::string path = making_ + "/" + kDatabaseName;
    const Status synced = sync_file(path);
    if (!synced) return synced.error();
    const Result<DatabaseIdentity> identity = check_database(path);
    if (!identity) return identity.error();
    Result<BackupManifest::File> file = sum_file(making_, kDatabaseName);
    if (!file) return file.error();
    const Result<BlobCopy> blobs = take_blobs();
    if (!blobs) return blobs.error();
    const BackupManifest manifest{.software = std::string(kVersion),
                                  .journal = plan_.journal,
                                  .epoch = identity->epoch,
                                  .generation = identity->generation,
                                  .seq = identity->applied,
                                  .at = plan_.at,
                                  .files = {std::move(*file)},
                                  .blobs = blobs->files,
                                  .blob_bytes = blobs->bytes};
    const Status written = io::write_file(making_ + "/" + kManifestName, text_of(manifest),
                                          kPrivateFile, io::Sync::file_and_folder);
    if (!written) return written.error();
    Result<BackupInfo> info = publish(manifest);
    if (info) info->missing = missing_text(*blobs);
    return info;
}

// Linked from the newest backup where the store is on another disk: what both hold is kept once.
Result<BlobCopy> Backup::take_blobs() const {
    const std::optional<BackupInfo> newest = newest_backup(plan_.folder);
    return copy_blobs({.from = plan_.blobs,
                       .to = making_ + "/" + kBlobsName,
                       .earlier = newest ? newest->folder + "/" + kBlobsName : std::string(),
                       .reserve = plan_.reserve,
                       .verify = false});
}

// The folder gets its name when all in it is on disk; only then may an older one go.
Result<BackupInfo> Backup::publish(const BackupManifest& manifest) {
    std::string folder = plan_.folder + "/" + name_of(manifest);
    for (int other = 2; io::exists(folder); ++other)
        folder = plan_.folder + "/" + name_of(manifest) + "-" + std::to_string(other);
    if (std::rename(making_.c_str(), folder.c_str()) != 0)
        return io::system_error("cannot rename", making_);
    const Status synced = io::sync_folder(plan_.folder);
    if (!synced) return synced.error();
    done_ = true;
    std::vector<Kept> kept = backups_in(plan_.folder);
    const std::size_t surplus =
        plan_.keep == 0 || kept.size() <= plan_.keep ? 0 : kept.size() - plan_.keep;
    for (std::size_t i = 0; i < surplus; ++i) {
        // A clock that was set back makes an older time of the newest backup; it stays all the
        // same.
        if (kept[i].folder != folder) static_cast<void>(remove_backup(kept[i].folder));
    }
    return BackupInfo{.folder = folder,
                      .seq = manifest.seq,
                      .bytes = bytes_of(manifest),
                      .at = manifest.at,
                      .missing = {}};
}

}  // namespace iw::broker
