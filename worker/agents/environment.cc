#include "worker/agents/environment.h"

#include <pwd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <vector>

#include "common/base/text.h"
#include "common/io/files.h"
#include "worker/agents/profiles.h"

namespace iw::worker {
namespace {

constexpr std::string_view kDefaultPath = "/usr/local/bin:/usr/bin:/bin";
constexpr std::size_t kEnvFileMax = 1u << 20;

std::string value_or(const Environment& own, const std::string& name, std::string otherwise) {
    const auto found = own.find(name);
    return found != own.end() && !found->second.empty() ? found->second : otherwise;
}

// tmux's own description of its terminal, where the machine has it.
std::string terminal_name(const std::string& home) {
    for (const std::string& folder :
         {home + "/.terminfo", std::string("/etc/terminfo"), std::string("/lib/terminfo"),
          std::string("/usr/share/terminfo"), std::string("/usr/lib/terminfo")}) {
        if (io::exists(folder + "/t/tmux-256color")) return "tmux-256color";
    }
    return "screen-256color";
}

bool matches(std::string_view name, std::string_view pattern) {
    if (!pattern.ends_with('*')) return name == pattern;
    return name.starts_with(pattern.substr(0, pattern.size() - 1));
}

bool is_passed(const std::string& name, const std::vector<std::string>& patterns) {
    if (is_reserved_variable(name)) return false;
    return std::ranges::any_of(patterns,
                               [&](const std::string& pattern) { return matches(name, pattern); });
}

Environment machine_environment(const Environment& own) {
    const passwd* user = ::getpwuid(::getuid());
    const std::string name = user != nullptr ? user->pw_name : std::to_string(::getuid());
    Environment result;
    result["PATH"] = value_or(own, "PATH", std::string(kDefaultPath));
    result["HOME"] = io::home_folder();
    result["USER"] = value_or(own, "USER", name);
    result["LOGNAME"] = value_or(own, "LOGNAME", result["USER"]);
    result["SHELL"] = value_or(
        own, "SHELL", user != nullptr && *user->pw_shell != 0 ? user->pw_shell : "/bin/sh");
    // Without a locale many programs take the terminal for ASCII.
    result["LANG"] = value_or(own, "LANG", "C.UTF-8");
    result["TERM"] = terminal_name(result["HOME"]);
    for (const auto& [variable, value] : own) {
        if (variable.starts_with("LC_") || variable == "TZ" || variable == "TMPDIR")
            result[variable] = value;
    }
    return result;
}

std::string_view unquoted(std::string_view value) {
    if (value.size() < 2 || value.front() != value.back()) return value;
    if (value.front() != '"' && value.front() != '\'') return value;
    return value.substr(1, value.size() - 2);
}

Result<Environment> read_env_file(const std::string& path) {
    struct stat info {};
    if (::stat(path.c_str(), &info) != 0) {
        return make_error(ErrorCode::config,
                          io::system_error("cannot read env_file", path).message);
    }
    if ((info.st_mode & 077) != 0) {
        return make_error(ErrorCode::config,
                          "env_file " + path + " is open to others; chmod 600 " + path);
    }
    const Result<std::string> text = io::read_file(path, kEnvFileMax);
    if (!text) return make_error(ErrorCode::config, "env_file: " + text.error().message);
    return parse_env_file(*text, path);
}

}  // namespace

Environment own_environment() {
    Environment own;
    for (const std::string& variable : io::environment_variables()) {
        const auto equals = variable.find('=');
        if (equals != std::string::npos)
            own[variable.substr(0, equals)] = variable.substr(equals + 1);
    }
    return own;
}

Result<Environment> parse_env_file(std::string_view text, const std::string& path) {
    Environment read;
    int number = 0;
    for (const std::string& raw : split(text, '\n')) {
        ++number;
        const std::string_view line = trim(raw);
        if (line.empty() || line.front() == '#') continue;
        // The line itself may hold a secret, so the message says only where it is.
        const std::string where = "env_file " + path + ", line " + std::to_string(number);
        const auto equals = line.find('=');
        const std::string name(line.substr(0, equals));
        if (equals == std::string_view::npos || !is_variable_name(name)) {
            return make_error(ErrorCode::config, where + ": it must be NAME=value");
        }
        if (is_reserved_variable(name)) {
            return make_error(ErrorCode::config,
                              where + ": " + name + " is set by the worker alone");
        }
        const std::string_view value = unquoted(line.substr(equals + 1));
        if (value.find('\0') != std::string_view::npos) {
            return make_error(ErrorCode::config, where + ": a value cannot hold a zero byte");
        }
        read[name] = value;
    }
    return read;
}

Result<Environment> agent_environment(const Profile& profile, const std::string& root,
                                      const std::string& bin_folder, const Environment& own) {
    Environment result = machine_environment(own);
    for (const auto& [variable, value] : own) {
        if (is_passed(variable, profile.pass_env)) result[variable] = value;
    }
    if (!profile.env_file.empty()) {
        const bool absolute = profile.env_file.front() == '/';
        Result<Environment> file =
            read_env_file(absolute ? profile.env_file : root + "/" + profile.env_file);
        if (!file) return file.error();
        for (const auto& [variable, value] : *file)
            result[variable] = value;
    }
    for (const auto& [variable, value] : profile.env)
        result[variable] = value;
    // Whatever a profile says of PATH: an agent can always call the ictl of its own installation.
    if (!bin_folder.empty()) result["PATH"] = bin_folder + ":" + result["PATH"];
    return result;
}

}  // namespace iw::worker
