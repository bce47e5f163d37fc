#pragma once

// Which processes belong to an attempt. iexec adopts orphans (child subreaper), so whatever the
// agent starts stays below it in the tree; what another program started on the agent's behalf is
// recognised by its environment.

#include <string>
#include <vector>

#include "common/io/processes.h"

namespace iw::worker {

struct TreeProcess {
    io::ProcessId id;
    pid_t group = 0;
};

struct Mark {
    std::string
        session;  // value of IW_SESSION_ID; empty: processes are not searched by environment
    std::string attempt;     // value of IW_ATTEMPT
    std::string generation;  // value of IW_GENERATION; who has none is taken for ours
    // Value of IW_WORKSPACE: ids are unique in one fleet, and another may have the same now.
    std::string workspace;
};

// All living descendants of `root` (itself not included), and all other processes of this user that
// carry the mark. Zombies do not count. Order: by pid.
std::vector<TreeProcess> find_processes(pid_t root, const Mark& mark);

}  // namespace iw::worker
