#include "tests/sim/network.h"

#include <memory>
#include <vector>

#include "common/base/check.h"
#include "common/base/overloaded.h"

namespace iw::sim {

namespace {

// The transport's own heartbeats give a silent connection up about now.
constexpr Duration kSilenceMin = 15_s;
constexpr Duration kSilenceMax = 20_s;

}  // namespace

std::string text(const Payload& payload) {
    std::string words =
        std::visit(overloaded{[](const Request& body) { return "? " + std::string(verb(body)); },
                              [](const Reply& body) { return "= " + std::string(verb(body)); },
                              [](const ErrorReply& body) { return "! " + body.error.message; },
                              [](const Push& body) { return "> " + std::string(verb(body)); }},
                   payload.body);
    if (payload.inside) words += " inside " + attempt_name(*payload.inside);
    return words;
}

// ---- The broker's end --------------------------------------------------------------------------

void Network::broker_up(std::function<void()> on_arrival) {
    IW_CHECK(!is_up_);
    is_up_ = true;
    is_frozen_ = false;
    ++incarnation_;
    on_arrival_ = std::move(on_arrival);
}

void Network::broker_down() {
    is_up_ = false;
    inbox_.clear();
    zombies_.clear();
    while (!links_.empty()) {
        links_.begin()->second.up.clear();
        drop_link(links_.begin()->first, true);
    }
}

void Network::freeze_broker(bool is_frozen) {
    is_frozen_ = is_frozen;
    if (!is_frozen) return;
    for (const auto& [id, link] : links_) {
        if (world_.one_in(2)) continue;
        world_.in(world_.between(kSilenceMin, kSilenceMax), [this, id = id] {
            if (is_frozen_ && links_.contains(id)) drop_link(id, false);
        });
    }
}

bool Network::send(broker::PeerId peer, Payload payload) {
    if (zombies_.contains(peer.value)) return true;
    const auto found = links_.find(peer.value);
    if (found == links_.end()) return false;
    // A peer that does not read has a full pipe.
    if (world_.fault_one_in(400)) return true;
    found->second.down.push_back(std::move(payload));
    pump(peer.value, Way::from_broker);
    return true;
}

// ---- Everybody else's --------------------------------------------------------------------------

Network::SocketId Network::open(const std::string& host, std::function<void(Payload)> on_message) {
    const SocketId id = ++last_id_;
    sockets_[id] = Socket{.host = host, .on_message = std::move(on_message)};
    connect(id, world_.between(Duration(1), Duration(200)));
    return id;
}

void Network::close(SocketId socket) {
    const auto found = sockets_.find(socket);
    if (found == sockets_.end()) return;
    const std::uint64_t link = found->second.link;
    const bool is_noticed = !is_blocked(found->second.host, Way::to_broker);
    sockets_.erase(found);
    if (link != 0) drop_link(link, is_noticed);
}

bool Network::send(SocketId socket, Payload payload) {
    const auto found = sockets_.find(socket);
    if (found == sockets_.end() || found->second.link == 0) return false;
    links_.at(found->second.link).up.push_back(std::move(payload));
    pump(found->second.link, Way::to_broker);
    return true;
}

void Network::connect(SocketId socket, Duration delay) {
    world_.in(delay, [this, socket] { try_connect(socket); });
}

void Network::try_connect(SocketId socket) {
    const auto found = sockets_.find(socket);
    if (found == sockets_.end() || found->second.link != 0) return;
    const std::string& host = found->second.host;
    if (!is_up_ || is_frozen_ || is_blocked(host, Way::to_broker) ||
        is_blocked(host, Way::from_broker)) {
        return connect(socket, world_.between(Duration(200), 5_s));
    }
    found->second.link = ++last_id_;
    links_[found->second.link] = Link{.socket = socket, .host = host};
}

// ---- Under way ---------------------------------------------------------------------------------

bool Network::is_blocked(const std::string& host, Way way) const {
    const auto found = blocked_.find({host, way});
    return found != blocked_.end() && found->second > world_.now();
}

Duration Network::delay(const std::string& host) {
    if (host == broker_host_) return Duration(static_cast<std::int64_t>(world_.below(2)));
    if (world_.fault_one_in(40)) return world_.between(Duration(100), 12_s);
    return world_.between(Duration(0), Duration(30));
}

void Network::pump(std::uint64_t id, Way way) {
    Link& link = links_.at(id);
    bool& is_pumping = way == Way::to_broker ? link.is_pumping_up : link.is_pumping_down;
    if (is_pumping) return;
    is_pumping = true;
    world_.in(delay(link.host), [this, id, way] { deliver(id, way); });
}

void Network::deliver(std::uint64_t id, Way way) {
    const auto found = links_.find(id);
    if (found == links_.end()) return;
    Link& link = found->second;
    if (is_blocked(link.host, way)) {
        const Timestamp until = blocked_.at({link.host, way});
        const Duration more = world_.between(Duration(1), 1_s);
        return world_.at(until + more, [this, id, way] { deliver(id, way); });
    }
    std::deque<Payload>& queue = way == Way::to_broker ? link.up : link.down;
    bool& is_pumping = way == Way::to_broker ? link.is_pumping_up : link.is_pumping_down;
    is_pumping = false;
    if (queue.empty()) return;
    Payload payload = std::move(queue.front());
    queue.pop_front();
    if (!queue.empty()) pump(id, way);
    if (way == Way::to_broker) return arrive(id, std::move(payload));
    // May close the socket, and with it the link.
    const auto on_message = sockets_.at(link.socket).on_message;
    on_message(std::move(payload));
}

void Network::arrive(std::uint64_t id, Payload payload) {
    if (!is_up_) return;
    inbox_.push_back({broker::PeerId{id}, std::move(payload)});
    on_arrival_();
}

// What had reached the other end's buffers already is read there in its own time.
void Network::deliver_late(std::uint64_t id, Link& link) {
    const Duration delay = world_.between(Duration(0), 5_s);
    std::size_t up = world_.below(link.up.size() + 1);
    for (; up > 0; --up) {
        auto late = std::make_shared<Payload>(std::move(link.up.front()));
        link.up.pop_front();
        world_.in(delay, [this, id, late, incarnation = incarnation_] {
            if (incarnation == incarnation_) arrive(id, std::move(*late));
        });
    }
    std::size_t down = world_.below(link.down.size() + 1);
    for (; down > 0; --down) {
        auto late = std::make_shared<Payload>(std::move(link.down.front()));
        link.down.pop_front();
        world_.in(delay, [this, late, socket = link.socket] {
            const auto found = sockets_.find(socket);
            if (found != sockets_.end()) std::function(found->second.on_message)(std::move(*late));
        });
    }
}

void Network::drop_link(std::uint64_t id, bool is_noticed) {
    Link link = std::move(links_.at(id));
    links_.erase(id);
    deliver_late(id, link);
    if (!is_noticed && is_up_) {
        zombies_.insert(id);
        world_.in(world_.between(Duration(1), kSilenceMax), [this, id] { zombies_.erase(id); });
    }
    const auto socket = sockets_.find(link.socket);
    if (socket == sockets_.end()) return;
    socket->second.link = 0;
    connect(link.socket, world_.between(Duration(100), 5_s));
}

// ---- Faults ------------------------------------------------------------------------------------

void Network::block(const std::string& host, Way way, Duration how_long) {
    blocked_[{host, way}] = world_.now() + how_long;
    for (const auto& [id, link] : links_) {
        if (link.host != host) continue;
        world_.in(world_.between(kSilenceMin, kSilenceMax), [this, id = id, host, way] {
            if (is_blocked(host, way) && links_.contains(id)) drop_link(id, false);
        });
    }
}

void Network::cut(const std::string& host) {
    std::vector<std::uint64_t> ids;
    for (const auto& [id, link] : links_) {
        if (link.host == host) ids.push_back(id);
    }
    for (const std::uint64_t id : ids)
        drop_link(id, world_.one_in(2));
}

}  // namespace iw::sim
