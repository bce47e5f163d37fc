#pragma once

// Answers `events`: from the database, and with `wait` held until a commit concerns the request.

#include <optional>
#include <span>

#include "broker/core/record.h"
#include "broker/database_thread.h"
#include "broker/event_waiters.h"
#include "broker/turn.h"
#include "common/base/time.h"

namespace iw::broker {

class EventPages {
  public:
    // Both outlive it.
    EventPages(DatabaseThread& database, Turn& turn);

    void request(const Requester& who, EventsRequest request);
    // A turn's records are on disk: asks again for those they may concern.
    void committed(std::span<const Record> records);
    // Answers with an empty page what has waited long enough.
    void expire(Timestamp now);
    std::optional<Timestamp> next_deadline() const { return waiters_.next_deadline(); }
    void forget(PeerId peer);
    // The broker ends: everybody who waits is told.
    void shut_down();
    std::size_t waiting() const { return waiters_.size(); }

  private:
    void ask(WaiterId id);
    void answered(WaiterId id, Result<EventsReply> answer);

    DatabaseThread& database_;
    Turn& turn_;
    EventWaiters waiters_;
};

}  // namespace iw::broker
