#include "worker/schema_check/result_checks.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <map>
#include <optional>

#include "common/io/files.h"
#include "common/io/system_clock.h"
#include "tests/support/temp_dir.h"

namespace iw::worker {
namespace {

class ResultChecksTest : public ::testing::Test {
  protected:
    void put(const std::string& bytes) {
        ASSERT_TRUE(io::write_file(file_, bytes, 0644, io::Sync::none).ok());
    }
    void start(const std::string& key, const std::string& schema) {
        checks_->start(key, schema, file_, [this, key](const Result<CheckedResult>& checked) {
            told_.insert_or_assign(key, checked);
        });
    }
    // Lets the loop run until that one is answered.
    void wait(const std::string& key) {
        const Timestamp end = io::steady_now() + Duration{60'000};
        while (!told_.contains(key) && io::steady_now() < end) {
            checks_->work(io::steady_now());
            ASSERT_TRUE(loop_.wait(end).ok());
        }
        ASSERT_TRUE(told_.contains(key));
    }
    CheckedResult check(const std::string& schema) {
        told_.clear();
        start("one", schema);
        wait("one");
        const Result<CheckedResult> checked = told_.at("one");
        EXPECT_TRUE(checked.ok());
        return checked ? *checked : CheckedResult{};
    }
    // A program in place of ischema, that goes on until there is a file `go`.
    void make_slow() {
        const std::string program = temp_.path("slow");
        const std::string script =
            "#!/bin/sh\nwhile [ ! -e \"" + temp_.path("go") + "\" ]; do sleep 0.01; done\nexit 3\n";
        ASSERT_TRUE(io::write_file(program, script, 0755, io::Sync::none).ok());
        checks_.emplace(loop_, program);
    }

    test::TempDir temp_;
    std::string file_ = temp_.path("result.json");
    io::EventLoop loop_;
    std::optional<ResultChecks> checks_{
        std::in_place, loop_, std::string(IW_BUILD_DIR) + "/libexec/native-orchestrator/ischema"};
    std::map<std::string, Result<CheckedResult>> told_;
};

TEST_F(ResultChecksTest, VerdictsSayPathAndRule) {
    const std::string schema = R"({"properties": {"status": {"enum": ["success"]}}})";
    put(R"({"status": "success"})");
    EXPECT_EQ(check(schema).verdict, ResultVerdict::fits);
    put(R"({"status": "done"})");
    EXPECT_EQ(check(schema).verdict, ResultVerdict::invalid);
    EXPECT_EQ(check(schema).reason,
              "result.json does not fit its schema: /status: failed to match against any enum "
              "values");
    EXPECT_EQ(check("{").verdict, ResultVerdict::invalid);
    EXPECT_EQ(check("{").reason, "the schema cannot be used: /: a schema is a JSON object");
}

TEST_F(ResultChecksTest, OnlyARegularFileIsAResult) {
    EXPECT_EQ(check("{}").verdict, ResultVerdict::missing);
    ASSERT_EQ(::symlink("/proc/self/status", file_.c_str()), 0);
    EXPECT_EQ(check("{}").verdict, ResultVerdict::missing);
    ASSERT_EQ(::unlink(file_.c_str()), 0);
    ASSERT_EQ(::mkfifo(file_.c_str(), 0600), 0);
    EXPECT_EQ(check("{}").verdict, ResultVerdict::missing);
}

TEST_F(ResultChecksTest, AHugeFileIsNotRead) {
    put("");
    ASSERT_EQ(::truncate(file_.c_str(), off_t{1} << 40), 0);
    EXPECT_EQ(check("{}").reason, "result.json does not fit its schema: /: larger than 64 MiB");
}

#ifndef __SANITIZE_ADDRESS__  // which takes minutes to tell of a stack this deep
TEST_F(ResultChecksTest, APatternThatOverflowsTheStackHarmsNobody) {
    put("\"" + std::string(1 << 20, 'a') + "\"");
    const CheckedResult checked = check(R"({"pattern": "^(a|b|c)*$"})");
    EXPECT_EQ(checked.verdict, ResultVerdict::invalid);
    EXPECT_NE(checked.reason.find("within the limits"), std::string::npos) << checked.reason;
}
#endif

TEST_F(ResultChecksTest, NobodyWaitsForASlowOne) {
    make_slow();
    const Timestamp now = io::steady_now();
    for (const char* key : {"a", "b", "c", "a"})
        start(key, "{}");
    checks_->work(now);
    EXPECT_TRUE(told_.empty());
    EXPECT_TRUE(checks_->is_busy_with("c"));
    EXPECT_EQ(checks_->deadline(now), now + ResultChecks::kPatience);
    ASSERT_TRUE(io::write_file(temp_.path("go"), "", 0644, io::Sync::none).ok());
    for (const char* key : {"a", "b", "c"})
        wait(key);
    EXPECT_EQ(told_.at("c")->verdict, ResultVerdict::missing);
    EXPECT_FALSE(checks_->is_busy_with("c"));
    EXPECT_EQ(checks_->deadline(now), std::nullopt);
}

TEST_F(ResultChecksTest, OneThatTakesTooLongIsInvalidAndHoldsUpNobody) {
    make_slow();
    const Timestamp now = io::steady_now();
    for (const char* key : {"a", "b", "c"})
        start(key, "{}");
    checks_->work(now);
    checks_->work(now + ResultChecks::kPatience);
    ASSERT_TRUE(told_.contains("a") && told_.contains("b"));
    EXPECT_EQ(told_.at("a")->verdict, ResultVerdict::invalid);
    EXPECT_NE(told_.at("a")->reason.find("within the limits"), std::string::npos);
    ASSERT_TRUE(io::write_file(temp_.path("go"), "", 0644, io::Sync::none).ok());
    wait("c");
    EXPECT_EQ(told_.at("c")->verdict, ResultVerdict::missing);
}

// An installation that is being replaced must not fail the work of hours.
TEST_F(ResultChecksTest, AProgramThatIsMissingForAMomentIsTriedAgain) {
    put("{}");
    const std::string program = temp_.path("later");
    checks_.emplace(loop_, program);
    start("one", "{}");
    Timestamp now = io::steady_now();
    checks_->work(now);
    EXPECT_TRUE(told_.empty());
    now += ResultChecks::kStartPause;
    EXPECT_EQ(checks_->deadline(now - Duration{1}), now);
    ASSERT_TRUE(io::write_file(program, "#!/bin/sh\nexit 0\n", 0755, io::Sync::none).ok());
    checks_->work(now);
    wait("one");
    EXPECT_EQ(told_.at("one")->verdict, ResultVerdict::fits);
}

TEST_F(ResultChecksTest, AMissingProgramIsNoVerdict) {
    checks_.emplace(loop_, temp_.path("none"));
    start("one", "{}");
    Timestamp now = io::steady_now();
    for (int turn = 0; turn < ResultChecks::kStartsMax; ++turn) {
        EXPECT_TRUE(told_.empty());
        checks_->work(now);
        now += ResultChecks::kStartPause;
    }
    ASSERT_TRUE(told_.contains("one"));
    EXPECT_EQ(told_.at("one").error().code, ErrorCode::io);
}

}  // namespace
}  // namespace iw::worker
