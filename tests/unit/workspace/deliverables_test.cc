#include "common/workspace/deliverables.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>

#include "common/base/text.h"
#include "common/io/files.h"
#include "tests/support/temp_dir.h"

namespace iw::workspace {
namespace {

constexpr Collector::Limits kRoomy{.files_max = 1000, .bytes_max = 100'000'000};

class DeliverablesTest : public ::testing::Test {
  protected:
    std::string path(const std::string& name) const { return temp_.path() + "/w/" + name; }
    void put(const std::string& name, const std::string& text) const {
        ASSERT_TRUE(io::make_folders(io::parent_folder(path(name)), 0755).ok());
        ASSERT_TRUE(io::write_file(path(name), text, 0644, io::Sync::none).ok());
    }
    Collector collect(Collector::Limits limits) const {
        Collector collector(temp_.path() + "/w", limits);
        while (!collector.done())
            collector.step(1u << 20);
        return collector;
    }
    std::vector<std::string> paths(const Collector& collector) const {
        std::vector<std::string> names;
        for (const DeliveredFile& file : collector.manifest().files)
            names.push_back(file.path);
        return names;
    }
    // Whether a line names the file and says why it stays.
    static bool stays(const Collector& collector, const std::string& line) {
        return std::ranges::count(collector.left_out(), line) == 1;
    }

    test::TempDir temp_;
};

using Names = std::vector<std::string>;

// ---- Collecting --------------------------------------------------------------------------------

TEST_F(DeliverablesTest, TakesEveryFileButTheOrchestratorsOwn) {
    for (const char* name :
         {"prompt.md", "state.json", "session.log", ".state.json.a1b2", ".incoming-77/x",
          "result.json", "output.log", "a/b/c.txt", "a/state.json"})
        put(name, "content");
    const Collector collector = collect(kRoomy);
    EXPECT_EQ(paths(collector), (Names{"a/b/c.txt", "a/state.json", "output.log", "result.json"}));
    EXPECT_TRUE(collector.left_out().empty());
}

TEST_F(DeliverablesTest, KnowsSizeChecksumAndWhoMayExecute) {
    put("run.sh", "#!/bin/sh\n");
    put("empty", "");
    ASSERT_EQ(::chmod(path("run.sh").c_str(), 0750), 0);
    const Manifest manifest = collect(kRoomy).manifest();
    const Manifest expected{{{"empty", 0, io::sha256_hex(""), false},
                             {"run.sh", 10, io::sha256_hex("#!/bin/sh\n"), true}},
                            {}};
    EXPECT_EQ(manifest, expected);
}

TEST_F(DeliverablesTest, AMissingWorkspaceHoldsNothing) {
    const Collector collector = collect(kRoomy);
    EXPECT_TRUE(collector.manifest().files.empty());
    EXPECT_TRUE(collector.over().empty());
}

TEST_F(DeliverablesTest, AWorkspaceThatIsALinkHoldsNothing) {
    ASSERT_TRUE(io::make_folders(temp_.path() + "/other", 0755).ok());
    ASSERT_TRUE(io::write_file(temp_.path() + "/other/f", "x", 0644, io::Sync::none).ok());
    ASSERT_EQ(::symlink("other", (temp_.path() + "/w").c_str()), 0);
    EXPECT_TRUE(collect(kRoomy).manifest().files.empty());
}

TEST_F(DeliverablesTest, FollowsNoLinkAndOpensNoSpecialFile) {
    put("real", "x");
    ASSERT_EQ(::symlink("/etc/passwd", path("link").c_str()), 0);
    ASSERT_EQ(::symlink("/etc", path("folder-link").c_str()), 0);
    ASSERT_EQ(::mkfifo(path("fifo").c_str(), 0644), 0);
    const int fd = ::socket(AF_UNIX, SOCK_STREAM, 0);
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path("sock").copy(address.sun_path, sizeof address.sun_path - 1);
    ASSERT_EQ(::bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
    ::close(fd);
    const Collector collector = collect(kRoomy);
    EXPECT_EQ(paths(collector), Names{"real"});
    EXPECT_TRUE(stays(collector, "link: a link"));
    EXPECT_TRUE(stays(collector, "folder-link: a link"));
    EXPECT_TRUE(stays(collector, "fifo: a fifo"));
    EXPECT_TRUE(stays(collector, "sock: a socket"));
}

TEST_F(DeliverablesTest, NamesThatCannotBeToldStayBehind) {
    put("good ä", "x");
    put("new\nline", "x");
    put("esc\x1b[2J", "x");
    put("latin1-\xe4", "x");
    const Collector collector = collect(kRoomy);
    EXPECT_EQ(paths(collector), Names{"good ä"});
    EXPECT_EQ(collector.left_out().size(), 3u);
    for (const std::string& line : collector.left_out())
        EXPECT_EQ(printable(line, true), line);
}

TEST_F(DeliverablesTest, AHardLinkTravelsAsAFileOfItsOwn) {
    put("one", "same");
    ASSERT_EQ(::link(path("one").c_str(), path("two").c_str()), 0);
    EXPECT_EQ(paths(collect(kRoomy)), (Names{"one", "two"}));
}

TEST_F(DeliverablesTest, TooManyBytesAreSeenBeforeAnyIsRead) {
    put("small", "x");
    put("holes", "");
    ASSERT_EQ(::truncate(path("holes").c_str(), off_t{1} << 40), 0);
    const Collector collector(temp_.path() + "/w", {.files_max = 10, .bytes_max = 500'000'000});
    EXPECT_TRUE(collector.done());
    EXPECT_EQ(collector.over(), "1099511 MB > 500 MB");
}

TEST_F(DeliverablesTest, TooManyFilesAndTooManyFolders) {
    for (int i = 0; i < 5; ++i)
        put("f" + std::to_string(i), "");
    EXPECT_EQ(collect({.files_max = 4, .bytes_max = 100}).over(), "more than 4 files");
    EXPECT_TRUE(collect({.files_max = 5, .bytes_max = 100}).over().empty());
    for (int i = 0; i < 25; ++i)
        ASSERT_TRUE(io::make_folders(path("folder" + std::to_string(i)), 0755).ok());
    EXPECT_EQ(collect({.files_max = 5, .bytes_max = 100}).over(), "more than 25 names");
}

TEST_F(DeliverablesTest, AFileThatVanishesStaysBehind) {
    put("a", "x");
    put("b", "y");
    Collector collector(temp_.path() + "/w", kRoomy);
    ASSERT_EQ(::unlink(path("b").c_str()), 0);
    while (!collector.done())
        collector.step(1);
    EXPECT_EQ(paths(collector), Names{"a"});
    EXPECT_TRUE(stays(collector, "b: it vanished"));
}

TEST_F(DeliverablesTest, AFileThatGrowsWhileItIsReadIsReadAnew) {
    put("log", std::string(300'000, 'x'));
    Collector collector(temp_.path() + "/w", kRoomy);
    collector.step(1);
    ASSERT_FALSE(collector.done());
    ASSERT_TRUE(io::append_file(path("log"), "more", 0644).ok());
    while (!collector.done())
        collector.step(1u << 20);
    ASSERT_EQ(paths(collector), Names{"log"});
    EXPECT_EQ(collector.manifest().files[0].size, 300'004u);
    EXPECT_EQ(collector.manifest().files[0].sha256,
              io::sha256_hex(std::string(300'000, 'x') + "more"));
}

TEST_F(DeliverablesTest, AFileThatNeverStopsChangingStaysBehind) {
    put("log", std::string(300'000, 'x'));
    Collector collector(temp_.path() + "/w", kRoomy);
    int steps = 0;
    while (!collector.done() && ++steps < 100) {
        collector.step(1);
        ASSERT_TRUE(io::append_file(path("log"), "more", 0644).ok());
    }
    EXPECT_TRUE(collector.done());
    EXPECT_TRUE(collector.manifest().files.empty());
    EXPECT_TRUE(stays(collector, "log: it goes on changing"));
}

TEST_F(DeliverablesTest, GrowthBeyondTheLimitIsNoticed) {
    put("log", std::string(10, 'x'));
    Collector collector(temp_.path() + "/w", {.files_max = 10, .bytes_max = 20});
    put("log", std::string(30, 'x'));
    while (!collector.done())
        collector.step(1);
    EXPECT_EQ(collector.over(), "0 MB > 0 MB");
}

TEST_F(DeliverablesTest, PiecesAreOfTheFileAsItIs) {
    put("a/f", "0123456789");
    const Collector collector = collect(kRoomy);
    EXPECT_EQ(*collector.read("a/f", 2, 3), "234");
    EXPECT_EQ(*collector.read("a/f", 8, 100), "89");
    EXPECT_EQ(*collector.read("a/f", 20, 5), "");
    ASSERT_EQ(::rename(path("a").c_str(), (temp_.path() + "/aside").c_str()), 0);
    ASSERT_EQ(::symlink("../aside", path("a").c_str()), 0);
    EXPECT_EQ(collector.read("a/f", 0, 5).error().code, ErrorCode::not_found);
}

// ---- Manifest ----------------------------------------------------------------------------------

std::string entry(const std::string& name, const std::string& rest) {
    return "{\"path\":\"" + name + "\"," + rest + "}";
}
std::string file(const std::string& name) {
    return entry(name, "\"size\":1,\"mode\":420,\"sha256\":\"" + io::sha256_hex("x") + "\"");
}
std::string manifest_of(const std::string& files) {
    return "{\"version\":1,\"files\":[" + files + "]}";
}

TEST(ManifestTest, ComesBackAsItWas) {
    const Manifest manifest{
        {{"a b/ü\"\\.txt", 5, io::sha256_hex("a"), true}, {"z", 0, io::sha256_hex(""), false}}};
    const Result<Manifest> parsed = parse_manifest(format_manifest(manifest));
    ASSERT_TRUE(parsed.ok()) << parsed.error().message;
    EXPECT_EQ(*parsed, manifest);
    EXPECT_EQ(total_bytes(*parsed), 5u);
    EXPECT_TRUE(parse_manifest(manifest_of("")).ok());
}

TEST(ManifestTest, WhatAPeerSaysToPeopleIsMadePrintable) {
    const Result<Manifest> parsed =
        parse_manifest("{\"version\":1,\"files\":[],\"left_out\":[7,\"a\\u001b[2Jb\\nc\"]}");
    ASSERT_TRUE(parsed.ok());
    ASSERT_EQ(parsed->left_out.size(), 1u);
    EXPECT_EQ(printable(parsed->left_out[0], true), parsed->left_out[0]);
    EXPECT_TRUE(parse_manifest("{\"version\":1,\"files\":[],\"left_out\":7}").ok());
}

TEST(ManifestTest, RefusesNamesThatLeaveTheWorkspace) {
    EXPECT_TRUE(parse_manifest(manifest_of(file("a"))).ok());
    for (const char* name : {"",
                             "/etc/passwd",
                             "..",
                             "../x",
                             "a/../../x",
                             "a/..",
                             "a//b",
                             "a/",
                             ".",
                             "./a",
                             "a/./b",
                             "prompt.md",
                             "state.json",
                             "session.log",
                             ".state.json.x",
                             ".incoming-x/y",
                             "a\\u0000b",
                             "a\\nb",
                             "a\\u001b[2J",
                             "a\\u007f",
                             "a\\u009b"}) {
        const Result<Manifest> parsed = parse_manifest(manifest_of(file(name)));
        ASSERT_FALSE(parsed.ok()) << name;
        EXPECT_EQ(parsed.error().code, ErrorCode::bad_request);
        EXPECT_EQ(printable(parsed.error().message, true), parsed.error().message);
    }
    EXPECT_FALSE(is_deliverable_path(std::string(256, 'x')));
    EXPECT_FALSE(is_deliverable_path("a\xff"));
    EXPECT_TRUE(is_deliverable_path("a/state.json"));
    EXPECT_TRUE(is_deliverable_path("..."));
}

TEST(ManifestTest, RefusesWhatNoCollectorMakes) {
    const std::string sha = io::sha256_hex("x");
    const std::vector<std::string> bad = {
        "",
        "[]",
        "{",
        "{\"version\":2,\"files\":[]}",
        "{\"version\":1}",
        "{\"version\":1,\"files\":{}}",
        manifest_of("1"),
        manifest_of(file("b") + "," + file("a")),
        manifest_of(file("a") + "," + file("a")),
        manifest_of(file("a") + "," + file("a-b") + "," + file("a/b")),
        manifest_of(entry("a", "\"size\":-1,\"mode\":420,\"sha256\":\"" + sha + "\"")),
        manifest_of(entry("a", "\"size\":\"1\",\"mode\":420,\"sha256\":\"" + sha + "\"")),
        manifest_of(entry("a", "\"size\":1,\"mode\":2541,\"sha256\":\"" + sha + "\"")),
        manifest_of(entry("a", "\"size\":1,\"mode\":420,\"sha256\":\"../x\"")),
        manifest_of(entry("a", "\"size\":1,\"mode\":420,\"sha256\":\"" + to_hex("x") + "\"")),
        manifest_of(file("a") + "," +
                    entry("b", "\"size\":2,\"mode\":420,\"sha256\":\"" + sha + "\"")),
        std::string(kManifestBytesMax + 1, ' '),
    };
    for (const std::string& text : bad)
        EXPECT_FALSE(parse_manifest(text).ok()) << text.substr(0, 200);
}

TEST(ManifestTest, RefusesTooManyFiles) {
    std::string files;
    for (std::size_t i = 0; i <= kManifestFilesMax; ++i)
        files += (i == 0 ? "" : ",") + file(std::to_string(100'000 + i));
    EXPECT_FALSE(parse_manifest(manifest_of(files)).ok());
}

}  // namespace
}  // namespace iw::workspace
