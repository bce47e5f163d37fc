#include "ctl/command_line.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <exception>
#include <optional>

#include "common/base/text.h"
#include "common/base/version.h"
#include "ctl/command.h"
#include "ctl/context.h"
#include "ctl/exit_code.h"

namespace iw::ctl {
namespace {

constexpr std::size_t kNameColumn = 14;
constexpr std::string_view kIntroduction =
    "ictl - hand prompts to coding agents in tmux, watch them, take their results\n"
    "\n"
    "Usage: ictl COMMAND [OPTIONS]\n";
constexpr std::string_view kGlobalHelp =
    "\n"
    "Options of every command:\n"
    "  --project P     the project's root, or the name of one elsewhere (default: upwards from "
    "here)\n"
    "  --broker URL    endpoint of the broker (default: the session's own, the configuration's, "
    "or\n"
    "                  that of the fleet `ictl up` started for the project)\n"
    "  --patience D    how long to wait for a broker that does not answer (30s)\n"
    "  --config FILE   settings to read besides ictl.toml in /etc and ~/.config\n"
    "\n"
    "`ictl help COMMAND` has options, examples and exit codes; `ictl help exit-codes` all codes.\n"
    "Durations are written 90s, 30m, 2h, 1d; a bare number is seconds.\n";
// Their values are not the command's name.
constexpr std::array<std::string_view, 4> kGlobalOptions = {"--project", "--broker", "--patience",
                                                            "--config"};

std::string general_help(const std::vector<Command>& commands) {
    std::string text(kIntroduction);
    for (const char* group : {kGroupSessions, kGroupFleet, kGroupProject, kGroupSelf}) {
        text += "\n" + std::string(group) + ":\n";
        for (const Command& command : commands) {
            if (command.group != group) continue;
            std::string line = "  " + command.name;
            line.resize(std::max(kNameColumn, line.size() + 1), ' ');
            text += line + command.summary + "\n";
        }
    }
    return text + std::string(kGlobalHelp);
}

// Index of the command's name among the arguments.
std::optional<std::size_t> find_name(const std::vector<std::string>& arguments) {
    for (std::size_t i = 0; i < arguments.size(); ++i) {
        if (std::ranges::find(kGlobalOptions, arguments[i]) != kGlobalOptions.end()) {
            ++i;
            continue;
        }
        if (!arguments[i].starts_with('-')) return i;
    }
    return std::nullopt;
}

const Command* find(const std::vector<Command>& commands, const std::string& name) {
    const auto found = std::ranges::find(commands, name, &Command::name);
    return found == commands.end() ? nullptr : &*found;
}

int unknown_command(const Terminal& terminal, const std::vector<Command>& commands,
                    const std::string& name) {
    std::vector<std::string> names = {"help"};
    for (const Command& command : commands)
        names.push_back(command.name);
    const std::string near = nearest_command(name, names);
    return terminal.fail(kExitUsage, "no command is called \"" + name + "\"" +
                                         (near.empty() ? "" : "; did you mean " + near + "?") +
                                         " See `ictl help`");
}

// What the parser minds about, in one line with the nearest option.
std::string parse_problem(const CLI::App& app, const CLI::ParseError& error,
                          const std::string& name) {
    std::string text = printable(error.what(), true);
    for (const std::string& argument : app.remaining(true)) {
        if (!argument.starts_with('-')) continue;
        const std::string option = argument.substr(0, argument.find('='));
        std::vector<std::string> known(kGlobalOptions.begin(), kGlobalOptions.end());
        for (const CLI::Option* candidate : app.get_subcommand(name)->get_options()) {
            for (const std::string& word : candidate->get_lnames())
                known.push_back("--" + word);
        }
        const std::string near = nearest(option, known);
        text = "unknown option " + option + (near.empty() ? "" : "; did you mean " + near + "?");
        break;
    }
    while (text.ends_with('.') || text.ends_with(' '))
        text.pop_back();
    return text + " See `ictl help " + name + "`";
}

// The parser of one command below the global options.
class CommandParser {
  public:
    explicit CommandParser(const Command& command) : command_(command), app_("", "ictl") {
        app_.set_help_flag();
        app_.add_option("--project", options_.project);
        app_.add_option("--broker", options_.broker);
        app_.add_option("--patience", options_.patience);
        app_.add_option("--config", options_.config);
        below_ = app_.add_subcommand(command.name, command.summary);
        below_->fallthrough();
        below_->set_help_flag("-h,--help", "this help");
        below_->footer(command.details + "\nMore options: see `ictl help`.");
        runner_ = command.declare(*below_);
    }

    std::string help() const { return below_->help("ictl"); }

    int run(const std::vector<std::string>& arguments, const Terminal& terminal) {
        try {
            // The parser takes its vector from the back.
            app_.parse(std::vector<std::string>(arguments.rbegin(), arguments.rend()));
        } catch (const CLI::CallForHelp&) {
            terminal.print(help());
            return kExitOk;
        } catch (const CLI::ParseError& error) {
            return terminal.fail(kExitUsage, parse_problem(app_, error, command_.name));
        }
        Context context(options_, terminal);
        return runner_(context);
    }

  private:
    const Command& command_;
    GlobalOptions options_;
    CLI::App app_;
    CLI::App* below_ = nullptr;
    Runner runner_;
};

int show_help(const std::vector<Command>& commands, const std::string& topic,
              const Terminal& terminal) {
    if (topic.empty() || topic == "help") {
        terminal.print(general_help(commands));
        return kExitOk;
    }
    if (topic == "exit-codes") {
        terminal.print(kExitCodesHelp);
        return kExitOk;
    }
    const Command* command = find(commands, topic);
    if (command == nullptr) return unknown_command(terminal, commands, topic);
    terminal.print(CommandParser(*command).help());
    return kExitOk;
}

int dispatch(const std::vector<std::string>& arguments, const Terminal& terminal) {
    const std::vector<Command> commands = all_commands();
    const std::optional<std::size_t> at = find_name(arguments);
    if (!at) {
        const bool asks = std::ranges::find(arguments, "--version") != arguments.end();
        if (asks) return CommandParser(*find(commands, "version")).run({"version"}, terminal);
        const bool help = std::ranges::find(arguments, "--help") != arguments.end() ||
                          std::ranges::find(arguments, "-h") != arguments.end();
        if (arguments.empty() || help) return show_help(commands, "", terminal);
        return terminal.fail(kExitUsage, "no command given; see `ictl help`");
    }
    const std::string& name = arguments[*at];
    if (name == "help") {
        return show_help(commands, *at + 1 < arguments.size() ? arguments[*at + 1] : "", terminal);
    }
    const Command* command = find(commands, name);
    if (command == nullptr) return unknown_command(terminal, commands, name);
    return CommandParser(*command).run(arguments, terminal);
}

}  // namespace

std::string nearest_command(const std::string& word, const std::vector<std::string>& names) {
    const auto letters = [](std::string text) {
        std::ranges::sort(text);
        return text;
    };
    for (const std::string& candidate : names) {
        if (letters(candidate) == letters(word)) return candidate;
    }
    return nearest(word, names);
}

std::string software_name() {
    return "ictl " + std::string(kVersion);
}

std::string software_revision() {
    return IW_REVISION;
}

int run_command_line(const std::vector<std::string>& arguments, const Terminal& terminal) {
    try {
        const int code = dispatch(arguments, terminal);
        terminal.out.flush();
        if (!terminal.out) {
            return terminal.fail(kExitFailure,
                                 "the result could not be written; is the disk full?");
        }
        return code;
    } catch (const std::exception& error) {
        return terminal.fail(kExitFault, std::string("unexpected: ") + error.what());
    }
}

}  // namespace iw::ctl
