#pragma once

// Answers put and get: whether they may be is decided on the loop, the files are the blobs'
// thread's. What waits for that thread, for the transport, or for a peer that does not read is
// bounded; beyond it the answer is RATE_LIMITED.

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>

#include "broker/blob_thread.h"
#include "broker/core/broker_core.h"
#include "broker/database_thread.h"
#include "broker/turn.h"
#include "common/messages/messages.h"

namespace iw::broker {

class BlobRequests {
  public:
    struct Parts {
        BrokerCore& core;
        DatabaseThread& database;
        BlobThread& blobs;
        Turn& turn;
    };
    explicit BlobRequests(Parts parts);

    void put(const Requester& who, const WorkerName& worker, PutRequest request);
    void get(const Requester& who, const GetRequest& request);
    // What is held and what may be.
    void describe(FleetReply& fleet) const;

  private:
    // Lives as long as the answer to one `get` is anywhere in this process.
    class Ticket;
    using Count = std::shared_ptr<std::atomic<std::size_t>>;

    void refuse_put(const Requester& who, const AttemptRef& attempt);
    std::shared_ptr<const void> take_ticket(PeerId peer);
    Answer failed(const Error& error, const std::string& what) const;

    Parts parts_;
    std::size_t put_bytes_ = 0;  // that wait for the blobs' thread
    Count gets_;                 // answers under way to everybody
    std::map<std::uint64_t, Count> gets_of_;
};

}  // namespace iw::broker
