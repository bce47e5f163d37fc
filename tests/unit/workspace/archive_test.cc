#include "common/workspace/archive.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>

#include "common/io/files.h"
#include "tests/support/temp_dir.h"

namespace iw::workspace {
namespace {

constexpr Duration kDay{86'400'000};
const SessionId kId("20251118-151000-prometheus-agent");
const WallTime kNow = wall_from_ms(1'763'478'600'000);

class ArchiveTest : public ::testing::Test {
  protected:
    void SetUp() override { ASSERT_TRUE(prepare_project(project_).ok()); }

    void put(const std::string& path, const std::string& text) const {
        ASSERT_TRUE(io::make_folders(io::parent_folder(path), 0755).ok());
        ASSERT_TRUE(io::write_file(path, text, 0644, io::Sync::none).ok());
    }
    void age(const std::string& path, Duration old) const {
        const std::time_t seconds = to_ms(kNow - old) / 1000;
        const struct timespec times[2] = {{seconds, 0}, {seconds, 0}};
        ASSERT_EQ(::utimensat(AT_FDCWD, path.c_str(), times, AT_SYMLINK_NOFOLLOW), 0);
    }
    // A session with files of all kinds.
    std::string archive(const SessionId& id) const {
        const std::string folder = project_.archived(id);
        put(folder + "/state.json", R"({"session_id": ")" + id.str() + "\"}\n");
        put(folder + "/result.json", std::string(200'000, 'r'));
        put(folder + "/attempts/1/a name\nof two lines", "x");
        EXPECT_EQ(::symlink("/etc/passwd", (folder + "/link").c_str()), 0);
        EXPECT_EQ(::mkfifo((folder + "/fifo").c_str(), 0600), 0);
        return folder;
    }
    std::string compressed(const SessionId& id) const { return project_.archived(id) + ".tar.gz"; }
    // Names in the archive, without those of the lock.
    std::vector<std::string> names() const {
        std::vector<std::string> names = io::list_folder(project_.archive);
        std::erase(names, ".lock");
        std::erase(names, "sessions");  // prepare_project's
        return names;
    }
    int tar(std::vector<std::string> arguments) const {
        arguments.insert(arguments.begin(), {"tar", "--directory", project_.root});
        return io::run_command(arguments, {}, "", 4096, 60'000).exit_code;
    }

    test::TempDir temp_;
    ProjectPaths project_{temp_.path()};
};

TEST_F(ArchiveTest, CompressedSessionHoldsAllAndCanBeRead) {
    archive(kId);
    const Result<std::uint64_t> bytes = compress_archived(project_, kId);
    ASSERT_TRUE(bytes.ok()) << bytes.error().message;
    EXPECT_GT(*bytes, 0u);
    EXPECT_EQ(names(), std::vector<std::string>{kId.str() + ".tar.gz"});
    EXPECT_TRUE(is_compressed(project_, kId));
    EXPECT_EQ(*read_state(project_, kId), R"({"session_id": ")" + kId.str() + "\"}\n");
    EXPECT_EQ(read_compressed(project_, kId, "result.json", 200'000)->size(), 200'000u);
    EXPECT_EQ(read_compressed(project_, kId, "result.json", 199'999).error().code,
              ErrorCode::too_large);
    EXPECT_EQ(read_compressed(project_, kId, "output.log", 100).error().code, ErrorCode::not_found);
    // Unpacked in the project's root it is where it was.
    ASSERT_EQ(tar({"-xzf", compressed(kId)}), 0);
    EXPECT_EQ(*io::read_file(project_.archived(kId) + "/attempts/1/a name\nof two lines", 9), "x");
    EXPECT_TRUE(std::filesystem::is_symlink(project_.archived(kId) + "/link"));
}

TEST_F(ArchiveTest, MembersNamedByTheIdAloneAreReadToo) {
    put(project_.archived(kId) + "/state.json", "short");
    ASSERT_EQ(tar({"-czf", compressed(kId), "-C", project_.archive, kId.str()}), 0);
    ASSERT_TRUE(io::remove_tree(project_.archived(kId)).ok());
    EXPECT_EQ(*read_state(project_, kId), "short");
}

TEST_F(ArchiveTest, ACompressedFileOfGarbageIsAnErrorAndNothingElse) {
    put(compressed(kId), "no gzip");
    EXPECT_EQ(read_compressed(project_, kId, "state.json", 100).error().code, ErrorCode::io);
    EXPECT_FALSE(read_state(project_, kId).ok());
}

TEST_F(ArchiveTest, OnlyOldFoldersOfSessionsAreDue) {
    const SessionId young("20251118-151001-a");
    const SessionId packed("20251118-151002-a");
    archive(kId);
    age(project_.archived(kId), 30 * kDay + Duration{1000});
    archive(young);
    age(project_.archived(young), 30 * kDay - Duration{1000});
    put(compressed(packed), "x");
    age(compressed(packed), 50 * kDay);
    put(project_.archive + "/notes/mine", "x");
    age(project_.archive + "/notes", 50 * kDay);
    put(project_.archive + "/20251118-151003-file", "no folder");

    const std::vector<ArchivedSession> all = list_archive(project_);
    ASSERT_EQ(all.size(), 3u);
    EXPECT_EQ(all[0].id, packed);
    EXPECT_EQ(all[1].id, kId);
    EXPECT_EQ(all[2].id, young);
    EXPECT_GE(all[1].bytes, 200'000u);
    const auto due = due_for_compression(all, 30 * kDay, kNow);
    ASSERT_EQ(due.size(), 1u);
    EXPECT_EQ(due[0].id, kId);
}

TEST_F(ArchiveTest, PruningGoesByAgeAndBySizeOldestFirst) {
    std::vector<ArchivedSession> all;
    for (int day = 4; day >= 1; --day)
        all.push_back({.id = SessionId("2025111" + std::to_string(day) + "-151000-a"),
                       .compressed = true,
                       .changed_at = kNow - day * kDay,
                       .bytes = 100});
    EXPECT_TRUE(due_for_pruning(all, {}, kNow).empty());
    EXPECT_EQ(due_for_pruning(all, {.age = 2 * kDay, .bytes_max = {}}, kNow).size(), 2u);
    EXPECT_TRUE(due_for_pruning(all, {.age = {}, .bytes_max = 400}, kNow).empty());
    const auto due = due_for_pruning(all, {.age = 3 * kDay, .bytes_max = 250}, kNow);
    ASSERT_EQ(due.size(), 2u);
    EXPECT_EQ(due[0].id, all[0].id);
    EXPECT_EQ(due[1].id, all[1].id);
}

TEST_F(ArchiveTest, RemovedIsRemovedInBothFormsAndMissingIsFine) {
    archive(kId);
    put(compressed(kId), "x");
    EXPECT_TRUE(remove_archived(project_, kId).ok());
    EXPECT_TRUE(names().empty());
    EXPECT_TRUE(remove_archived(project_, kId).ok());
}

TEST_F(ArchiveTest, WhoWasEndedBeforeTheFolderWasRemovedGoesOn) {
    const std::string folder = archive(kId);
    ASSERT_EQ(tar({"-czf", compressed(kId), std::string(kArchiveFolder) + "/" + kId.str()}), 0);
    ASSERT_TRUE(io::remove_file(folder + "/result.json").ok());  // the removal had begun
    ASSERT_TRUE(compress_archived(project_, kId).ok());
    EXPECT_EQ(names(), std::vector<std::string>{kId.str() + ".tar.gz"});
    EXPECT_EQ(read_compressed(project_, kId, "result.json", 200'000)->size(), 200'000u);
}

TEST_F(ArchiveTest, AFileThatTheCompressedFormLacksKeepsTheFolder) {
    const std::string folder = archive(kId);
    ASSERT_EQ(tar({"-czf", compressed(kId), std::string(kArchiveFolder) + "/" + kId.str()}), 0);
    put(folder + "/later.md", "a note");
    const Result<std::uint64_t> refused = compress_archived(project_, kId);
    ASSERT_FALSE(refused.ok());
    EXPECT_EQ(refused.error().code, ErrorCode::conflict);
    EXPECT_EQ(names().size(), 2u);
    put(folder + "/later.md", "");
    ASSERT_TRUE(io::remove_file(folder + "/later.md").ok());
    put(folder + "/state.json", "edited");
    EXPECT_EQ(compress_archived(project_, kId).error().code, ErrorCode::conflict);
    EXPECT_EQ(*io::read_file(folder + "/state.json", 100), "edited");
}

TEST_F(ArchiveTest, LeftoversOfAnEndedCompressionAreFinished) {
    archive(kId);
    ASSERT_EQ(tar({"-czf", compressed(kId), std::string(kArchiveFolder) + "/" + kId.str()}), 0);
    const std::string aside = project_.archive + "/." + kId.str() + ".compressed-0011";
    ASSERT_EQ(::rename(project_.archived(kId).c_str(), aside.c_str()), 0);
    put(project_.archive + "/." + kId.str() + ".tar.gz.0022", "half");
    put(project_.archive + "/.mine.tar.gz.0022", "not ours");
    ASSERT_TRUE(clean_archive(project_).ok());
    EXPECT_EQ(names(), (std::vector<std::string>{".mine.tar.gz.0022", kId.str() + ".tar.gz"}));

    // What changed after the comparison is not thrown away.
    put(aside + "/late.md", "a note");
    EXPECT_EQ(clean_archive(project_).error().code, ErrorCode::conflict);
    EXPECT_EQ(*io::read_file(project_.archived(kId) + "/late.md", 100), "a note");
}

TEST_F(ArchiveTest, SocketsAreLeftOut) {
    const std::string folder = archive(kId);
    const io::UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM, 0));
    sockaddr_un address{.sun_family = AF_UNIX, .sun_path = {}};
    std::strncpy(address.sun_path, (folder + "/s").c_str(), sizeof address.sun_path - 1);
    ASSERT_EQ(::bind(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    const Result<std::uint64_t> done = compress_archived(project_, kId);
    EXPECT_TRUE(done.ok()) << done.error().message;
    EXPECT_FALSE(io::exists(folder));
}

TEST_F(ArchiveTest, WhoComesSecondIsToldThatSomebodyWorks) {
    archive(kId);
    const Result<io::FileLock> held = io::FileLock::acquire(project_.archive + "/.lock");
    ASSERT_TRUE(held.ok());
    EXPECT_EQ(compress_archived(project_, kId).error().code, ErrorCode::conflict);
    EXPECT_EQ(remove_archived(project_, kId).error().code, ErrorCode::conflict);
    EXPECT_TRUE(io::exists(project_.archived(kId)));
}

TEST_F(ArchiveTest, CompressedSessionIsNotMadeAgain) {
    archive(kId);
    ASSERT_TRUE(compress_archived(project_, kId).ok());
    SessionView view;
    view.id = kId;
    view.created_at = kNow;
    EXPECT_TRUE(create(project_, view, "p").ok());
    EXPECT_FALSE(io::exists(project_.workspace(kId)));
}

}  // namespace
}  // namespace iw::workspace
