#include <fcntl.h>
#include <gtest/gtest.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>

#include <array>
#include <nlohmann/json.hpp>

#include "common/io/entropy.h"
#include "common/io/files.h"
#include "common/workspace/archive.h"
#include "common/workspace/deliverables.h"
#include "common/workspace/workspace.h"
#include "tests/unit/ctl/command_line_fixture.h"

namespace iw::ctl {
namespace {

using test::Answer;
using test::CommandLineTest;
using test::FakeBroker;
using test::Outcome;
using test::refusal;
using test::view;

constexpr const char* kDone = "20251118-151000-a";
constexpr const char* kRunning = "20251118-151000-b";
constexpr const char* kForgotten = "20251118-151000-c";

class SessionCommandsTest : public CommandLineTest {
  protected:
    void SetUp() override {
        CommandLineTest::SetUp();
        ended_ = made(kDone, SessionStatus::completed, Detail::done);
        ended_.result_status = "success";
        running_ = made(kRunning, SessionStatus::running, Detail::working);
        forgotten_ = made(kForgotten, SessionStatus::failed, Detail::exited);
        for (const SessionView& session : {ended_, running_, forgotten_}) {
            ASSERT_TRUE(workspace::create(paths(), session, "look\n").ok());
            ASSERT_TRUE(workspace::write_state(paths(), session, false, session.created_at).ok());
        }
    }
    workspace::ProjectPaths paths() const { return workspace::ProjectPaths(root_); }

    SessionView made(const char* id, SessionStatus status, Detail detail) const {
        SessionView session = view(id, status, detail);
        session.origin = {.host = io::host_name(), .root = root_};
        session.workspace = paths().workspace(session.id);
        return session;
    }

    Answer answer(const RequestFrame& frame) const {
        if (const auto* status = std::get_if<StatusRequest>(&frame.body)) {
            if (status->id == kDone) return Reply(StatusReply{.session = ended_, .seq = 5});
            if (status->id == kRunning) return Reply(StatusReply{.session = running_, .seq = 5});
        }
        if (const auto* result = std::get_if<ResultRequest>(&frame.body)) {
            if (result->id == kDone) {
                return Reply(ResultReply{.session = ended_,
                                         .held = true,
                                         .result = "{\"n\": 12345678901234567890123}\n"});
            }
            if (result->id == kRunning) return Reply(ResultReply{.session = running_});
        }
        if (const auto* list = std::get_if<ListRequest>(&frame.body)) {
            ListReply reply{.seq = 5};
            for (const SessionView& session : {ended_, running_}) {
                if (list->status.empty() ||
                    std::ranges::find(list->status, session.status) != list->status.end())
                    reply.sessions.push_back(session);
            }
            return Reply(reply);
        }
        return refusal(ErrorCode::not_found, "no such session");
    }

    // 40 days, as `find -mtime` sees it.
    static void make_old(const std::string& path) {
        const timespec then{.tv_sec = ::time(nullptr) - 40 * 86'400, .tv_nsec = 0};
        const std::array<timespec, 2> times = {then, then};
        ASSERT_EQ(::utimensat(AT_FDCWD, path.c_str(), times.data(), 0), 0) << path;
    }
    bool stands(const char* id) const { return io::exists(paths().workspace(SessionId(id))); }
    bool is_archived(const char* id) const { return io::exists(paths().archived(SessionId(id))); }

    SessionView ended_;
    SessionView running_;
    SessionView forgotten_;
};

TEST_F(SessionCommandsTest, ArchiveMovesWhatHasEndedAndRefusesTheOthers) {
    FakeBroker broker(endpoint_, [this](const RequestFrame& frame) { return answer(frame); });
    const Outcome tried = ask({"archive", kDone, kForgotten, "--dry-run"});
    EXPECT_EQ(tried.code, 0) << tried.err;
    EXPECT_EQ(tried.out, std::string(kDone) + "\n" + kForgotten + "\n");
    EXPECT_TRUE(stands(kDone) && !is_archived(kDone)) << "a dry run";

    const Outcome moved = ask({"archive", kRunning, kDone});
    EXPECT_EQ(moved.code, 1);
    EXPECT_EQ(moved.out, std::string(kDone) + "\n");
    EXPECT_NE(moved.err.find(std::string(kRunning) + " is RUNNING"), std::string::npos);
    EXPECT_TRUE(!stands(kDone) && is_archived(kDone));
    EXPECT_TRUE(stands(kRunning) && !is_archived(kRunning));

    const Outcome again = ask({"archive", kDone});
    EXPECT_EQ(again.code, 0) << again.err;
    EXPECT_EQ(again.out, "");
    EXPECT_NE(again.err.find("in the archive already"), std::string::npos);
    const Outcome unknown = ask({"archive", "20990101-000000-x"});
    EXPECT_EQ(unknown.code, 4);
}

TEST_F(SessionCommandsTest, ArchiveByFilterTakesWhatTheBrokerHasForgottenToo) {
    FakeBroker broker(endpoint_, [this](const RequestFrame& frame) { return answer(frame); });
    const Outcome failed = ask({"archive", "--status", "FAILED", "--json"});
    EXPECT_EQ(failed.code, 0) << failed.err;
    const auto json = nlohmann::json::parse(failed.out);
    ASSERT_EQ(json["sessions"].size(), 1u);
    EXPECT_EQ(json["sessions"][0]["session_id"], kForgotten);
    EXPECT_EQ(json["sessions"][0]["outcome"], "moved");
    EXPECT_TRUE(is_archived(kForgotten) && stands(kDone));
    const Outcome all = ask({"archive", "--all"});
    EXPECT_EQ(all.code, 0) << all.err;
    EXPECT_EQ(all.out, std::string(kDone) + "\n");
    EXPECT_TRUE(stands(kRunning)) << "filters leave out what runs";
}

TEST_F(SessionCommandsTest, ArchiveNeverOverwrites) {
    FakeBroker broker(endpoint_, [this](const RequestFrame& frame) { return answer(frame); });
    ASSERT_TRUE(io::make_folders(paths().archived(SessionId(kDone)), 0755).ok());
    const Outcome refused = ask({"archive", kDone});
    EXPECT_EQ(refused.code, 1);
    EXPECT_NE(refused.err.find("move one of them away"), std::string::npos) << refused.err;
    EXPECT_TRUE(stands(kDone));
    ASSERT_TRUE(io::remove_tree(paths().archived(SessionId(kDone))).ok());
    ASSERT_TRUE(io::remove_tree(paths().workspace(SessionId(kDone))).ok());
    const Outcome missing = ask({"archive", kDone});
    EXPECT_EQ(missing.code, 1);
    EXPECT_NE(missing.err.find("no workspace any more"), std::string::npos) << missing.err;
}

TEST_F(SessionCommandsTest, ArchivePacksAndPrunesWithoutABroker) {
    for (const char* id : {kDone, kForgotten}) {
        ASSERT_TRUE(io::make_folders(paths().archive, 0755).ok());
        const SessionId session{id};
        ASSERT_EQ(::rename(paths().workspace(session).c_str(), paths().archived(session).c_str()),
                  0);
    }
    const auto archive = [this](std::vector<std::string> arguments) {
        arguments.insert(arguments.begin(), {"--project", root_, "archive"});
        return run(arguments);
    };
    EXPECT_EQ(archive({"--compress"}).out, "") << "not old enough";
    for (const char* id : {kDone, kForgotten})
        make_old(paths().archived(SessionId(id)));
    const Outcome tried = archive({"--compress", "--older-than", "7d", "--dry-run"});
    EXPECT_EQ(tried.out, std::string(kDone) + "  compressed\n" + kForgotten + "  compressed\n");
    EXPECT_TRUE(is_archived(kDone));
    EXPECT_EQ(archive({"--compress"}).code, 0);
    EXPECT_FALSE(is_archived(kDone));
    EXPECT_TRUE(io::exists(paths().archived(SessionId(kDone)) + ".tar.gz"));
    EXPECT_EQ(archive({"--prune-older-than", "1d"}).out, "") << "just packed";
    for (const char* id : {kDone, kForgotten})
        make_old(paths().archived(SessionId(id)) + ".tar.gz");
    const Outcome pruned = archive({"--prune-older-than", "1d", "--json"});
    EXPECT_EQ(pruned.code, 0) << pruned.err;
    EXPECT_EQ(nlohmann::json::parse(pruned.out)["archive"].size(), 2u);
    EXPECT_TRUE(workspace::list_archive(paths()).empty());
    EXPECT_TRUE(stands(kRunning));
}

TEST_F(SessionCommandsTest, ResultsOfSeveralAreOneObject) {
    FakeBroker broker(endpoint_, [this](const RequestFrame& frame) { return answer(frame); });
    ASSERT_TRUE(io::write_file(paths().workspace(SessionId(kForgotten)) + "/result.json",
                               "{\"status\": ", 0644, io::Sync::none)
                    .ok());
    const Outcome several = ask({"result", kDone, kRunning, kForgotten, kDone});
    EXPECT_EQ(several.code, 1) << "one runs, one is broken";
    EXPECT_NE(several.out.find("\"result\": {\"n\": 12345678901234567890123},"), std::string::npos)
        << "byte for byte: " << several.out;
    const auto json = nlohmann::json::parse(several.out);
    ASSERT_EQ(json.size(), 3u);
    EXPECT_EQ(json[kDone]["status"], "COMPLETED");
    EXPECT_EQ(json[kDone]["result_status"], "success");
    EXPECT_FALSE(json[kDone].contains("problem"));
    EXPECT_TRUE(json[kRunning]["result"].is_null());
    EXPECT_NE(json[kRunning]["problem"].get<std::string>().find("no result yet"),
              std::string::npos);
    EXPECT_TRUE(json[kForgotten]["result"].is_null());
    EXPECT_NE(json[kForgotten]["problem"].get<std::string>().find("not JSON"), std::string::npos);
    EXPECT_EQ(json[kForgotten]["file"], paths().workspace(SessionId(kForgotten)) + "/result.json");

    // Packed in the archive it is still there.
    EXPECT_EQ(ask({"archive", kForgotten}).code, 0);
    make_old(paths().archived(SessionId(kForgotten)));
    EXPECT_EQ(ask({"archive", "--compress"}).code, 0);
    EXPECT_FALSE(is_archived(kForgotten));
    const Outcome one = ask({"result", kDone, "--by-id"});
    EXPECT_EQ(one.code, 0) << one.err;
    EXPECT_EQ(nlohmann::json::parse(one.out).size(), 1u);
    EXPECT_EQ(ask({"result", kForgotten}).out, "{\"status\": ") << "one alone is as it is";
}

// Looked at from a host that is not the session's own, and too large for the broker's store.
TEST_F(SessionCommandsTest, ALargeResultComesFromWhatTravelled) {
    const std::string result = "{\"text\": \"" + std::string(3u << 20, 'x') + "\"}";
    std::uint64_t told_size = result.size();
    workspace::Manifest files;
    files.files.push_back(
        {.path = "result.json", .size = result.size(), .sha256 = io::sha256_hex(result)});
    const std::string manifest = workspace::format_manifest(files);
    SessionView session = ended_;
    session.origin.host = "elsewhere";
    session.result_size = result.size();
    session.deliverables =
        Delivered{.manifest = io::sha256_hex(manifest), .files = 1, .bytes = result.size()};
    FakeBroker broker(endpoint_, [&](const RequestFrame& frame) -> Answer {
        if (std::holds_alternative<ResultRequest>(frame.body))
            return Reply(ResultReply{.session = session});
        const auto* get = std::get_if<GetRequest>(&frame.body);
        if (get == nullptr) return refusal(ErrorCode::not_found, "no");
        if (get->blob == session.deliverables->manifest)
            return Reply(GetReply{.data = manifest, .size = manifest.size()});
        if (get->blob != files.files[0].sha256) return refusal(ErrorCode::not_found, "no");
        return Reply(
            GetReply{.data = result.substr(get->offset, limits::kChunkMax), .size = told_size});
    });
    const Outcome whole = ask({"result", kDone});
    EXPECT_EQ(whole.code, 0) << whole.err;
    EXPECT_TRUE(whole.out == result) << whole.out.size();
    told_size = std::uint64_t{100} << 20;
    const Outcome large = ask({"result", kDone});
    EXPECT_EQ(large.code, 1);
    EXPECT_NE(large.err.find("bring it with `ictl fetch " + std::string(kDone) + " result.json`"),
              std::string::npos)
        << large.err;
    session.deliverables->manifest = std::string(64, '0');
    const Outcome gone = ask({"result", kDone});
    EXPECT_EQ(gone.code, 1);
    EXPECT_NE(gone.err.find("stands on host elsewhere"), std::string::npos) << gone.err;
}

TEST_F(SessionCommandsTest, ADryRunReadsAndMakesNothing) {
    FakeBroker broker(endpoint_, [](const RequestFrame& frame) -> Answer {
        if (std::holds_alternative<WorkersRequest>(frame.body)) {
            WorkerView worker;
            worker.name = WorkerName("w");
            worker.state = "up";
            worker.slots = 1;
            worker.agents = {"grafana-agent"};
            return Reply(WorkersReply{.workers = {worker}});
        }
        if (std::holds_alternative<FleetRequest>(frame.body)) return Reply(FleetReply{});
        return refusal(ErrorCode::internal, "not a read");
    });
    ASSERT_TRUE(io::remove_tree(root_ + "/docs").ok());
    ASSERT_TRUE(io::write_file(prompt_, "**Priority**: HIGH\n**Max Duration**: soon\n", 0644,
                               io::Sync::none)
                    .ok());
    const std::vector<std::string> arguments = {"submit", "grafana-agnet", prompt_, "--dry-run",
                                                "--json"};
    const Outcome result = ask(arguments);
    EXPECT_EQ(result.code, 64);
    EXPECT_NE(result.err.find("warning: prompt line 2: max duration \"soon\""), std::string::npos);
    EXPECT_NE(result.err.find("would be refused: no worker offers"), std::string::npos);
    const auto json = nlohmann::json::parse(result.out);
    EXPECT_EQ(json["workers"].size(), 1u);
    EXPECT_EQ(json["warnings"].size(), 1u);
    EXPECT_FALSE(json["refusal"].is_null());
    bool found = false;
    for (const auto& value : json["values"])
        found = found || (value["name"] == "priority" && value["value"] == "10" &&
                          value["origin"] == "prompt line 1");
    EXPECT_TRUE(found) << result.out;
    EXPECT_FALSE(io::exists(root_ + "/docs"));
}

TEST_F(SessionCommandsTest, ASchemaThatIsNoneIsRefused) {
    ASSERT_TRUE(io::remove_tree(root_ + "/docs").ok());
    ASSERT_TRUE(io::remove_tree(root_ + "/logs").ok());
    const auto file = [&](const char* name, const std::string& text) {
        const std::string path = folder_.path(name);
        EXPECT_TRUE(io::write_file(path, text, 0644, io::Sync::none).ok());
        return path;
    };
    const auto with = [&](const std::string& path) {
        return std::vector<std::string>{"submit", "a", prompt_, "--result-schema", path};
    };
    expect_refused({
        {with(folder_.path("none.json")), 64, "none.json does not exist"},
        {with(file("text.json", "nothing")), 64, "text.json is no JSON Schema"},
        {with(file("array.json", "[]")), 64, "array.json is no JSON Schema"},
        {with(file("type.json", R"({"type": 5})")), 64, "type.json is no JSON Schema"},
        {with(file("large.json", std::string(70'000, ' '))), 64, "over 64 KiB"},
        {{"submit", "a", prompt_, "--estimate", "soon"}, 64, "--estimate"},
        {{"submit", "a", prompt_, "--dry-run", "--wait"}, 64, "--dry-run"},
        {{"archive"}, 64, "no session given"},
        {{"archive", "x", "--all"}, 64, "exclude"},
        {{"archive", "--older-than", "1d"}, 64, "--compress"},
        {{"archive", "--compress", "--older-than", "old"}, 64, "--older-than"},
        {{"archive", "--prune-to-mb", "0"}, 64, "prune-to-mb"},
        {{"archive", ""}, 64, "no session id given"},
        {{"result", kDone, ""}, 64, "no session id given"},
    });
}

}  // namespace
}  // namespace iw::ctl
