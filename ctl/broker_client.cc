#include "ctl/broker_client.h"

#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "common/base/overloaded.h"
#include "common/base/text.h"
#include "common/codec/codec.h"
#include "common/io/event_loop.h"
#include "common/io/files.h"
#include "common/io/system_clock.h"
#include "ctl/folder_watch.h"

namespace iw::ctl {
namespace {

constexpr std::string_view kIpc = "ipc://";
// Pauses grow between these while something outside must happen first.
constexpr Duration kPauseMin{1};
constexpr Duration kPauseMax{500};
constexpr Duration kTellAfter{1'000};
constexpr Duration kReviveEvery{2'000};

std::string socket_path(const std::string& endpoint) {
    return endpoint.substr(std::min(kIpc.size(), endpoint.size()));
}

enum class Listener { there, refused, missing, forbidden };

// A bare connection tells at once what ZeroMQ, which tries for ever, does not. The broker sees a
// peer that left before it said anything.
Listener probe(const std::string& path) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (path.size() >= sizeof address.sun_path) return Listener::missing;
    std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
    const io::UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!fd.valid()) return Listener::refused;
    if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0) {
        return Listener::there;
    }
    if (errno == EAGAIN || errno == EINPROGRESS) return Listener::there;  // its backlog is full
    if (errno == EACCES || errno == EPERM) return Listener::forbidden;
    return errno == ENOENT ? Listener::missing : Listener::refused;
}

// How long the broker may hold the answer on purpose.
Duration held_time(const Request& body) {
    const auto* events = std::get_if<EventsRequest>(&body);
    return events == nullptr ? Duration(0) : events->wait;
}

// How long the broker may work at the answer, while repetitions are answered together with it.
Duration working_time(const Request& body) {
    constexpr Duration kBackupMax{24LL * 3'600'000};
    return std::holds_alternative<BackupRequest>(body) ? kBackupMax : held_time(body);
}

template <typename... Kinds>
bool is_one_of(const Request& body) {
    return (std::holds_alternative<Kinds>(body) || ...);
}

bool changes_something(const Request& body) {
    return is_one_of<SubmitRequest, KillRequest, RetryRequest, ExtendRequest, HoldRequest,
                     ConfirmDeadRequest, BackupRequest, ReleaseRequest, EditRequest>(body);
}

// What the request asked for, for messages.
std::string asked_for(const Request& body) {
    return std::visit(overloaded{[](const StatusRequest& request) { return request.id; },
                                 [](const ResultRequest& request) { return request.id; },
                                 [](const KillRequest& request) { return request.id; },
                                 [](const RetryRequest& request) { return request.id; },
                                 [](const ExtendRequest& request) { return request.id; },
                                 [](const ConfirmDeadRequest& request) { return request.id; },
                                 [](const EditRequest& request) { return request.id; },
                                 [](const GetRequest& request) { return request.id; },
                                 [](const SubmitRequest& request) {
                                     return request.sessions.empty()
                                                ? std::string()
                                                : request.sessions.front().agent.str();
                                 },
                                 [](const auto&) { return std::string(); }},
                      body);
}

std::string seconds(Duration time) {
    return format_duration(std::max(time, Duration(1)));
}

}  // namespace

// One request through all its repetitions.
struct BrokerClient::Call {
    const Request& body;
    std::string id;
    std::string bytes;
    Timestamp started;
    Timestamp deadline;                     // of a broker that listens
    std::optional<Timestamp> absent_since;  // nobody listened when last looked at
    bool missing = false;                   // not even a socket file
    bool sent = false;                      // it may have arrived
    bool told = false;
    std::optional<Error> refusal;  // the last retryable one
    Duration pause = kPauseMin;
};

struct BrokerClient::State {
    io::Context& sockets;
    std::optional<io::DealerSocket> socket;
    std::optional<FolderWatch>
        watch;  // of the socket's folder: a restarted broker makes a new socket
    std::optional<WelcomeReply> welcome;
    std::string id_front;
    std::uint64_t id_next = 1;
};

BrokerClient::BrokerClient(io::Context& sockets, ClientOptions options)
    : options_(std::move(options)),
      state_(std::make_unique<State>(State{.sockets = sockets,
                                           .socket = std::nullopt,
                                           .watch = std::nullopt,
                                           .welcome = std::nullopt,
                                           .id_front = io::random_hex(6) + "-"})) {}

BrokerClient::~BrokerClient() = default;

Error BrokerClient::wrong_reply() const {
    return make_error(ErrorCode::internal, "the broker at " + options_.endpoint +
                                               " gave the answer to another question; are ictl and "
                                               "ibroker of one version? see ictl doctor");
}

void BrokerClient::disconnect() {
    state_->socket.reset();
    state_->welcome.reset();
}

// Waits for `time`, less when the socket's folder changes.
void BrokerClient::pause(Duration time) {
    io::EventLoop loop;
    if (state_->watch) loop.add_fd(state_->watch->fd(), [this] { state_->watch->read(); });
    // An error here only shortens the pause; the caller's deadline still holds.
    [[maybe_unused]] const Status waited = loop.wait(io::steady_now() + time);
}

void BrokerClient::tell_waiting(Call& call) {
    const Timestamp now = io::steady_now();
    if (call.told || !options_.notice || now - call.started < kTellAfter) return;
    call.told = true;
    const auto whole =
        std::chrono::ceil<std::chrono::seconds>(std::max(end_of(call) - now, Duration(0)));
    options_.notice("waiting up to " + seconds(whole) + " more for the broker at " +
                    options_.endpoint);
}

Timestamp BrokerClient::end_of(const Call& call) const {
    if (!call.absent_since) return call.deadline;
    const Duration patience =
        call.missing && !call.sent ? options_.never_seen_patience : options_.absent_patience;
    return std::min(*call.absent_since + patience, call.deadline);
}

// What the call ends with when its patience is at its end; nothing before that.
std::optional<Error> BrokerClient::give_up(Call& call) {
    const Timestamp now = io::steady_now();
    const bool absent = call.absent_since.has_value();
    if (now < end_of(call)) return std::nullopt;
    if (call.refusal) return call.refusal;
    if (call.sent && changes_something(call.body)) {
        return make_error(ErrorCode::unknown_outcome, "the broker at " + options_.endpoint +
                                                          " did not answer: outcome unknown");
    }
    if (absent) {
        const std::string what = call.missing ? "no broker at " : "nobody listens at ";
        return make_error(ErrorCode::unreachable,
                          what + options_.endpoint +
                              ": run `ictl up` in your project, or name one with --broker");
    }
    return make_error(ErrorCode::unreachable, "the broker at " + options_.endpoint +
                                                  " does not answer: look at its log and at "
                                                  "`ictl doctor`, or wait longer with --patience");
}

// Returns once somebody listens at the endpoint.
Status BrokerClient::wait_for_listener(Call& call) {
    const std::string path = socket_path(options_.endpoint);
    call.pause = kPauseMin;
    Timestamp revive_at = io::steady_now();
    while (true) {
        // Watch first, look then: what appears between the two is seen.
        if (!state_->watch) {
            Result<FolderWatch> watch =
                FolderWatch::open(io::parent_folder(path), FolderWatch::Interest::names);
            if (watch) state_->watch = std::move(watch).value();
        }
        const Listener listener = probe(path);
        if (listener == Listener::there) {
            call.absent_since.reset();
            return Done{};
        }
        if (listener == Listener::forbidden) {
            return make_error(ErrorCode::forbidden, "may not enter " + path +
                                                        ": it belongs to another user; use your "
                                                        "own fleet or ask its owner");
        }
        call.missing = listener == Listener::missing;
        if (!call.absent_since) call.absent_since = io::steady_now();
        if (const std::optional<Error> end = give_up(call)) return *end;
        if (options_.on_absent && io::steady_now() >= revive_at) {
            options_.on_absent();
            revive_at = io::steady_now() + kReviveEvery;
            continue;
        }
        tell_waiting(call);
        const Duration left = end_of(call) - io::steady_now();
        pause(std::clamp(left, Duration(0), call.pause));
        call.pause = std::min(call.pause * 2, kPauseMax);
    }
}

// Sends and waits for the answer under `id`.
BrokerClient::Heard BrokerClient::exchange(std::string_view bytes, const std::string& id,
                                           Timestamp until, ReplyFrame& reply) {
    Duration wait = kPauseMin;
    while (state_->socket->send(bytes) != io::SendOutcome::sent) {
        if (io::steady_now() >= until) return Heard::silence;
        pause(wait);
        wait = std::min(wait * 2, kPauseMax);
    }
    bool reborn = false;
    const std::string name = io::base_name(socket_path(options_.endpoint));
    io::EventLoop loop;
    loop.add_socket(state_->socket->native(), [] {});
    if (state_->watch) {
        loop.add_fd(state_->watch->fd(), [&] {
            for (const FolderWatch::Change& change : state_->watch->read()) {
                reborn = reborn || (change.appeared && change.name == name);
            }
        });
    }
    while (io::steady_now() < until) {
        while (const std::optional<std::string> payload = state_->socket->receive()) {
            Result<Incoming> incoming = decode_incoming(*payload);
            if (!incoming) return Heard::nonsense;
            auto* frame = std::get_if<ReplyFrame>(&*incoming);
            // A refusal without an id is of a frame that the broker could not read: ours.
            if (frame == nullptr || (frame->id != id && !frame->id.empty())) continue;
            reply = std::move(*frame);
            return Heard::answer;
        }
        if (reborn) return Heard::reborn;
        if (!loop.wait(until)) return Heard::silence;
    }
    return Heard::silence;
}

// A socket with somebody at its other end that knows us. Done with no socket: not this time, try
// again.
Status BrokerClient::greet(Call& call) {
    if (state_->welcome) return Done{};
    const Status listening = wait_for_listener(call);
    if (!listening) return listening;
    if (!state_->socket) {
        Result<io::DealerSocket> socket =
            io::DealerSocket::connect(state_->sockets, options_.endpoint, Duration(0));
        if (!socket) return socket.error();
        state_->socket = std::move(socket).value();
    }
    const RequestFrame hello{.id = state_->id_front + std::to_string(state_->id_next++),
                             .body = HelloRequest{.role = "client",
                                                  .software = options_.software,
                                                  .protocol_min = kProtocolVersion,
                                                  .protocol_max = kProtocolVersion,
                                                  .capabilities = {},
                                                  .worker = std::nullopt}};
    ReplyFrame reply;
    const Timestamp until = std::min(call.deadline, io::steady_now() + options_.repeat_after);
    const Heard heard = exchange(encode(hello), hello.id, until, reply);
    if (heard == Heard::nonsense) return wrong_reply();
    if (heard != Heard::answer) {
        disconnect();
        return Done{};
    }
    if (const auto* refused = std::get_if<ErrorReply>(&reply.body)) {
        if (!is_retryable(refused->error.code)) return describe(*refused, "");
        call.refusal = refused->error;
        disconnect();
        pause(std::max(refused->retry, kPauseMax));
        return Done{};
    }
    auto* welcome = std::get_if<WelcomeReply>(std::get_if<Reply>(&reply.body));
    if (welcome == nullptr) return wrong_reply();
    state_->welcome = std::move(*welcome);
    return Done{};
}

// Nothing: ask again.
std::optional<Result<Reply>> BrokerClient::judge(Call& call, ReplyFrame& reply) {
    auto* refused = std::get_if<ErrorReply>(&reply.body);
    if (refused == nullptr) return Result<Reply>(std::move(*std::get_if<Reply>(&reply.body)));
    if (refused->error.code == ErrorCode::no_session) {
        // The broker was started anew behind our back: the request did nothing.
        state_->welcome.reset();
        return std::nullopt;
    }
    const bool later = refused->error.code == ErrorCode::rate_limited ||
                       refused->error.code == ErrorCode::shutting_down;
    if (!later) return Result<Reply>(describe(*refused, asked_for(call.body)));
    call.refusal = refused->error;
    if (refused->error.code == ErrorCode::shutting_down) disconnect();
    pause(std::max(refused->retry, Duration(100)));
    return std::nullopt;
}

Result<Reply> BrokerClient::request(const Request& body) {
    const Status endpoint = io::check_endpoint(options_.endpoint);
    if (!endpoint) return endpoint.error();
    const Timestamp now = io::steady_now();
    const std::string id = state_->id_front + std::to_string(state_->id_next++);
    Call call{.body = body,
              .id = id,
              .bytes = encode(RequestFrame{.id = id, .body = body}),
              .started = now,
              .deadline = now + options_.patience + working_time(body)};
    if (call.bytes.size() > limits::kMessageMax) {
        return make_error(ErrorCode::too_large,
                          "the request has " + std::to_string(call.bytes.size()) +
                              " bytes; at most " + std::to_string(limits::kMessageMax));
    }
    while (true) {
        const Status greeted = greet(call);
        if (!greeted && call.sent && changes_something(body)) {
            return make_error(ErrorCode::unknown_outcome, greeted.error().message);
        }
        if (!greeted) return greeted.error();
        if (state_->welcome && std::holds_alternative<HelloRequest>(body)) {
            return Reply(*state_->welcome);
        }
        if (state_->welcome) {
            ReplyFrame reply;
            const Duration patience = options_.repeat_after + held_time(body);
            const Timestamp until = std::min(call.deadline, io::steady_now() + patience);
            // From the first send on the outcome is unknown until an answer says otherwise.
            call.sent = true;
            const Heard heard = exchange(call.bytes, call.id, until, reply);
            if (heard == Heard::nonsense) return wrong_reply();
            if (heard == Heard::reborn) {
                call.deadline = io::steady_now() + options_.patience + working_time(body);
            }
            if (heard != Heard::answer) disconnect();
            if (heard == Heard::answer) {
                std::optional<Result<Reply>> result = judge(call, reply);
                if (result) return std::move(*result);
            }
        }
        if (const std::optional<Error> end = give_up(call)) return *end;
        if (working_time(body) == held_time(body)) tell_waiting(call);
    }
}

Result<WelcomeReply> BrokerClient::welcome() {
    if (state_->welcome) return *state_->welcome;
    return call<WelcomeReply>(HelloRequest{.role = "client",
                                           .software = options_.software,
                                           .protocol_min = kProtocolVersion,
                                           .protocol_max = kProtocolVersion,
                                           .capabilities = {},
                                           .worker = std::nullopt});
}

Result<StatusReply> BrokerClient::status(const std::string& id, bool exact) {
    return call<StatusReply>(StatusRequest{.id = id, .exact = exact});
}

Result<Listing> BrokerClient::list(ListRequest request) {
    Listing listing;
    while (true) {
        Result<ListReply> page = call<ListReply>(request);
        if (!page) return page.error();
        // The first page's head: an event after it may concern a row that was read before.
        if (listing.seq == 0) listing.seq = page->seq;
        std::ranges::move(page->sessions, std::back_inserter(listing.sessions));
        if (page->next.empty() || page->next == request.after) return listing;
        request.after = page->next;
    }
}

Error describe(const ErrorReply& reply, const std::string& asked) {
    Error error = reply.error;
    // A field's name means nothing on a command line; submit adds its own way.
    constexpr std::string_view kFieldHint = " (queue_anyway queues it all the same)";
    if (error.message.ends_with(kFieldHint))
        error.message.resize(error.message.size() - kFieldHint.size());
    if (reply.matches.empty()) return error;
    if (error.code == ErrorCode::ambiguous) {
        return make_error(error.code, "\"" + asked +
                                          "\" is the beginning of several session ids: " +
                                          join(reply.matches, ", ") + "; give more of it");
    }
    if (error.code == ErrorCode::unknown_agent) {
        const std::string near = nearest(asked, reply.matches);
        return make_error(error.code, "no worker offers the agent \"" + asked + "\"" +
                                          (near.empty() ? "" : "; did you mean " + near + "?") +
                                          " Known: " + join(reply.matches, ", "));
    }
    return error;
}

}  // namespace iw::ctl
