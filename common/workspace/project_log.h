#pragma once

// logs/orchestrator.log as a file: appended to by every command and the worker, rotated without
// ever taking another name, so that `tail -f` goes on.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/result.h"
#include "common/workspace/workspace.h"

namespace iw::workspace {

// One write, which no rotation cuts off.
Status append_project_log(const ProjectPaths& project, std::string_view lines);

// When the log is larger than `bytes_max`, its content goes to `orchestrator.log.<time>` beside it
// and the log is emptied. Our own writers wait meanwhile and lose no line; a line that somebody
// else writes in the moment between may go. Ended in the middle, a line may stand in both files.
// The new file's path; empty: it was not due, or there is no log. conflict: another process
// rotates.
Result<std::string> rotate_project_log(const ProjectPaths& project, std::uint64_t bytes_max,
                                       WallTime now);

// Removes what rotations left that has not changed for longer than `age`. The removed paths.
std::vector<std::string> remove_old_logs(const ProjectPaths& project, Duration age, WallTime now);

}  // namespace iw::workspace
