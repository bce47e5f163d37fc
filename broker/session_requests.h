#pragma once

// Answers requests about sessions that exist: status, list, result, kill, extend, edit, and
// confirm_dead of one session. A live session is the core's to show; everything else comes from the
// database, which is asked behind all that was committed before.

#include <functional>
#include <string>
#include <variant>

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
    void extend(const Requester& who, const ExtendRequest& request);
    void edit(const Requester& who, const EditRequest& request);
    // `request` names a session.
    void confirm_dead(const Requester& who, const ConfirmDeadRequest& request);

  private:
    // A session that is to be changed, as the request names it.
    struct Target {
        std::string id;
        bool exact = false;
        std::function<CoreEvent(const SessionId&)> event;  // while it is live
        // Once it is final; the event is the core's to answer.
        std::function<std::variant<Answer, CoreEvent>(const SessionView& ended)> over;
    };
    void overlay(SessionView& session) const;
    void change(const Requester& who, Target target);
    void change_found(const Requester& who, Target target, Result<FoundSession> found);

    BrokerCore& core_;
    DatabaseThread& database_;
    Turn& turn_;
};

}  // namespace iw::broker
