#include "worker/schema_check/check_result.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/io/files.h"
#include "tests/support/temp_dir.h"

namespace iw::worker {
namespace {

class CheckResultTest : public ::testing::Test {
  protected:
    void put(const std::string& bytes) {
        ASSERT_TRUE(io::write_file(file_, bytes, 0644, io::Sync::none).ok());
    }
    CheckedResult check(const std::string& schema) {
        const Result<CheckedResult> checked = check_result(program_, schema, file_);
        EXPECT_TRUE(checked.ok());
        return checked ? *checked : CheckedResult{};
    }

    test::TempDir temp_;
    std::string program_ = std::string(IW_BUILD_DIR) + "/libexec/native-orchestrator/ischema";
    std::string file_ = temp_.path("result.json");
};

TEST_F(CheckResultTest, VerdictsSayPathAndRule) {
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

TEST_F(CheckResultTest, OnlyARegularFileIsAResult) {
    EXPECT_EQ(check("{}").verdict, ResultVerdict::missing);
    ASSERT_EQ(::symlink("/proc/self/status", file_.c_str()), 0);
    EXPECT_EQ(check("{}").verdict, ResultVerdict::missing);
    ASSERT_EQ(::unlink(file_.c_str()), 0);
    ASSERT_EQ(::mkfifo(file_.c_str(), 0600), 0);
    EXPECT_EQ(check("{}").verdict, ResultVerdict::missing);
}

TEST_F(CheckResultTest, AHugeFileIsNotRead) {
    put("");
    ASSERT_EQ(::truncate(file_.c_str(), off_t{1} << 40), 0);
    EXPECT_EQ(check("{}").reason, "result.json does not fit its schema: /: larger than 64 MiB");
}

TEST_F(CheckResultTest, APatternThatOverflowsTheStackHarmsNobody) {
    put("\"" + std::string(1 << 20, 'a') + "\"");
    const CheckedResult checked = check(R"({"pattern": "^(a|b|c)*$"})");
    EXPECT_EQ(checked.verdict, ResultVerdict::invalid);
    EXPECT_NE(checked.reason.find("within the limits"), std::string::npos) << checked.reason;
}

TEST_F(CheckResultTest, AMissingProgramIsNoVerdict) {
    put("{}");
    EXPECT_EQ(check_result(temp_.path("none"), "{}", file_).error().code, ErrorCode::io);
}

}  // namespace
}  // namespace iw::worker
