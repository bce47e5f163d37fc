// Which agents there are, and what each is run with.

#include "worker/agents/agents.h"

#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <algorithm>
#include <fstream>

#include "common/io/files.h"
#include "tests/support/temp_dir.h"
#include "worker/agents/environment.h"

namespace iw::worker {
namespace {

class AgentsTest : public testing::Test {
  protected:
    void SetUp() override {
        write("project/x", "");
        write("bin/claude", "#!/bin/sh\n", 0755);
        path_ = io::environment("PATH");
        ::setenv("PATH", (dir_.path("bin") + ":/usr/bin:/bin").c_str(), 1);
    }
    void TearDown() override { ::setenv("PATH", path_.c_str(), 1); }

    void write(const std::string& name, const std::string& text, mode_t mode = 0644) {
        const std::string path = dir_.path(name);
        ASSERT_TRUE(io::make_folders(io::parent_folder(path), 0755).ok());
        std::ofstream(path) << text;
        ::chmod(path.c_str(), mode);
    }
    Result<Agents> load(const std::vector<std::string>& more) {
        std::vector<std::string> files = {std::string(IW_SOURCE_DIR) + "/config/agents.toml"};
        for (const std::string& name : more)
            files.push_back(dir_.path(name));
        return Agents::load({.root = dir_.path("project"),
                             .profile_files = files,
                             .default_profile = "claude",
                             .bin_folder = "/opt/no/bin"});
    }
    Agents agents() {
        auto loaded = load({});
        EXPECT_TRUE(loaded.ok()) << loaded.error().message;
        return std::move(*loaded);
    }
    static RunRequest request(const std::string& agent) {
        RunRequest result;
        result.assignment.session = SessionId("20251118-153042-" + agent);
        result.assignment.agent = AgentName(agent);
        result.assignment.prompt = "Check {workspace}\n";
        result.workspace = "/w";
        result.result_file = "/w/result.json";
        result.prompt_file = "/s/prompt.md";
        return result;
    }
    std::string refusal(const std::string& toml) {
        write("bad.toml", toml);
        const auto loaded = load({"bad.toml"});
        EXPECT_FALSE(loaded.ok()) << toml;
        if (loaded.ok()) return "";
        EXPECT_EQ(loaded.error().code, ErrorCode::config);
        EXPECT_NE(loaded.error().message.find(dir_.path("bad.toml")), std::string::npos)
            << loaded.error().message;
        return loaded.error().message;
    }

    test::TempDir dir_;
    std::string path_;
};

TEST_F(AgentsTest, ReadyMadeProfilesLoad) {
    const Agents loaded = agents();
    for (const char* name : {"script", "claude", "codex", "gemini", "opencode"}) {
        EXPECT_TRUE(loaded.profiles().contains(name)) << name;
    }
    EXPECT_EQ(loaded.profiles().at("claude").success, SuccessRule::claude_json);
    EXPECT_EQ(loaded.profiles().at("codex").success, SuccessRule::codex_json);
}

TEST_F(AgentsTest, OffersWhatCanRun) {
    write("project/agents/grafana-agent/run", "#!/bin/sh\n", 0755);
    write("project/agents/loki/loki-agent.md", "persona");
    write("project/agents/empty/readme.md", "");
    write("project/agents/Bad Name/run", "#!/bin/sh\n", 0755);
    // codex, gemini and opencode are not installed here; `script` is no agent by itself.
    EXPECT_EQ(agents().offered(),
              (std::vector<std::string>{"claude", "grafana-agent", "loki", "loki-agent"}));
}

TEST_F(AgentsTest, SeesNewAgentsAtOnce) {
    const Agents loaded = agents();
    EXPECT_FALSE(std::ranges::count(loaded.offered(), "fresh"));
    write("project/agents/fresh/run", "#!/bin/sh\n", 0755);
    EXPECT_TRUE(std::ranges::count(loaded.offered(), "fresh"));
}

TEST_F(AgentsTest, RunsAScript) {
    write("project/agents/grafana-agent/run", "#!/bin/sh\n", 0755);
    const auto run = agents().prepare(request("grafana-agent"));
    ASSERT_TRUE(run.ok()) << run.error().message;
    EXPECT_EQ(run->argv, std::vector<std::string>{dir_.path("project/agents/grafana-agent/run")});
    EXPECT_TRUE(run->prompt_on_stdin);
    EXPECT_EQ(run->composed_prompt, "Check {workspace}\n");
    EXPECT_EQ(run->success, SuccessRule::exit_code);
}

TEST_F(AgentsTest, ComposesForAnAgentCli) {
    write("project/agents/loki/loki-agent.md", "You are Loki.");
    RunRequest wish = request("loki-agent");
    wish.assignment.parent = SessionId("20251118-150000-boss");
    const auto run = agents().prepare(wish);
    ASSERT_TRUE(run.ok()) << run.error().message;
    EXPECT_EQ(run->argv[0], "claude");
    const std::string& prompt = run->composed_prompt;
    EXPECT_TRUE(prompt.starts_with("You are Loki."));
    for (const char* part :
         {"Check {workspace}\n", "20251118-153042-loki-agent", "<session-id>", "/w/result.json",
          "20251118-150000-boss", "ictl submit", "ictl wait", "session-manager.sh create"}) {
        EXPECT_NE(prompt.find(part), std::string::npos) << part;
    }
}

TEST_F(AgentsTest, AProjectsScriptComesBeforeAProfile) {
    write("project/agents/claude/run", "#!/bin/sh\n", 0755);
    EXPECT_EQ(agents().prepare(request("claude"))->argv[0], dir_.path("project/agents/claude/run"));
}

TEST_F(AgentsTest, FindsPersonas) {
    write("project/agents/a/a-agent.md", "1");
    write("project/agents/a/a.md", "2");
    write("project/agents/b/b.md", "3");
    const Agents loaded = agents();
    EXPECT_EQ(loaded.persona_file(AgentName("a")), dir_.path("project/agents/a/a-agent.md"));
    EXPECT_EQ(loaded.persona_file(AgentName("a-agent")), dir_.path("project/agents/a/a-agent.md"));
    EXPECT_EQ(loaded.persona_file(AgentName("b")), dir_.path("project/agents/b/b.md"));
    EXPECT_EQ(loaded.persona_file(AgentName("c")), "");
    EXPECT_EQ(loaded.persona_file(AgentName("../a")), "");
}

TEST_F(AgentsTest, NamesTheNearestAgent) {
    write("project/agents/grafana-agent/run", "#!/bin/sh\n", 0755);
    for (const char* name : {"grafana-agnet", "script", "../grafana-agent"}) {
        const auto run = agents().prepare(request(name));
        ASSERT_FALSE(run.ok()) << name;
        EXPECT_EQ(run.error().code, ErrorCode::not_found);
        EXPECT_NE(run.error().message.find("grafana-agent"), std::string::npos)
            << run.error().message;
    }
    EXPECT_NE(agents()
                  .prepare(request("grafana-agnet"))
                  .error()
                  .message.find("did you mean grafana-agent?"),
              std::string::npos);
}

TEST_F(AgentsTest, NamesACommandThatCannotRun) {
    write("project/agents/plain/run", "#!/bin/sh\n", 0644);
    const auto plain = agents().prepare(request("plain"));
    ASSERT_FALSE(plain.ok());
    EXPECT_EQ(plain.error().code, ErrorCode::config);
    EXPECT_NE(plain.error().message.find("chmod +x"), std::string::npos) << plain.error().message;
    const auto codex = agents().prepare(request("codex"));
    ASSERT_FALSE(codex.ok());
    EXPECT_NE(codex.error().message.find("no command codex"), std::string::npos)
        << codex.error().message;
}

TEST_F(AgentsTest, LaterFilesReplaceSingleKeys) {
    write("one.toml", "[agents.claude]\ncompose = false\n[agents.claude.env]\nA = '1'\nB = '1'\n");
    write("two.toml",
          "default_profile = 'mine'\n[agents.claude.env]\nB = '2'\n"
          "[agents.mine]\ncommand = ['claude', '--in={prompt_file}', '{x}{session_id}', "
          "'{persona_file}', '{']\n"
          "prompt = 'argument'\npersona = 'argument'\n");
    const auto loaded = load({"one.toml", "missing.toml", "two.toml"});
    ASSERT_TRUE(loaded.ok()) << loaded.error().message;
    const Profile& claude = loaded->profiles().at("claude");
    EXPECT_FALSE(claude.compose);
    EXPECT_EQ(claude.success, SuccessRule::claude_json);
    EXPECT_EQ(claude.env, (std::map<std::string, std::string>{{"A", "1"}, {"B", "2"}}));
    const auto run = loaded->prepare(request("mine"));
    ASSERT_TRUE(run.ok()) << run.error().message;
    EXPECT_EQ(run->argv, (std::vector<std::string>{"claude", "--in=/s/prompt.md",
                                                   "{x}20251118-153042-mine", "/dev/null", "{"}));
    EXPECT_FALSE(run->prompt_on_stdin);
    EXPECT_EQ(run->composed_prompt, "Check {workspace}\n");
}

TEST_F(AgentsTest, AFileChoosesTheDefaultProfileAndUnknownKeysAreRefused) {
    write("project/agents/writer/writer.md", "persona\n");
    write("choice.toml", "default_profile = 'script'\n");
    const auto loaded = load({"choice.toml"});
    ASSERT_TRUE(loaded.ok()) << loaded.error().message;
    const auto run = loaded->prepare(request("writer"));
    EXPECT_TRUE(!run.ok() || run->argv.front() != "claude");
    EXPECT_NE(refusal("defaultprofile = 'codex'\n").find("default_profile"), std::string::npos);
    EXPECT_NE(refusal("[project]\nname = 'x'\n").find("agents"), std::string::npos);
}

TEST_F(AgentsTest, RefusesBadProfiles) {
    EXPECT_NE(refusal("[agents.claude]\ncomand = ['x']\n").find("did you mean command?"),
              std::string::npos);
    EXPECT_NE(refusal("[agent.claude]\ncommand = ['x']\n").find("agents"), std::string::npos);
    EXPECT_NE(refusal("[agents.x]\nprompt = 'stdin'\n").find("has no command"), std::string::npos);
    EXPECT_NE(refusal("[agents.x]\ncommand = []\n").find("command"), std::string::npos);
    EXPECT_NE(refusal("[agents.x]\ncommand = 'claude'\n").find("list of texts"), std::string::npos);
    EXPECT_NE(refusal("[agents.x]\ncommand = ['a', 1]\n").find("list of texts"), std::string::npos);
    EXPECT_NE(refusal("[agents.x]\ncommand = ['a', \"b\\u0000\"]\n").find("zero"),
              std::string::npos);
    EXPECT_NE(refusal("[agents.claude]\nprompt = 'file'\n").find("stdin, argument"),
              std::string::npos);
    EXPECT_NE(refusal("[agents.claude]\ncompose = 'yes'\n").find("true or false"),
              std::string::npos);
    EXPECT_NE(refusal("[agents.claude]\nsuccess = 0\n").find("claude_json"), std::string::npos);
    EXPECT_NE(refusal("[agents.claude.env]\nIW_SOCKET = 'x'\n").find("worker alone"),
              std::string::npos);
    EXPECT_NE(refusal("[agents.claude.env]\n'A B' = 'x'\n").find("variable"), std::string::npos);
    EXPECT_NE(refusal("[agents.Claude]\ncommand = ['x']\n").find("agent name"), std::string::npos);
    EXPECT_NE(refusal("agents = 3\n").find("table"), std::string::npos);
    EXPECT_NE(refusal("[agents\n").find(":1:"), std::string::npos);
}

TEST_F(AgentsTest, RefusesAPromptThatNothingReads) {
    write("bad.toml", "[agents.claude]\nprompt = 'argument'\n");
    const auto loaded = load({"bad.toml"});
    ASSERT_FALSE(loaded.ok());
    EXPECT_NE(loaded.error().message.find("{prompt_file}"), std::string::npos);
}

class EnvironmentTest : public AgentsTest {
  protected:
    Result<Environment> make(const Profile& profile) {
        return agent_environment(profile, dir_.path("project"), "/opt/no/bin", own_);
    }
    Environment own_ = {{"PATH", "/usr/bin"},   {"HOME", "/h"},         {"LC_ALL", "C.UTF-8"},
                        {"TZ", "UTC"},          {"SECRET", "s"},        {"ANTHROPIC_API_KEY", "k"},
                        {"IW_SOCKET", "x"},     {"TMUX", "y"},          {"TMUX_PANE", "%1"},
                        {"NOTIFY_SOCKET", "n"}, {"WATCHDOG_USEC", "1"}, {"ANT", "a"}};
};

TEST_F(EnvironmentTest, HoldsTheMachinesAndNothingElse) {
    const auto made = make(Profile{});
    ASSERT_TRUE(made.ok());
    std::vector<std::string> names;
    for (const auto& [name, value] : *made)
        names.push_back(name);
    EXPECT_EQ(names, (std::vector<std::string>{"HOME", "LANG", "LC_ALL", "LOGNAME", "PATH", "SHELL",
                                               "TERM", "TZ", "USER"}));
    EXPECT_EQ(made->at("PATH"), "/opt/no/bin:/usr/bin");
    EXPECT_EQ(made->at("LANG"), "C.UTF-8");
    EXPECT_TRUE(made->at("TERM") == "tmux-256color" || made->at("TERM") == "screen-256color");
}

TEST_F(EnvironmentTest, PassesWhatMatches) {
    const auto made = make(Profile{.pass_env = {"ANTHROPIC_*", "SECRET"}});
    EXPECT_EQ(made->at("ANTHROPIC_API_KEY"), "k");
    EXPECT_EQ(made->at("SECRET"), "s");
    EXPECT_FALSE(made->contains("ANT"));
    const auto all = make(Profile{.pass_env = {"*"}});
    for (const char* name : {"IW_SOCKET", "TMUX", "TMUX_PANE", "NOTIFY_SOCKET", "WATCHDOG_USEC"}) {
        EXPECT_FALSE(all->contains(name)) << name;
    }
    EXPECT_EQ(all->at("ANT"), "a");
}

TEST_F(EnvironmentTest, ReadsAFileOfSecrets) {
    write("project/.env", "# keys\n\nKEY=a=b c\r\nQUOTED=\"x y\"\nEMPTY=\nSECRET=from file\n",
          0600);
    const auto made =
        make(Profile{.pass_env = {"SECRET"}, .env_file = ".env", .env = {{"EMPTY", "e"}}});
    ASSERT_TRUE(made.ok()) << made.error().message;
    EXPECT_EQ(made->at("KEY"), "a=b c");
    EXPECT_EQ(made->at("QUOTED"), "x y");
    EXPECT_EQ(made->at("SECRET"), "from file");
    EXPECT_EQ(made->at("EMPTY"), "e");
}

TEST_F(EnvironmentTest, RefusesAFileThatOthersCanRead) {
    write("project/.env", "KEY=1\n", 0640);
    const auto open = make(Profile{.env_file = ".env"});
    ASSERT_FALSE(open.ok());
    EXPECT_NE(open.error().message.find("chmod 600"), std::string::npos) << open.error().message;
    EXPECT_EQ(make(Profile{.env_file = "gone"}).error().code, ErrorCode::config);
}

TEST_F(EnvironmentTest, NamesABadLineButNotItsText) {
    for (const char* text :
         {"KEY=1\nhunter2\n", "KEY=1\n hun ter2=x\n", "KEY=1\nIW_SOCKET=hunter2\n"}) {
        const auto read = parse_env_file(text, "/f");
        ASSERT_FALSE(read.ok()) << text;
        EXPECT_NE(read.error().message.find("/f, line 2"), std::string::npos)
            << read.error().message;
        EXPECT_EQ(read.error().message.find("hunter2"), std::string::npos) << read.error().message;
    }
}

}  // namespace
}  // namespace iw::worker
