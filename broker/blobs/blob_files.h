#pragma once

// How blobs lie on the disk: <root>/<session>/<generation>-<attempt>/<sha256>, and the same name
// with `.part` while bytes are missing. Nothing here trusts a name that it did not check.

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "common/base/ids.h"
#include "common/base/result.h"
#include "common/io/unique_fd.h"

namespace iw::broker {

inline constexpr std::string_view kPartSuffix = ".part";

// SHA-256 as 64 lower-case hex characters.
bool is_blob_name(std::string_view text);
// Whether the folder of an attempt can have this name: two numbers of at most ten digits.
bool is_attempt_folder(std::string_view text);
// The folder of an attempt below its session's.
std::string attempt_folder(Fence fence);

// What a file takes of the quota: its size in blocks of 4 KiB, at least one.
std::uint64_t charge_of(std::uint64_t size);

struct BlobFile {
    std::string session;
    std::string attempt;  // its folder's name
    std::string name;     // of the blob, without suffix
    std::uint64_t size = 0;
    bool is_part = false;

    std::string path() const;  // below the root
};
// Every file below the root that has the place and the name of a blob, in order of names; others
// are passed over. Ends at the first error of `each`.
Status each_blob(const std::string& root, const std::function<Status(const BlobFile&)>& each);

// Opens a regular file; never follows a link. Invalid with errno set when it cannot be.
io::UniqueFd open_blob(const std::string& path, int flags);
// Up to `max` bytes from `offset`; fewer only at the end of the file.
Result<std::string> read_at(int fd, std::uint64_t offset, std::size_t max, const std::string& path);

}  // namespace iw::broker
