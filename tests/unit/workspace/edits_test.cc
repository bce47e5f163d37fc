#include "common/workspace/edits.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "common/io/files.h"
#include "tests/support/temp_dir.h"

namespace iw::workspace {
namespace {

using Json = nlohmann::json;

const SessionId kId("20251118-151000-a");
const SessionId kParent("20251118-150000-b");
const SharedFields kKnown{.parent = kParent, .tags = {"x"}, .metadata = R"({"a": 1, "b": 2})"};

TEST(ForeignEdit, TellsWhatChangedAndNothingElse) {
    const auto same = foreign_edit(
        R"({"parent_session": "20251118-150000-b", "tags": ["x"], "metadata": {"b": 2, "a": 1}})",
        kKnown);
    ASSERT_TRUE(same);
    EXPECT_TRUE(same->empty());
    EXPECT_TRUE(same->refused.empty());
    // A script that writes a file of its own there has not edited what it leaves out.
    EXPECT_TRUE(foreign_edit(R"({"status": "KILLED"})", kKnown)->empty());

    const auto gone =
        foreign_edit(R"({"parent_session": null, "tags": [], "metadata": {}})", kKnown);
    EXPECT_EQ(gone->parent, SessionId());
    EXPECT_EQ(gone->tags, std::vector<std::string>{});
    EXPECT_EQ(gone->metadata, "");
    const auto other = foreign_edit(
        R"({"parent_session": "20251118-150001-b", "tags": ["y", "x"], "metadata": {"a": 2}})",
        kKnown);
    EXPECT_EQ(other->parent, SessionId("20251118-150001-b"));
    EXPECT_EQ(other->tags, (std::vector<std::string>{"y", "x"}));
    EXPECT_EQ(other->metadata, R"({"a":2})");
    EXPECT_FALSE(foreign_edit("{\"half", kKnown));
    EXPECT_FALSE(foreign_edit("[]", kKnown));
}

TEST(ForeignEdit, WhatCannotBeMeantIsRefusedByName) {
    const auto edit =
        foreign_edit(R"({"parent_session": "", "tags": "x", "metadata": []})", kKnown);
    EXPECT_TRUE(edit->empty());
    ASSERT_EQ(edit->refused.size(), 3u);
    EXPECT_EQ(edit->refused[0], "parent_session: it is empty");
    EXPECT_TRUE(edit->refused[1].starts_with("tags: "));
    EXPECT_TRUE(edit->refused[2].starts_with("metadata: "));
    EXPECT_EQ(foreign_edit(R"({"parent_session": "nobody"})", kKnown)->refused[0],
              "parent_session: \"nobody\" is no session id");
    EXPECT_EQ(foreign_edit(R"({"parent_session": 7})", kKnown)->refused.size(), 1u);
    EXPECT_EQ(foreign_edit(R"({"tags": [""]})", kKnown)->refused.size(), 1u);
    EXPECT_EQ(foreign_edit(R"({"tags": [1]})", kKnown)->refused.size(), 1u);
    const std::string big =
        R"({"metadata": {"a": ")" + std::string(limits::kMetadataMax, 'x') + "\"}}";
    EXPECT_EQ(foreign_edit(big, kKnown)->refused.size(), 1u);
}

class RewriteTest : public ::testing::Test {
  protected:
    void SetUp() override { ASSERT_TRUE(io::make_folders(folder_, 0755).ok()); }
    // As jq and mv do it.
    void put(const std::string& text) const {
        ASSERT_TRUE(io::write_file(folder_ + "/theirs", text, 0644, io::Sync::none).ok());
        ASSERT_EQ(::rename((folder_ + "/theirs").c_str(), (folder_ + "/state.json").c_str()), 0);
    }
    std::string shown() const { return *io::read_file(folder_ + "/state.json", 1u << 20); }

    test::TempDir temp_;
    ProjectPaths project_{temp_.path()};
    std::string folder_ = project_.workspace(kId);
};

TEST_F(RewriteTest, WhatComesBetweenReadingAndWritingIsReadToo) {
    put(R"({"first": 1})");
    std::vector<std::string> seen;
    const auto make = [&](const std::string& kept) {
        seen.push_back(kept);
        if (seen.size() == 1) put(R"({"second": 2})");  // after the look, before the write
        if (seen.size() == 2) put(R"({"third": 3})");
        Json json = Json::parse(kept);
        json["ours"] = true;
        return json.dump();
    };
    const Result<RewrittenState> done = rewrite_state(project_, kId, make);
    ASSERT_TRUE(done.ok());
    EXPECT_EQ(seen,
              (std::vector<std::string>{R"({"first": 1})", R"({"second": 2})", R"({"third": 3})"}));
    EXPECT_EQ(shown(), R"({"ours":true,"third":3})");
    EXPECT_EQ(done->version, state_version(project_, kId));
    EXPECT_EQ(io::list_folder(folder_), std::vector<std::string>{"state.json"});
}

TEST_F(RewriteTest, AnEditInPlaceIsSeenByItsTime) {
    put(R"({"first": 1})");
    int calls = 0;
    const auto make = [&](const std::string& kept) {
        if (++calls == 1) {
            std::FILE* file = std::fopen((folder_ + "/state.json").c_str(), "w");
            std::fputs(R"({"place": 2})", file);
            std::fclose(file);
            const struct timespec times[2] = {{1, 0}, {1, 0}};
            ::utimensat(AT_FDCWD, (folder_ + "/state.json").c_str(), times, 0);
        }
        return kept;
    };
    ASSERT_TRUE(rewrite_state(project_, kId, make).ok());
    EXPECT_EQ(shown(), R"({"place": 2})");
}

TEST_F(RewriteTest, AMoveOfTheWorkspaceTakesTheWriteAlong) {
    put("{}");
    const std::string elsewhere = temp_.path("moved");
    const auto make = [&](const std::string&) {
        EXPECT_EQ(::rename(folder_.c_str(), elsewhere.c_str()), 0);
        return std::string("{\"ours\":1}");
    };
    ASSERT_TRUE(rewrite_state(project_, kId, make).ok());
    EXPECT_FALSE(io::exists(folder_));
    EXPECT_EQ(*io::read_file(elsewhere + "/state.json", 100), "{\"ours\":1}");
    EXPECT_EQ(io::list_folder(elsewhere), std::vector<std::string>{"state.json"});
}

TEST_F(RewriteTest, WhatIsBrokenIsKeptAside) {
    const auto make = [](const std::string& kept) { return kept.empty() ? "{\"anew\":1}" : kept; };
    for (const std::string& broken : {std::string("{\"half"), std::string(), std::string("7")}) {
        put(broken);
        const Result<RewrittenState> done = rewrite_state(project_, kId, make);
        ASSERT_TRUE(done.ok());
        ASSERT_FALSE(done->broken.empty());
        EXPECT_EQ(*io::read_file(folder_ + "/" + done->broken, 100), broken);
        EXPECT_EQ(shown(), "{\"anew\":1}");
    }
    // Nothing is kept of what is whole, or not there.
    EXPECT_EQ(rewrite_state(project_, kId, make)->broken, "");
    ASSERT_TRUE(io::remove_file(folder_ + "/state.json").ok());
    EXPECT_EQ(rewrite_state(project_, kId, make)->broken, "");
    EXPECT_EQ(shown(), "{\"anew\":1}");
}

TEST_F(RewriteTest, ALinkIsKeptAsideAndNotFollowed) {
    const std::string victim = temp_.path("victim");
    ASSERT_TRUE(io::write_file(victim, "{\"secret\":1}", 0600, io::Sync::none).ok());
    ASSERT_EQ(::symlink(victim.c_str(), (folder_ + "/state.json").c_str()), 0);
    std::string seen = "unset";
    const auto make = [&](const std::string& kept) {
        seen = kept;
        return std::string("{}");
    };
    ASSERT_TRUE(rewrite_state(project_, kId, make).ok());
    EXPECT_EQ(seen, "");
    EXPECT_EQ(*io::read_file(victim, 100), "{\"secret\":1}");
    EXPECT_EQ(shown(), "{}");
}

TEST_F(RewriteTest, AMissingWorkspaceStaysMissing) {
    ASSERT_TRUE(io::remove_tree(folder_).ok());
    const Result<RewrittenState> done =
        rewrite_state(project_, kId, [](const std::string&) { return std::string("{}"); });
    ASSERT_TRUE(done.ok());
    EXPECT_FALSE(done->version);
    EXPECT_FALSE(io::exists(folder_));
}

}  // namespace
}  // namespace iw::workspace
