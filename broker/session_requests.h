#pragma once

// Answers requests about sessions that exist: status, list, result and kill. A live session is the
// core's to show; everything else comes from the database, which is asked behind all that was
// committed before.

#include "broker/core/broker_core.h"
#include "broker/database_thread.h"
#include "broker/session_lookup.h"
#include "broker/turn.h"
#include "common/messages/messages.h"

namespace iw::broker {

class SessionRequests {
  public:
    // All outlive it.
    SessionRequests(BrokerCore& core, DatabaseThread& database, Turn& turn)
        : core_(core), database_(database), turn_(turn) {}

    void status(const Requester& who, const StatusRequest& request);
    void list(const Requester& who, ListRequest request);
    void result(const Requester& who, const ResultRequest& request);
    void kill(const Requester& who, const KillRequest& request);

  private:
    void overlay(SessionView& session) const;
    void wish(const Requester& who, const SessionId& id, const std::string& reason);
    void kill_found(const Requester& who, const KillRequest& request, Result<FoundSession> found);

    BrokerCore& core_;
    DatabaseThread& database_;
    Turn& turn_;
};

}  // namespace iw::broker
