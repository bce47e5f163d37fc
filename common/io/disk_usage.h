#pragma once

#include <cstdint>
#include <string>

namespace iw::io {

// Bytes of all regular files below `folder` (of a workspace so with attempts/: the limit is of the
// session, however many attempts it takes), links not followed; what cannot be read, or vanishes
// meanwhile, counts as nothing.
std::uint64_t disk_usage(const std::string& folder);

}  // namespace iw::io
