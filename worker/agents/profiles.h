#pragma once

// Profiles as TOML text.

#include <map>
#include <string>
#include <string_view>

#include "common/base/result.h"
#include "worker/agents/agents.h"

namespace iw::worker {

// Lays the `[agents.<name>]` tables of one file over the profiles, and its `default_profile` over
// the one so far. config: broken TOML, unknown key (nearest named), wrong type or word, a name that
// is no agent name, a variable that only the worker sets; the message names file, profile and key.
Status merge_profiles(std::string_view toml, const std::string& file,
                      std::map<std::string, Profile>& profiles, std::string& default_profile);

// IW_*, TMUX*, NOTIFY_SOCKET, WATCHDOG_*: the worker's own, and never an agent's by way of a
// profile.
bool is_reserved_variable(std::string_view name);
// Letters, digits and '_', not beginning with a digit.
bool is_variable_name(std::string_view name);

}  // namespace iw::worker
