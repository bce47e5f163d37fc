#include "common/io/socket.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include <zmq.h>

#include <array>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "common/base/limits.h"
#include "common/io/event_loop.h"
#include "common/io/files.h"
#include "common/io/system_clock.h"
#include "tests/support/temp_dir.h"
#include "tests/support/wait_until.h"

namespace iw::io {
namespace {

constexpr Duration kCap{30'000};
constexpr Duration kNoLinger{0};

// A router in a folder of its own, and dealers that connect to it.
class SocketTest : public ::testing::Test {
  protected:
    void SetUp() override {
        endpoint_ = "ipc://" + dir_.path("socket");
        Result<RouterSocket> bound = RouterSocket::bind(context_, endpoint_, "");
        ASSERT_TRUE(bound.ok()) << bound.error().message;
        router_ = std::make_unique<RouterSocket>(std::move(bound).value());
    }

    DealerSocket connect() { return DealerSocket::connect(context_, endpoint_, kNoLinger).value(); }

    // Waits as a program does, through the event loop.
    std::optional<RouterSocket::Message> receive() {
        EventLoop loop;
        std::optional<RouterSocket::Message> message;
        loop.add_socket(router_->native(), [&] { message = router_->receive(); });
        const Timestamp deadline = steady_now() + kCap;
        while (!message && steady_now() < deadline)
            EXPECT_TRUE(loop.wait(deadline).ok());
        return message;
    }

    std::optional<std::string> receive(DealerSocket& dealer) {
        EventLoop loop;
        std::optional<std::string> message;
        loop.add_socket(dealer.native(), [&] { message = dealer.receive(); });
        const Timestamp deadline = steady_now() + kCap;
        while (!message && steady_now() < deadline)
            EXPECT_TRUE(loop.wait(deadline).ok());
        return message;
    }

    static void send(DealerSocket& dealer, const std::string& payload) {
        ASSERT_TRUE(
            test::wait_until([&] { return dealer.send(payload) == SendOutcome::sent; }, kCap));
    }

    test::TempDir dir_;
    Context context_;
    std::string endpoint_;
    std::unique_ptr<RouterSocket> router_;
};

// A socket of the library itself, for what ours never send.
class RawDealer {
  public:
    RawDealer(Context& context, const std::string& endpoint)
        : socket_(zmq_socket(context.native(), ZMQ_DEALER)) {
        const int linger = 0;
        zmq_setsockopt(socket_, ZMQ_LINGER, &linger, sizeof linger);
        EXPECT_EQ(zmq_connect(socket_, endpoint.c_str()), 0);
    }
    ~RawDealer() { zmq_close(socket_); }
    RawDealer(const RawDealer&) = delete;
    RawDealer& operator=(const RawDealer&) = delete;

    void send(const std::string& frame, bool more) {
        const int flags = more ? ZMQ_SNDMORE : 0;
        ASSERT_EQ(zmq_send(socket_, frame.data(), frame.size(), flags),
                  static_cast<int>(frame.size()));
    }

  private:
    void* socket_;
};

TEST_F(SocketTest, CarriesAMessageThereAndBack) {
    DealerSocket dealer = connect();
    send(dealer, "question");
    const std::optional<RouterSocket::Message> message = receive();
    ASSERT_TRUE(message.has_value());
    EXPECT_EQ(message->payload, "question");
    EXPECT_EQ(message->user, "");
    EXPECT_EQ(router_->send(message->peer, "answer"), SendOutcome::sent);
    EXPECT_EQ(receive(dealer), "answer");
}

TEST_F(SocketTest, CarriesTheLargestAndTheSmallestMessage) {
    DealerSocket dealer = connect();
    const std::string large(limits::kMessageMax, 'x');
    send(dealer, large);
    send(dealer, "");
    const std::optional<RouterSocket::Message> message = receive();
    ASSERT_TRUE(message.has_value());
    EXPECT_TRUE(message->payload == large);
    EXPECT_EQ(receive()->payload, "");
    EXPECT_EQ(router_->send(message->peer, large), SendOutcome::sent);
    EXPECT_TRUE(receive(dealer) == large);
}

TEST_F(SocketTest, TellsPeersApartByConnection) {
    DealerSocket first = connect();
    DealerSocket second = connect();
    send(first, "1");
    const std::string first_peer = receive()->peer;
    send(second, "2");
    const std::string second_peer = receive()->peer;
    EXPECT_NE(first_peer, second_peer);
    EXPECT_EQ(router_->send(second_peer, "to second"), SendOutcome::sent);
    EXPECT_EQ(receive(second), "to second");
    EXPECT_FALSE(first.receive().has_value());
}

TEST_F(SocketTest, ReturnsAtOnceWhenNothingWaits) {
    DealerSocket dealer = connect();
    EXPECT_FALSE(router_->receive().has_value());
    EXPECT_FALSE(dealer.receive().has_value());
}

TEST_F(SocketTest, TheSocketFileIsOursAlone) {
    struct stat info {};
    ASSERT_EQ(::stat(dir_.path("socket").c_str(), &info), 0);
    EXPECT_TRUE(S_ISSOCK(info.st_mode));
    EXPECT_EQ(info.st_mode & 0777, 0600u);
}

TEST_F(SocketTest, DropsAMessageOfManyPartsWhole) {
    constexpr int kParts = 20'000;
    RawDealer peer(context_, endpoint_);
    for (int part = 0; part < kParts; ++part)
        peer.send("part", true);
    peer.send("last", false);
    peer.send("", true);  // an empty delimiter, as REQ sockets send
    peer.send("payload", false);
    peer.send("good", false);
    const std::optional<RouterSocket::Message> message = receive();
    ASSERT_TRUE(message.has_value());
    EXPECT_EQ(message->payload, "good");
    EXPECT_FALSE(router_->receive().has_value());
}

TEST_F(SocketTest, DropsBadMessagesOfARouterToo) {
    DealerSocket dealer = connect();
    send(dealer, "hello");
    const std::string peer = receive()->peer;
    for (const char* frame : {"one", "two"}) {
        ASSERT_GT(zmq_send(router_->native(), peer.data(), peer.size(), ZMQ_SNDMORE), 0);
        ASSERT_GT(zmq_send(router_->native(), frame, 3, ZMQ_SNDMORE), 0);
        ASSERT_GT(zmq_send(router_->native(), frame, 3, 0), 0);
    }
    EXPECT_EQ(router_->send(peer, "good"), SendOutcome::sent);
    EXPECT_EQ(receive(dealer), "good");
}

TEST_F(SocketTest, OneCallDropsOnlySoManyBadMessages) {
    constexpr int kBad = 200;
    RawDealer peer(context_, endpoint_);
    for (int i = 0; i < kBad; ++i) {
        peer.send("a", true);
        peer.send("b", false);
    }
    peer.send("good", false);
    // A call may give nothing back although more waits; the next wait then ends at once.
    const std::optional<RouterSocket::Message> message = receive();
    ASSERT_TRUE(message.has_value());
    EXPECT_EQ(message->payload, "good");
}

// A peer that speaks the transport's protocol by hand (ZMTP 3.0, RFC 23, NULL mechanism) and never
// ends its message; a socket of the library would keep such a message to itself.
class EndlessPeer {
  public:
    explicit EndlessPeer(const std::string& path)
        : fd_(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
        sockaddr_un address{};
        address.sun_family = AF_UNIX;
        std::strncpy(address.sun_path, path.c_str(), sizeof address.sun_path - 1);
        EXPECT_EQ(::connect(fd_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address),
                  0);
        std::string greeting = std::string("\xFF\0\0\0\0\0\0\0\0\x7F\x03\0", 12) + "NULL";
        greeting.resize(64, '\0');
        write(greeting);
        // "DEALER" stands apart, because a D would count as one more digit of the size before it.
        const std::string ready = std::string("\x05READY\x0BSocket-Type\0\0\0\x06", 22) + "DEALER";
        write(std::string("\x04") + static_cast<char>(ready.size()) + ready);
        // Data before the other side has sent its own READY would be a breach of the protocol.
        read(greeting.size());
        const std::string header = read(2);
        read(static_cast<unsigned char>(header[1]));
    }

    // A whole message, so that the other side has a name for this connection.
    void send_message() { write(std::string("\0\x05hello", 7)); }
    void send_part() {
        constexpr char kMore = 1;
        constexpr char kSize = 100;
        write(std::string{kMore, kSize} + std::string(kSize, 'x'));
    }

  private:
    void write(const std::string& bytes) {
        EXPECT_EQ(::send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL),
                  static_cast<ssize_t>(bytes.size()));
    }

    std::string read(std::size_t size) {
        std::string bytes(size, '\0');
        EXPECT_EQ(::recv(fd_.get(), bytes.data(), size, MSG_WAITALL), static_cast<ssize_t>(size));
        return bytes;
    }

    UniqueFd fd_;
};

TEST_F(SocketTest, AMessageThatNeverEndsHoldsUpNobody) {
    constexpr int kRounds = 50;
    constexpr int kPartsPerRound = 200;
    EndlessPeer endless(dir_.path("socket"));
    DealerSocket dealer = connect();
    for (int round = 0; round < kRounds; ++round) {
        for (int part = 0; part < kPartsPerRound; ++part)
            endless.send_part();
        send(dealer, std::to_string(round));
        const std::optional<RouterSocket::Message> message = receive();
        ASSERT_TRUE(message.has_value());
        ASSERT_EQ(message->payload, std::to_string(round));
    }
    EXPECT_FALSE(router_->receive().has_value());
}

TEST_F(SocketTest, APeerThatSendsTooMuchIsCutOffAlone) {
    RawDealer peer(context_, endpoint_);
    peer.send(std::string(limits::kMessageMax + 8192, 'x'), false);
    DealerSocket dealer = connect();
    send(dealer, "good");
    EXPECT_EQ(receive()->payload, "good");
}

TEST_F(SocketTest, ARouterTellsAPeerThatHasGone) {
    EXPECT_EQ(router_->send("nobody", "x"), SendOutcome::no_peer);
    EXPECT_EQ(router_->send("", "x"), SendOutcome::no_peer);
    std::string peer;
    {
        DealerSocket dealer = connect();
        send(dealer, "hello");
        peer = receive()->peer;
    }
    EXPECT_TRUE(
        test::wait_until([&] { return router_->send(peer, "x") == SendOutcome::no_peer; }, kCap));
}

TEST_F(SocketTest, ARouterTellsAPeerThatDoesNotRead) {
    DealerSocket dealer = connect();
    send(dealer, "hello");
    const std::string peer = receive()->peer;
    const std::string payload(10'000, 'x');
    constexpr int kMany = 100'000;
    int sent = 0;
    while (sent < kMany && router_->send(peer, payload) == SendOutcome::sent)
        ++sent;
    EXPECT_LT(sent, kMany);
    EXPECT_TRUE(
        test::wait_until([&] { return router_->send(peer, payload) == SendOutcome::full; }, kCap));
    EXPECT_EQ(receive(dealer)->size(), payload.size());
}

// What is counted counts until the transport has let it go: read by the peer, dropped with it, or
// never sent.
TEST_F(SocketTest, TicketsAreKeptAsLongAsTheirBytes) {
    const auto ticket = std::make_shared<const int>(1);
    EXPECT_EQ(router_->send("nobody", std::string("x"), ticket), SendOutcome::no_peer);
    EXPECT_EQ(router_->send("", std::string("x"), ticket), SendOutcome::no_peer);
    EXPECT_EQ(ticket.use_count(), 1);

    const std::string payload(1u << 20, 'x');
    DealerSocket dealer = connect();
    send(dealer, "hello");
    const std::string reader = receive()->peer;
    EXPECT_EQ(router_->send(reader, payload, ticket), SendOutcome::sent);
    EXPECT_EQ(receive(dealer), payload);
    EXPECT_TRUE(test::wait_until([&] { return ticket.use_count() == 1; }, kCap));

    constexpr int kMany = 20;
    {
        EndlessPeer silent(dir_.path("socket"));
        silent.send_message();
        const std::string peer = receive()->peer;
        for (int i = 0; i < kMany; ++i)
            EXPECT_EQ(router_->send(peer, payload, ticket), SendOutcome::sent);
        // Others are served meanwhile; none of these fits into the kernel.
        EXPECT_EQ(router_->send(reader, payload, nullptr), SendOutcome::sent);
        EXPECT_EQ(receive(dealer), payload);
        EXPECT_EQ(ticket.use_count(), 1 + kMany);
    }
    // The library learns of a connection's end when its socket is looked at, as every loop does.
    EXPECT_TRUE(test::wait_until(
        [&] { return !router_->receive().has_value() && ticket.use_count() == 1; }, kCap));
}

TEST(DealerSocket, DoesNotQueueForABrokerThatIsDown) {
    const test::TempDir dir;
    Context context;
    const std::string endpoint = "ipc://" + dir.path("socket");
    DealerSocket dealer = DealerSocket::connect(context, endpoint, kNoLinger).value();
    EXPECT_EQ(dealer.send("stale"), SendOutcome::no_peer);

    RouterSocket router = RouterSocket::bind(context, endpoint, "").value();
    ASSERT_TRUE(test::wait_until([&] { return dealer.send("fresh") == SendOutcome::sent; }, kCap));
    std::optional<RouterSocket::Message> message;
    ASSERT_TRUE(test::wait_until([&] { return (message = router.receive()).has_value(); }, kCap));
    EXPECT_EQ(message->payload, "fresh");
}

TEST(DealerSocket, ConnectsAgainToABrokerThatComesBack) {
    const test::TempDir dir;
    Context context;
    const std::string endpoint = "ipc://" + dir.path("socket");
    DealerSocket dealer = DealerSocket::connect(context, endpoint, kNoLinger).value();
    for (int life = 0; life < 3; ++life) {
        RouterSocket router = RouterSocket::bind(context, endpoint, "").value();
        // What went into the old connection is lost; only an answer proves anything.
        EXPECT_TRUE(test::wait_until(
            [&] {
                dealer.send("hello");
                return router.receive().has_value();
            },
            kCap));
    }
}

TEST(RouterSocket, SaysWhyItCannotListen) {
    Context context;
    for (const std::string endpoint : {"ipc:///does/not/exist/socket", "nonsense", "foo://bar"}) {
        const Result<RouterSocket> bound = RouterSocket::bind(context, endpoint, "");
        ASSERT_FALSE(bound.ok()) << endpoint;
        EXPECT_EQ(bound.error().code, ErrorCode::io);
        EXPECT_NE(bound.error().message.find(endpoint), std::string::npos);
    }
    EXPECT_FALSE(DealerSocket::connect(context, "nonsense", kNoLinger).ok());
}

TEST(CheckEndpoint, TakesLocalSocketsWithAPathThatFits) {
    EXPECT_TRUE(check_endpoint("ipc:///run/user/1000/broker.sock").ok());
    EXPECT_TRUE(check_endpoint("ipc:///" + std::string(99, 'x')).ok());
    for (const std::string& endpoint :
         {std::string(), std::string("ipc://"), std::string("ipc://relative"),
          std::string("ipc:///"), std::string("ipc://*"), std::string("inproc://x"),
          std::string("/run/broker.sock"), std::string("ipc:///dir/"),
          "ipc:///" + std::string(100, 'x')}) {
        const Status checked = check_endpoint(endpoint);
        ASSERT_FALSE(checked.ok()) << endpoint;
        EXPECT_EQ(checked.error().code, ErrorCode::config);
    }
    const Status tcp = check_endpoint("tcp://127.0.0.1:5555");
    ASSERT_FALSE(tcp.ok());
    EXPECT_NE(tcp.error().message.find("need keys"), std::string::npos);
}

}  // namespace
}  // namespace iw::io
