#pragma once

// Configuration from TOML files and the environment. A program declares its keys once; files,
// `IW_CFG_*` variables and flags fill them in; a key that is not declared is an error that names
// the nearest one. Order, strongest first: flags, environment, user file, system file, defaults.

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "common/base/result.h"
#include "common/base/time.h"

namespace iw::io {

enum class ConfigType { text, integer, boolean, duration, path };
struct ConfigKey {
    std::string name;  // "broker.endpoint": table and key; its variable is IW_CFG_BROKER_ENDPOINT
    ConfigType type = ConfigType::text;
    std::string default_value;
    std::string help;
    long long min = 0;  // of integers (and milliseconds of durations)
    long long max = 0;  // 0: no bound
};

struct ConfigValue {
    std::string value;   // durations as text ("10s"), booleans "true"/"false"
    std::string origin;  // "default", "/etc/... ", "environment IW_CFG_X", "flag --x"
};

class Config {
  public:
    // Error (config): unreadable or broken file, unknown key (nearest named), wrong type, out of
    // range; the message names file, key and what is allowed. Missing files are fine unless
    // `required`.
    static Result<Config> load(std::vector<ConfigKey> keys, const std::vector<std::string>& files,
                               const std::string& required_file,
                               const std::map<std::string, std::string>& flags);
    std::string text(const std::string& name) const;  // of a declared key
    long long integer(const std::string& name) const;
    bool boolean(const std::string& name) const;
    Duration duration(const std::string& name) const;
    const std::map<std::string, ConfigValue>& values() const { return values_; }
    const std::vector<ConfigKey>& keys() const { return keys_; }

  private:
    std::vector<ConfigKey> keys_;
    std::map<std::string, ConfigValue> values_;
};

// The files every program looks at: /etc/native-orchestrator/<name>.toml and
// $XDG_CONFIG_HOME/native-orchestrator/<name>.toml, weakest first.
std::vector<std::string> config_files(const std::string& name);

// Folders of this installation, found from the running program: <prefix>/bin,
// <prefix>/libexec/native- orchestrator, <prefix>/share/native-orchestrator. The build tree has the
// same layout.
std::string bin_folder();
std::string libexec_folder();
std::string share_folder();

// Where the state of embedded fleets stands: $IW_CFG_STATE_DIR, else
// $XDG_STATE_HOME/native-orchestrator, else ~/.local/state/native-orchestrator.
std::string state_folder();
// <state folder>/fleets/<first 12 hex of sha256(root)>: the embedded fleet of one project root.
struct FleetPaths {
    std::string folder;
    std::string broker_data;   // <folder>/broker
    std::string worker_state;  // <folder>/worker
    std::string endpoint;      // ipc://<folder>/broker.sock
    std::string broker_log;    // <folder>/broker.log
    std::string worker_log;    // <folder>/worker.log
};
FleetPaths fleet_paths(const std::string& root);
// <state folder>/roots/<first 16 hex of sha256(root)>.lock: held by the worker that serves the
// root.
std::string root_lock_file(const std::string& root);

}  // namespace iw::io
