#pragma once

// What pause and resume mean by their options.

#include <string>

#include "common/base/result.h"
#include "common/messages/messages.h"

namespace iw::ctl {

class Context;

// The project that --project names, the agent, or else the fleet. bad_request for both, or for a
// name that is none.
Result<HoldRequest> pause_target(Context& context, const std::string& agent);

}  // namespace iw::ctl
