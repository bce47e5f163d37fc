#pragma once

// The command line of a daemon: its settings as flags, files and environment, and what every daemon
// has besides (--config, --check-config, --version, --help).

#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "common/io/config_file.h"

namespace iw::io {

// There is nothing to run: --help, --version, --check-config, or something is wrong.
struct Farewell {
    int exit_code = 0;
    std::string output;  // for stdout
    std::string error;   // for stderr, one line
};

// A key of the configuration, and its flag if it has one.
struct ProgramSetting {
    ConfigKey key;
    std::string flag;  // "--data-dir"; empty: files and environment only
};

// A flag that is no setting: what this one run is for.
struct ProgramOrder {
    std::string flag;
    std::string help;
    std::string* value = nullptr;  // left alone when the flag is not given
};

struct ProgramDescription {
    std::string name;         // "ibroker"
    std::string about;        // one line
    std::string config_name;  // of the standard files: "broker"
    std::vector<ProgramSetting> settings;
    std::vector<ProgramOrder> orders;
};

struct ProgramOptions {
    Config config;
    bool check_only = false;  // once all is checked: say so and end
};

// Reads arguments, environment and files.
std::variant<ProgramOptions, Farewell> read_program_options(const ProgramDescription& program,
                                                            int argc, const char* const* argv);

// One line that names the key, with the exit code of a wrong configuration.
Farewell wrong_config(const std::string& message);
Farewell config_is_fine();

// Why the value of a key is none of the words; nothing when it is one.
std::optional<std::string> check_word(const Config& config, const std::string& key,
                                      const std::vector<std::string>& words);
// The same for <table>.log_level and <table>.log_format.
std::optional<std::string> check_logging(const Config& config, const std::string& table);

}  // namespace iw::io
