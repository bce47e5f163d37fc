#include "ctl/archive_upkeep.h"

#include <algorithm>

namespace iw::ctl {

std::vector<UpkeepOutcome> keep_up_archive(const workspace::ProjectPaths& project,
                                           const ArchiveUpkeep& upkeep, WallTime now,
                                           bool dry_run) {
    std::vector<UpkeepOutcome> outcomes;
    if (!dry_run) static_cast<void>(workspace::clean_archive(project));
    std::vector<workspace::ArchivedSession> archive = workspace::list_archive(project);
    for (const workspace::ArchivedSession& session :
         workspace::due_for_pruning(archive, upkeep.prune, now)) {
        const Status removed =
            dry_run ? Status(Done{}) : workspace::remove_archived(project, session.id);
        outcomes.push_back({.id = session.id,
                            .done = "pruned",
                            .bytes = session.bytes,
                            .problem = removed ? "" : removed.error().message});
        std::erase_if(archive, [&](const auto& other) { return other.id == session.id; });
    }
    if (!upkeep.compress_after) return outcomes;
    for (const workspace::ArchivedSession& session :
         workspace::due_for_compression(archive, *upkeep.compress_after, now)) {
        std::string problem;
        if (!dry_run) {
            const Result<std::uint64_t> packed = workspace::compress_archived(project, session.id);
            if (!packed) problem = packed.error().message;
        }
        outcomes.push_back({.id = session.id,
                            .done = "compressed",
                            .bytes = session.bytes,
                            .problem = std::move(problem)});
    }
    return outcomes;
}

}  // namespace iw::ctl
