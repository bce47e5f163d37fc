#pragma once

// A client's conversation with the broker (or, inside a session, with its worker's local socket):
// connect, hello, request, and the repetition that ZeroMQ leaves to us. A request without an answer
// is sent again on a new socket with the same id and key, which is safe: reads change nothing,
// submit and retry carry a key, a kill is a wish. Not thread safe.

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "common/base/result.h"
#include "common/base/time.h"
#include "common/io/socket.h"
#include "common/messages/messages.h"

namespace iw::ctl {

struct ClientOptions {
    std::string endpoint;
    std::string software = "ictl";
    Duration patience{30'000};        // of one request, with a broker that listens and is silent
    Duration absent_patience{2'000};  // with a socket that nobody listens at: a broker that died
    Duration never_seen_patience{2'000};  // with no socket at all
    Duration repeat_after{5'000};         // a request without an answer goes out again after this
    std::function<void(const std::string&)> notice;  // tells people once that we wait
    // Called now and then while nobody listens: may start a broker. The wait goes on after it.
    std::function<void()> on_absent;
};

// Every page of a list.
struct Listing {
    std::vector<SessionView> sessions;  // oldest first
    Seq seq = 0;
};

class BrokerClient {
  public:
    BrokerClient(io::Context& sockets, ClientOptions options);
    ~BrokerClient();
    BrokerClient(const BrokerClient&) = delete;
    BrokerClient& operator=(const BrokerClient&) = delete;

    // Errors of the broker pass through, with the matches in the text. Own errors: unreachable
    // (nobody listens, or a read had no answer), unknown_outcome (a change was sent and had no
    // answer), forbidden (the socket may not be entered), config (an endpoint that is none).
    Result<Reply> request(const Request& body);

    template <typename R>
    Result<R> call(const Request& body) {
        Result<Reply> reply = request(body);
        if (!reply) return reply.error();
        R* answer = std::get_if<R>(&*reply);
        if (answer == nullptr) return wrong_reply();
        return std::move(*answer);
    }

    Result<StatusReply> status(const std::string& id, bool exact);
    Result<Listing> list(ListRequest request);

    // What the broker said of itself; greets it when that has not happened yet.
    Result<WelcomeReply> welcome();
    const std::string& endpoint() const { return options_.endpoint; }

  private:
    struct Call;
    struct State;
    enum class Heard { answer, silence, reborn, nonsense };

    Error wrong_reply() const;
    Status wait_for_listener(Call& call);
    Status greet(Call& call);
    Heard exchange(std::string_view bytes, const std::string& id, Timestamp until,
                   ReplyFrame& reply);
    std::optional<Result<Reply>> judge(Call& call, ReplyFrame& reply);
    Timestamp end_of(const Call& call) const;
    std::optional<Error> give_up(Call& call);
    void tell_waiting(Call& call);
    void pause(Duration time);
    void disconnect();

    ClientOptions options_;
    std::unique_ptr<State> state_;
};

// The message of an error reply with what it lists: the ids of AMBIGUOUS, the agents of
// UNKNOWN_AGENT and the nearest of them to `asked`.
Error describe(const ErrorReply& reply, const std::string& asked);

}  // namespace iw::ctl
