#pragma once

// Whether a process is over, for decisions that cannot be taken back.

#include "common/io/processes.h"

namespace iw::io {

// It surely does not run any more. Not the opposite of is_running(): a process that cannot be
// looked at, for want of a descriptor say, has not ended.
bool has_ended(const ProcessId& process);

}  // namespace iw::io
