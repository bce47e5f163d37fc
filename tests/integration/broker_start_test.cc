// What a broker refuses to start on: one line on stderr, the documented exit code, nothing changed.

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "broker_fixture.h"

namespace iw {
namespace {

using test::kCap;
using test::TestBroker;
using test::TestPeer;

io::CommandResult run(const std::vector<std::string>& arguments) {
    std::vector<std::string> argv = {test::broker_program()};
    argv.insert(argv.end(), arguments.begin(), arguments.end());
    return test::run_program(argv, {}, "");
}

bool is_one_line(const std::string& text) {
    return !text.empty() && text.find('\n') == text.size() - 1;
}

void expect_refusal(const io::CommandResult& result, int exit_code, const std::string& word) {
    EXPECT_EQ(result.exit_code, exit_code) << result.errors;
    EXPECT_TRUE(is_one_line(result.errors)) << result.errors;
    EXPECT_NE(result.errors.find(word), std::string::npos) << result.errors;
}

TEST(BrokerStart, SecondBrokerOnTheDataDirectoryOrTheEndpointIsRefused) {
    TestBroker broker;
    broker.start();
    io::Context context;
    TestPeer peer(context, broker.endpoint());
    ASSERT_TRUE(peer.hello().ok()) << broker.process().log_text();

    const std::string other = broker.dir().path("other");
    expect_refusal(run({"--config", broker.config(), "--data-dir", broker.data_dir(), "--endpoint",
                        "ipc://" + broker.dir().path("c.sock")}),
                   75, broker.data_dir());
    expect_refusal(
        run({"--config", broker.config(), "--data-dir", other, "--endpoint", broker.endpoint()}),
        75, broker.endpoint());
    // The first one still has its socket.
    EXPECT_TRUE(peer.call<WorkersReply>(WorkersRequest{}).ok());
    TestPeer late(context, broker.endpoint());
    EXPECT_TRUE(late.hello().ok());
}

TEST(BrokerStart, TcpEndpointIsRefused) {
    const test::TempDir dir;
    expect_refusal(run({"--data-dir", dir.path("d"), "--endpoint", "tcp://127.0.0.1:5555"}), 78,
                   "tcp");
    EXPECT_FALSE(io::exists(dir.path("d")));
}

TEST(BrokerStart, WrongConfigurationIsNamed) {
    struct Case {
        std::string text;
        std::string word;
    };
    const std::vector<Case> cases = {
        {"[broker]\nheartbeet = \"10s\"\n", "broker.heartbeat"},
        {"[broker]\nheartbeat = \"never\"\n", "broker.heartbeat"},
        {"[broker]\nheartbeat = \"20s\"\n", "broker.unreachable"},
        {"[broker]\nlost = \"60s\"\n", "broker.lost"},
        {"[broker]\nsegment_size = 4096\n", "broker.segment_size"},
        {"[broker]\nlog_level = \"loud\"\n", "broker.log_level"},
        {"[backup]\nat = \"3 in the morning\"\n", "backup.at"},
        {"[backup]\nkeep = 0\n", "backup.keep"},
        {"[broker]\nendpoint = \"ipc://relative\"\n", "endpoint"},
        {"[broker\n", "line"},
    };
    const test::TempDir dir;
    for (const Case& wrong : cases) {
        SCOPED_TRACE(wrong.text);
        ASSERT_TRUE(io::write_file(dir.path("b.toml"), wrong.text, 0600, io::Sync::none).ok());
        expect_refusal(run({"--config", dir.path("b.toml"), "--data-dir", dir.path("d")}), 78,
                       wrong.word);
        expect_refusal(run({"--config", dir.path("b.toml"), "--check-config"}), 78, wrong.word);
    }
    expect_refusal(run({"--config", dir.path("missing.toml")}), 78, "missing.toml");
    EXPECT_FALSE(io::exists(dir.path("d")));
}

TEST(BrokerStart, EnvironmentIsWeakerThanFlagsAndStrongerThanFiles) {
    const test::TempDir dir;
    ASSERT_TRUE(
        io::write_file(dir.path("b.toml"), "[broker]\nlog_level = \"warn\"\n", 0600, io::Sync::none)
            .ok());
    const std::vector<std::string> argv = {test::broker_program(), "--config", dir.path("b.toml"),
                                           "--check-config"};
    const auto bad = test::run_program(argv, {"IW_CFG_BROKER_LOG_LEVEL=loud"}, "");
    expect_refusal(bad, 78, "IW_CFG_BROKER_LOG_LEVEL");
    std::vector<std::string> with_flag = argv;
    with_flag.insert(with_flag.end(), {"--log-level", "debug"});
    EXPECT_EQ(test::run_program(with_flag, {"IW_CFG_BROKER_LOG_LEVEL=loud"}, "").exit_code, 0);
}

TEST(BrokerStart, CheckConfigVersionHelpAndUsage) {
    const test::TempDir dir;
    const io::CommandResult fine =
        run({"--config", std::string(IW_SOURCE_DIR) + "/config/broker.toml", "--data-dir",
             dir.path("d"), "--check-config"});
    EXPECT_EQ(fine.exit_code, 0) << fine.errors;
    EXPECT_FALSE(io::exists(dir.path("d")));
    EXPECT_EQ(run({"--version"}).output.rfind("ibroker ", 0), 0U);
    EXPECT_NE(run({"--help"}).output.find("--check-config"), std::string::npos);
    expect_refusal(run({"--frobnicate"}), 64, "--frobnicate");
}

// The example file lists every key with its true default: with each comment mark removed it is
// accepted.
TEST(BrokerStart, ExampleFileIsComplete) {
    const test::TempDir dir;
    const Result<std::string> text =
        io::read_file(std::string(IW_SOURCE_DIR) + "/config/broker.toml", 1u << 20);
    ASSERT_TRUE(text.ok());
    std::string active;
    std::size_t keys = 0;
    std::size_t start = 0;
    while (start < text->size()) {
        const std::size_t end = text->find('\n', start);
        std::string line = text->substr(start, end - start);
        if (line.size() > 1 && line[0] == '#' && line[1] >= 'a' && line[1] <= 'z') {
            line.erase(0, 1);
            ++keys;
        }
        active += line + "\n";
        start = end + 1;
    }
    EXPECT_EQ(keys, 13U);
    ASSERT_TRUE(io::write_file(dir.path("b.toml"), active, 0600, io::Sync::none).ok());
    const io::CommandResult checked = run({"--config", dir.path("b.toml"), "--check-config"});
    EXPECT_EQ(checked.exit_code, 0) << checked.errors;
}

TEST(BrokerStart, SocketFolderOpenToOthersIsRefused) {
    const test::TempDir dir;
    const std::string open = dir.path("open");
    ASSERT_EQ(::mkdir(open.c_str(), 0755), 0);
    ASSERT_EQ(::chmod(open.c_str(), 0755), 0);
    expect_refusal(run({"--data-dir", dir.path("d"), "--endpoint", "ipc://" + open + "/b.sock"}),
                   77, open);
}

// The service manager hears when the broker serves, that it lives, and when it ends.
TEST(BrokerStart, ServiceManagerIsTold) {
    TestBroker broker;
    const std::string path = broker.dir().path("notify");
    const io::UniqueFd manager(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path.copy(address.sun_path, sizeof address.sun_path - 1);
    ASSERT_EQ(::bind(manager.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address),
              0);
    std::string heard;
    const auto hears = [&](const std::string& message) {
        return test::wait_until(
            [&] {
                char text[256];
                const ssize_t size = ::recv(manager.get(), text, sizeof text, MSG_DONTWAIT);
                if (size > 0) heard += std::string(text, static_cast<std::size_t>(size)) + "\n";
                return heard.find(message) != std::string::npos;
            },
            kCap);
    };
    test::ChildProcess process({.argv = broker.arguments(),
                                .environment = {"NOTIFY_SOCKET=" + path, "WATCHDOG_USEC=400000"},
                                .log = broker.log()});
    EXPECT_TRUE(hears("READY=1")) << process.log_text();
    EXPECT_TRUE(hears("WATCHDOG=1\nWATCHDOG=1"));
    process.send_signal(SIGTERM);
    EXPECT_TRUE(hears("STOPPING=1"));
    EXPECT_EQ(process.wait_exit(kCap), 0);
}

TEST(BrokerStart, ForeignAndContradictingFilesAreRefused) {
    TestBroker broker;
    broker.start();
    {
        io::Context context;
        TestPeer peer(context, broker.endpoint());
        ASSERT_TRUE(peer.hello().ok());
        ASSERT_TRUE(test::submit_one(peer, test::make_submission("helper", "x", "k")).ok());
    }
    broker.process().send_signal(SIGTERM);
    ASSERT_EQ(broker.process().wait_exit(kCap), 0);

    std::vector<std::string> arguments = broker.arguments();
    arguments.erase(arguments.begin());
    // Without its journal the database has seen what nobody holds any more.
    const std::string journal = broker.data_dir() + "/journal";
    ASSERT_EQ(std::rename(journal.c_str(), broker.dir().path("aside").c_str()), 0);
    expect_refusal(run(arguments), 65, "backup");
    ASSERT_TRUE(io::remove_tree(journal).ok());
    ASSERT_EQ(std::rename(broker.dir().path("aside").c_str(), journal.c_str()), 0);

    const std::string segment = journal + "/" + io::list_folder(journal).back();
    const std::string whole = io::read_file(segment, 1u << 30).value();
    std::string damaged = whole;
    damaged[20] = static_cast<char>(damaged[20] ^ 0x10);
    ASSERT_TRUE(io::write_file(segment, damaged, 0600, io::Sync::none).ok());
    expect_refusal(run(arguments), 65, "damaged");
    ASSERT_TRUE(io::write_file(segment, whole, 0600, io::Sync::none).ok());

    const std::string database = broker.data_dir() + "/broker.db";
    ASSERT_TRUE(io::write_file(database, std::string(8192, 'x'), 0600, io::Sync::none).ok());
    expect_refusal(run(arguments), 65, "broker.db");
}

}  // namespace
}  // namespace iw
