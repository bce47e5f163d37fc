#pragma once

#include <string>
#include <string_view>

#include "worker/agents/agents.h"

namespace iw::worker {

// The persona in front of the prompt; the prompt alone when there is none.
std::string with_persona(std::string_view persona, std::string_view prompt);

// What follows the prompt of an agent CLI: where the agent is, where its result goes, how it hands
// on work.
std::string prompt_tail(const RunRequest& request);

}  // namespace iw::worker
