#include <gtest/gtest.h>
#include <stdlib.h>

#include <algorithm>
#include <atomic>
#include <nlohmann/json.hpp>
#include <set>

#include "common/io/files.h"
#include "common/workspace/workspace.h"
#include "ctl/command.h"
#include "ctl/exit_code.h"
#include "tests/unit/ctl/command_line_fixture.h"

namespace iw::ctl {
namespace {

using test::Answer;
using test::CommandLineTest;
using test::FakeBroker;
using test::kId;
using test::Outcome;
using test::refusal;
using test::view;

TEST_F(CommandLineTest, BadPromptsAndOptionsOfSubmitAreRefused) {
    const std::string missing = folder_.path("missing.md");
    const std::string empty = folder_.path("empty.md");
    const std::string binary = folder_.path("binary.md");
    const std::string large = folder_.path("large.md");
    ASSERT_TRUE(io::write_file(empty, " \n", 0644, io::Sync::none).ok());
    ASSERT_TRUE(io::write_file(binary, "a\xff\xfe", 0644, io::Sync::none).ok());
    ASSERT_TRUE(io::write_file(large, std::string((2u << 20) + 1, 'x'), 0644, io::Sync::none).ok());
    expect_refused({
        {{"submit"}, 64, "required"},
        {{"submit", "a"}, 64, "required"},
        {{"submit", "Bad Agent", prompt_}, 64, "no agent's name"},
        {{"submit", "", prompt_}, 64, "no agent's name"},
        {{"submit", "a", missing}, 66, "does not exist"},
        {{"submit", "a", empty}, 66, "is empty"},
        {{"submit", "a", binary}, 66, "not UTF-8"},
        {{"submit", "a", large}, 66, "over 2 MiB"},
        {{"submit", "a", folder_.path()}, 66, "not a regular file"},
        {{"submit", "a", "-"}, 66, "is empty"},
        {{"submit", "a", prompt_, "--priority", "urgent"}, 64, "low, normal, high"},
        {{"submit", "a", prompt_, "--priority", "101"}, 64, "-100 to 100"},
        {{"submit", "a", prompt_, "--timeout", "soon"}, 64, "--timeout"},
        {{"submit", "a", prompt_, "--delay", "-5s"}, 64, "--delay"},
        {{"submit", "a", prompt_, "--delay", "2m", "--expires", "1m"}, 64, "never start"},
        {{"submit", "a", prompt_, "--require", "gpu"}, 64, "name=value"},
        {{"submit", "a", prompt_, "--tag", ""}, 64, "--tag"},
        {{"submit", "a", prompt_, "--on-lost", "panic"}, 64, "wait, requeue or fail"},
        {{"submit", "a", prompt_, "--metadata", "[1]"}, 64, "JSON object"},
        {{"submit", "a", prompt_, "--metadata", "{"}, 64, "JSON object"},
        {{"submit", "a", prompt_, "--key", ""}, 64, "--key"},
        {{"submit", "a", prompt_, "--key", std::string(129, 'k')}, 64, "--key"},
        {{"submit", "a", prompt_, "--wait", "--attach"}, 64, "exclude"},
    });
}

TEST_F(CommandLineTest, BadArgumentsAreRefused) {
    expect_refused({
        {{"sumbit"}, 64, "did you mean submit?"},
        {{"--jsno"}, 64, "no command given"},
        {{"status", "x", "--jsno"}, 64, "did you mean --json?"},
        {{"status", ""}, 64, "no session id given; did create fail?"},
        {{"status", "x", "--json", "--brief"}, 64, "exclude"},
        {{"list", "--status", "DONE"}, 64, "CREATED, RUNNING"},
        {{"list", "--agent", "A B"}, 64, "no agent's name"},
        {{"wait"}, 64, "required"},
        {{"wait", "x", "--any", "--count", "1"}, 64, "exclude"},
        {{"wait", "x", "--count", "0"}, 64, "--count"},
        {{"wait", "x", "--count", "many"}, 64, "many"},
        {{"wait", "x", "--timeout", "1y"}, 64, "--timeout"},
        {{"logs", "x", "-n", "-1"}, 64, "-n"},
        {{"result", ""}, 64, "no session id given"},
        {{"attach", "x"}, 1, "needs a terminal"},
        {{"kill"}, 64, "no session given"},
        {{"kill", "x"}, 64, "give --force"},
        {{"kill", "", "--force"}, 64, "no session id given"},
        {{"kill", "x", "--all", "--force"}, 64, "exclude"},
        {{"retry", "a", "b", "--key", "k"}, 64, "one session"},
        {{"completion", "tcsh"}, 64, "bash, zsh and fish"},
        {{"help", "sumbit"}, 64, "did you mean submit?"},
        {{"config"}, 64, "subcommand"},
        {{"--patience", "often", "list"}, 64, "patience"},
    });
}

TEST_F(CommandLineTest, WithoutABrokerItSaysHowToGetOne) {
    const Outcome nothing = run({"--project", "elsewhere", "list"});
    EXPECT_EQ(nothing.code, 69);
    EXPECT_EQ(nothing.err,
              "ictl: no broker: run `ictl up` in your project, or name one with --broker\n");
    const Outcome silent = run({"--project", root_, "--patience", "200ms", "status", kId});
    EXPECT_EQ(silent.code, 69);
    EXPECT_NE(silent.err.find("ictl up"), std::string::npos) << silent.err;
}

TEST_F(CommandLineTest, HelpIsThereForEveryCommand) {
    const Outcome general = run({});
    EXPECT_EQ(general.code, 0);
    EXPECT_EQ(general.err, "");
    std::set<std::string> names;
    for (const Command& command : all_commands()) {
        EXPECT_TRUE(names.insert(command.name).second) << command.name;
        EXPECT_NE(general.out.find("  " + command.name + " "), std::string::npos) << command.name;
        EXPECT_FALSE(command.summary.empty() || command.summary.ends_with('.')) << command.name;
        for (const auto& arguments : {std::vector<std::string>{"help", command.name},
                                      std::vector<std::string>{command.name, "--help"}}) {
            if (command.name == "manager" && arguments.front() == "manager") continue;
            const Outcome help = run(arguments);
            EXPECT_EQ(help.code, 0) << command.name << help.err;
            EXPECT_NE(help.out.find("Exit codes:"), std::string::npos) << command.name << help.out;
        }
    }
    EXPECT_NE(run({"help", "exit-codes"}).out.find("124"), std::string::npos);
    EXPECT_TRUE(run({"--version"}).out.starts_with("ictl "));
}

TEST_F(CommandLineTest, CompletionKnowsCommandsOptionsAndStatuses) {
    for (const std::string shell : {"bash", "zsh", "fish"}) {
        const Outcome script = run({"completion", shell});
        EXPECT_EQ(script.code, 0);
        for (const std::string word : {"submit", "priority", "COMPLETED", "ictl list --all"}) {
            EXPECT_NE(script.out.find(word), std::string::npos) << shell << " " << word;
        }
    }
    const std::string path = folder_.path("ictl.bash");
    ASSERT_TRUE(io::write_file(path, run({"completion", "bash"}).out, 0644, io::Sync::none).ok());
    const io::CommandResult checked =
        io::run_command({"bash", "-c",
                         "source " + path +
                             "; COMP_WORDS=(ictl sub); COMP_CWORD=1; _ictl; "
                             "echo \"${COMPREPLY[@]}\""},
                        {}, "", 65536, 10'000);
    EXPECT_EQ(checked.output, "submit\n") << checked.errors;
}

// A broker that accepts one session and knows it from then on.
Answer accepting(const RequestFrame& frame, const Origin& origin, SessionStatus status) {
    if (std::holds_alternative<SubmitRequest>(frame.body)) {
        return Reply(SubmitReply{.sessions = {{.id = SessionId(kId)}}});
    }
    SessionView session = view(kId, status, Detail::queued);
    session.origin = origin;
    return Reply(StatusReply{.session = session, .seq = 1});
}

TEST_F(CommandLineTest, SubmitPrintsTheIdAloneAndLeavesTheFiles) {
    ASSERT_TRUE(io::make_folders(root_ + "/agents/grafana", 0755).ok());
    const Origin origin{.host = io::host_name(), .root = root_};
    FakeBroker broker(endpoint_, [&](const RequestFrame& frame) {
        return accepting(frame, origin, SessionStatus::created);
    });
    const Outcome result =
        ask({"submit", "grafana-agent", prompt_, "--tag", "a", "--tag", "b", "--priority", "high",
             "--metadata", "{\"n\": 1}", "--require", "gpu=a=b", "--delay", "90s"});
    EXPECT_EQ(result.code, 0) << result.err;
    EXPECT_EQ(result.out, std::string(kId) + "\n");
    const Submission sent = std::get<SubmitRequest>(broker.seen().front().body).sessions.front();
    EXPECT_EQ(sent.prompt, "look\n");
    EXPECT_EQ(sent.key.size(), 36u) << "a key is made before the first send";
    EXPECT_EQ(sent.origin, origin);
    EXPECT_EQ(sent.project, "project");
    EXPECT_TRUE(sent.agent_in_project);
    EXPECT_EQ(sent.priority, 10);
    EXPECT_EQ(sent.delay, Duration(90'000));
    EXPECT_EQ(sent.tags, (std::vector<std::string>{"a", "b"}));
    EXPECT_EQ(sent.require.at("gpu"), "a=b");
    const std::string workspace = root_ + "/docs/.scratch/sessions/" + kId;
    EXPECT_EQ(*io::read_file(workspace + "/prompt.md", 99), "look\n");
    EXPECT_TRUE(io::exists(workspace + "/state.json"));
    EXPECT_TRUE(io::exists(workspace + "/session.log"));
    EXPECT_NE(io::read_file(root_ + "/logs/orchestrator.log", 9999)->find(kId), std::string::npos);
}

TEST_F(CommandLineTest, SubmitTakesStandardInputByteForByte) {
    FakeBroker broker(endpoint_, [](const RequestFrame& frame) {
        return accepting(frame, Origin{}, SessionStatus::created);
    });
    const std::string prompt = "$(touch x) `y` \"z\" #{q};\r\n\xF0\x9F\x8E\x89";
    const Outcome result = ask({"submit", "a", "-", "--json"}, prompt);
    EXPECT_EQ(result.code, 0) << result.err;
    EXPECT_EQ(std::get<SubmitRequest>(broker.seen().front().body).sessions.front().prompt, prompt);
    const auto json = nlohmann::json::parse(result.out);
    EXPECT_EQ(json["session_id"], kId);
    EXPECT_EQ(json["duplicate"], false);
}

TEST_F(CommandLineTest, SubmitWithoutAnAnswerNamesTheKey) {
    FakeBroker broker(endpoint_, [](const RequestFrame&) { return Answer(); });
    const Outcome result =
        ask({"--patience", "300ms", "submit", "a", prompt_, "--key", "build-17"});
    EXPECT_EQ(result.code, 64) << "an option given twice is no choice of ours";
    const Outcome given = run({"--broker", endpoint_, "--project", root_, "--patience", "300ms",
                               "submit", "a", prompt_, "--key", "build-17"});
    EXPECT_EQ(given.code, 75);
    EXPECT_NE(given.err.find("outcome unknown; repeat with --key build-17"), std::string::npos)
        << given.err;
    EXPECT_EQ(given.out, "");
}

TEST_F(CommandLineTest, SubmitOfAKnownKeyLeavesAFinalWorkspaceAlone) {
    const Origin origin{.host = io::host_name(), .root = root_};
    FakeBroker broker(endpoint_, [&](const RequestFrame& frame) {
        return accepting(frame, origin, SessionStatus::completed);
    });
    EXPECT_EQ(ask({"submit", "a", prompt_, "--key", "k"}).code, 0);
    EXPECT_FALSE(io::exists(root_ + "/docs/.scratch/sessions/" + kId))
        << "who saw its end may have moved it away";
}

TEST_F(CommandLineTest, RefusedSubmitIsNotedInTheProjectsLog) {
    FakeBroker broker(endpoint_, [](const RequestFrame&) -> Answer {
        ErrorReply unknown = refusal(ErrorCode::unknown_agent, "x");
        unknown.matches = {"claude"};
        return unknown;
    });
    const Outcome result = ask({"submit", "cluade", prompt_});
    EXPECT_EQ(result.code, 64);
    EXPECT_NE(result.err.find("did you mean claude?"), std::string::npos) << result.err;
    EXPECT_NE(result.err.find("--queue-anyway"), std::string::npos) << result.err;
    const Result<std::string> log = io::read_file(root_ + "/logs/orchestrator.log", 9999);
    EXPECT_NE(log->find("[WARN] Create refused: cluade"), std::string::npos) << *log;
}

TEST_F(CommandLineTest, StatusAndListAgreeWithStateJson) {
    SessionView session = view(kId, SessionStatus::completed, Detail::done);
    session.completed_at = session.created_at + Duration(5'000);
    session.exit_code = 0;
    session.tags = {"a"};
    session.metadata = "{\"n\":1}";
    FakeBroker broker(endpoint_, [&](const RequestFrame& frame) -> Answer {
        if (std::holds_alternative<ListRequest>(frame.body)) {
            return Reply(ListReply{.sessions = {session}, .seq = 12});
        }
        return Reply(StatusReply{.session = session, .seq = 12});
    });
    const auto state =
        nlohmann::json::parse(workspace::state_json(session, false, *session.completed_at));
    const Outcome status = ask({"status", kId, "--json"});
    ASSERT_EQ(status.code, 0) << status.err;
    const auto shown = nlohmann::json::parse(status.out);
    for (const auto& [field, value] : state.items())
        EXPECT_EQ(shown.value(field, nlohmann::json("missing")), value) << field;
    for (const char* besides : {"attempts_used", "attempts_max", "timeout_seconds", "after"})
        EXPECT_TRUE(shown.contains(besides)) << besides;
    const Outcome list = ask({"list", "--json"});
    ASSERT_EQ(list.code, 0) << list.err;
    const auto listed = nlohmann::json::parse(list.out);
    EXPECT_EQ(listed["seq"], 12);
    ASSERT_EQ(listed["sessions"].size(), 1u);
    EXPECT_EQ(listed["sessions"][0], state);
    EXPECT_EQ(ask({"status", kId, "--brief"}).out, std::string(kId) + "  COMPLETED\n");
}

TEST_F(CommandLineTest, ListAsksForTheProjectAndTheFilters) {
    FakeBroker broker(endpoint_, [](const RequestFrame&) -> Answer { return Reply(ListReply{}); });
    const Outcome result = ask({"list", "--status", "FAILED,killed", "--agent", "a", "--tag", "t"});
    EXPECT_EQ(result.code, 0) << result.err;
    EXPECT_EQ(std::ranges::count(result.out, '\n'), 1) << "the header, and nothing but rows after";
    const ListRequest request = std::get<ListRequest>(broker.seen().front().body);
    EXPECT_EQ(request.root, root_);
    EXPECT_EQ(request.status,
              (std::vector<SessionStatus>{SessionStatus::failed, SessionStatus::killed}));
    EXPECT_EQ(request.agent, "a");
    EXPECT_EQ(request.tag, "t");
}

TEST_F(CommandLineTest, ResultPrintsTheBytesOrSaysWhyNot) {
    std::atomic<bool> held = true;
    FakeBroker broker(endpoint_, [&](const RequestFrame&) -> Answer {
        ResultReply reply{.session = view(kId, SessionStatus::completed, Detail::done)};
        reply.held = held;
        if (held) reply.result = "{\"status\":  \"success\"}";
        return Reply(reply);
    });
    EXPECT_EQ(ask({"result", kId}).out, "{\"status\":  \"success\"}");
    held = false;
    const Outcome none = ask({"result", kId});
    EXPECT_EQ(none.code, 1);
    EXPECT_NE(none.err.find("left no result.json"), std::string::npos) << none.err;
}

TEST_F(CommandLineTest, KillSaysWhatHadEndedBefore) {
    FakeBroker broker(endpoint_, [](const RequestFrame& frame) -> Answer {
        const SessionView session = view(kId, SessionStatus::completed, Detail::done);
        if (const auto* kill = std::get_if<KillRequest>(&frame.body)) {
            EXPECT_TRUE(kill->exact);
            EXPECT_EQ(kill->reason, "enough");
            return Reply(KillReply{.session = session, .already_final = true});
        }
        return Reply(StatusReply{.session = session, .seq = 1});
    });
    const Outcome result = ask({"kill", kId, "--force", "--reason", "enough"});
    EXPECT_EQ(result.code, 0) << result.err;
    EXPECT_EQ(result.out, std::string(kId) + " already terminated (status: COMPLETED)\n");
    const Outcome json = ask({"kill", kId, "--force", "--reason", "enough", "--json"});
    const nlohmann::json row = nlohmann::json::parse(json.out)["sessions"].at(0);
    EXPECT_EQ(row["session_id"], kId);
    EXPECT_EQ(row["outcome"], "already-terminated");
    EXPECT_EQ(row["status"], "COMPLETED");
    EXPECT_EQ(row["kill_reason"], nullptr);
}

TEST_F(CommandLineTest, KillTellsTheWishFromTheEnd) {
    FakeBroker broker(endpoint_, [](const RequestFrame& frame) -> Answer {
        if (std::holds_alternative<ListRequest>(frame.body)) return Reply(ListReply{});
        const SessionView session = view(kId, SessionStatus::running, Detail::stopping);
        return Reply(KillReply{.session = session, .descendants = 2});
    });
    const Outcome json = ask({"kill", kId, "--force", "--no-wait", "--json"});
    EXPECT_EQ(json.code, 0) << json.err;
    const nlohmann::json row = nlohmann::json::parse(json.out)["sessions"].at(0);
    EXPECT_EQ(row["outcome"], "wished");
    EXPECT_EQ(row["detail"], "stopping");
    EXPECT_EQ(row["descendants"], 2);
    const Outcome none = ask({"kill", "--agent", "other", "--force", "--json"});
    EXPECT_EQ(none.code, 0) << none.err;
    EXPECT_EQ(nlohmann::json::parse(none.out)["sessions"], nlohmann::json::array());
}

TEST_F(CommandLineTest, RetryPrintsTheNewIds) {
    FakeBroker broker(endpoint_, [](const RequestFrame& frame) -> Answer {
        if (std::holds_alternative<RetryRequest>(frame.body)) {
            return Reply(RetryReply{.id = SessionId("20251118-160000-grafana-agent")});
        }
        return Reply(
            StatusReply{.session = view(kId, SessionStatus::completed, Detail::done), .seq = 1});
    });
    const Outcome result = ask({"retry", kId});
    EXPECT_EQ(result.code, 0) << result.err;
    EXPECT_EQ(result.out, "20251118-160000-grafana-agent\n");
    const Outcome json = ask({"retry", kId, "--json", "--key", "again"});
    EXPECT_EQ(json.code, 0) << json.err;
    const nlohmann::json row = nlohmann::json::parse(json.out)["sessions"].at(0);
    EXPECT_EQ(row["session_id"], "20251118-160000-grafana-agent");
    EXPECT_EQ(row["retry_of"], kId);
    EXPECT_EQ(row["key"], "again");
}

TEST_F(CommandLineTest, InsideASessionItsSocketIsTheBroker) {
    FakeBroker broker(endpoint_, [](const RequestFrame&) -> Answer { return Reply(ListReply{}); });
    ::setenv("IW_SESSION_ID", kId, 1);
    ::setenv("IW_SOCKET", folder_.path("b.sock").c_str(), 1);
    const Outcome result = run({"--project", root_, "list"});
    ::unsetenv("IW_SESSION_ID");
    ::unsetenv("IW_SOCKET");
    EXPECT_EQ(result.code, 0) << result.err;
    EXPECT_EQ(broker.seen().size(), 1u);
}

// 1 to 3 say how sessions ended; a script would start its recovery.
TEST_F(CommandLineTest, AFaultWhileWaitingLooksLikeNoEnd) {
    ErrorCode code = ErrorCode::internal;
    FakeBroker broker(endpoint_, [&](const RequestFrame& frame) -> Answer {
        if (std::holds_alternative<EventsRequest>(frame.body)) return refusal(code, "odd");
        return Reply(
            StatusReply{.session = view(kId, SessionStatus::running, Detail::working), .seq = 1});
    });
    for (const ErrorCode each : {ErrorCode::internal, ErrorCode::conflict, ErrorCode::io}) {
        code = each;
        const Outcome result = ask({"wait", kId});
        EXPECT_EQ(result.code, 75) << name(each);
        EXPECT_NE(result.err.find("odd"), std::string::npos) << result.err;
    }
}

TEST_F(CommandLineTest, ASessionMayNotWaitForItself) {
    FakeBroker broker(endpoint_, [](const RequestFrame&) -> Answer {
        return Reply(
            StatusReply{.session = view(kId, SessionStatus::running, Detail::working), .seq = 1});
    });
    ::setenv("IW_SESSION_ID", kId, 1);
    const Outcome result = ask({"wait", kId});
    ::unsetenv("IW_SESSION_ID");
    EXPECT_EQ(result.code, 64);
    EXPECT_NE(result.err.find("would never end"), std::string::npos) << result.err;
}

TEST_F(CommandLineTest, ConfigShowsWhereAValueComesFrom) {
    ::setenv("IW_CFG_BROKER_ENDPOINT", "ipc:///tmp/other.sock", 1);
    const Outcome shown = run({"config", "show", "--origin"});
    const Outcome json = run({"config", "show", "--json"});
    ::unsetenv("IW_CFG_BROKER_ENDPOINT");
    EXPECT_EQ(shown.code, 0) << shown.err;
    EXPECT_NE(shown.out.find("environment IW_CFG_BROKER_ENDPOINT"), std::string::npos) << shown.out;
    EXPECT_EQ(nlohmann::json::parse(json.out)["broker.endpoint"], "ipc:///tmp/other.sock");
    const std::string wrong = folder_.path("wrong.toml");
    ASSERT_TRUE(io::write_file(wrong, "[broker]\nendpiont = \"x\"\n", 0644, io::Sync::none).ok());
    const Outcome checked = run({"config", "check", "--config", wrong});
    EXPECT_EQ(checked.code, 64);
    EXPECT_NE(checked.err.find("broker.endpoint"), std::string::npos) << checked.err;
}

TEST_F(CommandLineTest, DoctorSaysWhenThereIsLittleRoomForFiles) {
    std::uint64_t held = 0;
    FakeBroker broker(endpoint_, [&](const RequestFrame& frame) -> Answer {
        if (std::holds_alternative<WorkersRequest>(frame.body)) return Reply(WorkersReply{});
        FleetReply fleet{.software = "fake", .epoch = "e1", .generation = 1, .seq = 1};
        fleet.blobs_bytes = held;
        fleet.blobs_max = 10ULL << 30;
        return Reply(fleet);
    });
    const auto files = [&] {
        const Outcome result = ask({"doctor", "--json"});
        const auto json = nlohmann::json::parse(result.out);
        for (const auto& check : json["checks"]) {
            if (check["name"] == "files") return check;
        }
        return nlohmann::json();
    };
    held = 9ULL << 30;
    nlohmann::json line = files();
    EXPECT_EQ(line["state"], "warn");
    EXPECT_NE(line["next_step"].get<std::string>().find("broker.blobs_max"), std::string::npos);
    held = 8ULL << 30;
    line = files();
    EXPECT_EQ(line["state"], "ok");
    EXPECT_TRUE(line["next_step"].is_null());
}

TEST_F(CommandLineTest, DoctorNamesWhatFailsAndTheNextStep) {
    const Outcome result = run({"--project", root_, "--patience", "200ms", "doctor", "--json"});
    EXPECT_EQ(result.code, 1) << result.err;
    const auto json = nlohmann::json::parse(result.out);
    EXPECT_EQ(json["ok"], false);
    bool found = false;
    for (const auto& check : json["checks"]) {
        if (check["name"] != "broker") continue;
        found = true;
        EXPECT_EQ(check["state"], "fail");
        EXPECT_NE(check["next_step"].get<std::string>().find("ictl up"), std::string::npos);
    }
    EXPECT_TRUE(found) << result.out;
}

}  // namespace
}  // namespace iw::ctl
