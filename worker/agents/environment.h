#pragma once

// What an agent's process finds in its environment, without the IW_* that the worker adds.

#include <map>
#include <string>
#include <string_view>

#include "common/base/result.h"
#include "worker/agents/agents.h"

namespace iw::worker {

using Environment = std::map<std::string, std::string>;

// This process's environment as a map.
Environment own_environment();

// Strongest last: the machine's (PATH with `bin_folder` in front, HOME, USER, LOGNAME, SHELL, LANG,
// LC_*, TZ, TERM, TMPDIR), what pass_env lets through of `own`, env_file (relative to `root`), env.
// config: env_file missing, open to others than its owner, or with a line that is not NAME=value
// (named by its number only).
Result<Environment> agent_environment(const Profile& profile, const std::string& root,
                                      const std::string& bin_folder, const Environment& own);

// NAME=value lines; blank lines and lines that begin with # do not count; one pair of quotes round
// a value is taken off, and nothing else is interpreted.
Result<Environment> parse_env_file(std::string_view text, const std::string& path);

}  // namespace iw::worker
