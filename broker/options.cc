#include "broker/options.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <map>
#include <optional>
#include <utility>
#include <vector>

#include "broker/exit_codes.h"
#include "broker/nightly.h"
#include "common/base/text.h"
#include "common/base/version.h"
#include "common/io/config_file.h"
#include "common/io/files.h"
#include "common/io/socket.h"

namespace iw::broker {
namespace {

constexpr std::string_view kIpcPrefix = "ipc://";
constexpr long long kMiB = 1 << 20;

struct Flags {
    std::string config_file;
    std::map<std::string, std::string> values;  // of configuration keys
    std::string restore;
    bool check_only = false;
};

Farewell wrong_config(const std::string& message) {
    return Farewell{.exit_code = kExitConfig, .output = {}, .error = message};
}

// Ranges are wide enough for tests with short leases; that the durations fit each other is checked
// apart.
std::vector<io::ConfigKey> config_keys() {
    using io::ConfigType;
    return {
        {"broker.endpoint", ConfigType::text, "",
         "where clients and workers connect: ipc:// and an absolute path", 0, 0},
        {"broker.data_dir", ConfigType::path, io::state_folder() + "/broker",
         "folder of journal and database", 0, 0},
        {"broker.segment_size", ConfigType::integer, std::to_string(limits::kSegmentBytesDefault),
         "bytes of one journal segment", static_cast<long long>(limits::kSegmentBytesMin),
         1024 * kMiB},
        {"broker.storage_reserve", ConfigType::integer, std::to_string(256 * kMiB),
         "bytes free below which submissions are refused; 0 never refuses", 0, (1LL << 40)},
        {"broker.heartbeat", ConfigType::duration, "10s", "interval of the workers' heartbeats",
         100, 60'000},
        {"broker.unreachable", ConfigType::duration, "45s",
         "silence after which a worker is unreachable", 400, 3'600'000},
        {"broker.lost", ConfigType::duration, "10m",
         "silence after which a worker's sessions are lost", 1'000, 30LL * 24 * 3'600'000},
        {"backup.at", ConfigType::text, "03:00",
         "when the nightly backup is made, local time; empty: never", 0, 0},
        {"backup.keep", ConfigType::integer, "7", "so many backups stay in backup.folder", 1, 1000},
        {"backup.folder", ConfigType::path, "", "where backups are made; default in data_dir", 0,
         0},
        {"broker.log_level", ConfigType::text, "info", "debug, info, warn or error", 0, 0},
        {"broker.log_format", ConfigType::text, "text", "text or json", 0, 0},
    };
}

std::variant<Flags, Farewell> read_flags(int argc, const char* const* argv) {
    CLI::App app(
        "The broker of a fleet: keeps sessions in a durable queue and hands them to workers.",
        "ibroker");
    Flags flags;
    std::optional<std::string> endpoint, data_dir, segment_size, log_level, log_format;
    bool version = false;
    app.add_option("--config", flags.config_file,
                   "configuration file, instead of the standard ones");
    app.add_option("--data-dir", data_dir, "folder of journal and database");
    app.add_option("--endpoint", endpoint,
                   "where clients and workers connect: ipc:// and an absolute path");
    app.add_option("--segment-size", segment_size, "bytes of one journal segment");
    app.add_option("--log-level", log_level, "debug, info, warn or error");
    app.add_option("--log-format", log_format, "text or json");
    app.add_option("--restore", flags.restore,
                   "put this backup in the place of the store and end; no broker may be running");
    app.add_flag("--check-config", flags.check_only, "check the configuration and end");
    app.add_flag("--version", version, "print the version and end");
    try {
        app.parse(argc, argv);
    } catch (const CLI::CallForHelp&) {
        return Farewell{.exit_code = kExitOk, .output = app.help(), .error = {}};
    } catch (const CLI::ParseError& wrong) {
        const std::string what = printable(wrong.what(), true);
        return Farewell{
            .exit_code = kExitUsage, .output = {}, .error = what + "; see ibroker --help"};
    }
    if (version) {
        return Farewell{
            .exit_code = kExitOk, .output = "ibroker " + std::string(kVersion) + "\n", .error = {}};
    }
    const auto set = [&flags](const char* key, const std::optional<std::string>& value) {
        if (value) flags.values[key] = *value;
    };
    set("broker.endpoint", endpoint);
    set("broker.data_dir", data_dir);
    set("broker.segment_size", segment_size);
    set("broker.log_level", log_level);
    set("broker.log_format", log_format);
    return flags;
}

std::optional<std::string> check_word(const io::Config& config, const std::string& key,
                                      const std::vector<std::string>& words) {
    const std::string value = config.text(key);
    for (const std::string& word : words) {
        if (value == word) return std::nullopt;
    }
    const std::string origin = config.values().at(key).origin;
    return key + " (" + origin + ") is \"" + printable(value, true) + "\"; allowed are " +
           join(words, ", ");
}

// Silence may only be judged after several heartbeats had their chance, and loss only well after
// that.
std::optional<std::string> check_leases(const BrokerOptions& options) {
    if (options.heartbeat * 3 >= options.unreachable) {
        return "broker.unreachable (" + format_duration(options.unreachable) +
               ") must be more than three times broker.heartbeat (" +
               format_duration(options.heartbeat) + ")";
    }
    if (options.unreachable * 2 >= options.lost) {
        return "broker.lost (" + format_duration(options.lost) +
               ") must be more than twice broker.unreachable (" +
               format_duration(options.unreachable) + ")";
    }
    return std::nullopt;
}

std::optional<std::string> read_backup(const io::Config& config, BrokerOptions& options) {
    const std::string at = config.text("backup.at");
    options.backup_at = parse_time_of_day(at);
    if (!at.empty() && !options.backup_at) {
        return "backup.at (" + config.values().at("backup.at").origin + ") is \"" +
               printable(at, true) + "\"; give a time of the day as 03:00, or nothing for never";
    }
    options.backup_keep = static_cast<std::size_t>(config.integer("backup.keep"));
    options.backup_folder = config.text("backup.folder");
    if (options.backup_folder.empty()) options.backup_folder = options.data_dir + "/backups";
    options.backup_folder = io::absolute_path(options.backup_folder);
    return std::nullopt;
}

// Results are still taken when submissions no longer are: the journal must be able to go on to its
// next segment, and to the one after it while the database catches up.
std::uint64_t enough_reserve(std::uint64_t configured, std::size_t segment_bytes) {
    if (configured == 0) return 0;
    return std::max<std::uint64_t>(configured, 2 * segment_bytes);
}

// Segments are written in whole pages.
std::size_t rounded_up(long long bytes) {
    constexpr std::size_t kPage = 4096;
    return (static_cast<std::size_t>(bytes) + kPage - 1) / kPage * kPage;
}

std::variant<BrokerOptions, Farewell> checked(const io::Config& config) {
    if (const auto wrong =
            check_word(config, "broker.log_level", {"debug", "info", "warn", "error"})) {
        return wrong_config(*wrong);
    }
    if (const auto wrong = check_word(config, "broker.log_format", {"text", "json"})) {
        return wrong_config(*wrong);
    }
    if (config.text("broker.data_dir").empty()) {
        return wrong_config("broker.data_dir is empty; name the folder of journal and database");
    }
    BrokerOptions options;
    options.data_dir = io::absolute_path(config.text("broker.data_dir"));
    options.endpoint = config.text("broker.endpoint");
    if (options.endpoint.empty())
        options.endpoint = std::string(kIpcPrefix) + options.data_dir + "/broker.sock";
    options.segment_bytes = rounded_up(config.integer("broker.segment_size"));
    options.storage_reserve =
        enough_reserve(static_cast<std::uint64_t>(config.integer("broker.storage_reserve")),
                       options.segment_bytes);
    options.heartbeat = config.duration("broker.heartbeat");
    options.unreachable = config.duration("broker.unreachable");
    options.lost = config.duration("broker.lost");
    options.log_level = config.text("broker.log_level");
    options.log_format = config.text("broker.log_format");
    if (const auto wrong = check_leases(options)) return wrong_config(*wrong);
    if (const auto wrong = read_backup(config, options)) return wrong_config(*wrong);
    if (const Status endpoint = io::check_endpoint(options.endpoint); !endpoint.ok()) {
        return wrong_config("broker.endpoint: " + endpoint.error().message);
    }
    return options;
}

}  // namespace

std::variant<BrokerOptions, Farewell> parse_options(int argc, const char* const* argv) {
    std::variant<Flags, Farewell> read = read_flags(argc, argv);
    if (auto* farewell = std::get_if<Farewell>(&read)) return std::move(*farewell);
    const Flags& flags = *std::get_if<Flags>(&read);

    // A file named by hand stands alone, so that what it says does not depend on the machine.
    const std::vector<std::string> files =
        flags.config_file.empty() ? io::config_files("broker") : std::vector<std::string>{};
    Result<io::Config> config =
        io::Config::load(config_keys(), files, flags.config_file, flags.values);
    if (!config.ok()) return wrong_config(config.error().message);

    std::variant<BrokerOptions, Farewell> options = checked(*config);
    if (auto* read_options = std::get_if<BrokerOptions>(&options); read_options != nullptr) {
        if (!flags.restore.empty()) read_options->restore = io::absolute_path(flags.restore);
    }
    if (!flags.check_only || std::holds_alternative<Farewell>(options)) return options;
    return Farewell{.exit_code = kExitOk, .output = "configuration is fine\n", .error = {}};
}

std::string socket_path(const std::string& endpoint) {
    return endpoint.substr(kIpcPrefix.size());
}

}  // namespace iw::broker
