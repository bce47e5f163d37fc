#pragma once

// Files and folders with the syncs that durability needs. All descriptors are CLOEXEC. Errors carry
// code io, the path and the system's words. Locks, processes, the machine and its entropy have
// headers of their own, which this one includes.

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/result.h"
#include "common/io/entropy.h"
#include "common/io/file_lock.h"
#include "common/io/machine.h"
#include "common/io/processes.h"
#include "common/io/unique_fd.h"

namespace iw::io {

// "<what> <path>: <words of errno>" with code io.
Error system_error(std::string_view what, std::string_view path);

// At most `max` bytes; a larger file is an error (too_large). not_found when it does not exist.
// Refuses what is not a regular file.
Result<std::string> read_file(const std::string& path, std::size_t max);
bool exists(const std::string& path);

enum class Sync { none, file, file_and_folder };
// Writes a temporary beside `path` (".<name>.<random>"), then renames it over `path`. The file has
// exactly `mode`, whatever the umask. Nothing is left behind on failure.
Status write_file(const std::string& path, std::string_view bytes, mode_t mode, Sync sync);
// The same, but fails with conflict when `path` exists (link(2)): whoever comes first wins.
Status write_file_new(const std::string& path, std::string_view bytes, mode_t mode, Sync sync);
// O_EXCL, written and synced with its folder; conflict when it exists. For claims: the name is
// taken even when writing its content fails.
Status create_file_exclusive(const std::string& path, std::string_view bytes, mode_t mode);
// Appends one write; makes the file when it is missing. An error, never a wait, when it is a link
// or anything else that is no regular file.
Status append_file(const std::string& path, std::string_view bytes, mode_t mode);
Status sync_folder(const std::string& path);
// mkdir -p; existing folders are left as they are.
Status make_folders(const std::string& path, mode_t mode);
// The same, and their names survive a power cut, also those that a process made which died before
// it had synced them. For folders of records; a workspace can do without.
Status make_durable_folders(const std::string& path, mode_t mode);
Status remove_file(const std::string& path);  // missing is fine
// The same; a large file that has no other name is first cut in slices, each on disk before the
// next: freed at once, it would stall the syncs of others on that file system.
Status remove_large_file(const std::string& path);
// Does not follow links, does not leave the tree; missing is fine. Refuses "" and "/".
Status remove_tree(const std::string& path);
// Names, sorted, without . and ..; empty on error.
std::vector<std::string> list_folder(const std::string& path);

std::string real_path(const std::string& path);      // empty when it does not exist
std::string parent_folder(const std::string& path);  // "/" of "/a" and of "/"; "." of "a"
std::string base_name(const std::string& path);      // "b" of "/a/b" and of "/a/b/"
std::string absolute_path(
    const std::string& path);  // against the current directory, links unresolved
std::string current_folder();
// Bytes that this user may still write on the file system of `path`; 0 when that cannot be told.
std::uint64_t free_bytes(const std::string& path);

}  // namespace iw::io
