#pragma once

// Answers what concerns the fleet as a whole: its state and its workers, pauses and drains,
// confirm-dead of hosts and workers, backups, and the two ways out of a restore and of a store that
// has lost something.

#include <string>
#include <vector>

#include "broker/backups.h"
#include "broker/blob_requests.h"
#include "broker/core/broker_core.h"
#include "broker/database_thread.h"
#include "broker/peers.h"
#include "broker/read_only.h"
#include "broker/submissions.h"
#include "broker/turn.h"
#include "common/messages/messages.h"

namespace iw::broker {

class AdminRequests {
  public:
    struct Parts {
        BrokerCore& core;
        DatabaseThread& database;
        PeerTable& peers;
        Turn& turn;
        ReadOnly& read_only;
        Submissions& submissions;
        BlobRequests& blobs;
        Backups& backups;
    };
    // All outlive it. Holds the turn still at once where the store is read-only already.
    explicit AdminRequests(Parts parts);

    void fleet(const Requester& who);
    void workers(const Requester& who);
    void hold(const Requester& who, const HoldRequest& request);
    // Of a worker or a host.
    void confirm_dead(const Requester& who, const ConfirmDeadRequest& request);
    void backup(const Requester& who, const BackupRequest& request);
    void release(const Requester& who, const ReleaseRequest& request);

    // A worker says how far it has seen this broker: one that has seen more than there is makes the
    // store read-only.
    void compare_heads(const WorkerName& worker, const SeenHead& seen);
    // The turn's records are on disk: a new epoch among them ends a read-only state, and everybody
    // has to say hello in it. The connections that were workers'.
    std::vector<PeerId> committed();

  private:
    void accept_loss(const Requester& who, const ReleaseRequest& request);

    Parts parts_;
};

}  // namespace iw::broker
