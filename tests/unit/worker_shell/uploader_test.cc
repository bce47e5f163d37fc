#include "worker/uploader.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>

#include "common/io/files.h"
#include "tests/support/temp_dir.h"

namespace iw::worker {
namespace {

const AttemptRef kRef{SessionId("20251118-151000-alpha"), {1, 1}};

// A broker that keeps blobs as the protocol has it, and an uploader that talks to it.
class UploaderTest : public ::testing::Test {
  protected:
    UploaderTest()
        : uploader_(
              {.send =
                   [this](std::uint64_t ticket, PutRequest request) {
                       if (!up_) return false;
                       sent_.emplace_back(ticket, std::move(request));
                       return true;
                   },
               .on_done = [this](JudgedEvent event) { done_ = std::move(event); },
               .on_warning = [this](const AttemptRef&,
                                    const std::string& text) { warnings_.push_back(text); }}) {
        EXPECT_TRUE(io::make_folders(folder(), 0755).ok());
    }
    std::string folder() const { return temp_.path() + "/w"; }
    void put(const std::string& name, const std::string& text) const {
        ASSERT_TRUE(io::write_file(folder() + "/" + name, text, 0644, io::Sync::none).ok());
    }
    void start(std::uint64_t bytes_max) {
        uploader_.start({.event = {.attempt = kRef, .deliverables = {.success = true}},
                         .folder = folder(),
                         .bytes_max = bytes_max});
        uploader_.connected();
    }
    Result<PutReply> keep(const PutRequest& request) {
        std::string& have = blobs_[request.blob];
        if (refusal_) return *refusal_;
        if (request.offset == have.size()) have += request.data;
        if (have.size() == request.size && io::sha256_hex(have) != request.blob) {
            have.clear();
            return make_error(ErrorCode::conflict, "wrong checksum");
        }
        ++puts_;
        bytes_ += request.data.size();
        return PutReply{have.size()};
    }
    // Answers what was sent until nothing more comes; at most `puts` of them.
    void serve(std::size_t puts) {
        for (int turn = 0; turn < 10'000 && puts > 0; ++turn) {
            uploader_.work(now_);
            // It may still be reading.
            if (sent_.empty() && uploader_.deadline(now_) == now_) continue;
            if (sent_.empty()) return;
            const auto [ticket, request] = std::move(sent_.front());
            sent_.erase(sent_.begin());
            uploader_.answer(ticket, keep(request));
            --puts;
        }
    }
    workspace::Manifest manifest() {
        const auto found = blobs_.find(done_->deliverables.delivered->manifest);
        EXPECT_NE(found, blobs_.end());
        return *workspace::parse_manifest(found->second);
    }

    test::TempDir temp_;
    bool up_ = true;
    std::vector<std::pair<std::uint64_t, PutRequest>> sent_;
    std::map<std::string, std::string> blobs_;
    std::optional<Error> refusal_;
    std::size_t puts_ = 0;
    std::uint64_t bytes_ = 0;
    std::optional<JudgedEvent> done_;
    std::vector<std::string> warnings_;
    Timestamp now_{Duration{1'000'000}};
    Uploader uploader_;
};

TEST_F(UploaderTest, EveryFileThenTheManifest) {
    const std::string big(3'000'000, 'b');
    put("big", big);
    put("copy", big);
    put("small", "s");
    put("empty", "");
    start(10'000'000);
    serve(SIZE_MAX);
    ASSERT_TRUE(done_.has_value());
    ASSERT_TRUE(done_->deliverables.delivered.has_value());
    EXPECT_EQ(done_->deliverables.delivered->files, 4u);
    EXPECT_EQ(done_->deliverables.delivered->bytes, 6'000'001u);
    EXPECT_EQ(blobs_[io::sha256_hex(big)], big);
    EXPECT_EQ(blobs_.size(), 3u) << "the same bytes travel once, none of an empty file";
    EXPECT_EQ(manifest().files.size(), 4u);
    EXPECT_FALSE(done_->deliverables.fault.has_value());
}

TEST_F(UploaderTest, NothingToSendIsNothingDelivered) {
    put("prompt.md", "x");
    start(1000);
    serve(SIZE_MAX);
    ASSERT_TRUE(done_.has_value());
    EXPECT_FALSE(done_->deliverables.delivered.has_value());
    EXPECT_EQ(puts_, 0u);
}

TEST_F(UploaderTest, AfterACutItAsksAndGoesOn) {
    const std::string big(3'000'000, 'b');
    put("big", big);
    start(10'000'000);
    serve(6);
    const std::uint64_t before = bytes_;
    ASSERT_GT(before, 0u);
    ASSERT_FALSE(done_.has_value());
    sent_.clear();  // lost with the connection
    uploader_.disconnected();
    uploader_.work(now_);
    EXPECT_TRUE(sent_.empty());
    uploader_.connected();
    serve(SIZE_MAX);
    ASSERT_TRUE(done_.has_value());
    EXPECT_EQ(blobs_[io::sha256_hex(big)], big);
    EXPECT_LT(bytes_, 3'000'000u + 10'000u) << "what was there is not sent twice";
}

TEST_F(UploaderTest, AnAnswerThatNeverComesIsAskedForAgain) {
    put("f", "bytes");
    start(1000);
    uploader_.work(now_);
    ASSERT_EQ(sent_.size(), 1u);
    sent_.clear();
    uploader_.work(now_);
    EXPECT_TRUE(sent_.empty());
    ASSERT_TRUE(uploader_.deadline(now_).has_value());
    now_ = *uploader_.deadline(now_);
    serve(SIZE_MAX);
    EXPECT_TRUE(done_.has_value());
}

TEST_F(UploaderTest, TooMuchIsAFaultAndNothingIsSent) {
    put("f", std::string(2'000'000, 'x'));
    start(1'000'000);
    serve(SIZE_MAX);
    ASSERT_TRUE(done_.has_value());
    EXPECT_EQ(done_->deliverables.fault, EndCause::disk_limit);
    EXPECT_NE(done_->deliverables.reason.find("2 MB > 1 MB"), std::string::npos);
    EXPECT_EQ(puts_, 0u);
}

TEST_F(UploaderTest, NoRoomIsWaitedForAndToldOnce) {
    put("f", "bytes");
    start(1000);
    refusal_ = make_error(ErrorCode::storage_low, "no room");
    serve(1);
    EXPECT_FALSE(done_.has_value());
    uploader_.work(now_);
    EXPECT_TRUE(sent_.empty()) << "not at once";
    now_ += Duration{10'000};
    serve(1);
    EXPECT_EQ(warnings_.size(), 1u);
    refusal_.reset();
    now_ += Duration{10'000};
    serve(SIZE_MAX);
    ASSERT_TRUE(done_.has_value());
    EXPECT_TRUE(done_->deliverables.delivered.has_value());
}

// A file of it has changed and has to be read anew, which waits for room as the others do.
TEST_F(UploaderTest, WhileItWaitsThereIsNothingToDo) {
    put("a", std::string(600'000, 'a'));
    put("b", "b");
    start(10'000'000);
    for (int turn = 0; turn < 100 && sent_.size() < 2; ++turn)
        uploader_.work(now_);
    ASSERT_EQ(sent_.size(), 2u);
    up_ = false;  // nothing more can be handed over
    uploader_.answer(sent_[0].first, PutReply{0});
    uploader_.work(now_);
    uploader_.answer(sent_[1].first, make_error(ErrorCode::conflict, "wrong checksum"));
    ASSERT_TRUE(uploader_.deadline(now_).has_value());
    EXPECT_GT(*uploader_.deadline(now_), now_);
}

TEST_F(UploaderTest, AStaleAttemptIsReportedWithoutItsFiles) {
    put("f", "bytes");
    start(1000);
    refusal_ = make_error(ErrorCode::stale_fence, "another attempt took over");
    serve(1);
    ASSERT_TRUE(done_.has_value());
    EXPECT_FALSE(done_->deliverables.delivered.has_value());
    EXPECT_TRUE(done_->deliverables.success);
}

TEST_F(UploaderTest, AFileThatChangesBetweenIsReadAnew) {
    put("f", std::string(600'000, 'x'));
    start(10'000'000);
    serve(1);  // the question
    put("f", std::string(600'000, 'y'));
    serve(SIZE_MAX);
    ASSERT_TRUE(done_.has_value());
    ASSERT_EQ(manifest().files.size(), 1u);
    EXPECT_EQ(manifest().files[0].sha256, io::sha256_hex(std::string(600'000, 'y')));
}

TEST_F(UploaderTest, AFileThatVanishesIsLeftOut) {
    put("a", std::string(600'000, 'a'));
    put("b", "b");
    start(10'000'000);
    serve(1);
    ASSERT_EQ(::unlink((folder() + "/a").c_str()), 0);
    serve(SIZE_MAX);
    ASSERT_TRUE(done_.has_value());
    ASSERT_EQ(manifest().files.size(), 1u);
    EXPECT_EQ(manifest().files[0].path, "b");
    EXPECT_EQ(manifest().left_out, std::vector<std::string>{"a: it vanished"});
}

TEST_F(UploaderTest, ALongOneHoldsUpNobody) {
    put("f", std::string(5'000'000, 'x'));
    start(10'000'000);
    const AttemptRef other{SessionId("20251118-151000-beta"), {1, 1}};
    ASSERT_TRUE(io::make_folders(temp_.path() + "/o", 0755).ok());
    ASSERT_TRUE(io::write_file(temp_.path() + "/o/f", "o", 0644, io::Sync::none).ok());
    uploader_.start({.event = {.attempt = other, .deliverables = {}},
                     .folder = temp_.path() + "/o",
                     .bytes_max = 1000});
    serve(15);
    ASSERT_TRUE(done_.has_value());
    EXPECT_EQ(done_->attempt, other);
}

}  // namespace
}  // namespace iw::worker
