#include "ctl/refresh.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <sstream>

#include "common/io/files.h"
#include "common/workspace/workspace.h"
#include "ctl/context.h"
#include "tests/support/temp_dir.h"
#include "tests/unit/ctl/fake_broker.h"

namespace iw::ctl {
namespace {

using test::view;

constexpr const char* kId = "20251118-151000-grafana-agent";

class RefreshTest : public ::testing::Test {
  protected:
    void SetUp() override {
        ::setenv("IW_CFG_STATE_DIR", folder_.path("state").c_str(), 1);
        root_ = folder_.path("project");
        ASSERT_TRUE(
            workspace::create(project(), session(SessionStatus::created, Detail::queued), "look\n")
                .ok());
    }
    workspace::ProjectPaths project() const { return workspace::ProjectPaths(root_); }
    SessionView session(SessionStatus status, Detail detail) const {
        SessionView made = view(kId, status, detail);
        made.origin = Origin{.host = io::host_name(), .root = root_};
        if (is_final(status)) made.completed_at = made.created_at + Duration(1'000);
        return made;
    }
    void refresh(SessionView shown) {
        std::istringstream in;
        std::ostringstream out;
        const Terminal terminal{.in = in, .out = out, .err = out};
        Context context(GlobalOptions{}, terminal);
        refresh_workspace(context, shown);
        EXPECT_EQ(out.str(), "");
    }
    SessionStatus status_in_file() const {
        return workspace::view_from_state(*workspace::read_state(project(), SessionId(kId)))
            ->status;
    }

    test::TempDir folder_;
    std::string root_;
};

TEST_F(RefreshTest, WritesTheEndWhereNoWorkerRuns) {
    refresh(session(SessionStatus::killed, Detail::killed));
    EXPECT_EQ(status_in_file(), SessionStatus::killed);
    const std::string log =
        *io::read_file(project().workspace(SessionId(kId)) + "/session.log", 9999);
    EXPECT_NE(log.find("Status: CREATED → KILLED"), std::string::npos) << log;
    refresh(session(SessionStatus::killed, Detail::killed));
    EXPECT_EQ(*io::read_file(project().workspace(SessionId(kId)) + "/session.log", 9999), log)
        << "nothing is written twice";
}

TEST_F(RefreshTest, LeavesTheFilesToARunningWorker) {
    const std::string file = io::root_lock_file(root_);
    ASSERT_TRUE(io::make_folders(io::parent_folder(file), 0700).ok());
    const Result<io::FileLock> lock = io::FileLock::acquire(file);
    ASSERT_TRUE(lock.ok());
    refresh(session(SessionStatus::killed, Detail::killed));
    EXPECT_EQ(status_in_file(), SessionStatus::created);
}

TEST_F(RefreshTest, NeverTakesAnEndBackAndNeverMakesAFolder) {
    refresh(session(SessionStatus::killed, Detail::killed));
    refresh(session(SessionStatus::running, Detail::working));
    EXPECT_EQ(status_in_file(), SessionStatus::killed);
    ASSERT_TRUE(io::remove_tree(project().workspace(SessionId(kId))).ok());
    refresh(session(SessionStatus::killed, Detail::killed));
    EXPECT_FALSE(io::exists(project().workspace(SessionId(kId))));
}

TEST_F(RefreshTest, AnotherHostsFilesAreNotOurs) {
    SessionView other = session(SessionStatus::killed, Detail::killed);
    other.origin.host = "somewhere-else";
    refresh(other);
    EXPECT_EQ(status_in_file(), SessionStatus::created);
}

}  // namespace
}  // namespace iw::ctl
