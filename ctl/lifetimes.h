#pragma once

// Which sessions an edited MAX_SESSION_LIFETIME_SECONDS reaches: those that session-manager.sh made
// and that nobody has given another time since. Pure.

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/time.h"
#include "common/messages/messages.h"

namespace iw::ctl {

// What session-manager.sh leaves in a session's metadata.
struct LimitsNote {
    Duration lifetime{0};         // that config.sh stated when the session was made
    std::optional<Duration> max;  // the prompt's own **Max Duration**, which counts when it is less
};

// {"limits": {"from": "scripts/ops/config.sh", "lifetime_seconds": N, "max_duration_seconds": N}}
std::string limits_metadata(const LimitsNote& note);
// Nothing where the metadata has no such note.
std::optional<LimitsNote> read_limits_metadata(std::string_view metadata);

// The timeout that such a session has under a lifetime.
Duration timeout_under(const LimitsNote& note, Duration lifetime);

// The timeout that `session` should get now that config.sh states `lifetime`. Nothing: it has it,
// it has ended, it does not follow config.sh, or its timeout is neither the one it was made with
// nor one of `applied`, so that somebody has extended it by hand.
std::optional<Duration> timeout_to_set(const SessionView& session, Duration lifetime,
                                       const std::vector<Duration>& applied);

}  // namespace iw::ctl
