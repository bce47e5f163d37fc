#pragma once

// A broker of one thread behind a real socket: says hello, and answers everything else as the test
// says.

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <variant>
#include <vector>

#include "common/base/check.h"
#include "common/codec/codec.h"
#include "common/io/event_loop.h"
#include "common/io/socket.h"
#include "common/io/system_clock.h"
#include "common/messages/messages.h"

namespace iw::test {

// What a test answers: a reply, an error, or nothing (the reply is lost).
using Answer = std::variant<std::monostate, Reply, ErrorReply>;

class FakeBroker {
  public:
    using Handler = std::function<Answer(const RequestFrame&)>;

    FakeBroker(std::string endpoint, Handler handler)
        : endpoint_(std::move(endpoint)), handler_(std::move(handler)) {
        Result<io::RouterSocket> socket = io::RouterSocket::bind(sockets_, endpoint_, "");
        IW_CHECK(socket.ok());
        socket_.emplace(std::move(socket).value());
        thread_ = std::thread([this] { serve(); });
    }
    ~FakeBroker() {
        stopping_ = true;
        wakeup_.raise();
        thread_.join();
    }
    FakeBroker(const FakeBroker&) = delete;
    FakeBroker& operator=(const FakeBroker&) = delete;

    // All requests but hello, in the order of arrival.
    std::vector<RequestFrame> seen() const {
        const std::lock_guard lock(mutex_);
        return seen_;
    }
    int hellos() const { return hellos_; }
    // Of the welcomes from now on.
    void set_epoch(const std::string& epoch) {
        const std::lock_guard lock(mutex_);
        epoch_ = epoch;
    }

  private:
    std::string epoch() const {
        const std::lock_guard lock(mutex_);
        return epoch_;
    }
    void serve() {
        io::EventLoop loop;
        loop.add_socket(socket_->native(), [this] {
            while (std::optional<io::RouterSocket::Message> message = socket_->receive()) {
                answer(*message);
            }
        });
        loop.add_fd(wakeup_.fd(), [this] { wakeup_.drain(); });
        while (!stopping_)
            IW_CHECK(loop.wait(std::nullopt).ok());
        socket_.reset();
    }

    void answer(const io::RouterSocket::Message& message) {
        auto decoded = decode_request(message.payload);
        const auto* request = std::get_if<RequestFrame>(&decoded);
        IW_CHECK(request != nullptr);
        Answer said;
        if (std::holds_alternative<HelloRequest>(request->body)) {
            ++hellos_;
            said = Reply(WelcomeReply{.software = "fake",
                                      .protocol = kProtocolVersion,
                                      .epoch = epoch(),
                                      .generation = 1,
                                      .seq = 1,
                                      .time = io::wall_now()});
        } else {
            {
                const std::lock_guard lock(mutex_);
                seen_.push_back(*request);
            }
            said = handler_(*request);
        }
        ReplyFrame reply{.id = request->id, .body = Reply(WelcomeReply{})};
        if (std::holds_alternative<std::monostate>(said)) return;
        if (auto* body = std::get_if<Reply>(&said)) reply.body = std::move(*body);
        if (auto* error = std::get_if<ErrorReply>(&said)) reply.body = std::move(*error);
        socket_->send(message.peer, encode(reply, verb(request->body)));
    }

    std::string endpoint_;
    Handler handler_;
    io::Context sockets_;
    std::optional<io::RouterSocket> socket_;
    io::Wakeup wakeup_;
    std::atomic<bool> stopping_ = false;
    std::atomic<int> hellos_ = 0;
    mutable std::mutex mutex_;
    std::vector<RequestFrame> seen_;
    std::string epoch_ = "e1";
    std::thread thread_;
};

inline ErrorReply refusal(ErrorCode code, const std::string& text) {
    return ErrorReply{.error = {.code = code, .message = text}};
}

// A session as a broker shows it.
inline SessionView view(const std::string& id, SessionStatus status, Detail detail) {
    SessionView session;
    session.id = SessionId(id);
    session.agent = AgentName("grafana-agent");
    session.status = status;
    session.detail = detail;
    session.created_at = wall_from_ms(1'763'478'600'000);  // 2025-11-18T15:10:00Z
    session.revision = 1;
    return session;
}

}  // namespace iw::test
