#pragma once

// One record per command of ictl. A command is one file, ctl/commands/<name>.cc, that defines
// `Command <name>_command()`; ctl/registry.cc lists them. Help, completion and the nearest-name
// hint are all made from these records.

#include <functional>
#include <string>
#include <vector>

namespace CLI {
class App;
}

namespace iw::ctl {

class Context;

// Runs the command after its options were parsed; the exit code (ctl/exit_code.h).
using Runner = std::function<int(Context&)>;

struct Command {
    std::string name;     // "submit"
    std::string group;    // heading in the help: one of the kGroup names below
    std::string summary;  // one line, begins with a capital, no full stop
    std::string details;  // examples and exit codes, the end of `ictl help NAME`
    // Adds options to the command's own parser and returns what runs with them. The options live as
    // long as the returned function.
    std::function<Runner(CLI::App&)> declare;
};

inline constexpr const char* kGroupSessions = "Sessions";
inline constexpr const char* kGroupFleet = "Fleet";
inline constexpr const char* kGroupProject = "Project";
inline constexpr const char* kGroupSelf = "This program";

// All commands in the order of the help.
std::vector<Command> all_commands();

}  // namespace iw::ctl
