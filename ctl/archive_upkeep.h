#pragma once

// Compressing and pruning the archive of a project when somebody asks for it; the worker does the
// same by itself as its configuration says.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "common/base/time.h"
#include "common/messages/messages.h"
#include "common/workspace/archive.h"

namespace iw::ctl {

struct ArchiveUpkeep {
    std::optional<Duration> compress_after;  // nothing: compresses nothing
    workspace::PruneRule prune;

    bool empty() const { return !compress_after && !prune.age && !prune.bytes_max; }
};

struct UpkeepOutcome {
    SessionId id;
    std::string done;         // "compressed" or "pruned"
    std::uint64_t bytes = 0;  // that it took before
    std::string problem;      // why it was not done; empty: it was
};

// Prunes, then compresses what is left, so that nothing is packed to be thrown away. With `dry_run`
// nothing is changed.
std::vector<UpkeepOutcome> keep_up_archive(const workspace::ProjectPaths& project,
                                           const ArchiveUpkeep& upkeep, WallTime now, bool dry_run);

}  // namespace iw::ctl
