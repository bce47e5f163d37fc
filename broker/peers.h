#pragma once

// Who is connected. A peer is one connection of the transport: what it said in `hello` is forgotten
// with it. A connection that ends tells nobody, so peers that have been silent for long are dropped
// when new ones come; one that speaks again after that is answered NO_SESSION and says hello again.

#include <cstddef>
#include <cstdint>
#include <list>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "broker/core/event.h"
#include "common/base/ids.h"
#include "common/base/time.h"

namespace iw::broker {

enum class PeerRole { unknown, client, worker };

struct Peer {
    PeerId id;
    std::string routing_id;             // the transport's name of the connection
    Principal principal;                // "uid:1000"
    PeerRole role = PeerRole::unknown;  // unknown: no hello yet
    WorkerName worker;                  // of role worker
    Timestamp heard_at;
};

class PeerTable {
  public:
    struct Bounds {
        std::size_t peers_max = 0;
        Duration idle_max{0};
    };
    explicit PeerTable(Bounds bounds) : bounds_(bounds) {}

    // The peer of a message, new or known, now heard. Valid until the next call that is not const.
    Peer& heard(const std::string& routing_id, const Principal& principal, Timestamp now);
    Peer* find(PeerId id);
    // Makes the peer the worker's one connection: an older one must say hello again.
    void set_worker(PeerId id, const WorkerName& worker);
    void forget(PeerId id);
    // Everybody must say hello again; the connections that were workers'.
    std::vector<PeerId> forget_greetings();
    // Peers dropped since the last call.
    std::vector<PeerId> take_forgotten();
    std::size_t size() const { return by_id_.size(); }

  private:
    void drop_idle(Timestamp now);

    Bounds bounds_;
    std::uint64_t last_id_ = 0;
    std::list<Peer> peers_;  // heard longest ago first
    std::unordered_map<std::string, std::list<Peer>::iterator> by_routing_id_;
    std::unordered_map<std::uint64_t, std::list<Peer>::iterator> by_id_;
    std::unordered_map<WorkerName, PeerId> workers_;
    std::vector<PeerId> forgotten_;
};

}  // namespace iw::broker
