#pragma once

// The files of a backup, as making one and restoring one see them.

#include <cstdint>
#include <string>

#include "broker/backup.h"
#include "common/base/result.h"

namespace iw::broker {

inline constexpr std::uint64_t kBackupFormat = 1;
inline constexpr const char* kManifestName = "manifest.json";
inline constexpr const char* kDatabaseName = "broker.db";
inline constexpr const char* kBlobsName = "blobs";  // a folder, also of the store

Status sync_file(const std::string& path);
// Size and checksum of a file, read from beginning to end.
Result<BackupManifest::File> sum_file(const std::string& folder, const std::string& name);
// Copies a file into a new one and syncs that; `sha256` is of what was copied.
Result<std::string> copy_file(const std::string& from, const std::string& to);

}  // namespace iw::broker
