#pragma once

// Which agents a worker offers and how each is run. A profile says how a kind of agent CLI gets its
// prompt and persona and how its success is judged; an agent of the project is `agents/<name>/`
// with a `run` (script agent) or a persona (run under a profile). Profiles come from
// config/agents.toml of the installation, then /etc, then the user's, then scripts/ops/project.toml
// of the project; later ones replace single keys, and single variables of `env`. The keys are
// described in config/agents.toml.

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/base/ids.h"
#include "common/base/result.h"
#include "common/messages/messages.h"

namespace iw::worker {

// As stdin, or as a path in `{prompt_file}` of the command.
enum class PromptWay { stdin_file, argument_file };
// In front of the prompt, or as a path in `{persona_file}` of the command.
enum class PersonaWay { none, prepend, argument_file };
enum class SuccessRule {
    exit_code,    // 0
    result_file,  // 0 and a result.json exists
    claude_json,  // 0 and the last line of type "result" of its event stream has is_error false
    codex_json,   // 0 and the last turn.* event is turn.completed
};

std::string_view name(SuccessRule rule);  // "exit_code"
std::optional<SuccessRule> parse_success_rule(std::string_view word);

struct Profile {
    std::string name;
    // argv; {prompt_file} {persona_file} {workspace} {result_file} {session_id} {project_root}
    // {agent} are replaced inside arguments.
    std::vector<std::string> command;
    PromptWay prompt = PromptWay::stdin_file;
    PersonaWay persona = PersonaWay::none;
    // The prompt gets a tail that says where the agent is (id, workspace, result file).
    bool compose = false;
    std::vector<std::string> pass_env;  // names; a trailing * matches a prefix
    std::string env_file;  // NAME=value lines; must be 0600; may be relative to the root
    std::map<std::string, std::string> env;
    SuccessRule success = SuccessRule::exit_code;
};

// What an assignment needs to run.
struct AgentRun {
    std::vector<std::string> argv;
    std::map<std::string, std::string> environment;  // of the profile and the machine; without IW_*
    bool prompt_on_stdin = true;
    std::string composed_prompt;  // what the agent reads; equal to the prompt for script agents
    SuccessRule success = SuccessRule::exit_code;
};

struct RunRequest {
    Assignment assignment;
    std::string workspace;
    std::string result_file;
    std::string prompt_file;  // of the attempt: where composed_prompt will stand
};

class Agents {
  public:
    struct Options {
        std::string root;
        std::vector<std::string> profile_files;  // weakest first; missing ones are fine
        std::string default_profile;             // unless a profile file says otherwise
        std::string bin_folder;                  // in front of the agent's PATH
    };
    // config: a broken file, unknown key (nearest named), wrong type.
    static Result<Agents> load(Options options);

    // What this host can run, sorted, without doubles: the project's agents, and the profiles whose
    // command is installed. Looks at the folders anew.
    std::vector<std::string> offered() const;
    // start_failed reasons come back as errors: not_found (no such agent: known ones and the
    // nearest), config (command missing or not executable, env_file unreadable or open to others).
    Result<AgentRun> prepare(const RunRequest& request) const;
    const std::map<std::string, Profile>& profiles() const { return profiles_; }
    // The persona file of an agent, or empty: agents/<a>/<a>-agent.md, agents/<a>/<a>.md, or
    // agents/<a minus -agent>/<a>.md.
    std::string persona_file(const AgentName& agent) const;

  private:
    explicit Agents(Options options) : options_(std::move(options)) {}

    const Profile* profile_of(const AgentName& agent) const;
    bool has_run(const std::string& agent) const;
    Error unknown(const AgentName& agent) const;

    Options options_;
    std::map<std::string, Profile> profiles_;
};

// The outcome of the success rule. `output_tail`: the end of the terminal's log, for rules that
// read it.
struct Judgement {
    bool success = false;
    std::string reason;
};
Judgement judge(SuccessRule rule, int exit_code, bool has_result, std::string_view output_tail);

// The last `bytes_max` bytes of the terminal's output in a workspace, read over the seam between
// output.log.1 and output.log: an agent's last event may stand across it. Empty when there is no
// log; links are not followed.
std::string output_tail(const std::string& workspace, std::size_t bytes_max);

}  // namespace iw::worker
