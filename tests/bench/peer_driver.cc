// Our broker as a server of the peer benchmark: its Driver, on this project's own codec and
// sockets. Built by scripts/bench only, because the interface stands in the benchmark's folder.
//
// What is measured is the protocol as it is, without short cuts: every submission has a key, one
// session is one message, a worker's slots bound what it holds, and to complete is to report
// `ended`, wait for the outcome, report `closed` and wait again. No `started` is reported: peers
// have nothing like it.

#include <unistd.h>
#include <zmq.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <ctime>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "bench.hpp"
#include "common/codec/codec.h"
#include "common/io/socket.h"
#include "common/messages/messages.h"

namespace iw::bench {
namespace {

constexpr const char* kAgent = "bench";
constexpr long kAnswerMs = 10'000;
// What one connection may have without an answer, by the protocol.
constexpr std::size_t kUnderWayMax = 128;
constexpr std::uint64_t kHeartbeatNs = 5'000'000'000;

io::Context& context() {
    static io::Context one;
    return one;
}

std::uint64_t after_ms(long ms) {
    return qb::now_ns() + static_cast<std::uint64_t>(ms) * 1'000'000;
}

[[noreturn]] void give_up(const std::string& what) {
    throw std::runtime_error("broker: " + what);
}

// One connection that has said hello.
class Connection {
  public:
    Connection(const qb::Opts& options, HelloRequest hello)
        : socket_(connect(options.str("endpoint"))) {
        call(std::move(hello));
    }

    std::string send(Request body) {
        std::string id = std::to_string(++number_);
        send_frame(encode(RequestFrame{.id = id, .body = std::move(body)}));
        return id;
    }

    // Before the first connection stands the socket takes nothing; later only a full queue does so.
    void send_frame(const std::string& frame) {
        const std::uint64_t end = after_ms(kAnswerMs);
        while (socket_.send(frame) != io::SendOutcome::sent) {
            if (qb::now_ns() > end) give_up("nobody takes what is sent");
            poll(ZMQ_POLLOUT, 1);
        }
    }

    // What comes next, or nothing by `end`.
    std::optional<Incoming> receive(std::uint64_t end) {
        for (;;) {
            if (std::optional<std::string> bytes = socket_.receive()) return read(*bytes);
            const std::uint64_t now = qb::now_ns();
            if (now >= end) return std::nullopt;
            poll(ZMQ_POLLIN, static_cast<long>((end - now) / 1'000'000) + 1);
        }
    }

    // A request and its answer. Pushes that come before it are kept.
    Reply call(Request body) {
        const std::string id = send(std::move(body));
        const std::uint64_t end = after_ms(kAnswerMs);
        while (std::optional<Incoming> incoming = receive(end)) {
            if (auto* push = std::get_if<PushFrame>(&*incoming)) {
                pushes_.push_back(std::move(*push));
                continue;
            }
            auto* frame = std::get_if<ReplyFrame>(&*incoming);
            if (frame->id != id) continue;
            if (auto* reply = std::get_if<Reply>(&frame->body)) return std::move(*reply);
            give_up(std::get_if<ErrorReply>(&frame->body)->error.message);
        }
        give_up("no answer");
    }

    std::optional<PushFrame> next_push(std::uint64_t end) {
        while (pushes_.empty()) {
            std::optional<Incoming> incoming = receive(end);
            if (!incoming) return std::nullopt;
            if (auto* push = std::get_if<PushFrame>(&*incoming)) return std::move(*push);
        }
        PushFrame first = std::move(pushes_.front());
        pushes_.pop_front();
        return first;
    }

  private:
    static io::DealerSocket connect(const std::string& endpoint) {
        Result<io::DealerSocket> socket =
            io::DealerSocket::connect(context(), endpoint, Duration(0));
        if (!socket.ok()) give_up(socket.error().message);
        return std::move(socket).value();
    }

    static Incoming read(const std::string& bytes) {
        Result<Incoming> incoming = decode_incoming(bytes);
        if (!incoming.ok()) give_up(incoming.error().message);
        return std::move(incoming).value();
    }

    void poll(short events, long ms) {
        zmq_pollitem_t item{.socket = socket_.native(), .fd = 0, .events = events, .revents = 0};
        zmq_poll(&item, 1, ms);
    }

    io::DealerSocket socket_;
    std::uint64_t number_ = 0;
    std::deque<PushFrame> pushes_;
};

HelloRequest client_hello() {
    HelloRequest hello;
    hello.role = "client";
    hello.software = "bench";
    return hello;
}

// Numbers of peers, so that keys and names of several runs against one broker differ.
std::string label(const char* kind, int number) {
    return std::string(kind) + "-" + std::to_string(getpid()) + "-" + std::to_string(number);
}

class Producer : public qb::Producer {
  public:
    Producer(const qb::Opts& options, int number)
        : connection_(options, client_hello()), label_(label("key", number)) {}

    ~Producer() override {
        if (asked_to_wait_ > 0) {
            std::fprintf(stderr, "broker: %zu submissions were repeated after RATE_LIMITED\n",
                         asked_to_wait_);
        }
    }

    void post(std::string_view body) override {
        Submission submission;
        submission.key = label_ + "-" + std::to_string(++posted_);
        submission.agent = AgentName(kAgent);
        submission.prompt = std::string(body);
        submission.queue_anyway = true;  // W1 has no worker that offers the agent
        RequestFrame frame{.id = "s" + std::to_string(posted_), .body = SubmitRequest{}};
        std::get_if<SubmitRequest>(&frame.body)->sessions.push_back(std::move(submission));
        std::string bytes = encode(frame);
        while (under_way_.size() >= kUnderWayMax)
            early_ += wait_for_some();
        connection_.send_frame(bytes);
        under_way_.emplace(std::move(frame.id), std::move(bytes));
    }

    std::size_t reap() override {
        const std::size_t early = std::exchange(early_, 0);
        return early > 0 ? early : wait_for_some();
    }

  private:
    std::size_t wait_for_some() {
        std::size_t count = 0;
        const std::uint64_t end = after_ms(kAnswerMs);
        while (count == 0) {
            repeat_due();
            const std::uint64_t until = later_.empty() ? end : later_.front().first;
            if (std::optional<Incoming> incoming = connection_.receive(until)) {
                count += take(*incoming);
            } else if (qb::now_ns() >= end) {
                give_up("a submission has no answer");
            }
        }
        while (std::optional<Incoming> incoming = connection_.receive(0))
            count += take(*incoming);
        return count;
    }

    std::size_t take(const Incoming& incoming) {
        const auto* frame = std::get_if<ReplyFrame>(&incoming);
        if (frame == nullptr) return 0;
        const auto sent = under_way_.find(frame->id);
        if (sent == under_way_.end()) return 0;
        if (const auto* refused = std::get_if<ErrorReply>(&frame->body)) {
            if (refused->error.code != ErrorCode::rate_limited) give_up(refused->error.message);
            ++asked_to_wait_;
            later_.emplace_back(after_ms(refused->retry.count()), frame->id);
            return 0;
        }
        const auto* reply = std::get_if<SubmitReply>(std::get_if<Reply>(&frame->body));
        if (reply == nullptr || reply->sessions.size() != 1) give_up("an odd answer to submit");
        if (reply->sessions[0].error) give_up(reply->sessions[0].error->message);
        under_way_.erase(sent);
        return 1;
    }

    void repeat_due() {
        while (!later_.empty() && later_.front().first <= qb::now_ns()) {
            connection_.send_frame(under_way_.at(later_.front().second));
            later_.pop_front();
        }
    }

    Connection connection_;
    std::string label_;
    std::uint64_t posted_ = 0;
    std::map<std::string, std::string> under_way_;             // request id to its frame
    std::deque<std::pair<std::uint64_t, std::string>> later_;  // when, and which
    std::size_t early_ = 0;                                    // answered while post() waited
    std::size_t asked_to_wait_ = 0;
};

class Worker : public qb::Worker {
  public:
    Worker(const qb::Opts& options, int number, std::size_t slots)
        : connection_(options, worker_hello(number, slots)),
          beat_at_(qb::now_ns() + kHeartbeatNs),
          close_later_(options.num("close_later", 0) != 0) {}

    std::size_t fetch(std::size_t max, int timeout_ms, std::vector<qb::Item>& out) override {
        beat();
        const std::uint64_t end = after_ms(timeout_ms);
        while (held_.size() < max) {
            // Waits for the first; of the others only what is already here.
            std::optional<PushFrame> push = connection_.next_push(held_.empty() ? end : 0);
            if (!push) break;
            auto* assign = std::get_if<AssignPush>(&push->body);
            if (assign == nullptr) continue;
            for (Assignment& assignment : assign->assignments)
                held_.push_back(std::move(assignment));
        }
        while (!held_.empty() && out.size() < max) {
            Assignment& first = held_.front();
            const AttemptRef ref{.session = first.session, .fence = first.fence};
            taken_.emplace(attempt_name(ref), ref);
            out.push_back(qb::Item{.id = attempt_name(ref), .body = std::move(first.prompt)});
            held_.pop_front();
        }
        return out.size();
    }

    void complete(std::vector<qb::Item>& items) override {
        for (std::size_t first = 0; first < items.size(); first += limits::kReportBatchMax) {
            const std::size_t count = std::min(items.size() - first, limits::kReportBatchMax);
            complete_some(std::span(items).subspan(first, count));
        }
    }

  private:
    void complete_some(std::span<const qb::Item> items) {
        ReportRequest ended;
        ReportRequest closed;
        for (const qb::Item& item : items) {
            const auto found = taken_.find(item.id);
            const AttemptRef ref = found->second;
            ended.reports.push_back(report(ref, 2, ended_well()));
            closed.reports.push_back(report(ref, 3, ClosedReport{}));
            taken_.erase(found);
        }
        acknowledged(connection_.call(std::move(ended)));
        if (close_later_) {
            connection_.send(std::move(closed));
        } else {
            acknowledged(connection_.call(std::move(closed)));
        }
    }

    static HelloRequest worker_hello(int number, std::size_t slots) {
        if (slots > limits::kSlotsMax) give_up("a worker has at most 1000 slots");
        WorkerHello worker;
        worker.name = WorkerName(label("worker", number));
        worker.host = "bench";
        worker.root = "/bench/" + std::to_string(number);
        worker.state_id = worker.name.str();
        worker.start_count = 1;
        worker.slots = static_cast<std::uint32_t>(slots);
        worker.agents = {kAgent};
        HelloRequest hello;
        hello.role = "worker";
        hello.software = "bench";
        hello.worker = std::move(worker);
        return hello;
    }

    static EndedReport ended_well() {
        EndedReport report;
        report.success = true;
        report.exit_code = 0;
        report.ended_at = WallTime(Duration(static_cast<std::int64_t>(time(nullptr)) * 1000));
        return report;
    }

    static Report report(const AttemptRef& ref, std::uint32_t number, ReportBody body) {
        return Report{
            .session = ref.session, .fence = ref.fence, .number = number, .body = std::move(body)};
    }

    static void acknowledged(const Reply& reply) {
        const auto* acks = std::get_if<ReportReply>(&reply);
        if (acks == nullptr) give_up("an odd answer to report");
        for (const ReportAck& ack : acks->acks) {
            if (ack.error) give_up(ack.error->message);
        }
    }

    // Without it the broker would send what is held again, and in the end call the worker silent.
    void beat() {
        if (qb::now_ns() < beat_at_) return;
        beat_at_ = qb::now_ns() + kHeartbeatNs;
        HeartbeatRequest heartbeat;
        for (const Assignment& assignment : held_) {
            heartbeat.attempts.push_back(AttemptState{.session = assignment.session,
                                                      .fence = assignment.fence,
                                                      .phase = AttemptPhase::accepted});
        }
        for (const auto& [name, ref] : taken_) {
            heartbeat.attempts.push_back(AttemptState{
                .session = ref.session, .fence = ref.fence, .phase = AttemptPhase::running});
        }
        connection_.send(std::move(heartbeat));
    }

    Connection connection_;
    std::uint64_t beat_at_;
    bool close_later_;
    std::deque<Assignment> held_;              // not fetched yet
    std::map<std::string, AttemptRef> taken_;  // fetched, not completed
};

// Arguments: endpoint=ipc://...; ahead=N: slots of a worker are N times its prefetch (1: what it
// holds is what peers let it hold); close_later=1: `closed` is sent without waiting for its ack.
class Driver : public qb::Driver {
  public:
    explicit Driver(const qb::Opts& options) : options_(options) {}

    std::unique_ptr<qb::Producer> producer(int number) override {
        return std::make_unique<Producer>(options_, number * 1000 + made_++);
    }
    std::unique_ptr<qb::Worker> worker(int number, std::size_t prefetch) override {
        const auto ahead = static_cast<std::size_t>(options_.num("ahead", 1));
        return std::make_unique<Worker>(options_, number, prefetch * ahead);
    }

  private:
    qb::Opts options_;
    std::atomic<int> made_{0};
};

const qb::Register registered("broker", [](const qb::Opts& options) {
    return std::make_unique<Driver>(options);
});

}  // namespace
}  // namespace iw::bench
