#pragma once

// What workers say about sessions that are over. The core has forgotten those, so the database is
// asked: a worker that comes back late learns the outcome, and stops what should not run any more.

#include <vector>

#include "broker/core/broker_core.h"
#include "broker/database_thread.h"
#include "broker/turn.h"
#include "common/messages/messages.h"

namespace iw::broker {

class LateReports {
  public:
    // All outlive it.
    LateReports(BrokerCore& core, DatabaseThread& database, Turn& turn)
        : core_(core), database_(database), turn_(turn) {}

    // Steps the core; an answer with acknowledgements that the core cannot give is held back until
    // the database has filled them in.
    void report(const Requester& who, const WorkerName& worker, ReportRequest request);
    // A worker has said hello with this list: it is told to stop attempts of sessions that are
    // final. What nobody knows goes on, for it may be older than a restore.
    void greeted(PeerId peer, const std::vector<AttemptState>& inventory);

  private:
    void look_up(const Requester& who, ReportReply reply, std::vector<bool> starts);

    BrokerCore& core_;
    DatabaseThread& database_;
    Turn& turn_;
};

}  // namespace iw::broker
