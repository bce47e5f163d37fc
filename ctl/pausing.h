#pragma once

// What pause and resume mean by their options.

#include <string>

#include "common/base/result.h"
#include "common/messages/messages.h"

namespace iw::ctl {

class Context;

// The agent, the project that --project names, or else the fleet. Beside an agent --project only
// says whose embedded fleet is meant. bad_request for a name that is none.
Result<HoldRequest> pause_target(Context& context, const std::string& agent);

}  // namespace iw::ctl
