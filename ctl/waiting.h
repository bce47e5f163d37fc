#pragma once

// Waiting for sessions: one look, then event pages by cursor, so that nothing is missed and nothing
// polled.

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "common/base/result.h"
#include "common/messages/messages.h"
#include "ctl/broker_client.h"

namespace iw::ctl {

// Sessions by full id or unique prefix, in the order of the arguments, doubles left out; and a
// cursor that misses nothing after it. bad_request for an empty id; not_found and ambiguous name
// it.
struct Resolved {
    std::vector<SessionView> sessions;
    Seq seq = 0;
    std::string epoch;
};
Result<Resolved> resolve(BrokerClient& broker, const std::vector<std::string>& ids, bool exact);

struct WatchOptions {
    std::optional<Duration> timeout;
    std::function<bool(const std::vector<SessionView>&)> until;  // looked at after every change
    std::function<void(const SessionView&)>
        on_change;           // a session whose revision moved; may be empty
    bool ends_only = false;  // on_change need not hear of what is not an end: nothing is asked then
};
struct Watched {
    std::vector<SessionView> sessions;  // as in Resolved, newest state
    bool timed_out = false;
};
// Returns at once when `until` already holds.
Result<Watched> watch(BrokerClient& broker, Resolved from, const WatchOptions& options);

// Exit code of one session that ended: 0 completed, 1 failed, 2 killed, 3 lost or expired.
// `by_result` judges a completed one by the agent's own word: anything but "success" is 1.
int end_code(const SessionView& session, bool by_result);
// The worst over those that are final; 0 when none is.
int worst_end_code(const std::vector<SessionView>& sessions, bool by_result);
std::size_t count_final(const std::vector<SessionView>& sessions);

}  // namespace iw::ctl
