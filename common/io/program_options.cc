#include "common/io/program_options.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <map>
#include <utility>

#include "common/base/text.h"
#include "common/base/version.h"
#include "common/io/exit_codes.h"

namespace iw::io {
namespace {

struct Flags {
    std::string config_file;
    std::map<std::string, std::string> values;  // of configuration keys
    bool check_only = false;
};

std::variant<Flags, Farewell> read_flags(const ProgramDescription& program, int argc,
                                         const char* const* argv) {
    CLI::App app(program.about, program.name);
    Flags flags;
    bool version = false;
    std::map<std::string, std::string> given;
    app.add_option("--config", flags.config_file,
                   "configuration file, instead of the standard ones");
    for (const ProgramSetting& setting : program.settings) {
        if (setting.flag.empty()) continue;
        app.add_option(setting.flag, given[setting.key.name], setting.key.help);
    }
    for (const ProgramOrder& order : program.orders)
        app.add_option(order.flag, *order.value, order.help);
    app.add_flag("--check-config", flags.check_only, "check the configuration and end");
    app.add_flag("--version", version, "print the version and end");
    try {
        app.parse(argc, argv);
    } catch (const CLI::CallForHelp&) {
        return Farewell{.exit_code = kExitOk, .output = app.help(), .error = {}};
    } catch (const CLI::ParseError& wrong) {
        const std::string what = printable(wrong.what(), true);
        return Farewell{.exit_code = kExitUsage,
                        .output = {},
                        .error = what + "; see " + program.name + " --help"};
    }
    if (version) {
        return Farewell{.exit_code = kExitOk,
                        .output = program.name + " " + std::string(kVersion) + "\n",
                        .error = {}};
    }
    for (const ProgramSetting& setting : program.settings) {
        if (setting.flag.empty() || app.count(setting.flag) == 0) continue;
        flags.values[setting.key.name] = given[setting.key.name];
    }
    return flags;
}

}  // namespace

std::variant<ProgramOptions, Farewell> read_program_options(const ProgramDescription& program,
                                                            int argc, const char* const* argv) {
    std::variant<Flags, Farewell> read = read_flags(program, argc, argv);
    if (auto* farewell = std::get_if<Farewell>(&read)) return std::move(*farewell);
    const Flags& flags = *std::get_if<Flags>(&read);
    std::vector<ConfigKey> keys;
    for (const ProgramSetting& setting : program.settings)
        keys.push_back(setting.key);
    // A file named by hand stands alone, so that what it says does not depend on the machine.
    const std::vector<std::string> files =
        flags.config_file.empty() ? config_files(program.config_name) : std::vector<std::string>{};
    Result<Config> config = Config::load(std::move(keys), files, flags.config_file, flags.values);
    if (!config.ok()) return wrong_config(config.error().message);
    return ProgramOptions{.config = std::move(config).value(), .check_only = flags.check_only};
}

Farewell wrong_config(const std::string& message) {
    return Farewell{.exit_code = kExitConfig, .output = {}, .error = message};
}

Farewell config_is_fine() {
    return Farewell{.exit_code = kExitOk, .output = "configuration is fine\n", .error = {}};
}

std::optional<std::string> check_word(const Config& config, const std::string& key,
                                      const std::vector<std::string>& words) {
    const std::string value = config.text(key);
    if (std::ranges::find(words, value) != words.end()) return std::nullopt;
    const std::string origin = config.values().at(key).origin;
    return key + " (" + origin + ") is \"" + printable(value, true) + "\"; allowed are " +
           join(words, ", ");
}

std::optional<std::string> check_logging(const Config& config, const std::string& table) {
    auto wrong = check_word(config, table + ".log_level", {"debug", "info", "warn", "error"});
    return wrong ? wrong : check_word(config, table + ".log_format", {"text", "json"});
}

}  // namespace iw::io
