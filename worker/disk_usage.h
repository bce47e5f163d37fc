#pragma once

#include <cstdint>
#include <string>

namespace iw::worker {

// Bytes of all regular files below `folder`, links not followed; what cannot be read, or vanishes
// meanwhile, counts as nothing.
std::uint64_t disk_usage(const std::string& folder);

}  // namespace iw::worker
