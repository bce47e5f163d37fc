#include "broker/peers.h"

#include <utility>

namespace iw::broker {

Peer& PeerTable::heard(const std::string& routing_id, const Principal& principal, Timestamp now) {
    const auto known = by_routing_id_.find(routing_id);
    if (known != by_routing_id_.end()) {
        peers_.splice(peers_.end(), peers_, known->second);
        known->second->heard_at = now;
        return *known->second;
    }
    drop_idle(now);
    const PeerId id{++last_id_};
    peers_.push_back(
        Peer{.id = id, .routing_id = routing_id, .principal = principal, .heard_at = now});
    const auto place = std::prev(peers_.end());
    by_routing_id_.emplace(routing_id, place);
    by_id_.emplace(id.value, place);
    return *place;
}

Peer* PeerTable::find(PeerId id) {
    const auto found = by_id_.find(id.value);
    return found == by_id_.end() ? nullptr : &*found->second;
}

void PeerTable::set_worker(PeerId id, const WorkerName& worker) {
    const auto before = workers_.find(worker);
    Peer* older = before == workers_.end() || before->second == id ? nullptr : find(before->second);
    if (older != nullptr) older->role = PeerRole::unknown;
    Peer* peer = find(id);
    if (peer == nullptr) return;
    peer->role = PeerRole::worker;
    peer->worker = worker;
    workers_.insert_or_assign(worker, id);
}

void PeerTable::forget(PeerId id) {
    const auto found = by_id_.find(id.value);
    if (found == by_id_.end()) return;
    const auto place = found->second;
    const auto worker = workers_.find(place->worker);
    if (worker != workers_.end() && worker->second == id) workers_.erase(worker);
    by_routing_id_.erase(place->routing_id);
    by_id_.erase(found);
    peers_.erase(place);
    forgotten_.push_back(id);
}

std::vector<PeerId> PeerTable::forget_greetings() {
    std::vector<PeerId> workers;
    for (Peer& peer : peers_) {
        if (peer.role == PeerRole::worker) workers.push_back(peer.id);
        peer.role = PeerRole::unknown;
        peer.worker = WorkerName();
    }
    workers_.clear();
    return workers;
}

std::vector<PeerId> PeerTable::take_forgotten() {
    return std::exchange(forgotten_, {});
}

// Workers need no exception: one that lives is heard at every heartbeat.
void PeerTable::drop_idle(Timestamp now) {
    while (!peers_.empty()) {
        const Peer& oldest = peers_.front();
        const bool full = by_id_.size() >= bounds_.peers_max;
        if (!full && now - oldest.heard_at < bounds_.idle_max) return;
        forget(oldest.id);
    }
}

}  // namespace iw::broker
