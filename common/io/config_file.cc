#include "common/io/config_file.h"

#include <toml++/toml.h>

#include <algorithm>
#include <cctype>
#include <sstream>
#include <utility>

#include "common/base/text.h"
#include "common/io/files.h"

namespace iw::io {
namespace {

constexpr std::size_t kFileMax = 1u << 20;
constexpr std::string_view kFolder = "native-orchestrator";

// A setting as it was found, before its key is known to exist.
struct Setting {
    std::string name;
    std::string value;
    ConfigType type = ConfigType::text;  // text also for what comes without types
    std::string where;                   // for messages: "/etc/x.toml line 3", "IW_CFG_X", "--x"
    std::string origin;
    bool typed = false;       // from a file: a quoted number is not a number
    bool relative_ok = true;  // a path of a file has no current directory to stand in
};

Error bad_setting(const Setting& setting, const std::string& what) {
    return make_error(ErrorCode::config, setting.where + ": " + setting.name + " " + what);
}

std::string allowed_range(const ConfigKey& key) {
    const bool duration = key.type == ConfigType::duration;
    const auto shown = [&](long long number) {
        return duration ? format_duration(Duration(number)) : std::to_string(number);
    };
    if (key.max == 0) return shown(key.min) + " or more";
    // A duration is more than zero anyway.
    if (duration && key.min == 0) return "at most " + shown(key.max);
    return shown(key.min) + " to " + shown(key.max);
}

bool in_range(const ConfigKey& key, long long number) {
    return number >= key.min && (key.max == 0 || number <= key.max);
}

Result<std::string> checked_integer(const ConfigKey& key, const Setting& setting) {
    long long number = 0;
    const bool whole = parse_int(setting.value, INT64_MIN, INT64_MAX, number) &&
                       (!setting.typed || setting.type == ConfigType::integer);
    if (!whole) return bad_setting(setting, "must be a whole number, " + allowed_range(key));
    if (!in_range(key, number)) {
        return bad_setting(setting, "is " + setting.value + "; allowed is " + allowed_range(key));
    }
    return std::to_string(number);
}

Result<std::string> checked_duration(const ConfigKey& key, const Setting& setting) {
    const bool fits = !setting.typed || setting.type != ConfigType::boolean;
    const Result<Duration> duration = parse_duration(setting.value);
    if (!fits || !duration) {
        return bad_setting(setting, "must be a duration such as \"90s\", \"30m\" or \"2h\"");
    }
    if (!in_range(key, duration->count())) {
        return bad_setting(setting, "is " + setting.value + "; allowed is " + allowed_range(key));
    }
    return format_duration(*duration);
}

Result<std::string> checked_boolean(const Setting& setting) {
    const bool word = setting.value == "true" || setting.value == "false";
    if (!word || (setting.typed && setting.type != ConfigType::boolean)) {
        return bad_setting(setting, "must be true or false");
    }
    return setting.value;
}

Result<std::string> checked_text(const ConfigKey& key, const Setting& setting) {
    if (setting.typed && setting.type != ConfigType::text) {
        return bad_setting(setting, "must be a text in quotes");
    }
    if (setting.value.find('\0') != std::string::npos || !is_utf8(setting.value)) {
        return bad_setting(setting, "must be UTF-8 text without zero bytes");
    }
    if (key.type != ConfigType::path || setting.value.empty()) return setting.value;
    if (setting.value == "~" || setting.value.starts_with("~/")) {
        return absolute_path(home_folder() + setting.value.substr(1));
    }
    if (setting.value.front() != '/' && !setting.relative_ok) {
        return bad_setting(setting, "must be an absolute path or begin with ~/");
    }
    return absolute_path(setting.value);
}

// The value as Config keeps it.
Result<std::string> checked(const ConfigKey& key, const Setting& setting) {
    switch (key.type) {
        case ConfigType::integer:
            return checked_integer(key, setting);
        case ConfigType::boolean:
            return checked_boolean(setting);
        case ConfigType::duration:
            return checked_duration(key, setting);
        case ConfigType::text:
        case ConfigType::path:
            return checked_text(key, setting);
    }
    return bad_setting(setting, "has an unknown type");
}

const ConfigKey* find_key(const std::vector<ConfigKey>& keys, const std::string& name) {
    const auto found = std::ranges::find(keys, name, &ConfigKey::name);
    return found == keys.end() ? nullptr : &*found;
}

Error unknown_key(const std::vector<ConfigKey>& keys, const Setting& setting) {
    std::vector<std::string> names;
    for (const ConfigKey& key : keys)
        names.push_back(key.name);
    const std::string near = nearest(setting.name, names);
    return make_error(
        ErrorCode::config,
        setting.where + ": unknown key " + printable(setting.name, true) +
            (near.empty() ? "; `config show` lists all" : "; did you mean " + near + "?"));
}

std::string variable_of(const std::string& name) {
    std::string variable = "IW_CFG_";
    for (const char c : name) {
        const bool separator = c == '.' || c == '-';
        variable +=
            separator ? '_' : static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
    }
    return variable;
}

// "--data-folder" of "broker.data_folder".
std::string flag_of(const std::string& name) {
    std::string flag = name.substr(name.find_last_of('.') + 1);
    std::ranges::replace(flag, '_', '-');
    return "--" + flag;
}

Result<Setting> setting_of(const toml::node& node, const std::string& name,
                           const std::string& path) {
    Setting setting{.name = name,
                    .where = path + " line " + std::to_string(node.source().begin.line),
                    .origin = path,
                    .typed = true,
                    .relative_ok = false};
    if (const auto* text = node.as_string()) {
        setting.value = text->get();
    } else if (const auto* number = node.as_integer()) {
        setting.value = std::to_string(number->get());
        setting.type = ConfigType::integer;
    } else if (const auto* boolean = node.as_boolean()) {
        setting.value = boolean->get() ? "true" : "false";
        setting.type = ConfigType::boolean;
    } else {
        return bad_setting(setting, "must be a text, a whole number, true or false");
    }
    return setting;
}

// Tables become the front of their keys' names. toml++ bounds the depth.
Status flatten(const toml::table& table, const std::string& front, const std::string& path,
               std::vector<Setting>& settings) {
    for (const auto& [key, node] : table) {
        const std::string name = front + std::string(key.str());
        if (const toml::table* inner = node.as_table()) {
            const Status done = flatten(*inner, name + ".", path, settings);
            if (!done) return done;
            continue;
        }
        Result<Setting> setting = setting_of(node, name, path);
        if (!setting) return setting.error();
        settings.push_back(std::move(setting).value());
    }
    return Done{};
}

Status read_settings(const std::string& path, bool required, std::vector<Setting>& settings) {
    const Result<std::string> text = read_file(path, kFileMax);
    if (!text && text.error().code == ErrorCode::not_found && !required) return Done{};
    if (!text) return make_error(ErrorCode::config, "configuration: " + text.error().message);
    try {
        return flatten(toml::parse(*text, path), "", path, settings);
    } catch (const toml::parse_error& error) {
        return make_error(ErrorCode::config, path + " line " +
                                                 std::to_string(error.source().begin.line) + ": " +
                                                 printable(error.description(), true));
    }
}

void add_environment(const std::vector<ConfigKey>& keys, std::vector<Setting>& settings) {
    for (const ConfigKey& key : keys) {
        const std::string variable = variable_of(key.name);
        const std::string value = environment(variable.c_str());
        if (value.empty()) continue;
        settings.push_back({.name = key.name,
                            .value = value,
                            .where = "environment " + variable,
                            .origin = "environment " + variable});
    }
}

std::string prefix_folder() {
    const std::string folder = parent_folder(executable_path());
    const std::string above = parent_folder(folder);
    return base_name(folder) == kFolder ? parent_folder(above) : above;
}

// An XDG variable counts only when it is absolute; so says its specification.
std::string xdg_folder(const char* variable, const std::string& below_home) {
    const std::string set = environment(variable);
    const std::string base = set.starts_with('/') ? set : home_folder() + "/" + below_home;
    return base + "/" + std::string(kFolder);
}

}  // namespace

Result<Config> Config::load(std::vector<ConfigKey> keys, const std::vector<std::string>& files,
                            const std::string& required_file,
                            const std::map<std::string, std::string>& flags) {
    // Weakest first: what comes later replaces what came before.
    std::vector<Setting> settings;
    for (const ConfigKey& key : keys) {
        settings.push_back({.name = key.name,
                            .value = key.default_value,
                            .where = "default",
                            .origin = "default"});
    }
    for (const std::string& file : files) {
        const Status read = read_settings(file, false, settings);
        if (!read) return read.error();
    }
    if (!required_file.empty()) {
        const Status read = read_settings(required_file, true, settings);
        if (!read) return read.error();
    }
    add_environment(keys, settings);
    for (const auto& [name, value] : flags) {
        const std::string flag = "flag " + flag_of(name);
        settings.push_back({.name = name, .value = value, .where = flag, .origin = flag});
    }

    Config config;
    for (const Setting& setting : settings) {
        const ConfigKey* key = find_key(keys, setting.name);
        if (key == nullptr) return unknown_key(keys, setting);
        Result<std::string> value = checked(*key, setting);
        if (!value) return value.error();
        config.values_[setting.name] = {.value = std::move(value).value(),
                                        .origin = setting.origin};
    }
    config.keys_ = std::move(keys);
    return config;
}

std::string Config::text(const std::string& name) const {
    const auto found = values_.find(name);
    IW_CHECK(found != values_.end());
    return found->second.value;
}

long long Config::integer(const std::string& name) const {
    long long number = 0;
    IW_CHECK(parse_int(text(name), INT64_MIN, INT64_MAX, number));
    return number;
}

bool Config::boolean(const std::string& name) const {
    return text(name) == "true";
}

Duration Config::duration(const std::string& name) const {
    return parse_duration(text(name)).value();
}

std::vector<std::string> config_files(const std::string& name) {
    const std::string file = "/" + name + ".toml";
    return {"/etc/" + std::string(kFolder) + file, xdg_folder("XDG_CONFIG_HOME", ".config") + file};
}

std::string bin_folder() {
    return prefix_folder() + "/bin";
}
std::string libexec_folder() {
    return prefix_folder() + "/libexec/" + std::string(kFolder);
}
std::string share_folder() {
    return prefix_folder() + "/share/" + std::string(kFolder);
}

std::string state_folder() {
    const std::string set = environment("IW_CFG_STATE_DIR");
    return set.empty() ? xdg_folder("XDG_STATE_HOME", ".local/state") : absolute_path(set);
}

FleetPaths fleet_paths(const std::string& root) {
    constexpr std::size_t kHashShown = 12;
    const std::string folder = state_folder() + "/fleets/" + sha256_hex(root).substr(0, kHashShown);
    return FleetPaths{.folder = folder,
                      .broker_data = folder + "/broker",
                      .worker_state = folder + "/worker",
                      .endpoint = "ipc://" + folder + "/broker.sock",
                      .broker_log = folder + "/broker.log",
                      .worker_log = folder + "/worker.log"};
}

std::string root_lock_file(const std::string& root) {
    constexpr std::size_t kHashShown = 16;
    return state_folder() + "/roots/" + sha256_hex(root).substr(0, kHashShown) + ".lock";
}

}  // namespace iw::io
