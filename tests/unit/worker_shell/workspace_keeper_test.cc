#include "worker/workspace_keeper.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "common/io/files.h"
#include "tests/support/temp_dir.h"

namespace iw::worker {
namespace {

using Json = nlohmann::json;

const AttemptRef kRef{SessionId("20251118-151000-a"), {1, 1}};
const SessionId kParent("20251118-150000-b");
const WallTime kTime = wall_from_ms(1'763'478'600'000);

SessionView view_of(const SessionId& id, SessionStatus status) {
    SessionView view;
    view.id = id;
    view.agent = AgentName("a");
    view.status = status;
    view.detail = status == SessionStatus::running ? Detail::working : Detail::queued;
    if (is_final(status)) {
        view.detail = Detail::done;
        view.completed_at = kTime;
    }
    view.created_at = kTime;
    view.attempt = 1;
    view.generation = 1;
    view.revision = 5;
    return view;
}

class WorkspaceKeeperTest : public ::testing::Test {
  protected:
    struct Asked {
        Request request;
        WorkspaceKeeper::OnAnswer answer;
    };

    void SetUp() override { ASSERT_TRUE(workspace::prepare_project(project_).ok()); }

    // A session that runs here, with its workspace.
    void run() {
        make(running_);
        keeper_.follow(kRef);
        keeper_.connected();
        answer_list({running_});
    }
    void make(const SessionView& view) {
        ASSERT_TRUE(workspace::create(project_, view, "prompt").ok());
        ASSERT_TRUE(workspace::write_state(project_, view, true, kTime).ok());
    }
    std::string folder(const SessionId& id = kRef.session) const { return project_.workspace(id); }
    std::string read(const std::string& path) const {
        const Result<std::string> text = io::read_file(path, 1u << 24);
        return text.ok() ? *text : "<" + text.error().message + ">";
    }
    Json state(const SessionId& id = kRef.session) const {
        return Json::parse(read(folder(id) + "/state.json"), nullptr, false);
    }
    // jq > temp.json; mv temp.json state.json
    void edit(const std::string& field, const Json& value, const SessionId& id = kRef.session) {
        Json edited = state(id);
        edited[field] = value;
        put(edited.dump(), id);
    }
    void put(const std::string& text, const SessionId& id = kRef.session) {
        const std::string temporary = project_.root + "/temp.json";
        ASSERT_TRUE(io::write_file(temporary, text, 0644, io::Sync::none).ok());
        ASSERT_EQ(::rename(temporary.c_str(), (folder(id) + "/state.json").c_str()), 0);
        watch_.read();
    }
    std::vector<EditRequest> edits() const {
        std::vector<EditRequest> edits;
        for (const Asked& asked : asked_) {
            if (const auto* request = std::get_if<EditRequest>(&asked.request))
                edits.push_back(*request);
        }
        return edits;
    }
    void answer(Result<Reply> reply) {
        ASSERT_FALSE(asked_.empty());
        Asked asked = std::move(asked_.front());
        asked_.erase(asked_.begin());
        asked.answer(std::move(reply));
    }
    void answer_list(std::vector<SessionView> sessions) {
        ASSERT_FALSE(asked_.empty());
        ASSERT_TRUE(std::holds_alternative<ListRequest>(asked_.front().request));
        answer(Reply(ListReply{.sessions = std::move(sessions), .next = {}, .seq = 1}));
    }
    std::string log() const { return read(folder() + "/session.log"); }

    test::TempDir temp_;
    workspace::ProjectPaths project_{temp_.path()};
    FolderWatch watch_{FolderWatch::open().value()};
    SessionView running_ = view_of(kRef.session, SessionStatus::running);
    bool connected_ = true;
    std::vector<Asked> asked_;
    WorkspaceKeeper keeper_{
        {.watch = watch_,
         .project = project_,
         .view = [this](const AttemptRef&) { return std::optional(running_); },
         .prompt = [](const AttemptRef&) { return std::string("prompt"); },
         .now = [] { return kTime; },
         .ask =
             [this](Request request, WorkspaceKeeper::OnAnswer on_answer) {
                 if (connected_) asked_.push_back({std::move(request), std::move(on_answer)});
                 return connected_;
             },
         .on_listed = [this](const SessionView& session) { keeper_.keep(session); },
         .is_ours = [](const SessionView&) { return true; }}};
};

TEST_F(WorkspaceKeeperTest, AnAcceptedEditReachesTheBrokerAndStays) {
    run();
    edit("parent_session", kParent.str());
    ASSERT_EQ(edits().size(), 1u);
    EXPECT_EQ(edits()[0].id, kRef.session.str());
    EXPECT_TRUE(edits()[0].exact);
    EXPECT_EQ(edits()[0].parent, kParent);
    EXPECT_FALSE(edits()[0].tags);
    SessionView taken = running_;
    taken.parent = kParent;
    answer(Reply(EditReply{.session = taken, .refused = {}}));
    EXPECT_EQ(state()["parent_session"], kParent.str());
    // What we wrote ourselves is nobody's edit.
    watch_.read();
    EXPECT_TRUE(asked_.empty());
    EXPECT_EQ(log().find("WARN"), std::string::npos);
}

TEST_F(WorkspaceKeeperTest, ARefusedPartIsPutRightWithAWarning) {
    run();
    Json edited = state();
    edited["parent_session"] = kParent.str();
    edited["tags"] = {"mine"};
    edited["own"] = "kept";
    put(edited.dump());
    SessionView taken = running_;
    taken.tags = {"mine"};
    answer(
        Reply(EditReply{.session = taken, .refused = {"parent: it would be its own grandparent"}}));
    EXPECT_TRUE(state()["parent_session"].is_null());
    EXPECT_EQ(state()["tags"], Json({"mine"}));
    EXPECT_EQ(state()["own"], "kept");
    watch_.read();
    EXPECT_TRUE(asked_.empty());
    EXPECT_NE(log().find("[WARN] Edit of state.json of " + kRef.session.str() +
                         " put right: parent: it would be its own grandparent"),
              std::string::npos);
    EXPECT_NE(read(project_.global_log).find("grandparent"), std::string::npos);
}

TEST_F(WorkspaceKeeperTest, AnEmptyParentAndAStatusArePutRightWithoutTheBroker) {
    running_.parent = kParent;
    run();
    edit("parent_session", "");
    edit("status", "KILLED");
    EXPECT_EQ(state()["parent_session"], kParent.str());
    EXPECT_EQ(state()["status"], "RUNNING");
    EXPECT_TRUE(asked_.empty());
    EXPECT_NE(log().find("parent_session: it is empty"), std::string::npos);
}

TEST_F(WorkspaceKeeperTest, EditsWaitForTheBrokerAndGoOutTogether) {
    run();
    connected_ = false;
    edit("tags", Json({"one"}));
    edit("metadata", Json({{"k", 1}}));
    EXPECT_TRUE(asked_.empty());
    EXPECT_EQ(state()["tags"], Json({"one"}));
    connected_ = true;
    keeper_.connected();
    ASSERT_EQ(edits().size(), 1u);
    EXPECT_EQ(edits()[0].tags, std::vector<std::string>{"one"});
    EXPECT_EQ(edits()[0].metadata, R"({"k":1})");
    // The connection is lost with the answer: it is told again, with what came since.
    edit("tags", Json({"two"}));
    asked_.clear();
    keeper_.connected();
    ASSERT_EQ(edits().size(), 1u);
    EXPECT_EQ(edits()[0].tags, std::vector<std::string>{"two"});
    EXPECT_EQ(edits()[0].metadata, R"({"k":1})");
}

TEST_F(WorkspaceKeeperTest, ABusyBrokerIsAskedAgain) {
    run();
    edit("tags", Json({"one"}));
    answer(Error{ErrorCode::storage_low, "full"});
    EXPECT_TRUE(asked_.empty());
    ASSERT_TRUE(keeper_.deadline());
    keeper_.tick(*keeper_.deadline());
    EXPECT_EQ(edits().size(), 1u);
    answer(Error{ErrorCode::not_found, "no such session"});
    EXPECT_EQ(state()["tags"], Json::array());
    EXPECT_NE(log().find("no such session"), std::string::npos);
}

TEST_F(WorkspaceKeeperTest, ALaterEditIsNotTakenBackByTheAnswerToTheFirst) {
    run();
    edit("tags", Json({"one"}));
    edit("tags", Json({"two"}));
    ASSERT_EQ(edits().size(), 1u);
    SessionView taken = running_;
    taken.tags = {"one"};
    answer(Reply(EditReply{.session = taken, .refused = {}}));
    EXPECT_EQ(state()["tags"], Json({"two"}));
    ASSERT_EQ(edits().size(), 1u);
    EXPECT_EQ(edits()[0].tags, std::vector<std::string>{"two"});
}

TEST_F(WorkspaceKeeperTest, ABrokenStateIsKeptAside) {
    run();
    put("{\"half");
    EXPECT_EQ(state()["status"], "RUNNING");
    const std::vector<std::string> names = io::list_folder(folder());
    const auto broken = std::ranges::find_if(
        names, [](const std::string& name) { return name.starts_with("state.json.broken-"); });
    ASSERT_NE(broken, names.end());
    EXPECT_EQ(read(folder() + "/" + *broken), "{\"half");
    EXPECT_NE(log().find("[WARN] state.json was no JSON object"), std::string::npos);
}

TEST_F(WorkspaceKeeperTest, ARunningWorkspaceThatIsMovedIsMadeAgain) {
    run();
    ASSERT_EQ(::rename(folder().c_str(), temp_.path("moved").c_str()), 0);
    watch_.read();
    EXPECT_EQ(state()["status"], "RUNNING");
    EXPECT_EQ(read(folder() + "/prompt.md"), "prompt");
    EXPECT_TRUE(io::exists(temp_.path("moved") + "/prompt.md"));
    edit("status", "KILLED");
    EXPECT_EQ(state()["status"], "RUNNING");
}

TEST_F(WorkspaceKeeperTest, AnEditOfAWaitingSessionReachesTheBroker) {
    keeper_.connected();
    // The broker tells of it before ictl has made its workspace.
    const SessionView waiting = view_of(SessionId("20251118-151500-c"), SessionStatus::created);
    keeper_.keep(waiting);
    make(waiting);
    watch_.read();
    edit("parent_session", kParent.str(), waiting.id);
    ASSERT_EQ(edits().size(), 1u);
    EXPECT_EQ(edits()[0].parent, kParent);
}

TEST_F(WorkspaceKeeperTest, AFileOfARunningSessionThatIsRemovedIsMadeAgain) {
    run();
    for (const char* name : {"prompt.md", "session.log", "state.json"}) {
        ASSERT_TRUE(io::remove_file(folder() + "/" + name).ok());
        watch_.read();
        EXPECT_TRUE(io::exists(folder() + "/" + name)) << name;
    }
    EXPECT_EQ(read(folder() + "/prompt.md"), "prompt");
    EXPECT_NE(log().find("[WARN] Workspace of a running session"), std::string::npos) << log();
}

TEST_F(WorkspaceKeeperTest, AFinalSessionIsPutRightAsLongAsItStands) {
    run();
    const SessionView final_view = view_of(kRef.session, SessionStatus::completed);
    ASSERT_TRUE(workspace::write_end(project_, final_view, SessionStatus::running, kTime).ok());
    keeper_.keep(final_view);
    edit("status", "KILLED");
    EXPECT_EQ(state()["status"], "COMPLETED");
    edit("tags", Json({"after"}));
    ASSERT_EQ(edits().size(), 1u);
    SessionView tagged = final_view;
    tagged.tags = {"after"};
    answer(Reply(EditReply{.session = tagged, .refused = {}}));
    EXPECT_EQ(state()["tags"], Json({"after"}));

    ASSERT_EQ(::rename(folder().c_str(), project_.archived(kRef.session).c_str()), 0);
    watch_.read();
    EXPECT_FALSE(io::exists(folder()));
    EXPECT_FALSE(watch_.watches(folder()));
}

TEST_F(WorkspaceKeeperTest, AfterARestartTheBrokerSaysWhatIsTrue) {
    const SessionId done("20251118-140000-a");
    const SessionId unknown("20251118-130000-a");
    const SessionView final_view = view_of(done, SessionStatus::completed);
    make(final_view);
    make(view_of(unknown, SessionStatus::completed));
    make(running_);
    // While no worker was there:
    edit("status", "KILLED", done);
    edit("tags", Json({"new"}), done);
    edit("status", "KILLED", unknown);
    edit("parent_session", kParent.str());

    keeper_.follow(kRef);
    EXPECT_TRUE(asked_.empty());  // the broker may know it already
    keeper_.connected();
    ASSERT_EQ(asked_.size(), 1u);
    const auto* list = std::get_if<ListRequest>(&asked_[0].request);
    ASSERT_NE(list, nullptr);
    EXPECT_EQ(list->ids.size(), 3u);
    SessionView told = running_;
    told.parent = kParent;
    answer_list({final_view, told});
    EXPECT_EQ(state(done)["status"], "COMPLETED");
    EXPECT_EQ(state(done)["tags"], Json({"new"}));
    EXPECT_EQ(state(unknown)["status"], "KILLED");
    EXPECT_EQ(state()["parent_session"], kParent.str());
    ASSERT_EQ(edits().size(), 1u);
    EXPECT_EQ(edits()[0].id, done.str());
}

// Connected, and too much waits to be sent.
TEST_F(WorkspaceKeeperTest, WhatCouldNotBeSentIsSentLater) {
    make(running_);
    keeper_.follow(kRef);
    connected_ = false;
    keeper_.connected();
    connected_ = true;
    ASSERT_TRUE(keeper_.deadline());
    keeper_.tick(*keeper_.deadline());
    answer_list({running_});
    connected_ = false;
    edit("tags", Json({"one"}));
    connected_ = true;
    EXPECT_TRUE(asked_.empty());
    ASSERT_TRUE(keeper_.deadline());
    keeper_.tick(*keeper_.deadline());
    ASSERT_EQ(edits().size(), 1u);
    EXPECT_EQ(edits()[0].tags, std::vector<std::string>{"one"});
}

TEST_F(WorkspaceKeeperTest, WhatIsRightIsNotWritten) {
    const SessionView final_view = view_of(kRef.session, SessionStatus::completed);
    make(view_of(kRef.session, SessionStatus::completed));
    ASSERT_TRUE(workspace::write_state(project_, final_view, false, kTime).ok());
    const auto before = workspace::state_version(project_, kRef.session);
    SessionView shown = final_view;
    shown.workspace = folder();
    ASSERT_TRUE(workspace::write_state(project_, shown, false, kTime).ok());
    const auto right = workspace::state_version(project_, kRef.session);
    EXPECT_NE(before, right);
    keeper_.keep(final_view);
    keeper_.look_at_all();
    EXPECT_EQ(workspace::state_version(project_, kRef.session), right);
}

TEST_F(WorkspaceKeeperTest, ANewerViewBringsNewFieldsAndAnOlderOneNothing) {
    SessionView queued = view_of(kRef.session, SessionStatus::created);
    make(queued);
    keeper_.keep(queued);
    queued.revision = 6;
    queued.tags = {"by a client"};
    keeper_.keep(queued);
    EXPECT_EQ(state()["tags"], Json({"by a client"}));
    EXPECT_TRUE(edits().empty());
    queued.revision = 5;
    queued.tags = {};
    keeper_.keep(queued);
    EXPECT_EQ(state()["tags"], Json({"by a client"}));
}

}  // namespace
}  // namespace iw::worker
