#pragma once

// Stopping sessions and waiting until they are stopped. Used by kill and the session manager.

#include <string>
#include <vector>

#include "common/base/result.h"
#include "common/base/time.h"
#include "common/messages/messages.h"

namespace iw::ctl {

class Context;

struct KillOptions {
    std::string reason;
    bool exact = false;  // full ids only
    bool keep_children = false;
    bool wait = true;  // until all are final everywhere
    Duration wait_max{60'000};
};
struct KillOutcome {
    SessionView session;            // newest known
    bool already_final = false;     // it had ended before
    bool confirmed = false;         // it is final now
    std::uint32_t descendants = 0;  // killed with it
};
// One wish per id, then one wait for all. An error names the first id that was refused; wishes sent
// before it stay.
Result<std::vector<KillOutcome>> kill_sessions(Context& context,
                                               const std::vector<std::string>& ids,
                                               const KillOptions& options);

}  // namespace iw::ctl
