#include <unistd.h>

#include <array>
#include <cerrno>
#include <limits>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "common/base/text.h"
#include "common/io/context_state.h"
#include "common/io/event_loop.h"
#include "common/io/local_peer.h"

namespace iw::io {
namespace {

// ZAP 1.0 (RFC 27): version, request id, domain, address, routing id, mechanism; NULL has no
// credentials.
constexpr const char* kZapEndpoint = "inproc://zeromq.zap.01";
constexpr std::string_view kZapVersion = "1.0";
constexpr std::size_t kRequestFrames = 6;

using Frames = std::vector<std::string>;

struct Verdict {
    std::string_view code;
    std::string_view text;
    std::string user;
};

Verdict judge(const Frames& request) {
    if (request.size() != kRequestFrames || request[0] != kZapVersion) {
        return {.code = "500", .text = "malformed request", .user = ""};
    }
    const std::string& address = request[3];
    const std::string& mechanism = request[5];
    if (mechanism != "NULL" || !admits_local_peer(address, ::geteuid())) {
        return {.code = "400", .text = "only local peers of this user", .user = ""};
    }
    return {.code = "200", .text = "OK", .user = "uid:" + std::to_string(*local_peer_uid(address))};
}

// All frames of one request, the surplus ones counted but not kept; empty when none waits.
Frames receive_request(void* socket) {
    Frames frames;
    zmq::message_t frame;
    do {
        int size = -1;
        do {
            size = zmq_msg_recv(frame.handle(), socket, ZMQ_DONTWAIT);
        } while (size < 0 && errno == EINTR);
        if (size < 0 && errno == EAGAIN && frames.empty()) return frames;
        IW_CHECK(size >= 0);
        if (frames.size() <= kRequestFrames) frames.push_back(frame.to_string());
    } while (frame.more());
    return frames;
}

void send_reply(void* socket, const Frames& request, const Verdict& verdict) {
    const std::string_view id = request.size() > 1 ? std::string_view(request[1]) : "";
    const std::array<std::string_view, 6> reply = {kZapVersion,  id,           verdict.code,
                                                   verdict.text, verdict.user, ""};
    for (std::size_t i = 0; i < reply.size(); ++i) {
        const int flags = i + 1 < reply.size() ? ZMQ_SNDMORE : 0;
        int size = -1;
        do {
            size = zmq_send(socket, reply[i].data(), reply[i].size(), flags);
        } while (size < 0 && errno == EINTR);
        IW_CHECK(size >= 0);
    }
}

// Ends when `stop` is raised. Whatever else goes wrong ends the process: a handler that is gone
// would let sockets without enforcement accept every peer.
void serve(zmq::socket_t& socket, Wakeup& stop) {
    std::array<zmq_pollitem_t, 2> items = {
        zmq_pollitem_t{.socket = socket.handle(), .fd = -1, .events = ZMQ_POLLIN, .revents = 0},
        zmq_pollitem_t{.socket = nullptr, .fd = stop.fd(), .events = ZMQ_POLLIN, .revents = 0}};
    while (true) {
        const int ready = zmq_poll(items.data(), static_cast<int>(items.size()), -1);
        if (ready < 0 && errno == EINTR) continue;
        IW_CHECK(ready >= 0);
        if (items[1].revents != 0) return;
        const Frames request = receive_request(socket.handle());
        if (!request.empty()) send_reply(socket.handle(), request, judge(request));
    }
}

}  // namespace

std::optional<uid_t> local_peer_uid(std::string_view address) {
    const std::vector<std::string> parts = split(address, ':');
    if (parts.size() != 4 || parts[0] != "localhost") return std::nullopt;
    // Empty parts are what libzmq writes when it could not ask the kernel.
    constexpr long long kIdMax = std::numeric_limits<uid_t>::max() - 1LL;
    long long uid = 0;
    long long other = 0;
    if (!parse_int(parts[1], 0, kIdMax, uid)) return std::nullopt;
    for (const std::size_t i : {2, 3}) {
        if (!parts[i].empty() && !parse_int(parts[i], 0, kIdMax, other)) return std::nullopt;
    }
    return static_cast<uid_t>(uid);
}

bool admits_local_peer(std::string_view address, uid_t own) {
    const std::optional<uid_t> uid = local_peer_uid(address);
    return uid && (*uid == own || *uid == 0);
}

struct LocalAuthenticator::State {
    explicit State(zmq::socket_t bound) : socket(std::move(bound)) {
        // Starting the thread is the full fence that handing over a socket needs.
        thread = std::thread([this] { serve(socket, stop); });
    }
    ~State() {
        stop.raise();
        thread.join();
        // Closing gives the name back only later, on another thread, and a next start would find it
        // taken.
        zmq_unbind(socket.handle(), kZapEndpoint);
    }
    zmq::socket_t socket;
    Wakeup stop;
    std::thread thread;
};

Result<LocalAuthenticator> LocalAuthenticator::start(Context& context) {
    try {
        zmq::socket_t socket(context.state_->context, zmq::socket_type::rep);
        socket.set(zmq::sockopt::linger, 0);
        socket.bind(kZapEndpoint);
        return LocalAuthenticator(std::make_unique<State>(std::move(socket)));
    } catch (const zmq::error_t& error) {
        return make_error(ErrorCode::io,
                          std::string("cannot start the authentication of peers: ") + error.what());
    }
}

LocalAuthenticator::LocalAuthenticator(std::unique_ptr<State> state) : state_(std::move(state)) {}
LocalAuthenticator::LocalAuthenticator(LocalAuthenticator&&) noexcept = default;
LocalAuthenticator& LocalAuthenticator::operator=(LocalAuthenticator&&) noexcept = default;
LocalAuthenticator::~LocalAuthenticator() = default;

}  // namespace iw::io
