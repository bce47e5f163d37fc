#include <CLI/CLI.hpp>
#include <array>
#include <memory>

#include "common/base/text.h"
#include "ctl/command.h"
#include "ctl/context.h"
#include "ctl/exit_code.h"

namespace iw::ctl {
namespace {

constexpr const char* kDetails =
    R"(Prints a completion script for a shell: commands, options, statuses, and the ids of
sessions.

Examples:
  source <(ictl completion bash)
  ictl completion zsh > ~/.zfunc/_ictl
  ictl completion fish > ~/.config/fish/completions/ictl.fish

Exit codes: 0; 64 no such shell.
)";

constexpr const char* kStatuses = "CREATED RUNNING COMPLETED FAILED KILLED";
constexpr const char* kGlobalOptions = "--project --broker --patience --config";
// Commands whose argument is a session.
constexpr std::array<std::string_view, 13> kTakesIds = {
    "status", "wait",   "result",  "logs",    "fetch", "attach",      "kill",
    "retry",  "extend", "archive", "explain", "watch", "confirm-dead"};
constexpr const char* kListIds = "ictl list --all 2>/dev/null | awk 'NR > 1 { print $1 }'";

struct Words {
    std::string name;
    std::string summary;
    std::vector<std::string> options;    // "--json"
    std::vector<std::string> arguments;  // inner commands, shells
    bool takes_ids = false;
};

std::vector<Words> all_words() {
    std::vector<Words> all;
    for (const Command& command : all_commands()) {
        CLI::App app("", command.name);
        const Runner runner = command.declare(app);
        Words words{.name = command.name, .summary = command.summary};
        for (const CLI::Option* option : app.get_options()) {
            for (const std::string& name : option->get_lnames())
                words.options.push_back("--" + name);
        }
        for (const CLI::App* inner : app.get_subcommands(nullptr)) {
            words.arguments.push_back(inner->get_name());
        }
        if (command.name == "completion") words.arguments = {"bash", "zsh", "fish"};
        for (const std::string_view name : kTakesIds) {
            words.takes_ids = words.takes_ids || name == command.name;
        }
        all.push_back(std::move(words));
    }
    return all;
}

std::string names(const std::vector<Words>& all) {
    std::vector<std::string> result = {"help"};
    for (const Words& words : all)
        result.push_back(words.name);
    return join(result, " ");
}

std::string bash_script(const std::vector<Words>& all) {
    std::string text =
        "# bash completion of ictl\n"
        "_ictl() {\n"
        "    local current=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]} "
        "words=\"\"\n"
        "    COMPREPLY=()\n"
        "    if [[ $before == --status ]]; then\n"
        "        COMPREPLY=($(compgen -W \"" +
        std::string(kStatuses) +
        "\" -- \"$current\"))\n"
        "        return\n"
        "    fi\n"
        "    if [[ $COMP_CWORD -eq 1 ]]; then\n"
        "        COMPREPLY=($(compgen -W \"" +
        names(all) +
        "\" -- \"$current\"))\n"
        "        return\n"
        "    fi\n"
        "    case ${COMP_WORDS[1]} in\n"
        "        help) words=\"exit-codes " +
        names(all) + "\" ;;\n";
    for (const Words& words : all) {
        std::string list = join(words.options, " ");
        if (!words.arguments.empty()) list += " " + join(words.arguments, " ");
        text += "        " + words.name + ")\n            words=\"" + list + " " + kGlobalOptions +
                "\"\n";
        if (words.takes_ids) {
            text += "            [[ $current != -* ]] && words=$(" + std::string(kListIds) + ")\n";
        }
        text += "            ;;\n";
    }
    return text +
           "    esac\n"
           "    COMPREPLY=($(compgen -W \"$words\" -- \"$current\"))\n"
           "}\n"
           "complete -o default -F _ictl ictl\n";
}

std::string quoted(const std::string& text) {
    std::string result = "'";
    for (const char c : text)
        result += c == '\'' ? std::string("'\\''") : std::string(1, c);
    return result + "'";
}

std::string zsh_script(const std::vector<Words>& all) {
    std::string text =
        "#compdef ictl\n"
        "_ictl() {\n"
        "    local -a commands\n"
        "    commands=('help:show help'";
    for (const Words& words : all)
        text += " " + quoted(words.name + ":" + words.summary);
    text +=
        ")\n"
        "    if (( CURRENT == 2 )); then\n"
        "        _describe command commands\n"
        "        return\n"
        "    fi\n"
        "    if [[ $words[CURRENT-1] == --status ]]; then\n"
        "        compadd " +
        std::string(kStatuses) +
        "\n"
        "        return\n"
        "    fi\n"
        "    case $words[2] in\n"
        "        help) compadd exit-codes " +
        names(all) + " ;;\n";
    for (const Words& words : all) {
        text += "        " + words.name + ")\n            compadd -- " + join(words.options, " ") +
                " " + kGlobalOptions + " " + join(words.arguments, " ") + "\n";
        if (words.takes_ids) {
            text += "            compadd -- ${(f)\"$(" + std::string(kListIds) + ")\"}\n";
        }
        if (words.name == "submit") text += "            _files\n";
        text += "            ;;\n";
    }
    return text +
           "    esac\n"
           "}\n"
           "if [[ $funcstack[1] == _ictl ]]; then _ictl; else compdef _ictl ictl; fi\n";
}

std::string fish_script(const std::vector<Words>& all) {
    std::string text = "# fish completion of ictl\n";
    for (const Words& words : all) {
        text += "complete -c ictl -n __fish_use_subcommand -f -a " + words.name + " -d " +
                quoted(words.summary) + "\n";
        const std::string in =
            "complete -c ictl -n '__fish_seen_subcommand_from " + words.name + "'";
        for (const std::string& option : words.options) {
            text += in + " -l " + option.substr(2);
            if (option == "--status") text += " -x -a '" + std::string(kStatuses) + "'";
            text += "\n";
        }
        for (const std::string& argument : words.arguments)
            text += in + " -f -a " + argument + "\n";
        if (words.takes_ids) {
            text += in + " -f -a " + quoted("(" + std::string(kListIds) + ")") + "\n";
        }
    }
    for (const std::string& option : split(kGlobalOptions, ' ')) {
        text += "complete -c ictl -l " + option.substr(2) + " -r\n";
    }
    return text;
}

int run(Context& context, const std::string& shell) {
    const Terminal& terminal = context.terminal();
    const std::vector<Words> all = all_words();
    if (shell == "bash") {
        terminal.print(bash_script(all));
    } else if (shell == "zsh") {
        terminal.print(zsh_script(all));
    } else if (shell == "fish") {
        terminal.print(fish_script(all));
    } else {
        return terminal.fail(kExitUsage,
                             "no completion for \"" + shell + "\"; there is bash, zsh and fish");
    }
    return kExitOk;
}

Runner declare(CLI::App& app) {
    auto shell = std::make_shared<std::string>();
    app.add_option("shell", *shell, "bash, zsh or fish")->required();
    return [shell](Context& context) { return run(context, *shell); };
}

}  // namespace

Command completion_command() {
    return {.name = "completion",
            .group = kGroupSelf,
            .summary = "Print a completion script for a shell",
            .details = kDetails,
            .declare = declare};
}

}  // namespace iw::ctl
