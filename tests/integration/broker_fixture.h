#pragma once

// A real broker in a folder of its own, and peers that speak the protocol with it over its socket.

#include <signal.h>

#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "common/base/check.h"
#include "common/codec/codec.h"
#include "common/io/event_loop.h"
#include "common/io/files.h"
#include "common/io/socket.h"
#include "common/io/system_clock.h"
#include "common/messages/messages.h"
#include "tests/support/child_process.h"
#include "tests/support/temp_dir.h"
#include "tests/support/wait_until.h"

namespace iw::test {

inline constexpr Duration kCap{20'000};

inline std::string broker_program() {
    return std::string(IW_BUILD_DIR) + "/bin/ibroker";
}

// Data directory, endpoint and log below one temporary folder; small segments, so that a start is
// quick.
class TestBroker {
  public:
    TestBroker() : TestBroker("") {}
    // `settings`: further lines of the table [broker], and other tables behind them. No nightly
    // backup comes unless they say so.
    explicit TestBroker(const std::string& settings) {
        const std::string text =
            "[broker]\nsegment_size = 16777216\nstorage_reserve = 0\n" + settings +
            (settings.find("[backup]") == std::string::npos ? "[backup]\nat = \"\"\n" : "");
        const Status written = io::write_file(config(), text, 0600, io::Sync::none);
        IW_CHECK(written.ok());
    }

    std::string endpoint() const { return "ipc://" + dir_.path("b.sock"); }
    std::string data_dir() const { return dir_.path("data"); }
    std::string config() const { return dir_.path("broker.toml"); }
    std::string log() const { return dir_.path("log"); }
    const TempDir& dir() const { return dir_; }

    std::vector<std::string> arguments() const {
        return {broker_program(), "--config",   config(),  "--data-dir",
                data_dir(),       "--endpoint", endpoint()};
    }
    void start() {
        process_.emplace(
            ChildProcess::Options{.argv = arguments(), .environment = {}, .log = log()});
    }
    void kill9() { process_->kill(); }
    void restart() {
        kill9();
        start();
    }
    ChildProcess& process() { return *process_; }

  private:
    TempDir dir_;
    std::optional<ChildProcess> process_;
};

// One connection. Not thread-safe; each thread has its own, with a context of its own process.
class TestPeer {
  public:
    TestPeer(io::Context& context, const std::string& endpoint)
        : socket_(io::DealerSocket::connect(context, endpoint, Duration(0)).value()) {
        loop_.add_socket(socket_.native(), [] {});
    }

    // Until somebody is connected; false when nobody is within the cap.
    bool send_raw(const std::string& bytes, Duration cap) {
        return wait_until([&] { return socket_.send(bytes) == io::SendOutcome::sent; }, cap);
    }
    std::optional<Incoming> receive(Duration cap) {
        const Timestamp deadline = io::steady_now() + cap;
        do {
            if (std::optional<std::string> bytes = socket_.receive()) {
                Result<Incoming> incoming = decode_incoming(*bytes);
                IW_CHECK(incoming.ok());
                return std::move(incoming).value();
            }
            const Status waited = loop_.wait(deadline);
            IW_CHECK(waited.ok());
        } while (io::steady_now() < deadline);
        return std::nullopt;
    }
    std::string send(Request request) {
        const std::string id = "r" + std::to_string(++last_request_);
        if (!send_raw(encode(RequestFrame{.id = id, .body = std::move(request)}), kCap)) return "";
        return id;
    }
    // The reply to a request; pushes that come first are kept.
    std::optional<std::variant<Reply, ErrorReply>> reply_to(const std::string& id, Duration cap) {
        const Timestamp deadline = io::steady_now() + cap;
        while (io::steady_now() < deadline) {
            std::optional<Incoming> incoming = receive(deadline - io::steady_now());
            if (!incoming) break;
            if (auto* push = std::get_if<PushFrame>(&*incoming)) {
                pushes_.push_back(std::move(push->body));
                continue;
            }
            auto& frame = *std::get_if<ReplyFrame>(&*incoming);
            if (frame.id == id) return std::move(frame.body);
        }
        return std::nullopt;
    }
    // Sends and waits for the answer; an answer of another kind, or none, is an error.
    template <typename T>
    Result<T> call(Request request, Duration cap = kCap) {
        const std::string id = send(std::move(request));
        auto answer = reply_to(id, cap);
        if (!answer) return make_error(ErrorCode::unknown_outcome, "no answer");
        if (auto* refused = std::get_if<ErrorReply>(&*answer)) {
            refusal_ = *refused;
            return refused->error;
        }
        auto* value = std::get_if<T>(&*std::get_if<Reply>(&*answer));
        if (value == nullptr) return make_error(ErrorCode::internal, "an answer of another kind");
        return std::move(*value);
    }
    // The last error reply in full.
    const ErrorReply& refusal() const { return refusal_; }

    Result<WelcomeReply> hello() {
        return greet(
            HelloRequest{.role = "client", .software = "test", .capabilities = {}, .worker = {}});
    }
    // Repeated while there is no answer: just after a kill the transport still takes messages for
    // the broker that is gone.
    Result<WelcomeReply> greet(const HelloRequest& request) {
        Result<WelcomeReply> welcome = make_error(ErrorCode::unknown_outcome, "not asked");
        for (int i = 0; i < 20; ++i) {
            welcome = call<WelcomeReply>(request, Duration(1'000));
            if (welcome.ok() || welcome.error().code != ErrorCode::unknown_outcome) break;
        }
        return welcome;
    }

    // The next push of a kind.
    template <typename T>
    std::optional<T> push(Duration cap) {
        const Timestamp deadline = io::steady_now() + cap;
        while (true) {
            while (!pushes_.empty()) {
                Push next = std::move(pushes_.front());
                pushes_.pop_front();
                if (auto* wanted = std::get_if<T>(&next)) return std::move(*wanted);
            }
            const Duration left = deadline - io::steady_now();
            std::optional<Incoming> incoming = left > Duration(0) ? receive(left) : std::nullopt;
            if (!incoming) return std::nullopt;
            if (auto* frame = std::get_if<PushFrame>(&*incoming))
                pushes_.push_back(std::move(frame->body));
        }
    }

  private:
    io::DealerSocket socket_;
    io::EventLoop loop_;
    std::uint64_t last_request_ = 0;
    std::deque<Push> pushes_;
    ErrorReply refusal_;
};

inline Submission make_submission(const std::string& agent, const std::string& prompt,
                                  const std::string& key) {
    Submission submission;
    submission.agent = AgentName(agent);
    submission.prompt = prompt;
    submission.key = key;
    return submission;
}

inline Result<SubmitOutcome> submit_one(TestPeer& peer, Submission submission) {
    Result<SubmitReply> reply =
        peer.call<SubmitReply>(SubmitRequest{.sessions = {std::move(submission)}});
    if (!reply.ok()) return reply.error();
    IW_CHECK(reply->sessions.size() == 1);
    const SubmitOutcome& outcome = reply->sessions.front();
    if (outcome.error) return *outcome.error;
    return outcome;
}

}  // namespace iw::test
