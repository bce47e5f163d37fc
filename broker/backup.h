#pragma once

// Making a backup while the broker serves: a folder with a copy of the database and a manifest.
// What the journal holds beyond the copy needs no backup of its own: the database has applied all
// that was handed over before the copy began, so everything acknowledged by then is in it. Formats
// and promise: broker/STORE.md.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "broker/blobs/blob_copy.h"
#include "broker/database/database.h"
#include "common/base/ids.h"
#include "common/base/result.h"
#include "common/base/time.h"

namespace iw::broker {

// What stands in `manifest.json`.
struct BackupManifest {
    struct File {
        std::string name;
        std::uint64_t bytes = 0;
        std::string sha256;  // hex
    };
    std::string software;
    std::string journal;  // Journal::id of the journal that goes on behind it
    std::string epoch;
    std::uint32_t generation = 0;
    Seq seq = 0;  // everything up to this record is in it
    WallTime at;
    std::vector<File> files;
    // Of the folder `blobs`, whose files have their checksums for names.
    std::uint64_t blobs = 0;
    std::uint64_t blob_bytes = 0;
};

struct BackupPlan {
    std::string folder;         // absolute; each backup gets a folder of its own in it
    std::size_t keep = 0;       // so many stay in `folder`, the oldest go first; 0: all
    std::uint64_t reserve = 0;  // bytes that must stay free on the disk of `folder`
    std::string journal;        // Journal::id
    std::string blobs;          // folder of the store's blobs
    WallTime at;                // now
};

struct BackupInfo {
    std::string folder;  // of this backup
    Seq seq = 0;
    std::uint64_t bytes = 0;
    WallTime at;
    std::string missing;  // in words: what of the blobs is not in it; empty: nothing
};

// One backup in the making: begin, copy until there is no more, finish. Destroyed before its finish
// it leaves nothing behind.
class Backup {
  public:
    // On the database's thread, one at a time. storage_low: no room for it; io: the folder cannot
    // be written.
    static Result<std::unique_ptr<Backup>> begin(Database& database, BackupPlan plan);
    ~Backup();
    Backup(const Backup&) = delete;
    Backup& operator=(const Backup&) = delete;

    // On the database's thread: copies a bounded piece (a few milliseconds); true: there is more.
    // What is applied between two pieces is in the copy, too.
    Result<bool> copy(Database& database);
    // Once copy() has said false, on any thread, for it may take long and changes nothing but the
    // copy: syncs and checks it, takes the blobs along, writes the manifest, gives the folder its
    // name, and only then removes the oldest beyond `keep`. Blobs for which there is no room are
    // missing in it, rather than the database with them.
    Result<BackupInfo> finish();

  private:
    explicit Backup(BackupPlan plan);
    Result<BlobCopy> take_blobs() const;
    Result<BackupInfo> publish(const BackupManifest& manifest);

    BackupPlan plan_;
    std::string making_;  // the folder under its temporary name
    bool done_ = false;
};

// The newest whole backup in a folder of backups, by its manifest; what it holds is not checked.
std::optional<BackupInfo> newest_backup(const std::string& folder);

// The manifest of a backup, with its form checked, and nothing else. config: it is none.
Result<BackupManifest> read_manifest(const std::string& backup_folder);

}  // namespace iw::broker
