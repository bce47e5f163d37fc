#include "common/io/socket.h"

#include <sys/stat.h>

#include <cerrno>
#include <utility>

#include "common/base/limits.h"
#include "common/io/context_state.h"

namespace iw::io {
namespace {

// From the draft part of zmq.h: without it libzmq lets every peer in when no handler answers.
// Debian's build knows the option although its header does not show it.
constexpr int kZapEnforceDomain = 93;

constexpr int kContextSocketsMax = 4096;
// The limit is one frame's; ours is the message's, which is one frame, so that both are nearly the
// same.
constexpr std::int64_t kFrameMax = static_cast<std::int64_t>(limits::kMessageMax) + 4096;
constexpr int kHandshakeMs = 10'000;  // how long a peer may take to say who it is
constexpr int kBacklog = 4096;        // a whole fleet connects again at once
// Heartbeats of the transport find dead hosts and stopped processes, not a hung thread above it.
constexpr int kHeartbeatMs = 5'000;
constexpr int kHeartbeatTimeoutMs = 15'000;
constexpr int kHeartbeatTtlMs = 20'000;
constexpr int kReconnectMs = 100;
constexpr int kReconnectMaxMs = 5'000;
// Messages per peer. What does not fit is dropped, and its asker waits in vain until it gives up; a
// busy submitter may have a thousand requests under way, whose answers all leave in a few turns.
struct Queues {
    int out;
    int in;  // what a peer can make us hold: this many messages of the largest size
};
constexpr Queues kRouterQueues{.out = 4096, .in = 256};
constexpr Queues kDealerQueues{.out = 1000, .in = 1000};
// Messages that are thrown away in one call, so that a peer that sends only rubbish does not hold
// the caller.
constexpr int kDroppedMax = 64;

constexpr const char* kUserProperty = "User-Id";
constexpr std::size_t kSocketPathMax = 100;

void set_common(zmq::socket_t& socket, Queues queues) {
    socket.set(zmq::sockopt::maxmsgsize, kFrameMax);
    socket.set(zmq::sockopt::handshake_ivl, kHandshakeMs);
    socket.set(zmq::sockopt::heartbeat_ivl, kHeartbeatMs);
    socket.set(zmq::sockopt::heartbeat_timeout, kHeartbeatTimeoutMs);
    socket.set(zmq::sockopt::heartbeat_ttl, kHeartbeatTtlMs);
    socket.set(zmq::sockopt::sndhwm, queues.out);
    socket.set(zmq::sockopt::rcvhwm, queues.in);
}

// False when nothing waits. The context outlives its sockets, so nothing else can go wrong here.
bool receive_frame(void* socket, zmq::message_t& frame) {
    int size = -1;
    do {
        size = zmq_msg_recv(frame.handle(), socket, ZMQ_DONTWAIT);
    } while (size < 0 && errno == EINTR);
    if (size >= 0) return true;
    IW_CHECK(errno == EAGAIN || errno == ETERM);
    return false;
}

// The error number, 0 when the frame was taken.
int send_frame(void* socket, std::string_view bytes, int flags) {
    int size = -1;
    do {
        size = zmq_send(socket, bytes.data(), bytes.size(), flags | ZMQ_DONTWAIT);
    } while (size < 0 && errno == EINTR);
    return size >= 0 ? 0 : errno;
}

// Frames of one message arrive together, so this ends with the message.
void drop_rest(void* socket, zmq::message_t& frame) {
    while (frame.more()) {
        if (!receive_frame(socket, frame)) return;
    }
}

std::string user_of(zmq::message_t& payload) {
    // gets() of the wrapper throws where the property is missing.
    const char* user = zmq_msg_gets(payload.handle(), kUserProperty);
    return user == nullptr ? "" : user;
}

// Sets the umask for as long as it lives. The umask is the whole process's: bind before threads
// make files.
class PrivateUmask {
  public:
    PrivateUmask() : before_(::umask(0177)) {}
    ~PrivateUmask() { ::umask(before_); }
    PrivateUmask(const PrivateUmask&) = delete;
    PrivateUmask& operator=(const PrivateUmask&) = delete;

  private:
    mode_t before_;
};

}  // namespace

Context::Context() : state_(std::make_unique<State>()) {
    state_->context.set(zmq::ctxopt::blocky, 0);
    state_->context.set(zmq::ctxopt::max_sockets, kContextSocketsMax);
}

Context::~Context() = default;

void* Context::native() const {
    return state_->context.handle();
}

struct RouterSocket::State {
    zmq::socket_t socket;
};

Result<RouterSocket> RouterSocket::bind(Context& context, const std::string& endpoint,
                                        const std::string& zap_domain) {
    try {
        zmq::socket_t socket(context.state_->context, zmq::socket_type::router);
        set_common(socket, kRouterQueues);
        socket.set(zmq::sockopt::linger, 0);
        // A send that cannot arrive is told apart instead of vanishing; nobody takes over a peer's
        // id.
        socket.set(zmq::sockopt::router_mandatory, 1);
        socket.set(zmq::sockopt::router_handover, 0);
        socket.set(zmq::sockopt::backlog, kBacklog);
        if (!zap_domain.empty()) {
            socket.set(zmq::sockopt::zap_domain, zap_domain);
            const int enforce = 1;
            const int result =
                zmq_setsockopt(socket.handle(), kZapEnforceDomain, &enforce, sizeof enforce);
            if (result != 0) throw zmq::error_t();
        }
        const PrivateUmask only_us;
        socket.bind(endpoint);
        return RouterSocket(std::make_unique<State>(State{.socket = std::move(socket)}));
    } catch (const zmq::error_t& error) {
        return make_error(ErrorCode::io, "cannot listen on " + endpoint + ": " + error.what());
    }
}

RouterSocket::RouterSocket(std::unique_ptr<State> state) : state_(std::move(state)) {}
RouterSocket::RouterSocket(RouterSocket&&) noexcept = default;
RouterSocket& RouterSocket::operator=(RouterSocket&&) noexcept = default;
RouterSocket::~RouterSocket() = default;

void* RouterSocket::native() const {
    return state_->socket.handle();
}

std::optional<RouterSocket::Message> RouterSocket::receive() {
    zmq::message_t peer;
    zmq::message_t payload;
    for (int dropped = 0; dropped < kDroppedMax; ++dropped) {
        if (!receive_frame(native(), peer)) return std::nullopt;
        if (!peer.more() || !receive_frame(native(), payload)) continue;
        if (!payload.more()) {
            // The first frame has no metadata after a poll in libzmq 4.3.4; the payload's has.
            return Message{
                .peer = peer.to_string(), .user = user_of(payload), .payload = payload.to_string()};
        }
        drop_rest(native(), payload);
    }
    return std::nullopt;
}

SendOutcome RouterSocket::send(std::string_view peer, std::string_view payload) {
    if (peer.empty()) return SendOutcome::no_peer;
    const int error = send_frame(native(), peer, ZMQ_SNDMORE);
    if (error == EAGAIN) return SendOutcome::full;
    if (error != 0) return SendOutcome::no_peer;
    return send_frame(native(), payload, 0) == 0 ? SendOutcome::sent : SendOutcome::no_peer;
}

namespace {

struct Ticketed {
    std::string payload;
    std::shared_ptr<const void> ticket;
};

}  // namespace

SendOutcome RouterSocket::send(std::string_view peer, std::string payload,
                               std::shared_ptr<const void> ticket) {
    if (peer.empty()) return SendOutcome::no_peer;
    auto owned = std::make_unique<Ticketed>(
        Ticketed{.payload = std::move(payload), .ticket = std::move(ticket)});
    const auto let_go = [](void*, void* kept) { delete static_cast<Ticketed*>(kept); };
    zmq_msg_t message;
    const int made = zmq_msg_init_data(&message, owned->payload.data(), owned->payload.size(),
                                       let_go, owned.get());
    IW_CHECK(made == 0);  // fails only without memory
    static_cast<void>(owned.release());
    const int error = send_frame(native(), peer, ZMQ_SNDMORE);
    int size = -1;
    while (error == 0 && size < 0) {
        size = zmq_msg_send(&message, native(), ZMQ_DONTWAIT);
        if (size < 0 && errno != EINTR) break;
    }
    if (size >= 0) return SendOutcome::sent;
    zmq_msg_close(&message);
    return error == EAGAIN ? SendOutcome::full : SendOutcome::no_peer;
}

struct DealerSocket::State {
    zmq::socket_t socket;
};

Result<DealerSocket> DealerSocket::connect(Context& context, const std::string& endpoint,
                                           Duration linger) {
    try {
        zmq::socket_t socket(context.state_->context, zmq::socket_type::dealer);
        set_common(socket, kDealerQueues);
        socket.set(zmq::sockopt::linger, static_cast<int>(linger.count()));
        // Without it messages queue for a broker that is down and arrive stale after its restart.
        socket.set(zmq::sockopt::immediate, 1);
        socket.set(zmq::sockopt::reconnect_ivl, kReconnectMs);
        socket.set(zmq::sockopt::reconnect_ivl_max, kReconnectMaxMs);
        socket.connect(endpoint);
        return DealerSocket(std::make_unique<State>(State{.socket = std::move(socket)}));
    } catch (const zmq::error_t& error) {
        return make_error(ErrorCode::io, "cannot connect to " + endpoint + ": " + error.what());
    }
}

DealerSocket::DealerSocket(std::unique_ptr<State> state) : state_(std::move(state)) {}
DealerSocket::DealerSocket(DealerSocket&&) noexcept = default;
DealerSocket& DealerSocket::operator=(DealerSocket&&) noexcept = default;
DealerSocket::~DealerSocket() = default;

void* DealerSocket::native() const {
    return state_->socket.handle();
}

std::optional<std::string> DealerSocket::receive() {
    zmq::message_t payload;
    for (int dropped = 0; dropped < kDroppedMax; ++dropped) {
        if (!receive_frame(native(), payload)) return std::nullopt;
        if (!payload.more()) return payload.to_string();
        drop_rest(native(), payload);
    }
    return std::nullopt;
}

SendOutcome DealerSocket::send(std::string_view payload) {
    return send_frame(native(), payload, 0) == 0 ? SendOutcome::sent : SendOutcome::no_peer;
}

Status check_endpoint(const std::string& endpoint) {
    constexpr std::string_view kIpc = "ipc://";
    if (endpoint.starts_with("tcp://")) {
        return make_error(ErrorCode::config,
                          "endpoint " + endpoint +
                              ": tcp endpoints need keys, which this version does not have; "
                              "use ipc:///path");
    }
    if (!endpoint.starts_with("ipc:///") || endpoint.back() == '/') {
        return make_error(ErrorCode::config,
                          "endpoint \"" + endpoint +
                              "\" is not a local socket; use ipc:// and an "
                              "absolute path, as in ipc:///run/user/1000/broker.sock");
    }
    const std::size_t size = endpoint.size() - kIpc.size();
    if (size > kSocketPathMax) {
        return make_error(ErrorCode::config,
                          "the path of endpoint " + endpoint + " has " + std::to_string(size) +
                              " bytes, sockets take at most " + std::to_string(kSocketPathMax) +
                              "; set a shorter endpoint or state folder (IW_CFG_STATE_DIR)");
    }
    return Done{};
}

std::string transport_version() {
    int major = 0;
    int minor = 0;
    int patch = 0;
    zmq_version(&major, &minor, &patch);
    return std::to_string(major) + "." + std::to_string(minor) + "." + std::to_string(patch);
}

}  // namespace iw::io
