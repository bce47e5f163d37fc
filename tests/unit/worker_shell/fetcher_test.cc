#include "worker/fetcher.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>

#include "common/io/files.h"
#include "tests/support/temp_dir.h"

namespace iw::worker {
namespace {

const AttemptRef kRef{SessionId("20251118-151000-alpha"), {1, 1}};
constexpr std::size_t kPiece = 1000;
constexpr std::uint64_t kPetabyte = 1'000'000'000'000'000;

using Names = std::vector<std::string>;

// A broker that holds blobs, and a fetcher that asks for them.
class FetcherTest : public ::testing::Test {
  protected:
    FetcherTest()
        : fetcher_(
              {.send =
                   [this](std::uint64_t ticket, GetRequest request) {
                       if (!up_) return false;
                       sent_.emplace_back(ticket, std::move(request));
                       return true;
                   },
               .on_done =
                   [this](const WriteFinal& action, const Result<std::vector<std::string>>& lines) {
                       EXPECT_EQ(action.attempt, kRef);
                       done_ = lines;
                   }}) {
        EXPECT_TRUE(io::make_folders(folder(), 0755).ok());
    }
    std::string folder() const { return temp_.path() + "/w"; }
    Names names() const { return io::list_folder(folder()); }
    std::string read(const std::string& name) const {
        const Result<std::string> text = io::read_file(folder() + "/" + name, 1u << 24);
        return text ? *text : "<" + text.error().message + ">";
    }
    void hold(const std::string& path, const std::string& bytes) {
        const std::string blob = io::sha256_hex(bytes);
        manifest_.files.push_back({.path = path, .size = bytes.size(), .sha256 = blob});
        blobs_[blob] = bytes;
    }
    void start() { start(workspace::format_manifest(manifest_)); }
    void start(const std::string& manifest) {
        const std::string name = io::sha256_hex(manifest);
        blobs_[name] = manifest;
        WriteFinal action{.attempt = kRef};
        action.outcome.id = kRef.session;
        action.outcome.deliverables = Delivered{.manifest = name};
        fetcher_.start(std::move(action), folder());
        fetcher_.connected();
    }
    Result<GetReply> answer(const GetRequest& request) {
        if (refusal_) return *refusal_;
        const auto found = blobs_.find(request.blob);
        if (found == blobs_.end()) return make_error(ErrorCode::not_found, "it is not held");
        ++gets_;
        GetReply reply{.data = found->second.substr(request.offset, kPiece),
                       .size = found->second.size()};
        bytes_ += reply.data.size();
        return reply;
    }
    // Answers what is asked until nothing more comes; at most `gets` of them.
    void serve(std::size_t gets) {
        while (gets-- > 0) {
            fetcher_.work(now_);
            if (sent_.empty()) return;
            const auto [ticket, request] = std::move(sent_.front());
            sent_.erase(sent_.begin());
            fetcher_.answer(ticket, answer(request));
        }
    }
    // Done without an error, and with these lines.
    void expect_done(const std::vector<std::string>& lines) {
        ASSERT_TRUE(done_.has_value());
        ASSERT_TRUE(done_->ok()) << done_->error().message;
        EXPECT_EQ(**done_, lines);
        EXPECT_FALSE(fetcher_.is_busy_with(kRef.session));
        EXPECT_EQ(fetcher_.deadline(now_), std::nullopt);
    }

    test::TempDir temp_;
    bool up_ = true;
    workspace::Manifest manifest_;
    std::map<std::string, std::string> blobs_;
    std::vector<std::pair<std::uint64_t, GetRequest>> sent_;
    std::optional<Error> refusal_;
    std::size_t gets_ = 0;
    std::uint64_t bytes_ = 0;
    std::optional<Result<std::vector<std::string>>> done_;
    Timestamp now_{Duration{1'000'000}};
    Fetcher fetcher_;
};

TEST_F(FetcherTest, TheManifestThenEveryFile) {
    hold("a/big", std::string(2500, 'b'));
    hold("empty", "");
    hold("result.json", "{}");
    manifest_.left_out = {"link: a link"};
    start();
    EXPECT_TRUE(fetcher_.is_busy_with(kRef.session));
    serve(1);
    EXPECT_EQ(sent_.size(), 0u);
    fetcher_.work(now_);
    EXPECT_EQ(sent_.size(), 2u) << "several blobs at once, of each one piece";
    serve(SIZE_MAX);
    expect_done({"left behind: link: a link"});
    EXPECT_EQ(names(), (Names{"a", "empty", "result.json"}));
    EXPECT_EQ(read("a/big"), std::string(2500, 'b'));
}

TEST_F(FetcherTest, AfterACutItGoesOnWhereItWas) {
    hold("big", std::string(10'000, 'b'));
    start();
    serve(5);
    const std::uint64_t before = bytes_;
    ASSERT_GT(before, 2000u);
    fetcher_.work(now_);
    sent_.clear();  // lost with the connection
    fetcher_.disconnected();
    fetcher_.work(now_);
    EXPECT_TRUE(sent_.empty());
    EXPECT_TRUE(std::ranges::all_of(
        names(), [](const std::string& name) { return name.starts_with(".incoming-"); }));
    fetcher_.connected();
    serve(SIZE_MAX);
    expect_done({});
    EXPECT_EQ(read("big"), std::string(10'000, 'b'));
    EXPECT_EQ(bytes_, 10'000u + workspace::format_manifest(manifest_).size());
}

TEST_F(FetcherTest, AnAnswerThatNeverComesIsAskedForAgain) {
    hold("f", "bytes");
    start();
    fetcher_.work(now_);
    ASSERT_EQ(sent_.size(), 1u);
    sent_.clear();
    fetcher_.work(now_);
    EXPECT_TRUE(sent_.empty());
    ASSERT_TRUE(fetcher_.deadline(now_).has_value());
    now_ = *fetcher_.deadline(now_);
    serve(SIZE_MAX);
    expect_done({});
}

TEST_F(FetcherTest, ABrokerThatCannotNowIsAskedLater) {
    hold("f", "bytes");
    start();
    refusal_ = make_error(ErrorCode::read_only, "it is being restored");
    serve(1);
    fetcher_.work(now_);
    EXPECT_TRUE(sent_.empty()) << "not at once";
    refusal_.reset();
    up_ = false;
    ASSERT_TRUE(fetcher_.deadline(now_).has_value());
    now_ = *fetcher_.deadline(now_);
    fetcher_.work(now_);
    EXPECT_GT(*fetcher_.deadline(now_), now_);
    up_ = true;
    now_ = *fetcher_.deadline(now_);
    serve(SIZE_MAX);
    expect_done({});
    EXPECT_EQ(read("f"), "bytes");
}

TEST_F(FetcherTest, WhatTheBrokerHasLostIsToldAndTheRestComes) {
    hold("a", "aaaa");
    hold("b", "bbbb");
    hold("c", "aaaa");
    start();
    blobs_.erase(io::sha256_hex("aaaa"));
    serve(SIZE_MAX);
    expect_done({"2 of its files: it is not held"});
    EXPECT_EQ(names(), Names{"b"});
}

TEST_F(FetcherTest, WithoutItsManifestNothingComes) {
    hold("a", "aaaa");
    start();
    refusal_ = make_error(ErrorCode::not_found, "it is not held");
    serve(SIZE_MAX);
    expect_done({"its files are not to be had: it is not held"});
    EXPECT_TRUE(names().empty());
}

TEST_F(FetcherTest, ADamagedManifestBringsNothing) {
    hold("a", "aaaa");
    const std::string good = workspace::format_manifest(manifest_);
    start();
    blobs_[io::sha256_hex(good)].back() = ' ';
    serve(SIZE_MAX);
    expect_done({"the list of its files came damaged; none were brought here"});
    EXPECT_TRUE(names().empty());
}

TEST_F(FetcherTest, AManifestWithoutEndIsGivenUp) {
    hold("a", "aaaa");
    const std::string name = io::sha256_hex(workspace::format_manifest(manifest_));
    start();
    fetcher_.work(now_);
    ASSERT_EQ(sent_.size(), 1u);
    fetcher_.answer(sent_[0].first, GetReply{.data = "x", .size = kPetabyte});
    expect_done({"the list of its files came damaged; none were brought here"});
}

TEST_F(FetcherTest, ANameThatLeavesTheWorkspaceBringsNothing) {
    hold("a", "aaaa");
    std::string text = workspace::format_manifest(manifest_);
    text.replace(text.find("\"a\""), 3, "\"../x\"");
    start(text);
    serve(SIZE_MAX);
    ASSERT_TRUE(done_ && done_->ok());
    ASSERT_EQ((*done_)->size(), 1u);
    EXPECT_NE((**done_)[0].find("path \"../x\" may not travel"), std::string::npos);
    EXPECT_EQ(io::list_folder(temp_.path()), Names{"w"});
    EXPECT_TRUE(names().empty());
}

TEST_F(FetcherTest, ABlobThatComesWrongIsAskedAgainAndThenGivenUp) {
    hold("a", "aaaa");
    hold("b", "bbbb");
    start();
    const std::string name = io::sha256_hex("aaaa");
    blobs_[name] = "aXaa";
    serve(SIZE_MAX);
    expect_done({"blob " + name + " came with a wrong checksum"});
    EXPECT_EQ(gets_, 1u + 1u + 3u);
    EXPECT_EQ(names(), Names{"b"});
}

TEST_F(FetcherTest, ABlobThatEndsEarlyIsGivenUp) {
    hold("a", "aaaa");
    start();
    blobs_[io::sha256_hex("aaaa")] = "aa";
    serve(SIZE_MAX);
    ASSERT_TRUE(done_ && done_->ok());
    ASSERT_EQ((*done_)->size(), 1u);
    EXPECT_NE((**done_)[0].find("ends a file early"), std::string::npos);
    EXPECT_TRUE(names().empty());
}

TEST_F(FetcherTest, WithoutRoomNothingIsAskedForUntilThereIs) {
    manifest_.files.push_back(
        {.path = "huge", .size = kPetabyte, .sha256 = io::sha256_hex("huge")});
    start();
    serve(SIZE_MAX);
    ASSERT_TRUE(done_.has_value());
    ASSERT_FALSE(done_->ok());
    EXPECT_EQ(done_->error().code, ErrorCode::storage_low);
    EXPECT_EQ(gets_, 1u);
    EXPECT_FALSE(fetcher_.is_busy_with(kRef.session));
    // The core begins anew, and it fits by then.
    manifest_.files.clear();
    hold("small", "s");
    start();
    serve(SIZE_MAX);
    expect_done({});
    EXPECT_EQ(names(), Names{"small"});
}

TEST_F(FetcherTest, AWorkspaceThatIsGoneWantsNothing) {
    hold("a", "aaaa");
    start();
    ASSERT_EQ(::rmdir(folder().c_str()), 0);
    serve(SIZE_MAX);
    expect_done({});
    EXPECT_FALSE(io::exists(folder()));
}

TEST_F(FetcherTest, OneThatIsMovedMeanwhileTakesWhatCame) {
    hold("a", "aaaa");
    start();
    serve(1);
    const std::string moved = temp_.path() + "/moved";
    ASSERT_EQ(::rename(folder().c_str(), moved.c_str()), 0);
    serve(SIZE_MAX);
    expect_done({});
    EXPECT_EQ(io::list_folder(moved), Names{"a"});
    EXPECT_FALSE(io::exists(folder()));
}

TEST_F(FetcherTest, OneThatIsMadeAgainMeanwhileGetsThemInASecondTry) {
    hold("a", "aaaa");
    start();
    serve(1);
    const std::string moved = temp_.path() + "/moved";
    ASSERT_EQ(::rename(folder().c_str(), moved.c_str()), 0);
    ASSERT_TRUE(io::make_folders(folder(), 0755).ok());
    serve(SIZE_MAX);
    ASSERT_TRUE(done_ && !done_->ok());
    EXPECT_EQ(done_->error().code, ErrorCode::conflict);
    EXPECT_TRUE(io::list_folder(moved).empty());
    start();
    serve(SIZE_MAX);
    expect_done({});
    EXPECT_EQ(names(), Names{"a"});
}

TEST_F(FetcherTest, AFolderThatIsRemovedUnderTheFilesIsAnErrorAndNoCrash) {
    hold("a", std::string(5000, 'a'));
    start();
    serve(3);
    ASSERT_TRUE(io::remove_tree(folder()).ok());
    ASSERT_TRUE(io::make_folders(folder(), 0755).ok());
    serve(SIZE_MAX);
    ASSERT_TRUE(done_ && !done_->ok());
    start();
    serve(SIZE_MAX);
    expect_done({});
    EXPECT_EQ(read("a"), std::string(5000, 'a'));
}

}  // namespace
}  // namespace iw::worker
