#include "worker/agents/agents.h"

#include <sys/stat.h>

#include <algorithm>
#include <set>

#include "common/base/text.h"
#include "common/io/files.h"
#include "common/io/find_program.h"
#include "worker/agents/environment.h"
#include "worker/agents/profiles.h"
#include "worker/agents/prompt.h"

namespace iw::worker {
namespace {

constexpr std::size_t kProfileFileMax = 1u << 20;
constexpr std::size_t kPersonaMax = 1u << 20;
constexpr std::string_view kScriptProfile = "script";
constexpr std::string_view kAgentSuffix = "-agent";
constexpr const char* kNoPersona = "/dev/null";  // {persona_file} of an agent that has none

bool is_file(const std::string& path) {
    struct stat info {};
    return ::stat(path.c_str(), &info) == 0 && S_ISREG(info.st_mode);
}

bool mentions(const std::vector<std::string>& command, std::string_view placeholder) {
    return std::ranges::any_of(command, [&](const std::string& argument) {
        return argument.find(placeholder) != std::string::npos;
    });
}

// A prompt that nothing would read is noticed when the worker starts, not when a session fails.
Status check_profile(const Profile& profile) {
    const std::string where = "agents." + profile.name + ": ";
    if (profile.prompt == PromptWay::argument_file && !mentions(profile.command, "{prompt_file}")) {
        return make_error(ErrorCode::config,
                          where + "prompt = \"argument\" needs {prompt_file} in command");
    }
    if (profile.persona == PersonaWay::argument_file &&
        !mentions(profile.command, "{persona_file}")) {
        return make_error(ErrorCode::config,
                          where + "persona = \"argument\" needs {persona_file} in command");
    }
    return Done{};
}

// One pass, so that braces in a value are not replaced again; other words in braces stay as they
// are.
std::string replace_placeholders(std::string_view text,
                                 const std::map<std::string, std::string>& values) {
    std::string result;
    while (!text.empty()) {
        const auto open = text.find('{');
        const auto close = open == std::string_view::npos ? open : text.find('}', open);
        if (close == std::string_view::npos) break;
        const auto found = values.find(std::string(text.substr(open, close - open + 1)));
        result += text.substr(0, open);
        if (found == values.end()) {
            result += '{';
            text.remove_prefix(open + 1);
            continue;
        }
        result += found->second;
        text.remove_prefix(close + 1);
    }
    return result + std::string(text);
}

// Where iexec will look for the command: it starts in the project's root.
Status check_command(const std::string& word, const std::string& root, const std::string& path) {
    const bool relative = word.find('/') != std::string::npos && word.front() != '/';
    const Result<std::string> program = io::find_program(relative ? root + "/" + word : word, path);
    if (!program) return make_error(ErrorCode::config, program.error().message);
    return Done{};
}

}  // namespace

Result<Agents> Agents::load(Options options) {
    Agents agents(std::move(options));
    for (const std::string& file : agents.options_.profile_files) {
        const Result<std::string> text = io::read_file(file, kProfileFileMax);
        if (!text && text.error().code == ErrorCode::not_found) continue;
        if (!text) return make_error(ErrorCode::config, text.error().message);
        Status merged =
            merge_profiles(*text, file, agents.profiles_, agents.options_.default_profile);
        if (!merged) return merged.error();
    }
    for (const auto& [name, profile] : agents.profiles_) {
        if (Status checked = check_profile(profile); !checked) return checked.error();
    }
    const std::string& chosen = agents.options_.default_profile;
    if (!agents.profiles_.empty() && !chosen.empty() && !agents.profiles_.contains(chosen)) {
        std::vector<std::string> names;
        for (const auto& [name, profile] : agents.profiles_)
            names.push_back(name);
        return make_error(ErrorCode::config, "the default profile " + printable(chosen, true) +
                                                 " does not exist; the profiles are " +
                                                 join(names, ", "));
    }
    return agents;
}

bool Agents::has_run(const std::string& agent) const {
    return is_file(options_.root + "/agents/" + agent + "/run");
}

std::string Agents::persona_file(const AgentName& agent) const {
    const std::string& name = agent.str();
    if (!is_agent_name(name)) return "";
    const std::string agents = options_.root + "/agents/";
    std::vector<std::string> places = {agents + name + "/" + name + "-agent.md",
                                       agents + name + "/" + name + ".md"};
    if (name.ends_with(kAgentSuffix)) {
        places.push_back(agents + name.substr(0, name.size() - kAgentSuffix.size()) + "/" + name +
                         ".md");
    }
    const auto found = std::ranges::find_if(places, is_file);
    return found != places.end() ? *found : "";
}

// The project comes first: its own `run` replaces a profile of the same name. A profile of the name
// comes before the default one. The profile for scripts is none by itself.
const Profile* Agents::profile_of(const AgentName& agent) const {
    const std::string& name = agent.str();
    if (!is_agent_name(name)) return nullptr;
    std::string profile;
    if (has_run(name)) {
        profile = kScriptProfile;
    } else if (name != kScriptProfile && profiles_.contains(name)) {
        profile = name;
    } else if (!persona_file(agent).empty()) {
        profile = options_.default_profile;
    }
    const auto found = profiles_.find(profile);
    return found != profiles_.end() ? &found->second : nullptr;
}

std::vector<std::string> Agents::offered() const {
    std::set<std::string> names;
    for (const std::string& folder : io::list_folder(options_.root + "/agents")) {
        for (const std::string& name : {folder, folder + std::string(kAgentSuffix)}) {
            const AgentName agent(name);
            const bool own = is_agent_name(name) && (has_run(name) || !persona_file(agent).empty());
            if (own && profile_of(agent) != nullptr) names.insert(name);
        }
    }
    const Environment own = own_environment();
    const auto path = own.find("PATH");
    for (const auto& [name, profile] : profiles_) {
        if (name == kScriptProfile || profile.command[0].find('{') != std::string::npos) continue;
        const std::string folders = path != own.end() ? path->second : "";
        if (check_command(profile.command[0], options_.root, folders)) names.insert(name);
    }
    return {names.begin(), names.end()};
}

Error Agents::unknown(const AgentName& agent) const {
    const std::vector<std::string> known = offered();
    const std::string near = nearest(agent.str(), known);
    std::string message = "there is no agent " + printable(agent.str(), true) + " here";
    if (!near.empty()) message += "; did you mean " + near + "?";
    message +=
        known.empty() ? "; none is known: add agents/<name>/run" : " Known: " + join(known, ", ");
    return make_error(ErrorCode::not_found, message);
}

Result<AgentRun> Agents::prepare(const RunRequest& request) const {
    const AgentName& agent = request.assignment.agent;
    const Profile* profile = profile_of(agent);
    if (profile == nullptr) return unknown(agent);
    const std::string persona_path =
        profile->persona == PersonaWay::none ? "" : persona_file(agent);

    AgentRun run;
    run.success = profile->success;
    run.prompt_on_stdin = profile->prompt == PromptWay::stdin_file;
    Result<Environment> environment =
        agent_environment(*profile, options_.root, options_.bin_folder, own_environment());
    if (!environment) return environment.error();
    run.environment = std::move(*environment);

    const std::map<std::string, std::string> values = {
        {"{prompt_file}", request.prompt_file},
        {"{persona_file}", persona_path.empty() ? kNoPersona : persona_path},
        {"{workspace}", request.workspace},
        {"{result_file}", request.result_file},
        {"{session_id}", request.assignment.session.str()},
        {"{project_root}", options_.root},
        {"{agent}", agent.str()}};
    for (const std::string& argument : profile->command)
        run.argv.push_back(replace_placeholders(argument, values));
    if (Status found = check_command(run.argv[0], options_.root, run.environment["PATH"]); !found) {
        return make_error(ErrorCode::config, "agent " + agent.str() + ": " + found.error().message +
                                                 " (profile " + profile->name + ")");
    }

    std::string persona;
    if (profile->persona == PersonaWay::prepend && !persona_path.empty()) {
        Result<std::string> text = io::read_file(persona_path, kPersonaMax);
        if (!text) return make_error(ErrorCode::config, "persona: " + text.error().message);
        persona = std::move(*text);
    }
    run.composed_prompt = with_persona(persona, request.assignment.prompt);
    if (profile->compose) run.composed_prompt += prompt_tail(request);
    return run;
}

}  // namespace iw::worker
