#pragma once

// A real broker, a client, and a worker that does what the test says.

#include <gtest/gtest.h>

#include <deque>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "broker_fixture.h"

namespace iw::test {

// Says what a worker would say and runs nothing.
class FakeWorker {
  public:
    FakeWorker(io::Context& context, const std::string& endpoint) : peer_(context, endpoint) {}

    Result<WelcomeReply> hello() {
        WorkerHello worker;
        worker.name = WorkerName(name);
        worker.host = "here";
        worker.root = root;
        worker.project = "project";
        worker.state_id = state_id;
        worker.start_count = start_count;
        worker.boot_id = "boot";
        worker.slots = slots;
        worker.agents = {"helper"};
        worker.inventory = inventory;
        worker.seen = seen;
        return peer_.greet(HelloRequest{
            .role = "worker", .software = "fake", .capabilities = {}, .worker = worker});
    }
    std::optional<Assignment> assignment() {
        while (waiting_.empty()) {
            std::optional<AssignPush> push = peer_.push<AssignPush>(kCap);
            if (!push) return std::nullopt;
            for (Assignment& assignment : push->assignments)
                waiting_.push_back(std::move(assignment));
        }
        Assignment next = std::move(waiting_.front());
        waiting_.pop_front();
        return next;
    }
    Result<HeartbeatReply> heartbeat() {
        return peer_.call<HeartbeatReply>(
            HeartbeatRequest{.attempts = inventory, .agents = {}, .slots = {}});
    }
    // The one acknowledgement; repeated after a hello when the broker has forgotten the connection.
    Result<ReportAck> report(const AttemptRef& attempt, ReportBody body) {
        const std::uint32_t number =
            static_cast<std::uint32_t>(body.index() < 2 ? 1 : body.index());
        ReportRequest request{.reports = {{.session = attempt.session,
                                           .fence = attempt.fence,
                                           .number = number,
                                           .body = std::move(body)}}};
        for (int attempts = 0; attempts < 20; ++attempts) {
            Result<ReportReply> reply = peer_.call<ReportReply>(request, Duration(2'000));
            if (reply.ok()) return reply->acks.at(0);
            if (!is_retryable(reply.error().code) &&
                reply.error().code != ErrorCode::unknown_outcome) {
                return reply.error();
            }
            if (Result<WelcomeReply> welcome = hello(); !welcome.ok()) return welcome.error();
        }
        return make_error(ErrorCode::unknown_outcome, "never acknowledged");
    }
    // A request of a process inside an attempt.
    Result<ReplyFrame> relay(const AttemptRef& attempt, Request request) {
        const std::string frame = encode(RequestFrame{.id = "inner", .body = std::move(request)});
        Result<RelayReply> reply = peer_.call<RelayReply>(
            RelayRequest{.session = attempt.session, .fence = attempt.fence, .request = frame});
        if (!reply.ok()) return reply.error();
        Result<Incoming> inner = decode_incoming(reply->reply);
        if (!inner.ok()) return inner.error();
        auto* answer = std::get_if<ReplyFrame>(&*inner);
        if (answer == nullptr) return make_error(ErrorCode::internal, "not a reply");
        return std::move(*answer);
    }
    TestPeer& peer() { return peer_; }

    std::string name = "w1";
    std::string root = "/srv/project";
    std::string state_id = "state-1";
    std::uint64_t start_count = 1;
    std::uint32_t slots = 2;
    std::vector<AttemptState> inventory;
    std::optional<SeenHead> seen;  // told at the next hello

  private:
    TestPeer peer_;
    std::deque<Assignment> waiting_;
};

inline AttemptRef attempt_of(const Assignment& assignment) {
    return AttemptRef{.session = assignment.session, .fence = assignment.fence};
}

inline EndedReport ended_well() {
    EndedReport ended;
    ended.cause = EndCause::exited;
    ended.success = true;
    ended.exit_code = 0;
    ended.ended_at = io::wall_now();
    ended.workspace = "/srv/project/ws";
    ended.result_status = "success";
    ended.result_size = 2;
    ended.result_sha256 = io::sha256_hex("{}");
    ended.result_inline = true;
    ended.result = "{}";
    return ended;
}

inline StartedReport started_now() {
    return StartedReport{.started_at = io::wall_now(), .workspace = "/srv/project/ws"};
}

template <typename T>
const T* ok_of(const Result<ReplyFrame>& frame) {
    if (!frame.ok()) return nullptr;
    const auto* reply = std::get_if<Reply>(&frame->body);
    return reply == nullptr ? nullptr : std::get_if<T>(reply);
}

inline ErrorCode error_of(const Result<ReplyFrame>& frame) {
    if (!frame.ok()) return frame.error().code;
    const auto* refused = std::get_if<ErrorReply>(&frame->body);
    return refused == nullptr ? ErrorCode::internal : refused->error.code;
}

class BrokerWorker : public ::testing::Test {
  protected:
    BrokerWorker() : BrokerWorker("") {}
    // `settings`: of the table [broker].
    explicit BrokerWorker(const std::string& settings) : broker_(settings) {}
    void SetUp() override {
        broker_.start();
        ASSERT_TRUE(client_.hello().ok()) << broker_.process().log_text();
    }
    void TearDown() override {
        if (HasFailure()) GTEST_LOG_(INFO) << broker_.process().log_text();
    }
    SessionId submit(const std::string& prompt) {
        const auto outcome = submit_one(client_, make_submission("helper", prompt, ""));
        EXPECT_TRUE(outcome.ok()) << outcome.error().message;
        return outcome.ok() ? outcome->id : SessionId();
    }
    // The view, over a connection that may have to begin anew.
    SessionView view(const SessionId& id) {
        for (int i = 0; i < 20; ++i) {
            Result<StatusReply> reply = client_.call<StatusReply>(
                StatusRequest{.id = id.str(), .exact = true}, Duration(2'000));
            if (reply.ok()) return reply->session;
            EXPECT_TRUE(client_.hello().ok());
        }
        ADD_FAILURE() << "no status of " << id.str();
        return {};
    }
    void expect_state(const SessionId& id, SessionStatus status, Detail detail) {
        const SessionView shown = view(id);
        EXPECT_EQ(name(shown.status), name(status)) << shown.reason;
        EXPECT_EQ(name(shown.detail), name(detail)) << shown.reason;
    }

    TestBroker broker_;
    io::Context context_;
    TestPeer client_{context_, broker_.endpoint()};
    FakeWorker worker_{context_, broker_.endpoint()};
};

}  // namespace iw::test
