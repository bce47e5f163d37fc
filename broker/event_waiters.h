#pragma once

// Long polls: requests for events that are held until something happened or their time is over.
// Says which of them a record may concern; what an answer holds is the database's to say.

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "broker/core/record.h"
#include "broker/turn.h"
#include "common/base/result.h"
#include "common/base/time.h"
#include "common/messages/messages.h"

namespace iw::broker {

using WaiterId = std::uint64_t;

struct Waiter {
    Requester who;
    EventsRequest request;
    Timestamp deadline;
    bool asking = true;      // a question for it is at the database
    bool concerned = false;  // something happened since that question was asked
    EventsReply last;        // the newest, empty, answer of the database
};

class EventWaiters {
  public:
    struct Bounds {
        std::size_t waiters_max = 0;
        std::size_t per_owner_max = 0;  // a peer, or a session behind a worker
        std::size_t ids_max = 0;        // session ids that all of them together name
    };
    explicit EventWaiters(Bounds bounds) : bounds_(bounds) {}

    // Begins as asking. rate_limited over a bound.
    Result<WaiterId> add(Waiter waiter);
    Waiter* find(WaiterId id);
    void remove(WaiterId id);
    // Its question came back empty: it waits for its deadline, or for something to happen.
    void park(WaiterId id);

    // Parked waiters that the records may concern, now asking again; the ones that are asking
    // anyway remember it.
    std::vector<WaiterId> wake(std::span<const Record> records);
    // Parked waiters whose deadline has come.
    std::vector<WaiterId> due(Timestamp now) const;
    std::vector<WaiterId> of_peer(PeerId peer) const;
    std::vector<WaiterId> all() const;
    std::optional<Timestamp> next_deadline() const;
    std::size_t size() const { return waiters_.size(); }

  private:
    void wake_one(WaiterId id, std::vector<WaiterId>& woken);

    Bounds bounds_;
    WaiterId last_id_ = 0;
    std::map<WaiterId, Waiter> waiters_;
    std::map<std::string, std::size_t> per_owner_;
    std::unordered_map<SessionId, std::set<WaiterId>> by_session_;
    std::set<WaiterId> without_ids_;
    std::set<std::pair<Timestamp, WaiterId>> deadlines_;  // of parked ones
    std::size_t ids_ = 0;
};

}  // namespace iw::broker
