#include "worker/agents/profiles.h"

#include <toml++/toml.h>
#include <algorithm>
#include <optional>
#include <vector>

#include "common/base/text.h"

namespace iw::worker {
namespace {

const std::vector<std::string> kKeys = {"command",  "prompt",   "persona", "compose",
                                        "pass_env", "env_file", "env",     "success"};

const std::vector<std::string> kTopKeys = {"agents", "default_profile"};

// Arguments and variables end at a zero byte.
bool has_zero(const std::string& text) {
    return text.find('\0') != std::string::npos;
}

// Where a value stands, for messages.
struct Place {
    const std::string& file;
    std::string key;  // "agents.claude.command"
};

Error refuse(const Place& place, const std::string& what) {
    return make_error(ErrorCode::config, place.file + ": " + place.key + " " + what);
}

Error unknown_key(const Place& place, const std::string& key,
                  const std::vector<std::string>& known) {
    const std::string near = nearest(key, known);
    return refuse(place, "is not a key; " + (near.empty() ? "the keys are " + join(known, ", ")
                                                          : "did you mean " + near + "?"));
}

Status read_text(const toml::node& node, const Place& place, std::string& text) {
    const auto value = node.value_exact<std::string>();
    if (!value || has_zero(*value)) return refuse(place, "must be a text without zero bytes");
    text = *value;
    return Done{};
}

Status read_texts(const toml::node& node, const Place& place, std::vector<std::string>& texts) {
    const toml::array* array = node.as_array();
    if (array == nullptr) return refuse(place, "must be a list of texts");
    std::vector<std::string> read;
    for (const toml::node& element : *array) {
        const auto value = element.value_exact<std::string>();
        if (!value || has_zero(*value))
            return refuse(place, "must be a list of texts without zero bytes");
        read.push_back(*value);
    }
    texts = std::move(read);
    return Done{};
}

template <typename Word>
struct Choice {
    std::string word;
    Word value;
};

template <typename Word>
Status read_word(const toml::node& node, const Place& place,
                 const std::vector<Choice<Word>>& choices, Word& word) {
    const auto text = node.value_exact<std::string>();
    std::vector<std::string> words;
    for (const Choice<Word>& choice : choices) {
        if (text && *text == choice.word) {
            word = choice.value;
            return Done{};
        }
        words.push_back(choice.word);
    }
    return refuse(place, "must be one of " + join(words, ", "));
}

Status read_variables(const toml::node& node, const Place& place,
                      std::map<std::string, std::string>& variables) {
    const toml::table* table = node.as_table();
    if (table == nullptr) return refuse(place, "must be a table of texts");
    for (const auto& [key, value] : *table) {
        const std::string name(key.str());
        const Place here{.file = place.file, .key = place.key + "." + name};
        if (!is_variable_name(name)) return refuse(here, "is no name of a variable");
        if (is_reserved_variable(name))
            return refuse(here, "is set by the worker alone; leave it out");
        if (Status read = read_text(value, here, variables[name]); !read) return read;
    }
    return Done{};
}

Status read_command(const toml::node& node, const Place& place, std::vector<std::string>& command) {
    if (Status read = read_texts(node, place, command); !read) return read;
    if (command.empty() || command[0].empty())
        return refuse(place, "needs at least the program's name");
    return Done{};
}

Status read_key(const std::string& key, const toml::node& node, const Place& place,
                Profile& profile) {
    if (key == "command") return read_command(node, place, profile.command);
    if (key == "pass_env") return read_texts(node, place, profile.pass_env);
    if (key == "env_file") return read_text(node, place, profile.env_file);
    if (key == "env") return read_variables(node, place, profile.env);
    if (key == "prompt") {
        return read_word<PromptWay>(
            node, place, {{"stdin", PromptWay::stdin_file}, {"argument", PromptWay::argument_file}},
            profile.prompt);
    }
    if (key == "persona") {
        return read_word<PersonaWay>(node, place,
                                     {{"none", PersonaWay::none},
                                      {"prepend", PersonaWay::prepend},
                                      {"argument", PersonaWay::argument_file}},
                                     profile.persona);
    }
    if (key == "success") {
        return read_word<SuccessRule>(node, place,
                                      {{"exit_code", SuccessRule::exit_code},
                                       {"result_file", SuccessRule::result_file},
                                       {"claude_json", SuccessRule::claude_json},
                                       {"codex_json", SuccessRule::codex_json}},
                                      profile.success);
    }
    if (key == "compose") {
        const auto value = node.value_exact<bool>();
        if (!value) return refuse(place, "must be true or false");
        profile.compose = *value;
        return Done{};
    }
    return unknown_key(place, key, kKeys);
}

Status read_profile(const toml::table& table, const Place& place, Profile& profile) {
    for (const auto& [key, node] : table) {
        const std::string name(key.str());
        const Place here{.file = place.file, .key = place.key + "." + name};
        if (Status read = read_key(name, node, here, profile); !read) return read;
    }
    if (profile.command.empty()) return refuse(place, "has no command");
    return Done{};
}

Status read_profiles(const toml::table& agents, const std::string& file,
                     std::map<std::string, Profile>& profiles) {
    for (const auto& [key, node] : agents) {
        const std::string name(key.str());
        const Place place{.file = file, .key = "agents." + name};
        if (!is_agent_name(name)) {
            return refuse(place,
                          "is no agent name: a-z, 0-9, '_' and '-', at most 64, beginning with a "
                          "letter or digit");
        }
        const toml::table* table = node.as_table();
        if (table == nullptr) return refuse(place, "must be a table");
        Profile& profile = profiles[name];
        profile.name = name;
        if (Status read = read_profile(*table, place, profile); !read) return read;
    }
    return Done{};
}

}  // namespace

bool is_variable_name(std::string_view name) {
    const auto fits = [](char c) {
        return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') ||
               c == '_';
    };
    return !name.empty() && !(name[0] >= '0' && name[0] <= '9') && std::ranges::all_of(name, fits);
}

bool is_reserved_variable(std::string_view name) {
    return name.starts_with("IW_") || name.starts_with("TMUX") || name == "NOTIFY_SOCKET" ||
           name.starts_with("WATCHDOG_");
}

Status merge_profiles(std::string_view text, const std::string& file,
                      std::map<std::string, Profile>& profiles, std::string& default_profile) {
    try {
        const toml::table root = toml::parse(text, file);
        for (const auto& [key, node] : root) {
            const std::string name(key.str());
            if (name == "agents") {
                const toml::table* agents = node.as_table();
                if (agents == nullptr)
                    return refuse({.file = file, .key = name}, "must be a table");
                if (Status read = read_profiles(*agents, file, profiles); !read) return read;
            } else if (name == "default_profile") {
                if (Status read = read_text(node, {.file = file, .key = name}, default_profile);
                    !read)
                    return read;
            } else {
                return unknown_key({.file = file, .key = name}, name, kTopKeys);
            }
        }
        return Done{};
    } catch (const toml::parse_error& error) {
        return make_error(ErrorCode::config, file + ":" +
                                                 std::to_string(error.source().begin.line) + ": " +
                                                 printable(error.description(), true));
    }
}

}  // namespace iw::worker
