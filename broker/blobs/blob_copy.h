#pragma once

// Whole blobs from one folder into another, for backups and restores. May run while a BlobStore
// works in `from`: a blob never changes under its name, and what is removed meanwhile is left out.

#include <cstdint>
#include <string>

#include "common/base/result.h"

namespace iw::broker {

struct BlobCopyPlan {
    std::string from;
    std::string to;             // made when it is missing
    std::string earlier;        // an earlier copy to link from where `from` cannot be; empty: none
    std::uint64_t reserve = 0;  // bytes that stay free on the disk of `to`
    bool verify = false;        // looks at the bytes of what is linked as well
};

struct BlobCopy {
    std::uint64_t files = 0;     // that are in `to` now and were not before
    std::uint64_t bytes = 0;     // of these
    std::uint64_t left_out = 0;  // for want of room
    std::uint64_t damaged = 0;   // their bytes are not those of their name; left out
};

// Links files where the file system can, else copies and checks them. What is in `to` already stays
// as it is. Everything is on disk at the end. io: the disk of `to`.
Result<BlobCopy> copy_blobs(const BlobCopyPlan& plan);

}  // namespace iw::broker
