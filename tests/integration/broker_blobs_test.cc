// Files that travel through a broker: cut in the middle, wrong, too many, from those who may not
// send them, and after restarts, backups and restores.

#include <gtest/gtest.h>
#include <zmq.h>

#include <filesystem>

#include "broker_worker_fixture.h"

namespace iw {
namespace {

using test::attempt_of;
using test::BrokerWorker;
using test::ChildProcess;
using test::ended_well;
using test::error_of;
using test::kCap;
using test::make_submission;
using test::ok_of;
using test::started_now;
using test::submit_one;
using test::wait_until;

constexpr std::size_t kMiB = 1u << 20;

std::string content(std::size_t size, std::uint64_t seed) {
    std::string bytes(size, '\0');
    for (std::size_t i = 0; i < size; ++i)
        bytes[i] = static_cast<char>((i * 2654435761u + seed * 40503u) >> 11);
    return bytes;
}

class BrokerBlobs : public BrokerWorker {
  protected:
    BrokerBlobs() : BrokerWorker("blobs_max = 16777216\n") {}
    void SetUp() override {
        BrokerWorker::SetUp();
        ASSERT_TRUE(worker_.hello().ok());
    }
    AttemptRef running(Submission submission) {
        const auto outcome = submit_one(client_, std::move(submission));
        EXPECT_TRUE(outcome.ok()) << outcome.error().message;
        const std::optional<Assignment> assignment = worker_.assignment();
        EXPECT_TRUE(assignment.has_value());
        if (!assignment) return {};
        EXPECT_TRUE(worker_.report(attempt_of(*assignment), started_now()).ok());
        return attempt_of(*assignment);
    }
    AttemptRef running() { return running(make_submission("helper", "work", "")); }

    static PutRequest piece(const AttemptRef& attempt, const std::string& bytes, std::size_t from,
                            std::size_t size) {
        return {.session = attempt.session,
                .fence = attempt.fence,
                .blob = io::sha256_hex(bytes),
                .size = bytes.size(),
                .offset = from,
                .data = bytes.substr(from, size)};
    }
    Result<PutReply> put(PutRequest request) {
        return worker_.peer().call<PutReply>(std::move(request));
    }
    ErrorCode code_of_put(PutRequest request) {
        const Result<PutReply> reply = put(std::move(request));
        return reply.ok() ? ErrorCode::internal : reply.error().code;
    }
    // As a worker does it: whatever the answer, it asks what is there and goes on.
    void send(const AttemptRef& attempt, const std::string& bytes) {
        std::uint64_t have = 0;
        const bool whole = wait_until(
            [&] {
                const Result<PutReply> reply = put(piece(attempt, bytes, have, kMiB));
                if (reply.ok()) have = reply->have;
                if (!reply.ok() && reply.error().code == ErrorCode::no_session)
                    static_cast<void>(worker_.hello());
                return reply.ok() && have == bytes.size();
            },
            kCap);
        EXPECT_TRUE(whole) << have;
    }
    Result<std::string> get(const SessionId& id, const std::string& blob) {
        std::string bytes;
        while (true) {
            const auto reply = client_.call<GetReply>(
                GetRequest{.id = id.str(), .blob = blob, .offset = bytes.size()});
            if (!reply.ok()) return reply.error();
            if (reply->data.empty()) return bytes;
            bytes += reply->data;
        }
    }
    void expect_got(const SessionId& id, const std::string& bytes) {
        const Result<std::string> got = get(id, io::sha256_hex(bytes));
        ASSERT_TRUE(got.ok()) << got.error().message;
        EXPECT_TRUE(*got == bytes) << got->size();
    }
    void complete(const AttemptRef& attempt) {
        EXPECT_TRUE(worker_.report(attempt, ended_well()).ok());
        EXPECT_TRUE(worker_.report(attempt, ClosedReport{}).ok());
    }
    std::uint64_t held() {
        const auto reply = client_.call<FleetReply>(FleetRequest{});
        EXPECT_TRUE(reply.ok()) << reply.error().message;
        return reply.ok() ? reply->blobs_bytes : 0;
    }
    void restart() {
        broker_.restart();
        ASSERT_TRUE(client_.hello().ok()) << broker_.process().log_text();
        ASSERT_TRUE(worker_.hello().ok()) << broker_.process().log_text();
    }
    std::string blobs() const { return broker_.data_dir() + "/blobs"; }
};

TEST_F(BrokerBlobs, APutCutByAKillGoesOnWhereItWas) {
    const AttemptRef attempt = running();
    worker_.inventory = {{.session = attempt.session,
                          .fence = attempt.fence,
                          .phase = AttemptPhase::running,
                          .timeout = limits::kRunTimeoutDefault}};
    const std::string bytes = content(3 * kMiB + 77, 1);
    EXPECT_EQ(put(piece(attempt, bytes, 0, 0))->have, 0u);
    EXPECT_EQ(put(piece(attempt, bytes, 0, kMiB))->have, kMiB);
    EXPECT_EQ(put(piece(attempt, bytes, kMiB, kMiB))->have, 2 * kMiB);
    // Nobody gets what is not whole.
    EXPECT_EQ(get(attempt.session, io::sha256_hex(bytes)).error().code, ErrorCode::not_found);
    restart();
    EXPECT_EQ(put(piece(attempt, bytes, 0, 0))->have, 2 * kMiB);
    EXPECT_EQ(put(piece(attempt, bytes, 0, kMiB))->have, 2 * kMiB);  // a chunk of before
    send(attempt, bytes);
    expect_got(attempt.session, bytes);
    restart();
    expect_got(attempt.session, bytes);
    EXPECT_EQ(put(piece(attempt, bytes, 0, 0))->have, bytes.size());
    complete(attempt);
    expect_got(attempt.session, bytes);
}

TEST_F(BrokerBlobs, BytesOfAnotherChecksumAreDropped) {
    const AttemptRef attempt = running();
    const std::string bytes = content(kMiB / 2, 2);
    PutRequest wrong = piece(attempt, bytes, 0, bytes.size());
    wrong.data[1000] = static_cast<char>(wrong.data[1000] ^ 1);
    EXPECT_EQ(code_of_put(wrong), ErrorCode::conflict);
    EXPECT_EQ(get(attempt.session, wrong.blob).error().code, ErrorCode::not_found);
    EXPECT_EQ(put(piece(attempt, bytes, 0, 0))->have, 0u);
    EXPECT_EQ(held(), 0u);
    send(attempt, bytes);
    expect_got(attempt.session, bytes);
}

TEST_F(BrokerBlobs, OnlyTheCurrentAttemptsWorkerPuts) {
    const AttemptRef attempt = running();
    const std::string bytes = content(1000, 3);
    AttemptRef other = attempt;
    other.fence.attempt += 1;
    EXPECT_EQ(code_of_put(piece(other, bytes, 0, 1000)), ErrorCode::stale_fence);
    other = attempt;
    other.session = SessionId("20250101-000000-nobody");
    EXPECT_EQ(code_of_put(piece(other, bytes, 0, 1000)), ErrorCode::not_found);

    const auto by_client = client_.call<PutReply>(piece(attempt, bytes, 0, 1000));
    ASSERT_FALSE(by_client.ok());
    EXPECT_EQ(by_client.error().code, ErrorCode::forbidden);
    EXPECT_EQ(error_of(worker_.relay(attempt, piece(attempt, bytes, 0, 1000))),
              ErrorCode::forbidden);
    test::FakeWorker stranger(context_, broker_.endpoint());
    stranger.name = "w2";
    stranger.root = "/srv/other";
    stranger.state_id = "state-2";
    ASSERT_TRUE(stranger.hello().ok());
    const auto by_stranger = stranger.peer().call<PutReply>(piece(attempt, bytes, 0, 1000));
    ASSERT_FALSE(by_stranger.ok());
    EXPECT_EQ(by_stranger.error().code, ErrorCode::stale_fence);
    EXPECT_FALSE(std::filesystem::exists(blobs() + "/" + attempt.session.str()));

    send(attempt, bytes);
    // What runs in a session may read.
    const auto inside = worker_.relay(
        attempt, GetRequest{.id = attempt.session.str(), .blob = io::sha256_hex(bytes)});
    const auto* got = ok_of<GetReply>(inside);
    ASSERT_NE(got, nullptr);
    EXPECT_EQ(got->data, bytes);
    complete(attempt);
    EXPECT_EQ(code_of_put(piece(attempt, bytes, 0, 1000)), ErrorCode::stale_fence);
    expect_got(attempt.session, bytes);
}

TEST_F(BrokerBlobs, NamesAndSizesAreChecked) {
    Submission small = make_submission("helper", "work", "");
    small.disk_limit = 1000;
    const AttemptRef attempt = running(std::move(small));
    const std::string bytes = content(2000, 4);
    PutRequest large = piece(attempt, bytes, 0, 2000);
    large.size = 1001 + 16 * kMiB;
    EXPECT_EQ(code_of_put(large), ErrorCode::too_large);
    large.size = limits::kBlobMax + 1;
    EXPECT_EQ(code_of_put(large), ErrorCode::too_large);
    PutRequest beyond = piece(attempt, bytes, 0, 2000);
    beyond.offset = 1;
    EXPECT_EQ(code_of_put(beyond), ErrorCode::bad_request);
    PutRequest nameless = piece(attempt, bytes, 0, 2000);
    nameless.blob = "../../../../tmp/x";
    EXPECT_EQ(code_of_put(nameless), ErrorCode::bad_request);
    EXPECT_EQ(get(attempt.session, "../lock").error().code, ErrorCode::bad_request);
    EXPECT_EQ(get(SessionId("../blobs"), io::sha256_hex(bytes)).error().code,
              ErrorCode::bad_request);
    EXPECT_EQ(held(), 0u);
}

TEST_F(BrokerBlobs, TheQuotaHoldsAndWhatIsUnfinishedGoesWithItsAttempt) {
    const AttemptRef first = running();
    const AttemptRef second = running();
    const std::string half = content(10 * kMiB, 5);
    const std::string other = content(10 * kMiB, 6);
    EXPECT_EQ(put(piece(first, half, 0, kMiB))->have, kMiB);
    EXPECT_EQ(held(), 10 * kMiB);
    const Result<PutReply> refused = put(piece(second, other, 0, kMiB));
    ASSERT_FALSE(refused.ok());
    EXPECT_EQ(refused.error().code, ErrorCode::storage_low);
    EXPECT_NE(refused.error().message.find("blobs_max"), std::string::npos);
    EXPECT_GT(worker_.peer().refusal().retry, Duration(0));
    complete(first);
    EXPECT_TRUE(wait_until([&] { return held() == 0; }, kCap));
    send(second, other);
    EXPECT_EQ(held(), 10 * kMiB);
}

TEST_F(BrokerBlobs, BlobsOfForgottenSessionsGoAtTheStart) {
    const AttemptRef attempt = running();
    const std::string bytes = content(1000, 7);
    send(attempt, bytes);
    complete(attempt);
    const std::string old = blobs() + "/20200101-000000-helper/1-1";
    ASSERT_TRUE(io::make_folders(old, 0700).ok());
    ASSERT_TRUE(
        io::write_file(old + "/" + io::sha256_hex(bytes), bytes, 0600, io::Sync::none).ok());
    restart();
    EXPECT_TRUE(wait_until([&] { return !io::exists(blobs() + "/20200101-000000-helper"); }, kCap));
    expect_got(attempt.session, bytes);
    EXPECT_TRUE(wait_until([&] { return held() == 4096; }, kCap));
}

// A peer whose transport takes no more than a message or two as long as it does not read.
class Reluctant {
  public:
    explicit Reluctant(const std::string& endpoint)
        : context_(zmq_ctx_new()), socket_(zmq_socket(context_, ZMQ_DEALER)) {
        constexpr int kOne = 1;
        constexpr int kNone = 0;
        constexpr int kPatienceMs = 10'000;
        zmq_setsockopt(socket_, ZMQ_RCVHWM, &kOne, sizeof kOne);
        zmq_setsockopt(socket_, ZMQ_LINGER, &kNone, sizeof kNone);
        zmq_setsockopt(socket_, ZMQ_RCVTIMEO, &kPatienceMs, sizeof kPatienceMs);
        EXPECT_EQ(zmq_connect(socket_, endpoint.c_str()), 0);
    }
    ~Reluctant() {
        zmq_close(socket_);
        zmq_ctx_term(context_);
    }
    void send(const std::string& id, Request request) {
        const std::string frame = encode(RequestFrame{.id = id, .body = std::move(request)});
        EXPECT_GE(zmq_send(socket_, frame.data(), frame.size(), 0), 0);
    }
    std::optional<ReplyFrame> receive() {
        zmq_msg_t message;
        zmq_msg_init(&message);
        std::optional<ReplyFrame> reply;
        if (zmq_msg_recv(&message, socket_, 0) >= 0) {
            Result<Incoming> incoming = decode_incoming(
                {static_cast<const char*>(zmq_msg_data(&message)), zmq_msg_size(&message)});
            if (incoming.ok()) reply = std::move(*std::get_if<ReplyFrame>(&*incoming));
        }
        zmq_msg_close(&message);
        return reply;
    }

  private:
    void* context_;
    void* socket_;
};

TEST_F(BrokerBlobs, WhoAsksAndDoesNotReadIsGivenNoMore) {
    const AttemptRef attempt = running();
    const std::string bytes = content(4 * kMiB, 8);
    send(attempt, bytes);
    Reluctant slow(broker_.endpoint());
    slow.send("hello", HelloRequest{.role = "client", .software = "slow", .capabilities = {}});
    ASSERT_TRUE(slow.receive().has_value());
    constexpr int kAsked = 100;
    for (int i = 0; i < kAsked; ++i) {
        slow.send("g" + std::to_string(i), GetRequest{.id = attempt.session.str(),
                                                      .blob = io::sha256_hex(bytes),
                                                      .offset = i % 4 * kMiB});
    }
    // Read behind all of them.
    slow.send("mark", SubmitRequest{.sessions = {make_submission("helper", "mark", "the-mark")}});
    EXPECT_TRUE(wait_until(
        [&] {
            const auto page = client_.call<ListReply>(ListRequest{});
            return page.ok() && page->sessions.size() == 2;
        },
        kCap));
    // Others are served meanwhile.
    expect_got(attempt.session, bytes);
    int given = 0;
    int refused = 0;
    for (int i = 0; i <= kAsked; ++i) {
        const std::optional<ReplyFrame> reply = slow.receive();
        ASSERT_TRUE(reply.has_value()) << i;
        if (ok_of<GetReply>(*reply) != nullptr) ++given;
        if (error_of(*reply) == ErrorCode::rate_limited) ++refused;
    }
    EXPECT_EQ(given + refused, kAsked);
    EXPECT_GE(given, 16);
    EXPECT_LE(given, 24);  // some fit into the kernel and the peer's own queue
    // Then it gets the rest.
    slow.send("again", GetRequest{.id = attempt.session.str(), .blob = io::sha256_hex(bytes)});
    const std::optional<ReplyFrame> again = slow.receive();
    ASSERT_TRUE(again.has_value());
    EXPECT_NE(ok_of<GetReply>(*again), nullptr);
}

TEST_F(BrokerBlobs, BackupsHoldThemAndRestoresBringThemBack) {
    const AttemptRef attempt = running();
    const std::string bytes = content(kMiB + 5, 9);
    send(attempt, bytes);
    complete(attempt);
    auto backup = client_.call<BackupReply>(BackupRequest{});
    ASSERT_TRUE(backup.ok()) << backup.error().message;
    EXPECT_GT(backup->bytes, bytes.size());
    const AttemptRef later = running();
    const std::string after = content(3000, 10);
    send(later, after);
    complete(later);
    const auto restore = [&] {
        std::vector<std::string> arguments = broker_.arguments();
        arguments.insert(arguments.end(), {"--restore", backup->folder});
        ChildProcess restored({.argv = arguments, .environment = {}, .log = broker_.log() + "-r"});
        EXPECT_EQ(restored.wait_exit(kCap), 0) << restored.log_text();
    };
    broker_.kill9();
    const std::string unknown = "/20200101-000000-helper";
    ASSERT_TRUE(io::make_folders(blobs() + unknown + "/1-1", 0700).ok());
    ASSERT_TRUE(
        io::write_file(blobs() + unknown + "/1-1/" + io::sha256_hex("x"), "x", 0600, io::Sync::none)
            .ok());
    // Over the store that is there: what came later is rolled forward, with its files.
    restore();
    broker_.start();
    ASSERT_TRUE(client_.hello().ok()) << broker_.process().log_text();
    expect_got(attempt.session, bytes);
    expect_got(later.session, after);
    // Until the release somebody may want it.
    EXPECT_TRUE(io::exists(blobs() + unknown));
    ASSERT_TRUE(client_.call<ReleaseReply>(ReleaseRequest{.force = true}).ok());
    broker_.restart();
    ASSERT_TRUE(client_.hello().ok()) << broker_.process().log_text();
    EXPECT_TRUE(wait_until([&] { return !io::exists(blobs() + unknown); }, kCap));
    broker_.kill9();
    // With nothing left but the backup.
    std::filesystem::rename(backup->folder, broker_.dir().path("saved"));
    std::filesystem::remove_all(broker_.data_dir());
    backup->folder = broker_.dir().path("saved");
    restore();
    broker_.start();
    ASSERT_TRUE(client_.hello().ok()) << broker_.process().log_text();
    expect_got(attempt.session, bytes);
    EXPECT_EQ(get(later.session, io::sha256_hex(after)).error().code, ErrorCode::not_found);
}

}  // namespace
}  // namespace iw
