#pragma once

// From a frame to what must be done: reads it, checks that this peer may ask for it, and passes it
// on. Every frame gets exactly one answer, at once or when the database has answered.

#include <string_view>

#include "broker/admin_requests.h"
#include "broker/blob_requests.h"
#include "broker/core/broker_core.h"
#include "broker/database_thread.h"
#include "broker/event_pages.h"
#include "broker/late_reports.h"
#include "broker/peers.h"
#include "broker/session_requests.h"
#include "broker/submissions.h"
#include "broker/turn.h"
#include "broker/welcome.h"
#include "common/messages/messages.h"

namespace iw::broker {

class Requests {
  public:
    struct Parts {
        BrokerCore& core;
        DatabaseThread& database;
        PeerTable& peers;
        Turn& turn;
        Submissions& submissions;
        EventPages& events;
        BlobRequests& blobs;
        AdminRequests& admin;
    };
    Requests(Parts parts, CoreConfig leases);

    // `peer` was heard by this very frame.
    void handle(const Peer& peer, std::string_view frame);

  private:
    // Who may use a verb, and whether the database has to be asked for it.
    struct Needs {
        bool worker = false;
        bool change = false;
        bool database = false;
        bool admin = false;  // of the fleet's: nothing for what runs in a session
    };
    static Needs needs_of(const Request& request);

    void pass(const Peer& peer, const Requester& who, Request request);
    void pass_client(const Requester& who, Request request);
    void pass_worker(const Peer& peer, const Requester& who, Request request);
    void hello(const Requester& who, const HelloRequest& request);
    void hello_worker(const Requester& who, const HelloRequest& request);
    void pass_admin(const Requester& who, const Request& request);
    WelcomeReply own_welcome() const;
    void relay(const Requester& outer, const WorkerName& worker, const RelayRequest& request);
    void pass_relayed(const Requester& who, Request request);
    bool is_crowded(const Requester& who, const Needs& needs);
    void forbid(const Requester& who, std::string why);

    Parts parts_;
    CoreConfig leases_;
    SessionRequests sessions_;
    LateReports reports_;
};

}  // namespace iw::broker
