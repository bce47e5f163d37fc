#pragma once

// The processes of an attempt whose launcher is gone: found in /proc by what they cannot easily
// shed, never by name.

#include <optional>
#include <string>
#include <vector>

#include "common/base/ids.h"
#include "common/io/files.h"
#include "worker/attempt_store/attempt_store.h"

namespace iw::worker {

struct TreeLook {
    std::vector<io::ProcessId> processes;  // that live, by pid
    std::string evidence;                  // what was looked at, for people
    bool whole = true;  // false: some processes could not be looked at, for want of descriptors
};

// Members of the launcher's process session, and whoever carries IW_SESSION_ID, IW_ATTEMPT,
// IW_GENERATION and IW_WORKSPACE (`workspace`) of the attempt in the environment it was started
// with. This process is never among them.
TreeLook find_tree(const AttemptRef& attempt, const std::string& workspace,
                   const std::optional<ProcessRecord>& record);

// The launcher first, then its guard, as far as they live: from the record, or, while that cannot
// be written, by the command line that only they have, under the worker of `state_folder`.
std::vector<io::ProcessId> find_launchers(const AttemptRef& attempt,
                                          const std::string& state_folder,
                                          const std::optional<ProcessRecord>& record);

}  // namespace iw::worker
