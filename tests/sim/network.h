#pragma once

// The transport between the broker and everybody else, as ZeroMQ is: one order within a connection,
// none between two; nothing is lost inside a connection, and whatever was under way may be when it
// is cut. A partition holds traffic up; one that lasts cuts. Sockets connect again by themselves,
// and the broker then sees another peer.

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <variant>

#include "broker/core/event.h"
#include "common/messages/messages.h"
#include "tests/sim/world.h"

namespace iw::sim {

// A frame with its bytes already decoded. `inside`: relayed by a worker for a process inside this
// attempt; an answer to such a request has it, too.
struct Payload {
    std::string id;
    std::variant<Request, Reply, ErrorReply, Push> body;
    std::optional<AttemptRef> inside{};
};
std::string text(const Payload& payload);

enum class Way { to_broker, from_broker };

class Network {
  public:
    using SocketId = std::uint64_t;
    struct Received {
        broker::PeerId peer;
        Payload payload;
    };
    explicit Network(World& world) : world_(world) {}

    // ---- The broker's end
    void broker_up(std::function<void()> on_arrival);
    void broker_down();
    // A process that stands still accepts nobody.
    void freeze_broker(bool is_frozen);
    std::deque<Received>& inbox() { return inbox_; }
    // False: there is no such peer any more.
    bool send(broker::PeerId peer, Payload payload);
    void set_broker_host(std::string host) { broker_host_ = std::move(host); }

    // ---- Everybody else's
    SocketId open(const std::string& host, std::function<void(Payload)> on_message);
    void close(SocketId socket);
    // False: nobody is connected.
    bool send(SocketId socket, Payload payload);

    // ---- Faults
    void block(const std::string& host, Way way, Duration how_long);
    void cut(const std::string& host);
    void unblock_all() { blocked_.clear(); }

  private:
    struct Socket {
        std::string host;
        std::function<void(Payload)> on_message;
        std::uint64_t link = 0;
    };
    struct Link {
        SocketId socket = 0;
        std::string host;
        std::deque<Payload> up;
        std::deque<Payload> down;
        bool is_pumping_up = false;
        bool is_pumping_down = false;
    };

    void connect(SocketId socket, Duration delay);
    void try_connect(SocketId socket);
    bool is_blocked(const std::string& host, Way way) const;
    Duration delay(const std::string& host);
    void pump(std::uint64_t link, Way way);
    void deliver(std::uint64_t link, Way way);
    void arrive(std::uint64_t link, Payload payload);
    void deliver_late(std::uint64_t id, Link& link);
    // The client's end is gone or cut; `is_noticed`: the broker knows at once.
    void drop_link(std::uint64_t link, bool is_noticed);

    World& world_;
    std::string broker_host_;
    bool is_up_ = false;
    bool is_frozen_ = false;
    std::uint64_t incarnation_ = 0;
    std::function<void()> on_arrival_;
    std::deque<Received> inbox_;
    std::map<SocketId, Socket> sockets_;
    std::map<std::uint64_t, Link> links_;
    std::set<std::uint64_t> zombies_;  // links that only the broker still believes in
    std::map<std::pair<std::string, Way>, Timestamp> blocked_;
    std::uint64_t last_id_ = 0;
};

}  // namespace iw::sim
