#pragma once

// Removes blobs that nobody needs any more: of sessions that the database has dropped, and the
// unfinished ones of attempts that are over. Looks at the start and whenever the database has
// dropped what is past its retention.

#include <cstddef>
#include <map>
#include <memory>
#include <vector>

#include "broker/blob_thread.h"
#include "broker/core/broker_core.h"
#include "broker/database_thread.h"
#include "broker/turn.h"

namespace iw::broker {

class BlobExpiry {
  public:
    struct Parts {
        BrokerCore& core;
        DatabaseThread& database;
        BlobThread& blobs;
        Turn& turn;
    };
    explicit BlobExpiry(Parts parts) : parts_(parts) {}

    // Looks at everything that is held; while a look is under way another one follows it.
    void look();
    // The turn's records are on disk.
    void committed();

  private:
    using Ids = std::vector<SessionId>;
    struct Held {
        Ids sessions;
        Ids unfinished;
    };
    // Where a look stands.
    struct Look {
        Held held;
        std::size_t next = 0;     // of held.sessions
        Ids expired;              // to be removed now, the last one first
        std::size_t removed = 0;  // sessions
    };

    void go_on(const std::shared_ptr<Look>& look);
    void judge(const std::shared_ptr<Look>& look, const Ids& page,
               const std::map<SessionId, SessionStatus>& known);
    void remove(const std::shared_ptr<Look>& look);
    void drop_partials(const SessionId& session);
    void end(const Look& look);

    Parts parts_;
    bool looking_ = false;
    bool again_ = false;
};

}  // namespace iw::broker
