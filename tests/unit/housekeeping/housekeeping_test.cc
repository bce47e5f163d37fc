#include "worker/housekeeping/housekeeping.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include "common/io/files.h"
#include "common/workspace/archive.h"
#include "tests/support/temp_dir.h"

namespace iw::worker {
namespace {

constexpr Duration kDay{86'400'000};
const WallTime kNow = wall_from_ms(1'763'478'600'000);
const SessionId kOld("20251001-151000-a");
const SessionId kYoung("20251117-151000-a");

class HousekeepingTest : public ::testing::Test {
  protected:
    void SetUp() override {
        ASSERT_TRUE(workspace::prepare_project(project_).ok());
        archive(kOld, 40 * kDay);
        archive(kYoung, kDay);
    }
    void archive(const SessionId& id, Duration old) {
        const std::string folder = project_.archived(id);
        ASSERT_TRUE(io::make_folders(folder, 0755).ok());
        ASSERT_TRUE(
            io::write_file(folder + "/state.json", std::string(100'000, 'x'), 0644, io::Sync::none)
                .ok());
        const std::time_t seconds = to_ms(kNow - old) / 1000;
        const struct timespec times[2] = {{seconds, 0}, {seconds, 0}};
        ASSERT_EQ(::utimensat(AT_FDCWD, folder.c_str(), times, 0), 0);
    }
    void keep(const HousekeepingRules& rules) { keep_house({project_.root, rules}, kNow); }
    bool has(const SessionId& id) const { return io::exists(project_.archived(id)); }
    std::string log() const { return *io::read_file(project_.global_log, 1u << 20); }

    test::TempDir temp_;
    workspace::ProjectPaths project_{temp_.path()};
};

TEST_F(HousekeepingTest, OldArchivesAreCompressedAndNothingElseHappens) {
    keep({});
    EXPECT_TRUE(workspace::is_compressed(project_, kOld));
    EXPECT_FALSE(has(kOld));
    EXPECT_TRUE(has(kYoung));
    EXPECT_EQ(log(), "[2025-11-18T15:10:00Z] [INFO] Session compressed: " + kOld.str() + "\n");
    keep({});
    EXPECT_EQ(log().find('\n'), log().size() - 1);
}

TEST_F(HousekeepingTest, ZeroMeansNotAtAll) {
    keep({.compress_days = 0, .prune_days = 0, .archive_bytes = 0, .log_bytes = 0});
    EXPECT_TRUE(has(kOld));
    EXPECT_EQ(log(), "");
}

TEST_F(HousekeepingTest, PruningIsByAgeAndBySize) {
    keep({.compress_days = 0, .prune_days = 39, .archive_bytes = 0, .log_bytes = 0});
    EXPECT_FALSE(has(kOld));
    EXPECT_TRUE(has(kYoung));
    keep({.compress_days = 0, .prune_days = 0, .archive_bytes = 50'000, .log_bytes = 0});
    EXPECT_FALSE(has(kYoung));
    EXPECT_NE(log().find("Session removed from the archive: " + kYoung.str()), std::string::npos);
}

TEST_F(HousekeepingTest, MuchDiskIsWarnedOf) {
    ASSERT_TRUE(io::make_folders(temp_.path("scripts/ops"), 0755).ok());
    ASSERT_TRUE(io::write_file(temp_.path("scripts/ops/config.sh"), "TOTAL_DISK_WARNING_MB=1\n",
                               0644, io::Sync::none)
                    .ok());
    keep({.compress_days = 0});
    EXPECT_EQ(log(), "");
    ASSERT_TRUE(io::write_file(project_.archived(kYoung) + "/big", std::string(2'500'000, 'x'),
                               0644, io::Sync::none)
                    .ok());
    keep({.compress_days = 0});
    EXPECT_NE(log().find("[WARN] Disk usage of sessions and archive: 2 MB > 1 MB"),
              std::string::npos)
        << log();
}

TEST_F(HousekeepingTest, WhatCannotBeCompressedIsToldAndStays) {
    ASSERT_TRUE(
        io::write_file(project_.archived(kOld) + ".tar.gz", "somebody's own", 0644, io::Sync::none)
            .ok());
    keep({});
    EXPECT_TRUE(has(kOld));
    EXPECT_NE(log().find("[WARN] Session not compressed: " + kOld.str()), std::string::npos);
}

TEST_F(HousekeepingTest, ArgumentsComeBack) {
    const HousekeepingRules rules{
        .compress_days = 1, .prune_days = 2, .archive_bytes = 3'000'000'000, .log_bytes = 4};
    const auto order = parse_arguments(to_arguments("/a b", rules));
    ASSERT_TRUE(order.ok());
    EXPECT_EQ(order->root, "/a b");
    EXPECT_EQ(order->rules.compress_days, 1u);
    EXPECT_EQ(order->rules.prune_days, 2u);
    EXPECT_EQ(order->rules.archive_bytes, 3'000'000'000u);
    EXPECT_EQ(order->rules.log_bytes, 4u);
    EXPECT_FALSE(parse_arguments({}).ok());
    EXPECT_FALSE(parse_arguments({"relative", "1", "2", "3", "4"}).ok());
    EXPECT_FALSE(parse_arguments({"/a", "1", "2", "-3", "4"}).ok());
}

}  // namespace
}  // namespace iw::worker
