#include "common/workspace/project_log.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <thread>

#include "common/base/text.h"
#include "common/io/files.h"
#include "common/workspace/settings.h"
#include "tests/support/temp_dir.h"

namespace iw::workspace {
namespace {

const WallTime kNow = wall_from_ms(1'763'478'600'000);

class ProjectLogTest : public ::testing::Test {
  protected:
    void SetUp() override { ASSERT_TRUE(prepare_project(project_).ok()); }
    std::string read(const std::string& path) const { return *io::read_file(path, 1u << 26); }

    test::TempDir temp_;
    ProjectPaths project_{temp_.path()};
};

TEST_F(ProjectLogTest, RotationKeepsTheFileThatIsFollowed) {
    ASSERT_TRUE(append_project_log(project_, "one\ntwo\n").ok());
    EXPECT_EQ(*rotate_project_log(project_, 8, kNow), "");
    const io::UniqueFd follower(::open(project_.global_log.c_str(), O_RDONLY));
    const Result<std::string> rotated = rotate_project_log(project_, 7, kNow);
    ASSERT_TRUE(rotated.ok()) << rotated.error().message;
    EXPECT_EQ(*rotated, project_.global_log + ".20251118-151000");
    EXPECT_EQ(read(*rotated), "one\ntwo\n");
    ASSERT_TRUE(append_project_log(project_, "three\n").ok());
    char text[16] = {};
    ASSERT_EQ(::read(follower.get(), text, sizeof text), 6);
    EXPECT_STREQ(text, "three\n");
    // The same second again overwrites nothing.
    EXPECT_EQ(*rotate_project_log(project_, 1, kNow), project_.global_log + ".20251118-151000-2");
}

TEST_F(ProjectLogTest, NoLineOfOurWritersIsLostOrDoubled) {
    constexpr int kLines = 3000;
    std::jthread writer([&] {
        for (int i = 0; i < kLines; ++i)
            static_cast<void>(append_project_log(project_, std::to_string(i) + "\n"));
    });
    std::string all;
    const std::string last = std::to_string(kLines - 1) + "\n";
    for (std::int64_t second = 0; !all.ends_with(last); ++second) {
        const auto rotated = rotate_project_log(project_, 0, kNow + Duration{second * 1000});
        ASSERT_TRUE(rotated.ok()) << rotated.error().message;
        if (!rotated->empty()) all += read(*rotated);
    }
    writer.join();
    EXPECT_EQ(read(project_.global_log), "");
    std::string expected;
    for (int i = 0; i < kLines; ++i)
        expected += std::to_string(i) + "\n";
    EXPECT_EQ(all, expected);
}

TEST_F(ProjectLogTest, AWriterIsNotHeldUpByAStrangersLock) {
    const std::string lock = io::parent_folder(project_.global_log) + "/.orchestrator.log.lock";
    ASSERT_TRUE(append_project_log(project_, "one\n").ok());
    const io::UniqueFd stranger(::open(lock.c_str(), O_RDWR));
    ASSERT_EQ(::flock(stranger.get(), LOCK_EX), 0);
    EXPECT_TRUE(append_project_log(project_, "two\n").ok());
    EXPECT_EQ(read(project_.global_log), "one\ntwo\n");
    EXPECT_EQ(rotate_project_log(project_, 1, kNow).error().code, ErrorCode::conflict);
    EXPECT_EQ(read(project_.global_log), "one\ntwo\n");
}

TEST_F(ProjectLogTest, OnlyOldRotatedLogsAreRemoved) {
    const std::string folder = io::parent_folder(project_.global_log);
    const std::vector<std::string> names = {
        "orchestrator.log.20250101-000000", "orchestrator.log.20251118-000000",
        "orchestrator.log.mine", "orchestrator.log", "other.log.20250101-000000"};
    for (const std::string& name : names) {
        const std::string path = folder + "/" + name;
        ASSERT_TRUE(io::write_file(path, "x", 0644, io::Sync::none).ok());
        const bool young = name.ends_with("20251118-000000");
        const std::time_t seconds = to_ms(kNow) / 1000 - (young ? 3600 : 90 * 86'400);
        const struct timespec times[2] = {{seconds, 0}, {seconds, 0}};
        ASSERT_EQ(::utimensat(AT_FDCWD, path.c_str(), times, 0), 0);
    }
    const auto removed = remove_old_logs(project_, Duration{86'400'000}, kNow);
    EXPECT_EQ(removed, std::vector<std::string>{folder + "/" + names[0]});
}

TEST_F(ProjectLogTest, NumbersOfConfigShAreReadAsTheShellWould) {
    ASSERT_TRUE(io::make_folders(temp_.path("scripts/ops"), 0755).ok());
    const auto value = [&](const std::string& text) {
        EXPECT_TRUE(
            io::write_file(temp_.path("scripts/ops/config.sh"), text, 0644, io::Sync::none).ok());
        return project_number(temp_.path(), "DAYS", 30, 1, 100);
    };
    EXPECT_EQ(value(""), 30);
    EXPECT_EQ(value("DAYS=7\n"), 7);
    EXPECT_EQ(value("DAYS=7\n DAYS=\"8\" # a week and a day\n#DAYS=9\nMY_DAYS=10\n"), 8);
    EXPECT_EQ(value("DAYS=101\n"), 30);
    EXPECT_EQ(value("DAYS=$(rm -rf /)\n"), 30);
    EXPECT_EQ(project_number(temp_.path("none"), "DAYS", 30, 1, 100), 30);
}

}  // namespace
}  // namespace iw::workspace
