#include "broker/read_only.h"

#include <gtest/gtest.h>

#include "common/io/files.h"
#include "tests/support/temp_dir.h"

namespace iw::broker {
namespace {

TEST(ReadOnly, OnlyAHigherRecordOfTheSameEpochIsEvidence) {
    EXPECT_EQ(why_read_only("worker w", {.epoch = "e", .seq = 100}, "e", 100), "");
    EXPECT_EQ(why_read_only("worker w", {.epoch = "e", .seq = 99}, "e", 100), "");
    EXPECT_EQ(why_read_only("worker w", {.epoch = "other", .seq = 900}, "e", 100), "");
    const std::string why = why_read_only("worker w", {.epoch = "e", .seq = 120}, "e", 100);
    for (const char* part : {"worker w", "120", "100", "20 records", "ictl resume --accept-loss"})
        EXPECT_NE(why.find(part), std::string::npos) << why;
}

TEST(ReadOnly, StaysSoOverARestartUntilAnAdminDecides) {
    const test::TempDir dir;
    {
        Result<ReadOnly> state = ReadOnly::load(dir.path(), "e");
        ASSERT_TRUE(state.ok());
        EXPECT_FALSE(state->is_on());
        ASSERT_TRUE(state->enter("e", "because").ok());
        EXPECT_EQ(state->why(), "because");
    }
    Result<ReadOnly> again = ReadOnly::load(dir.path(), "e");
    ASSERT_TRUE(again.ok());
    EXPECT_EQ(again->why(), "because");
    ASSERT_TRUE(again->leave().ok());
    EXPECT_FALSE(again->is_on());
    EXPECT_FALSE(ReadOnly::load(dir.path(), "e")->is_on());
}

TEST(ReadOnly, AMarkOfAnotherEpochIsSettledAndGoes) {
    const test::TempDir dir;
    ASSERT_TRUE(ReadOnly::load(dir.path(), "e")->enter("e", "because").ok());
    EXPECT_FALSE(ReadOnly::load(dir.path(), "f")->is_on());
    EXPECT_FALSE(io::exists(dir.path("read-only")));
}

TEST(ReadOnly, AMarkMadeByHandCounts) {
    const test::TempDir dir;
    ASSERT_TRUE(io::write_file(dir.path("read-only"), "", 0600, io::Sync::none).ok());
    const Result<ReadOnly> state = ReadOnly::load(dir.path(), "e");
    ASSERT_TRUE(state.ok());
    EXPECT_TRUE(state->is_on());
}

TEST(ReadOnly, AMarkThatCannotBeWrittenStillHolds) {
    const test::TempDir dir;
    Result<ReadOnly> state = ReadOnly::load(dir.path("missing"), "e");
    ASSERT_TRUE(state.ok());
    EXPECT_FALSE(state->enter("e", "because").ok());
    EXPECT_TRUE(state->is_on());
}

}  // namespace
}  // namespace iw::broker
