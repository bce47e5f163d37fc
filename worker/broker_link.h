#pragma once

// The connection to the broker: requests out, replies and pushes in, as events of the core. Who
// decides when to say hello and when to start over is the core.

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "common/base/result.h"
#include "common/io/event_loop.h"
#include "common/io/socket.h"
#include "common/messages/messages.h"
#include "worker/core/event.h"

namespace iw::worker {

class BrokerLink {
  public:
    struct Handlers {
        std::function<void(CoreEvent)> on_event;
        // The answer to a relayed request; an error is the broker's word about the relay itself.
        std::function<void(std::uint64_t ticket, Result<RelayReply> reply)> on_relay;
        std::function<void()> on_goodbye;
        std::function<void(FollowPush)> on_follow;
    };
    BrokerLink(io::Context& context, io::EventLoop& loop, std::string endpoint, Handlers handlers);
    ~BrokerLink();
    BrokerLink(const BrokerLink&) = delete;
    BrokerLink& operator=(const BrokerLink&) = delete;

    Status open();
    // Throws the socket away with what waits in it, and what was expected over it.
    Status reconnect();
    // False: nobody is connected; nothing was sent.
    bool send(Request request);
    bool send_relay(std::uint64_t ticket, RelayRequest request);
    // A request of the shell's own, past the core. The answer may be the broker's refusal; none
    // comes over a connection that was given up.
    using OnAnswer = std::function<void(Result<Reply>)>;
    bool ask(Request request, OnAnswer on_answer);

  private:
    struct Expected {
        std::string verb;
        std::uint64_t ticket = 0;        // of a relay
        std::vector<ReportRef> reports;  // of a report
        OnAnswer on_answer;              // of what was asked
    };

    bool send_expected(Request request, Expected expected);
    void read();
    void take(const std::string& bytes);
    void take_reply(ReplyFrame frame);
    void take_reply(Expected expected, Reply reply);
    void take_error(const Expected& expected, const Error& error);
    void take_push(PushFrame frame);
    void close();

    io::Context& context_;
    io::EventLoop& loop_;
    std::string endpoint_;
    Handlers handlers_;
    std::optional<io::DealerSocket> socket_;
    std::uint64_t serial_ = 0;  // of the socket
    std::uint64_t last_request_ = 0;
    std::map<std::string, Expected> expected_;  // by request id
};

}  // namespace iw::worker
