#include "common/workspace/incoming.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

#include "common/io/files.h"
#include "common/workspace/workspace.h"
#include "tests/support/temp_dir.h"

namespace iw::workspace {
namespace {

struct Content {
    std::string path;
    std::string bytes;
    bool executable = false;
};

Manifest manifest_of(std::vector<Content> contents) {
    Manifest manifest;
    std::ranges::sort(contents, {}, &Content::path);
    for (const Content& content : contents) {
        manifest.files.push_back({.path = content.path,
                                  .size = content.bytes.size(),
                                  .sha256 = io::sha256_hex(content.bytes),
                                  .executable = content.executable});
    }
    return manifest;
}

class IncomingTest : public ::testing::Test {
  protected:
    void SetUp() override { ASSERT_TRUE(io::make_folders(folder(), 0755).ok()); }

    std::string folder() const { return temp_.path() + "/w"; }
    std::string read(const std::string& name) const {
        const Result<std::string> text = io::read_file(folder() + "/" + name, 1u << 24);
        return text ? *text : "<" + text.error().message + ">";
    }
    Incoming open() const {
        Result<Incoming> incoming = Incoming::open(folder(), Incoming::Busy::refuse);
        EXPECT_TRUE(incoming.ok());
        return std::move(*incoming);
    }
    // Every missing blob, in pieces.
    static void bring(Incoming& incoming, const std::vector<Content>& contents, std::size_t piece) {
        while (!incoming.complete()) {
            const Incoming::Wanted wanted = incoming.wanted(1).front();
            const auto found = std::ranges::find_if(contents, [&](const Content& content) {
                return io::sha256_hex(content.bytes) == wanted.blob;
            });
            ASSERT_NE(found, contents.end());
            const std::string bytes = found->bytes.substr(wanted.have, piece);
            ASSERT_TRUE(incoming.append(wanted.blob, wanted.have, bytes).ok());
        }
    }
    void fetch(const std::vector<Content>& contents) {
        Incoming incoming = open();
        ASSERT_TRUE(incoming.expect(manifest_of(contents)).ok());
        bring(incoming, contents, 1000);
        ASSERT_TRUE(incoming.install().ok());
    }
    std::vector<std::string> names() const { return io::list_folder(folder()); }

    test::TempDir temp_;
};

using Names = std::vector<std::string>;

TEST_F(IncomingTest, PutsEveryFileIntoItsPlace) {
    fetch({{"result.json", "{}"},
           {"empty", ""},
           {"a/b/run", std::string(5000, 'r'), true},
           {"a/b/copy", std::string(5000, 'r')},
           {"a/copy", std::string(5000, 'r')}});
    EXPECT_EQ(names(), (Names{"a", "empty", "result.json"}));
    EXPECT_EQ(read("result.json"), "{}");
    EXPECT_EQ(read("empty"), "");
    for (const char* name : {"a/b/run", "a/b/copy", "a/copy"})
        EXPECT_EQ(read(name), std::string(5000, 'r'));
    struct stat info {};
    ASSERT_EQ(::stat((folder() + "/a/b/run").c_str(), &info), 0);
    EXPECT_EQ(info.st_mode & 07777, 0755u);
    ASSERT_EQ(::stat((folder() + "/a/b/copy").c_str(), &info), 0);
    EXPECT_EQ(info.st_mode & 07777, 0644u);
    EXPECT_EQ(info.st_nlink, 1u);
}

TEST_F(IncomingTest, NothingShowsBeforeAllIsThere) {
    const std::vector<Content> contents = {{"a", "aaaa"}, {"b", "bbbb"}};
    Incoming incoming = open();
    ASSERT_TRUE(incoming.expect(manifest_of(contents)).ok());
    ASSERT_TRUE(incoming.append(io::sha256_hex("aaaa"), 0, "aaaa").ok());
    ASSERT_EQ(names().size(), 1u);
    EXPECT_TRUE(names().front().starts_with(kIncomingPrefix));
    EXPECT_FALSE(incoming.complete());
    incoming.discard();
    EXPECT_TRUE(names().empty());
}

TEST_F(IncomingTest, GoesOnWhereAnEarlierProcessStopped) {
    const std::vector<Content> contents = {{"a", std::string(3000, 'a')},
                                           {"b", std::string(3000, 'b')}};
    const std::string a = io::sha256_hex(contents[0].bytes);
    const std::string b = io::sha256_hex(contents[1].bytes);
    {
        Incoming incoming = open();
        ASSERT_TRUE(incoming.expect(manifest_of(contents)).ok());
        ASSERT_TRUE(incoming.append(a, 0, contents[0].bytes).ok());
        ASSERT_TRUE(incoming.append(b, 0, contents[1].bytes.substr(0, 1200)).ok());
    }
    Incoming incoming = open();
    ASSERT_TRUE(incoming.expect(manifest_of(contents)).ok());
    const std::vector<Incoming::Wanted> wanted = incoming.wanted(9);
    ASSERT_EQ(wanted.size(), 1u);
    EXPECT_EQ(wanted[0].blob, b);
    EXPECT_EQ(wanted[0].have, 1200u);
    bring(incoming, contents, 700);
    ASSERT_TRUE(incoming.install().ok());
    EXPECT_EQ(read("b"), contents[1].bytes);
    EXPECT_EQ(names(), (Names{"a", "b"}));
}

TEST_F(IncomingTest, AnInterruptedInstallNeedsOnlyTheRest) {
    const std::vector<Content> contents = {{"a", "aaaa"}, {"d/b", "bbbb"}};
    ASSERT_TRUE(io::write_file(folder() + "/a", "aaaa", 0644, io::Sync::none).ok());
    Incoming incoming = open();
    ASSERT_TRUE(incoming.expect(manifest_of(contents)).ok());
    ASSERT_EQ(incoming.wanted(9).size(), 1u);
    EXPECT_EQ(incoming.wanted(9)[0].blob, io::sha256_hex("bbbb"));
}

TEST_F(IncomingTest, PiecesOutOfPlaceAreIgnored) {
    const std::vector<Content> contents = {{"a", "0123456789"}};
    const std::string blob = io::sha256_hex(contents[0].bytes);
    Incoming incoming = open();
    ASSERT_TRUE(incoming.expect(manifest_of(contents)).ok());
    EXPECT_TRUE(incoming.append(blob, 5, "56789").ok());
    EXPECT_TRUE(incoming.append(io::sha256_hex("other"), 0, "other").ok());
    EXPECT_EQ(incoming.wanted(1)[0].have, 0u);
    EXPECT_TRUE(incoming.append(blob, 0, "01234").ok());
    EXPECT_TRUE(incoming.append(blob, 0, "01234").ok());
    EXPECT_EQ(incoming.wanted(1)[0].have, 5u);
    EXPECT_TRUE(incoming.append(blob, 5, "56789").ok());
    EXPECT_TRUE(incoming.complete());
}

TEST_F(IncomingTest, AWrongChecksumBeginsAnew) {
    const std::vector<Content> contents = {{"a", "0123456789"}};
    const std::string blob = io::sha256_hex(contents[0].bytes);
    Incoming incoming = open();
    ASSERT_TRUE(incoming.expect(manifest_of(contents)).ok());
    EXPECT_EQ(incoming.append(blob, 0, "012345678X").error().code, ErrorCode::conflict);
    EXPECT_EQ(incoming.wanted(1)[0].have, 0u);
    EXPECT_EQ(incoming.append(blob, 0, "01234567890").error().code, ErrorCode::conflict);
    EXPECT_TRUE(incoming.append(blob, 0, "0123456789").ok());
    ASSERT_TRUE(incoming.install().ok());
    EXPECT_EQ(read("a"), "0123456789");
}

TEST_F(IncomingTest, GoesOnWithoutABlobThatIsNowhereAnyMore) {
    const std::vector<Content> contents = {{"a", "aaaa"}, {"b", "bbbb"}, {"c", "bbbb"}};
    Incoming incoming = open();
    ASSERT_TRUE(incoming.expect(manifest_of(contents)).ok());
    ASSERT_TRUE(incoming.append(io::sha256_hex("aaaa"), 0, "aaaa").ok());
    ASSERT_TRUE(incoming.append(io::sha256_hex("bbbb"), 0, "bb").ok());
    EXPECT_EQ(incoming.give_up(io::sha256_hex("bbbb")), 2u);
    ASSERT_TRUE(incoming.install().ok());
    EXPECT_EQ(names(), Names{"a"});
}

TEST_F(IncomingTest, LeftoversOfOthersAreNotTrusted) {
    const std::vector<Content> contents = {{"a", "0123456789"}, {"b", "abcdefghij"}};
    const std::string staging = folder() + "/" + std::string(kIncomingPrefix) + "x/";
    ASSERT_TRUE(io::make_folders(staging, 0755).ok());
    const std::string outside = temp_.path() + "/outside";
    ASSERT_TRUE(io::write_file(outside, "abc", 0644, io::Sync::none).ok());
    // Of the right size with another content; and a second name of a file elsewhere.
    ASSERT_TRUE(
        io::write_file(staging + io::sha256_hex("0123456789"), "XXXXXXXXXX", 0644, io::Sync::none)
            .ok());
    ASSERT_EQ(::link(outside.c_str(), (staging + io::sha256_hex("abcdefghij") + ".part").c_str()),
              0);
    fetch(contents);
    EXPECT_EQ(read("a"), "0123456789");
    EXPECT_EQ(read("b"), "abcdefghij");
    EXPECT_EQ(*io::read_file(outside, 100), "abc");
}

TEST_F(IncomingTest, WhatStandsInTheWayGoesAside) {
    const std::string outside = temp_.path() + "/outside";
    ASSERT_TRUE(io::make_folders(outside, 0755).ok());
    ASSERT_TRUE(io::write_file(outside + "/file", "mine", 0644, io::Sync::none).ok());
    ASSERT_EQ(::symlink(outside.c_str(), (folder() + "/folder").c_str()), 0);
    ASSERT_EQ(::symlink((outside + "/file").c_str(), (folder() + "/link").c_str()), 0);
    ASSERT_TRUE(io::make_folders(folder() + "/result.json/inner", 0755).ok());
    fetch({{"folder/file", "new"}, {"link", "new"}, {"result.json", "{}"}});
    EXPECT_EQ(*io::read_file(outside + "/file", 100), "mine");
    EXPECT_EQ(read("folder/file"), "new");
    EXPECT_EQ(read("link"), "new");
    EXPECT_EQ(read("result.json"), "{}");
    struct stat info {};
    ASSERT_EQ(::lstat((folder() + "/folder").c_str(), &info), 0);
    EXPECT_TRUE(S_ISDIR(info.st_mode));
}

TEST_F(IncomingTest, ALinkPlantedOnTheWayIsNotFollowed) {
    const std::string outside = temp_.path() + "/outside";
    ASSERT_TRUE(io::make_folders(outside, 0755).ok());
    const std::vector<Content> contents = {{"a/b/f", "new"}};
    Incoming incoming = open();
    ASSERT_TRUE(incoming.expect(manifest_of(contents)).ok());
    bring(incoming, contents, 10);
    ASSERT_TRUE(io::make_folders(folder() + "/a", 0755).ok());
    ASSERT_EQ(::symlink(outside.c_str(), (folder() + "/a/b").c_str()), 0);
    ASSERT_TRUE(incoming.install().ok());
    EXPECT_TRUE(io::list_folder(outside).empty());
    EXPECT_EQ(read("a/b/f"), "new");
}

TEST_F(IncomingTest, AMovedWorkspaceTakesItsFilesAlong) {
    const std::vector<Content> contents = {{"a", "aaaa"}, {"b", "bbbb"}};
    Incoming incoming = open();
    ASSERT_TRUE(incoming.expect(manifest_of(contents)).ok());
    ASSERT_TRUE(incoming.append(io::sha256_hex("aaaa"), 0, "aaaa").ok());
    EXPECT_TRUE(incoming.stands_at(folder()));
    const std::string moved = temp_.path() + "/archived";
    ASSERT_EQ(::rename(folder().c_str(), moved.c_str()), 0);
    EXPECT_FALSE(incoming.stands_at(folder()));
    bring(incoming, contents, 10);
    ASSERT_TRUE(incoming.install().ok());
    EXPECT_EQ(io::list_folder(moved), (Names{"a", "b"}));
    EXPECT_FALSE(io::exists(folder()));
}

TEST_F(IncomingTest, OnlyOneAtATime) {
    const Incoming first = open();
    EXPECT_EQ(Incoming::open(folder(), Incoming::Busy::refuse).error().code, ErrorCode::conflict);
}

TEST_F(IncomingTest, AMissingFolderAndALinkAreNone) {
    EXPECT_EQ(Incoming::open(temp_.path() + "/none", Incoming::Busy::refuse).error().code,
              ErrorCode::not_found);
    ASSERT_EQ(::symlink("w", (temp_.path() + "/link").c_str()), 0);
    EXPECT_EQ(Incoming::open(temp_.path() + "/link", Incoming::Busy::refuse).error().code,
              ErrorCode::not_found);
}

TEST_F(IncomingTest, MoreThanTheDiskHoldsIsRefusedBeforeItComes) {
    Manifest manifest = manifest_of({{"a", "x"}});
    manifest.files[0].size = std::uint64_t{1} << 60;
    Incoming incoming = open();
    const Status expected = incoming.expect(std::move(manifest));
    ASSERT_FALSE(expected.ok());
    EXPECT_EQ(expected.error().code, ErrorCode::storage_low);
    EXPECT_NE(expected.error().message.find("not enough disk"), std::string::npos);
}

TEST_F(IncomingTest, ANextAttemptLeavesTheFolderForIncomingFilesWhereItIs) {
    const ProjectPaths project(temp_.path());
    const SessionId id("20251118-151000-prometheus-agent");
    ASSERT_TRUE(prepare_project(project).ok());
    const std::string staging = project.workspace(id) + "/" + std::string(kIncomingPrefix) + "x";
    ASSERT_TRUE(io::make_folders(staging, 0755).ok());
    ASSERT_TRUE(io::write_file(project.workspace(id) + "/old", "x", 0644, io::Sync::none).ok());
    ASSERT_TRUE(begin_attempt(project, id, 2).ok());
    EXPECT_TRUE(io::exists(staging));
    EXPECT_TRUE(io::exists(project.workspace(id) + "/attempts/1/old"));
}

}  // namespace
}  // namespace iw::workspace
