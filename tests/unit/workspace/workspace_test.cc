#include "common/workspace/workspace.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "common/io/files.h"
#include "tests/support/temp_dir.h"

namespace iw::workspace {
namespace {

using Json = nlohmann::json;

constexpr std::int64_t kCreatedMs = 1763478600000;  // 2025-11-18T15:10:00Z

SessionView running_view() {
    SessionView view;
    view.id = SessionId("20251118-151000-prometheus-agent");
    view.agent = AgentName("prometheus-agent");
    view.status = SessionStatus::running;
    view.detail = Detail::working;
    view.created_at = wall_from_ms(kCreatedMs);
    view.started_at = wall_from_ms(kCreatedMs + 5000);
    view.attempt = 1;
    view.host = "host-a";
    return view;
}

SessionView failed_view() {
    SessionView view = running_view();
    view.status = SessionStatus::failed;
    view.detail = Detail::exited;
    view.exit_code = 1;
    view.reason = "exit code 1";
    view.completed_at = wall_from_ms(kCreatedMs + 80'000);
    return view;
}

class WorkspaceTest : public ::testing::Test {
  protected:
    void SetUp() override { ASSERT_TRUE(prepare_project(project_).ok()); }

    std::string read(const std::string& path) const {
        const Result<std::string> text = io::read_file(path, 1u << 24);
        return text.ok() ? *text : "<" + text.error().message + ">";
    }
    void put(const std::string& path, const std::string& text) const {
        ASSERT_TRUE(io::write_file(path, text, 0644, io::Sync::none).ok());
    }
    std::string folder() const { return project_.workspace(running_view().id); }
    Json state() const { return Json::parse(read(folder() + "/state.json")); }

    test::TempDir temp_;
    ProjectPaths project_{temp_.path()};
};

TEST_F(WorkspaceTest, CreateWritesPromptByteForByteAndOnlyWhatIsMissing) {
    const std::string prompt("quotes \" ` $(touch pwned) #{x};\r\n\xF0\x9F\x98\x80;\n");
    SessionView created = running_view();
    created.status = SessionStatus::created;
    created.detail = Detail::queued;
    created.started_at.reset();
    ASSERT_TRUE(create(project_, created, prompt).ok());
    EXPECT_EQ(read(folder() + "/prompt.md"), prompt);
    EXPECT_EQ(read(folder() + "/session.log"),
              "[2025-11-18T15:10:00Z] [INFO] Session created: 20251118-151000-prometheus-agent\n");
    EXPECT_EQ(state()["status"], "CREATED");

    // Whoever comes second leaves everything alone.
    ASSERT_TRUE(write_started(project_, running_view(), running_view().created_at).ok());
    ASSERT_TRUE(create(project_, created, "other").ok());
    EXPECT_EQ(read(folder() + "/prompt.md"), prompt);
    EXPECT_EQ(state()["status"], "RUNNING");
}

TEST_F(WorkspaceTest, LogOfOneLifeReadsAsInTheContract) {
    ASSERT_TRUE(create(project_, running_view(), "p").ok());
    ASSERT_TRUE(write_started(project_, running_view(), running_view().created_at).ok());
    const WallTime end = *failed_view().completed_at;
    for (int repeat = 0; repeat < 2; ++repeat)
        ASSERT_TRUE(write_end(project_, failed_view(), SessionStatus::running, end).ok());
    EXPECT_EQ(read(folder() + "/session.log"),
              "[2025-11-18T15:10:00Z] [INFO] Session created: 20251118-151000-prometheus-agent\n"
              "[2025-11-18T15:10:05Z] [INFO] tmux session started\n"
              "[2025-11-18T15:10:05Z] [INFO] Status: CREATED → RUNNING\n"
              "[2025-11-18T15:11:20Z] [ERROR] Exit code: 1\n"
              "[2025-11-18T15:11:20Z] [INFO] Status: RUNNING → FAILED\n");
    EXPECT_EQ(state()["status"], "FAILED");
    EXPECT_EQ(state()["exit_code"], 1);
    EXPECT_EQ(state()["completed_at"], "2025-11-18T15:11:20Z");
    EXPECT_EQ(state()["elapsed_seconds"], 80);
    EXPECT_EQ(state()["tmux_active"], false);
}

TEST_F(WorkspaceTest, EndIsNotLoggedTwiceWhenTheWriterDiedBetweenLogAndState) {
    ASSERT_TRUE(create(project_, running_view(), "p").ok());
    const WallTime end = *failed_view().completed_at;
    ASSERT_TRUE(write_end(project_, failed_view(), SessionStatus::running, end).ok());
    const std::string log = read(folder() + "/session.log");
    ASSERT_TRUE(write_state(project_, running_view(), true, end).ok());  // as if never written
    ASSERT_TRUE(write_end(project_, failed_view(), SessionStatus::running, end).ok());
    EXPECT_EQ(read(folder() + "/session.log"), log);
    EXPECT_EQ(state()["status"], "FAILED");
}

TEST_F(WorkspaceTest, ForeignFieldsSurviveAndOursAreTrue) {
    ASSERT_TRUE(create(project_, running_view(), "p").ok());
    Json edited = state();
    edited["parent_session"] = "20251118-150000-backend-agent";
    edited["my_note"] = "kept";
    edited["status"] = "KILLED";
    ASSERT_TRUE(io::write_file(folder() + "/state.json", edited.dump(), 0644, io::Sync::none).ok());
    ASSERT_TRUE(write_state(project_, running_view(), true, running_view().created_at).ok());
    EXPECT_EQ(state()["parent_session"], "20251118-150000-backend-agent");
    EXPECT_EQ(state()["my_note"], "kept");
    EXPECT_EQ(state()["status"], "RUNNING");
}

TEST_F(WorkspaceTest, BrokenStateFileIsReplaced) {
    ASSERT_TRUE(create(project_, running_view(), "p").ok());
    ASSERT_TRUE(io::write_file(folder() + "/state.json", "{\"half", 0644, io::Sync::none).ok());
    ASSERT_TRUE(write_state(project_, running_view(), true, running_view().created_at).ok());
    EXPECT_EQ(state()["status"], "RUNNING");
}

TEST_F(WorkspaceTest, MissingWorkspaceStaysMissing) {
    const SessionView view = failed_view();
    EXPECT_TRUE(write_end(project_, view, SessionStatus::running, *view.completed_at).ok());
    EXPECT_TRUE(log_session(project_, view.id, view.created_at, LogWord::warn, "x").ok());
    EXPECT_FALSE(io::exists(folder()));
}

TEST_F(WorkspaceTest, ArchivedSessionIsNotMadeAgain) {
    ASSERT_TRUE(io::make_folders(project_.archived(running_view().id), 0755).ok());
    SessionView view = running_view();
    view.status = SessionStatus::created;
    EXPECT_TRUE(create(project_, view, "p").ok());
    EXPECT_FALSE(io::exists(folder()));
}

TEST_F(WorkspaceTest, ViewComesBackFromItsStateFile) {
    ASSERT_TRUE(create(project_, running_view(), "p").ok());
    const WallTime end = *failed_view().completed_at;
    ASSERT_TRUE(write_end(project_, failed_view(), SessionStatus::running, end).ok());
    const Result<std::string> json = read_state(project_, running_view().id);
    ASSERT_TRUE(json.ok());
    const Result<SessionView> view = view_from_state(*json);
    ASSERT_TRUE(view.ok());
    EXPECT_EQ(view->status, SessionStatus::failed);
    EXPECT_EQ(view->exit_code, 1);
    EXPECT_EQ(view->completed_at, failed_view().completed_at);
    EXPECT_FALSE(view_from_state("[]").ok());
    EXPECT_FALSE(view_from_state("{}").ok());
}

TEST_F(WorkspaceTest, ResultIsReadOnlyFromARegularFile) {
    ASSERT_TRUE(io::make_folders(folder(), 0755).ok());
    const std::string path = folder() + "/result.json";
    EXPECT_FALSE(read_result(folder()).value().has_value());
    ASSERT_EQ(::symlink("/etc/passwd", path.c_str()), 0);
    EXPECT_FALSE(read_result(folder()).value().has_value());
    ASSERT_TRUE(io::remove_file(path).ok());
    ASSERT_EQ(::mkfifo(path.c_str(), 0600), 0);
    EXPECT_FALSE(read_result(folder()).value().has_value());
    ASSERT_TRUE(io::remove_file(path).ok());

    const std::string text = "{\"status\": \"success\"}";
    ASSERT_TRUE(io::write_file(path, text, 0644, io::Sync::none).ok());
    const auto result = read_result(folder()).value();
    ASSERT_TRUE(result.has_value());
    EXPECT_EQ(result->bytes, text);
    EXPECT_EQ(result->status, "success");
    EXPECT_EQ(result->sha256, io::sha256_hex(text));
}

TEST_F(WorkspaceTest, LargeResultHasSizeAndChecksumOnly) {
    ASSERT_TRUE(io::make_folders(folder(), 0755).ok());
    const std::string text(limits::kResultInlineMax + 1, 'x');
    ASSERT_TRUE(io::write_file(folder() + "/result.json", text, 0644, io::Sync::none).ok());
    const auto result = read_result(folder()).value();
    ASSERT_TRUE(result.has_value());
    EXPECT_FALSE(result->inlined);
    EXPECT_TRUE(result->bytes.empty());
    EXPECT_EQ(result->size, text.size());
    EXPECT_EQ(result->sha256, io::sha256_hex(text));
}

TEST_F(WorkspaceTest, NextAttemptStartsWithoutWhatTheOneBeforeLeft) {
    ASSERT_TRUE(create(project_, running_view(), "p").ok());
    for (const char* name : {"/result.json", "/notes.md", "/output.log"})
        ASSERT_TRUE(io::write_file(folder() + name, "x", 0644, io::Sync::none).ok());
    ASSERT_TRUE(begin_attempt(project_, running_view().id, 2).ok());
    EXPECT_EQ(io::list_folder(folder()),
              (std::vector<std::string>{"attempts", "prompt.md", "session.log", "state.json"}));
    EXPECT_EQ(io::list_folder(folder() + "/attempts/1"),
              (std::vector<std::string>{"notes.md", "output.log", "result.json"}));
}

TEST_F(WorkspaceTest, NothingMovesWhenNothingWasLeft) {
    ASSERT_TRUE(create(project_, running_view(), "p").ok());
    ASSERT_TRUE(begin_attempt(project_, running_view().id, 2).ok());
    EXPECT_FALSE(io::exists(folder() + "/attempts"));
}

TEST_F(WorkspaceTest, ANameThatIsTakenIsNotOverwritten) {
    ASSERT_TRUE(create(project_, running_view(), "p").ok());
    ASSERT_TRUE(io::make_folders(folder() + "/attempts/1/work", 0755).ok());
    put(folder() + "/attempts/1/result.json", "old");
    put(folder() + "/attempts/1/result.json.2", "older");
    put(folder() + "/result.json", "new");
    ASSERT_TRUE(io::make_folders(folder() + "/work", 0755).ok());
    put(folder() + "/work/file", "new");
    ASSERT_TRUE(begin_attempt(project_, running_view().id, 2).ok());
    EXPECT_EQ(read(folder() + "/attempts/1/result.json"), "old");
    EXPECT_EQ(read(folder() + "/attempts/1/result.json.2"), "older");
    EXPECT_EQ(read(folder() + "/attempts/1/result.json.3"), "new");
    EXPECT_EQ(read(folder() + "/attempts/1/work.2/file"), "new");
}

TEST_F(WorkspaceTest, LinksMoveAndAreNotFollowed) {
    ASSERT_TRUE(create(project_, running_view(), "p").ok());
    const std::string outside = temp_.path() + "/outside";
    ASSERT_TRUE(io::make_folders(outside, 0755).ok());
    put(outside + "/mine", "x");
    ASSERT_EQ(::symlink(outside.c_str(), (folder() + "/attempts").c_str()), 0);
    ASSERT_EQ(::symlink(outside.c_str(), (folder() + "/link").c_str()), 0);
    put(folder() + "/result.json", "left");
    ASSERT_TRUE(begin_attempt(project_, running_view().id, 2).ok());
    EXPECT_EQ(io::list_folder(outside), std::vector<std::string>{"mine"});
    EXPECT_EQ(read(folder() + "/attempts/1/result.json"), "left");
    struct stat info {};
    ASSERT_EQ(::lstat((folder() + "/attempts/1/link").c_str(), &info), 0);
    EXPECT_TRUE(S_ISLNK(info.st_mode));
    EXPECT_EQ(io::list_folder(folder()),
              (std::vector<std::string>{"attempts", "prompt.md", "session.log", "state.json"}));
}

TEST_F(WorkspaceTest, AWorkspaceThatIsALinkGoesAside) {
    const std::string outside = temp_.path() + "/outside";
    ASSERT_TRUE(io::make_folders(outside, 0755).ok());
    put(outside + "/result.json", "theirs");
    ASSERT_EQ(::symlink(outside.c_str(), folder().c_str()), 0);
    const Status begun = begin_attempt(project_, running_view().id, 2);
    ASSERT_FALSE(begun.ok());
    EXPECT_EQ(begun.error().code, ErrorCode::conflict);
    ASSERT_TRUE(create(project_, running_view(), "p").ok());
    EXPECT_TRUE(begin_attempt(project_, running_view().id, 2).ok());
    EXPECT_EQ(io::list_folder(outside), std::vector<std::string>{"result.json"});
}

// A crash at any point, then the same launch again: each file is in one place, once.
TEST_F(WorkspaceTest, AMoveThatWasInterruptedGoesOn) {
    ASSERT_TRUE(create(project_, running_view(), "p").ok());
    constexpr std::size_t kFiles = 300;
    for (std::size_t i = 0; i < kFiles; ++i)
        put(folder() + "/file-" + std::to_string(i), std::to_string(i));
    for (int round = 0; round < 5; ++round) {
        const pid_t child = ::fork();
        if (child == 0) {
            static_cast<void>(begin_attempt(project_, running_view().id, 2));
            ::_exit(0);
        }
        const std::size_t moved = io::list_folder(folder() + "/attempts/1").size();
        while (io::list_folder(folder() + "/attempts/1").size() < std::min(moved + 20, kFiles)) {
        }
        ::kill(child, SIGKILL);
        ASSERT_EQ(::waitpid(child, nullptr, 0), child);
    }
    ASSERT_TRUE(begin_attempt(project_, running_view().id, 2).ok());
    EXPECT_EQ(io::list_folder(folder()),
              (std::vector<std::string>{"attempts", "prompt.md", "session.log", "state.json"}));
    EXPECT_EQ(io::list_folder(folder() + "/attempts/1").size(), kFiles);
    for (std::size_t i = 0; i < kFiles; ++i)
        EXPECT_EQ(read(folder() + "/attempts/1/file-" + std::to_string(i)), std::to_string(i));
}

// A script moves the workspace away in the middle: its copy has everything, and the next attempt
// is told that its workspace is gone.
TEST_F(WorkspaceTest, AForeignMoveInTheMiddleLosesNothing) {
    constexpr std::size_t kFiles = 300;
    ASSERT_TRUE(create(project_, running_view(), "p").ok());
    for (std::size_t i = 0; i < kFiles; ++i)
        put(folder() + "/file-" + std::to_string(i), std::to_string(i));
    const pid_t child = ::fork();
    if (child == 0) {
        const Status begun = begin_attempt(project_, running_view().id, 2);
        ::_exit(!begun.ok() && begun.error().code == ErrorCode::conflict ? 1 : 0);
    }
    while (!io::exists(folder() + "/attempts/1/file-1")) {
    }
    const std::string away = temp_.path() + "/away";
    ASSERT_EQ(::rename(folder().c_str(), away.c_str()), 0);
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    // It may have been done just before; then there was nothing to notice.
    EXPECT_TRUE(WIFEXITED(status));
    EXPECT_FALSE(io::exists(folder()));
    EXPECT_EQ(io::list_folder(away + "/attempts/1").size(), kFiles);
    EXPECT_EQ(begin_attempt(project_, running_view().id, 2).error().code, ErrorCode::conflict);
}

TEST_F(WorkspaceTest, AReturnIsLoggedOnceAndShowsThatAnotherAttemptFollows) {
    ASSERT_TRUE(create(project_, running_view(), "p").ok());
    const WallTime now = wall_from_ms(kCreatedMs + 90'000);
    ASSERT_TRUE(write_started(project_, running_view(), now).ok());
    SessionView returned = running_view();
    returned.status = SessionStatus::created;
    returned.detail = Detail::retrying;
    returned.exit_code = 3;
    returned.reason = "exit code 3; attempt 2 no earlier than 2025-11-18T15:11:40Z";
    const auto write = [&](WallTime at) {
        return write_returned(project_, returned, SessionStatus::running, at);
    };
    ASSERT_TRUE(write(now).ok());
    ASSERT_TRUE(write(now + Duration{5'000}).ok()) << "its writer died before it could say so";
    EXPECT_EQ(state()["status"], "CREATED");
    EXPECT_EQ(state()["detail"], "retrying");
    EXPECT_EQ(state()["tmux_active"], false);
    const std::string line = "[INFO] Status: RUNNING → CREATED (retrying)\n";
    const std::string log = read(folder() + "/session.log");
    EXPECT_NE(log.find("[ERROR] Exit code: 3\n"), std::string::npos) << log;
    ASSERT_NE(log.find(line), std::string::npos) << log;
    EXPECT_EQ(log.find(line), log.rfind(line)) << log;
    // The next attempt's return is another one.
    SessionView second = running_view();
    second.attempt = 2;
    second.started_at = now + Duration{20'000};
    ASSERT_TRUE(write_started(project_, second, now).ok());
    ASSERT_TRUE(write(now + Duration{30'000}).ok());
    const std::string both = read(folder() + "/session.log");
    EXPECT_NE(both.find(line), both.rfind(line)) << both;
}

TEST_F(WorkspaceTest, AttemptsThatStartInTheSameSecondAreBothLogged) {
    ASSERT_TRUE(create(project_, running_view(), "p").ok());
    const WallTime now = *running_view().started_at;
    ASSERT_TRUE(write_started(project_, running_view(), now).ok());
    SessionView second = running_view();
    second.attempt = 2;
    for (int repeat = 0; repeat < 2; ++repeat)
        ASSERT_TRUE(write_started(project_, second, now).ok());
    const std::string line = "Status: CREATED → RUNNING\n";
    const std::string log = read(folder() + "/session.log");
    const std::size_t first = log.find(line);
    ASSERT_NE(first, std::string::npos);
    const std::size_t next = log.find(line, first + 1);
    ASSERT_NE(next, std::string::npos) << log;
    EXPECT_EQ(log.find(line, next + 1), std::string::npos) << log;
}

TEST_F(WorkspaceTest, AReturnOfAMissingWorkspaceMakesNone) {
    SessionView returned = running_view();
    returned.status = SessionStatus::created;
    EXPECT_TRUE(
        write_returned(project_, returned, SessionStatus::running, wall_from_ms(kCreatedMs)).ok());
    EXPECT_FALSE(io::exists(folder()));
}

TEST_F(WorkspaceTest, ProjectIsFoundUpwards) {
    ASSERT_TRUE(io::make_folders(temp_.path() + "/scripts/ops", 0755).ok());
    ASSERT_TRUE(io::make_folders(temp_.path() + "/a/b", 0755).ok());
    EXPECT_EQ(find_project(temp_.path() + "/a/b"), io::real_path(temp_.path()));
    EXPECT_EQ(find_project("/"), "");
}

TEST_F(WorkspaceTest, PreparingTouchesTheArchiveAndOverwritesNothing) {
    const timespec old[2] = {{1, 0}, {1, 0}};
    ASSERT_EQ(::utimensat(AT_FDCWD, project_.archive.c_str(), old, 0), 0);
    ASSERT_TRUE(log_project(project_, running_view().created_at, LogWord::warn, "kept").ok());
    ASSERT_TRUE(prepare_project(project_).ok());
    struct stat status {};
    ASSERT_EQ(::stat(project_.archive.c_str(), &status), 0);
    EXPECT_GT(status.st_mtime, 1);
    EXPECT_EQ(read(project_.global_log), "[2025-11-18T15:10:00Z] [WARN] kept\n");
}

TEST_F(WorkspaceTest, AMoveOfAllSessionsIntoTheArchiveIsRefused) {
    ASSERT_TRUE(prepare_project(project_).ok());
    const std::string target = project_.archive + "/sessions";
    const std::string text = read(target);
    EXPECT_NE(text, "");
    EXPECT_NE(::rename(project_.sessions.c_str(), target.c_str()), 0);
    EXPECT_TRUE(io::exists(project_.sessions));
    // Somebody's own file of that name is left alone.
    ASSERT_TRUE(io::write_file(target, "mine", 0644, io::Sync::none).ok());
    ASSERT_TRUE(prepare_project(project_).ok());
    EXPECT_EQ(read(target), "mine");
}

TEST_F(WorkspaceTest, OddEntriesUnderOurNamesGoAsideAndTheEndIsWritten) {
    ASSERT_TRUE(create(project_, running_view(), "p").ok());
    ASSERT_TRUE(io::remove_file(folder() + "/session.log").ok());
    ASSERT_TRUE(io::remove_file(folder() + "/state.json").ok());
    ASSERT_EQ(::mkfifo((folder() + "/session.log").c_str(), 0600), 0);
    ASSERT_EQ(::mkdir((folder() + "/state.json").c_str(), 0700), 0);

    ASSERT_TRUE(write_end(project_, failed_view(), SessionStatus::running, WallTime{}).ok());
    EXPECT_EQ(state()["status"], "FAILED");
    EXPECT_NE(read(folder() + "/session.log").find("RUNNING → FAILED"), std::string::npos);
    int odd = 0;
    for (const std::string& name : io::list_folder(folder()))
        odd += name.find(".odd-") != std::string::npos ? 1 : 0;
    EXPECT_EQ(odd, 2);
}

TEST_F(WorkspaceTest, ALinkForTheLogIsNotFollowed) {
    ASSERT_TRUE(create(project_, running_view(), "p").ok());
    ASSERT_TRUE(io::remove_file(folder() + "/session.log").ok());
    const std::string target = temp_.path() + "/elsewhere";
    ASSERT_EQ(::symlink(target.c_str(), (folder() + "/session.log").c_str()), 0);
    ASSERT_TRUE(write_started(project_, running_view(), WallTime{}).ok());
    EXPECT_FALSE(io::exists(target));
    EXPECT_NE(read(folder() + "/session.log").find("RUNNING"), std::string::npos);
}

TEST_F(WorkspaceTest, AHugeResultIsNotHashed) {
    ASSERT_TRUE(create(project_, running_view(), "p").ok());
    const std::string path = folder() + "/result.json";
    ASSERT_TRUE(io::write_file(path, "{}", 0644, io::Sync::none).ok());
    constexpr off_t kHuge = off_t{40} << 30;
    ASSERT_EQ(::truncate(path.c_str(), kHuge), 0);
    const auto result = read_result(folder());
    ASSERT_TRUE(result.ok() && result->has_value());
    EXPECT_EQ((*result)->size, static_cast<std::uint64_t>(kHuge));
    EXPECT_EQ((*result)->sha256, "");
    EXPECT_FALSE((*result)->inlined);
}

TEST_F(WorkspaceTest, ARunningWorkspaceMovedToTheArchiveIsMadeAgain) {
    ASSERT_TRUE(create(project_, running_view(), "p").ok());
    ASSERT_EQ(::rename(folder().c_str(), project_.archived(running_view().id).c_str()), 0);
    ASSERT_TRUE(create(project_, running_view(), "p").ok());
    EXPECT_EQ(read(folder() + "/prompt.md"), "p");
}

}  // namespace
}  // namespace iw::workspace
