#include "ctl/refresh.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <nlohmann/json.hpp>
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
    void edit_file(const std::string& field, const std::string& value) const {
        const std::string path = project().workspace(SessionId(kId)) + "/state.json";
        auto state = nlohmann::json::parse(*io::read_file(path, 1u << 20));
        state[field] = nlohmann::json::parse(value);
        ASSERT_TRUE(io::write_file(path, state.dump(), 0644, io::Sync::none).ok());
    }
    // As it is to be shown then.
    SessionView refresh(SessionView shown, const std::string& endpoint = "") {
        std::istringstream in;
        std::ostringstream out;
        const Terminal terminal{.in = in, .out = out, .err = out};
        GlobalOptions options;
        options.broker = endpoint;
        options.patience = "100ms";
        Context context(options, terminal);
        refresh_workspace(context, shown);
        EXPECT_EQ(out.str(), "");
        return shown;
    }
    io::FileLock hold_root() const {
        const std::string file = io::root_lock_file(root_);
        IW_CHECK(io::make_folders(io::parent_folder(file), 0700).ok());
        Result<io::FileLock> lock = io::FileLock::acquire(file);
        IW_CHECK(lock.ok());
        return std::move(*lock);
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

TEST_F(RefreshTest, AnEndWithoutFilesTellsTheWholeLife) {
    SessionView failed = session(SessionStatus::failed, Detail::disk_limit);
    failed.started_at = failed.created_at;
    failed.attempt = 1;
    refresh(failed);
    const std::string log =
        *io::read_file(project().workspace(SessionId(kId)) + "/session.log", 9999);
    const std::size_t started = log.find("Status: CREATED → RUNNING");
    EXPECT_NE(started, std::string::npos) << log;
    EXPECT_LT(started, log.find("Status: RUNNING → FAILED")) << log;
    EXPECT_EQ(status_in_file(), SessionStatus::failed);
}

TEST_F(RefreshTest, LeavesTheFilesToARunningWorker) {
    const io::FileLock lock = hold_root();
    EXPECT_EQ(refresh(session(SessionStatus::killed, Detail::killed)).status,
              SessionStatus::killed);
    EXPECT_EQ(status_in_file(), SessionStatus::created);
}

// The worker was away when it ended, and has come back.
TEST_F(RefreshTest, ShowsNoEndWhileAWorkerBringsItsFiles) {
    SessionView ended = session(SessionStatus::completed, Detail::done);
    ended.deliverables = Delivered{.manifest = std::string(64, 'a'), .files = 1, .bytes = 1};
    {
        const io::FileLock lock = hold_root();
        const SessionView shown = refresh(ended);
        EXPECT_EQ(shown.status, SessionStatus::running);
        EXPECT_EQ(shown.detail, Detail::delivering);
        EXPECT_FALSE(shown.completed_at.has_value());
        edit_file("status", R"("KILLED")");
        EXPECT_EQ(refresh(ended).status, SessionStatus::running) << "a script's own idea";
    }
    ASSERT_TRUE(
        workspace::write_end(project(), ended, SessionStatus::running, *ended.completed_at).ok());
    const io::FileLock lock = hold_root();
    EXPECT_EQ(refresh(ended).status, SessionStatus::completed);
    edit_file("status", R"("KILLED")");
    EXPECT_EQ(refresh(ended).status, SessionStatus::completed) << "an end never goes back";
    ASSERT_TRUE(io::remove_tree(project().workspace(SessionId(kId))).ok());
    EXPECT_EQ(refresh(ended).status, SessionStatus::completed);
}

TEST_F(RefreshTest, NeverTakesAnEndBackAndNeverMakesAFolder) {
    refresh(session(SessionStatus::killed, Detail::killed));
    refresh(session(SessionStatus::running, Detail::working));
    EXPECT_EQ(status_in_file(), SessionStatus::killed);
    ASSERT_TRUE(io::remove_tree(project().workspace(SessionId(kId))).ok());
    refresh(session(SessionStatus::killed, Detail::killed));
    EXPECT_FALSE(io::exists(project().workspace(SessionId(kId))));
}

TEST_F(RefreshTest, TellsTheBrokerWhatAScriptHasEdited) {
    SessionView queued = session(SessionStatus::created, Detail::queued);
    const std::string endpoint = "ipc://" + folder_.path("b.sock");
    test::FakeBroker broker(endpoint, [&](const RequestFrame& frame) -> test::Answer {
        const auto* edit = std::get_if<EditRequest>(&frame.body);
        if (edit == nullptr) return test::refusal(ErrorCode::not_found, "nothing else is asked");
        EditReply reply{.session = queued, .refused = {}};
        if (edit->tags) reply.session.tags = *edit->tags;
        if (edit->parent) reply.refused.push_back("parent: " + edit->parent->str() + " is unknown");
        return Reply(reply);
    });
    edit_file("tags", R"(["mine"])");
    edit_file("parent_session", R"("20251118-150000-nobody")");
    refresh(queued, endpoint);
    const Result<SessionView> shown =
        workspace::view_from_state(*workspace::read_state(project(), SessionId(kId)));
    EXPECT_EQ(shown->tags, std::vector<std::string>{"mine"});
    EXPECT_TRUE(shown->parent.empty());
    const std::string log =
        *io::read_file(project().workspace(SessionId(kId)) + "/session.log", 9999);
    EXPECT_NE(log.find("put right: parent: 20251118-150000-nobody is unknown"), std::string::npos);
    ASSERT_EQ(broker.seen().size(), 1u);
    queued.tags = {"mine"};
    refresh(queued, endpoint);
    EXPECT_EQ(broker.seen().size(), 1u) << "what agrees is not told again";
}

TEST_F(RefreshTest, PutsAStatusOfAScriptRight) {
    edit_file("status", R"("KILLED")");
    refresh(session(SessionStatus::running, Detail::working));
    EXPECT_EQ(status_in_file(), SessionStatus::running);
    refresh(session(SessionStatus::completed, Detail::done));
    edit_file("status", R"("KILLED")");
    refresh(session(SessionStatus::completed, Detail::done));
    EXPECT_EQ(status_in_file(), SessionStatus::completed);
}

TEST_F(RefreshTest, AnEditWaitsInTheFileWhileNobodyCanTakeIt) {
    edit_file("tags", R"(["mine"])");
    refresh(session(SessionStatus::created, Detail::queued), "ipc://" + folder_.path("none.sock"));
    const Result<SessionView> shown =
        workspace::view_from_state(*workspace::read_state(project(), SessionId(kId)));
    EXPECT_EQ(shown->tags, std::vector<std::string>{"mine"});
}

TEST_F(RefreshTest, PutsRightWhatAScriptMadeOfAnEnd) {
    const std::string folder = project().workspace(SessionId(kId));
    const SessionView killed = session(SessionStatus::killed, Detail::killed);
    refresh(killed);
    const std::string right = *workspace::read_state(project(), SessionId(kId));
    std::string wrong = right;
    wrong.replace(wrong.find("\"KILLED\""), 8, "\"FAILED\"");
    for (const std::string& text : {wrong, std::string("{\"status\": \"KIL")}) {
        ASSERT_TRUE(io::write_file(folder + "/state.json", text, 0644, io::Sync::none).ok());
        refresh(killed);
        EXPECT_EQ(*workspace::read_state(project(), SessionId(kId)), right);
    }
    const std::string log = *io::read_file(folder + "/session.log", 9999);
    EXPECT_NE(log.find("[WARN] state.json was no JSON object"), std::string::npos) << log;
}

TEST_F(RefreshTest, AnotherHostsFilesAreNotOurs) {
    SessionView other = session(SessionStatus::killed, Detail::killed);
    other.origin.host = "somewhere-else";
    refresh(other);
    EXPECT_EQ(status_in_file(), SessionStatus::created);
}

}  // namespace
}  // namespace iw::ctl
