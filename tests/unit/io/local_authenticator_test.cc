#include <grp.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <zmq.h>

#include <array>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "common/io/files.h"
#include "common/io/local_peer.h"
#include "common/io/socket.h"
#include "common/io/system_clock.h"
#include "tests/support/temp_dir.h"
#include "tests/support/wait_until.h"

namespace iw::io {
namespace {

constexpr Duration kCap{30'000};
constexpr Duration kNoLinger{0};
constexpr const char* kDomain = "test";
constexpr uid_t kNobody = 65534;

TEST(LocalPeer, IsAdmittedByItsUser) {
    struct Row {
        std::string address;
        bool admitted;
    };
    const std::vector<Row> rows = {
        {"localhost:1000:1000:42", true},
        {"localhost:0:0:1", true},
        {"localhost:1000::42", true},  // without a group, as the kernel may leave it out
        {"localhost:1001:1000:42", false},
        {"localhost:::", false},
        {"localhost:1000:1000", false},
        {"localhost:1000:1000:42:7", false},
        {"localhost:+1000:1000:42", false},
        {"localhost:-1:0:1", false},
        {"localhost:4294967295:0:1", false},
        {"localhost:0x3e8:0:1", false},
        {"localhost:1000:x:1", false},
        {"Localhost:1000:1000:42", false},
        {"127.0.0.1", false},
        {"127.0.0.1:1000:1000:42", false},
        {"", false}};
    for (const Row& row : rows) {
        EXPECT_EQ(admits_local_peer(row.address, 1000), row.admitted) << row.address;
    }
}

// What became of one connection, by the events that the library reports for it.
enum class Handshake { succeeded, refused, unclear };

// A server that does not answer is given up after this; ours answers within milliseconds.
constexpr int kHandshakeMs = 1000;

// Connects with a socket of the library and waits for the outcome.
Handshake shake_hands(void* context, const std::string& endpoint) {
    void* socket = zmq_socket(context, ZMQ_DEALER);
    zmq_setsockopt(socket, ZMQ_HANDSHAKE_IVL, &kHandshakeMs, sizeof kHandshakeMs);
    const int events = ZMQ_EVENT_HANDSHAKE_SUCCEEDED | ZMQ_EVENT_HANDSHAKE_FAILED_AUTH |
                       ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL;
    zmq_socket_monitor(socket, "inproc://monitor", events);
    void* monitor = zmq_socket(context, ZMQ_PAIR);
    zmq_connect(monitor, "inproc://monitor");
    zmq_connect(socket, endpoint.c_str());

    const int linger = 0;
    const int cap_ms = static_cast<int>(kCap.count());
    std::array<char, 6> event{};
    std::array<char, 256> address{};
    for (void* either : {socket, monitor})
        zmq_setsockopt(either, ZMQ_LINGER, &linger, sizeof linger);
    zmq_setsockopt(monitor, ZMQ_RCVTIMEO, &cap_ms, sizeof cap_ms);
    const int size = zmq_recv(monitor, event.data(), event.size(), 0);
    zmq_recv(monitor, address.data(), address.size(), ZMQ_DONTWAIT);
    zmq_socket_monitor(socket, nullptr, 0);
    zmq_close(socket);
    zmq_close(monitor);
    if (size != static_cast<int>(event.size())) return Handshake::unclear;
    std::uint16_t number = 0;
    std::memcpy(&number, event.data(), sizeof number);
    return number == ZMQ_EVENT_HANDSHAKE_SUCCEEDED ? Handshake::succeeded : Handshake::refused;
}

TEST(LocalAuthenticator, NamesTheUserOfAPeer) {
    const test::TempDir dir;
    const std::string endpoint = "ipc://" + dir.path("socket");
    Context context;
    const Result<LocalAuthenticator> authenticator = LocalAuthenticator::start(context);
    ASSERT_TRUE(authenticator.ok());
    RouterSocket router = RouterSocket::bind(context, endpoint, kDomain).value();
    DealerSocket dealer = DealerSocket::connect(context, endpoint, kNoLinger).value();
    ASSERT_TRUE(test::wait_until([&] { return dealer.send("x") == SendOutcome::sent; }, kCap));
    std::optional<RouterSocket::Message> message;
    ASSERT_TRUE(test::wait_until([&] { return (message = router.receive()).has_value(); }, kCap));
    EXPECT_EQ(message->user, "uid:" + std::to_string(::geteuid()));
    EXPECT_EQ(message->payload, "x");
}

TEST(LocalAuthenticator, WithoutItADomainLetsNobodyIn) {
    const test::TempDir dir;
    const std::string endpoint = "ipc://" + dir.path("socket");
    Context context;
    const RouterSocket router = RouterSocket::bind(context, endpoint, kDomain).value();
    EXPECT_EQ(shake_hands(context.native(), endpoint), Handshake::refused);
}

TEST(LocalAuthenticator, LetsOursIn) {
    const test::TempDir dir;
    const std::string endpoint = "ipc://" + dir.path("socket");
    Context context;
    const Result<LocalAuthenticator> authenticator = LocalAuthenticator::start(context);
    ASSERT_TRUE(authenticator.ok());
    const RouterSocket router = RouterSocket::bind(context, endpoint, kDomain).value();
    EXPECT_EQ(shake_hands(context.native(), endpoint), Handshake::succeeded);
}

// Only root can become another user; for others the table of addresses above says the same.
TEST(LocalAuthenticator, RefusesAnotherUser) {
    if (::geteuid() != 0) {
        EXPECT_FALSE(admits_local_peer("localhost:0:0:1", ::geteuid()) &&
                     admits_local_peer("localhost:65534:65534:1", ::geteuid() + 1));
        EXPECT_FALSE(admits_local_peer("localhost:65534:65534:1", ::geteuid()));
        return;
    }
    const test::TempDir dir;
    const std::string endpoint = "ipc://" + dir.path("socket");
    // Started before there is a context here, which a fork would copy; it waits for the socket by
    // itself.
    const pid_t child = ::fork();
    if (child == 0) {
        if (::setgroups(0, nullptr) != 0 || ::setgid(kNobody) != 0 || ::setuid(kNobody) != 0) {
            ::_exit(99);
        }
        void* context = zmq_ctx_new();
        ::_exit(static_cast<int>(shake_hands(context, endpoint)));
    }
    Context context;
    const Result<LocalAuthenticator> authenticator = LocalAuthenticator::start(context);
    ASSERT_TRUE(authenticator.ok());
    const RouterSocket router = RouterSocket::bind(context, endpoint, kDomain).value();
    // The modes of folder and socket would keep it out already; here the handler alone shall.
    ASSERT_EQ(::chmod(dir.path().c_str(), 0755), 0);
    ASSERT_EQ(::chmod(dir.path("socket").c_str(), 0666), 0);
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFEXITED(status));
    EXPECT_EQ(static_cast<Handshake>(WEXITSTATUS(status)), Handshake::refused);
}

// One request to the handler, frame by frame, and its reply.
std::vector<std::string> ask(Context& context, const std::vector<std::string>& request) {
    void* socket = zmq_socket(context.native(), ZMQ_REQ);
    const int linger = 0;
    const int cap_ms = static_cast<int>(kCap.count());
    zmq_setsockopt(socket, ZMQ_LINGER, &linger, sizeof linger);
    zmq_setsockopt(socket, ZMQ_RCVTIMEO, &cap_ms, sizeof cap_ms);
    EXPECT_EQ(zmq_connect(socket, "inproc://zeromq.zap.01"), 0);
    for (std::size_t i = 0; i < request.size(); ++i) {
        const int flags = i + 1 < request.size() ? ZMQ_SNDMORE : 0;
        zmq_send(socket, request[i].data(), request[i].size(), flags);
    }
    std::vector<std::string> reply;
    int more = 1;
    while (more != 0) {
        std::array<char, 256> frame{};
        const int size = zmq_recv(socket, frame.data(), frame.size(), 0);
        if (size < 0) break;
        reply.emplace_back(frame.data(), static_cast<std::size_t>(size));
        std::size_t more_size = sizeof more;
        zmq_getsockopt(socket, ZMQ_RCVMORE, &more, &more_size);
    }
    zmq_close(socket);
    return reply;
}

TEST(LocalAuthenticator, AnswersEveryRequestWithACode) {
    Context context;
    const Result<LocalAuthenticator> authenticator = LocalAuthenticator::start(context);
    ASSERT_TRUE(authenticator.ok());
    const std::string own = std::to_string(::geteuid());
    const std::string address = "localhost:" + own + ":0:1";
    struct Row {
        std::vector<std::string> request;
        std::string code;
    };
    const std::vector<Row> rows = {{{"1.0", "7", "d", address, "", "NULL"}, "200"},
                                   {{"1.0", "7", "d", "10.0.0.1", "", "NULL"}, "400"},
                                   {{"1.0", "7", "d", address, "", "CURVE"}, "400"},
                                   {{"1.0", "7", "d", address, "", "NULL", "credentials"}, "500"},
                                   {{"1.0", "7", "d", address, "", "CURVE", "key"}, "500"},
                                   {{"2.0", "7", "d", address, "", "NULL"}, "500"},
                                   {{"1.0", "7", "d", address, ""}, "500"},
                                   {{"junk"}, "500"},
                                   {std::vector<std::string>(1000, "x"), "500"},
                                   {{"1.0", "7", "d", address, "", "NULL"}, "200"}};
    for (const Row& row : rows) {
        const std::vector<std::string> reply = ask(context, row.request);
        ASSERT_EQ(reply.size(), 6u);
        EXPECT_EQ(reply[0], "1.0");
        EXPECT_EQ(reply[2], row.code);
        EXPECT_EQ(reply[4], row.code == "200" ? "uid:" + own : "");
    }
}

TEST(LocalAuthenticator, StartsOnceAndEndsCleanly) {
    Context context;
    {
        const Result<LocalAuthenticator> first = LocalAuthenticator::start(context);
        ASSERT_TRUE(first.ok());
        EXPECT_FALSE(LocalAuthenticator::start(context).ok());
    }
    EXPECT_TRUE(LocalAuthenticator::start(context).ok());
}

}  // namespace
}  // namespace iw::io
