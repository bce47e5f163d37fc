#pragma once

// The archive of a project, `docs/.scratch/archive/sessions/`: sessions that are over, each as the
// folder `<id>` that somebody moved there or, compressed, as `<id>.tar.gz`. What has another name
// is somebody else's and is never touched. Used by the worker's housekeeping and by ictl. Blocking:
// compressing reads a whole session.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/result.h"
#include "common/messages/messages.h"
#include "common/workspace/workspace.h"

namespace iw::workspace {

struct ArchivedSession {
    SessionId id;
    bool compressed = false;
    // Modification time of folder or file, which `find -mtime` goes by, too.
    WallTime changed_at;
    std::uint64_t bytes = 0;  // on disk
};

// Oldest first, then by id. A session that stands there in both forms is listed twice.
std::vector<ArchivedSession> list_archive(const ProjectPaths& project);

// The folders that have not changed for longer than `age`, in the order of `archive`.
std::vector<ArchivedSession> due_for_compression(const std::vector<ArchivedSession>& archive,
                                                 Duration age, WallTime now);

struct PruneRule {
    std::optional<Duration> age;             // older ones go
    std::optional<std::uint64_t> bytes_max;  // the oldest go until the rest holds no more than this
};
// What goes, in the order of `archive` (as list_archive gives it). An empty rule: nothing.
std::vector<ArchivedSession> due_for_pruning(const std::vector<ArchivedSession>& archive,
                                             const PruneRule& rule, WallTime now);

// The folder `<id>` becomes `<id>.tar.gz` with members `docs/.scratch/archive/sessions/<id>/...`:
// made beside it, compared with the folder, renamed, and only then is the folder removed, so that a
// crash at any point loses nothing and a repeat goes on. Sockets are left out. Bytes of the
// compressed file. not_found: no such folder. conflict: the folder changed meanwhile, a
// `<id>.tar.gz` stands there that does not hold all of the folder, or another process works on this
// archive; both forms stay then.
Result<std::uint64_t> compress_archived(const ProjectPaths& project, const SessionId& id);

// Removes both forms; missing is fine. conflict: another process works on this archive.
Status remove_archived(const ProjectPaths& project, const SessionId& id);

// What a compression left that was ended in the middle. conflict as above.
Status clean_archive(const ProjectPaths& project);

bool is_compressed(const ProjectPaths& project, const SessionId& id);
// `file` (relative to the session's folder, e.g. "state.json") of `<id>.tar.gz`, whose members may
// also be named `<id>/...`. not_found: no such archive or member; too_large: over `bytes_max`; io.
Result<std::string> read_compressed(const ProjectPaths& project, const SessionId& id,
                                    std::string_view file, std::size_t bytes_max);

}  // namespace iw::workspace
