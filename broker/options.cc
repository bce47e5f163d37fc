#include "broker/options.h"

#include <algorithm>
#include <map>
#include <optional>
#include <utility>
#include <vector>

#include "broker/nightly.h"
#include "common/base/text.h"
#include "common/io/config_file.h"
#include "common/io/files.h"
#include "common/io/socket.h"

namespace iw::broker {
namespace {

constexpr std::string_view kIpcPrefix = "ipc://";
constexpr long long kMiB = 1 << 20;

// Ranges are wide enough for tests with short leases; that the durations fit each other is checked
// apart.
std::vector<io::ProgramSetting> settings() {
    using io::ConfigType;
    return {
        {{"broker.endpoint", ConfigType::text, "",
          "where clients and workers connect: ipc:// and an absolute path", 0, 0},
         "--endpoint"},
        {{"broker.data_dir", ConfigType::path, io::state_folder() + "/broker",
          "folder of journal and database", 0, 0},
         "--data-dir"},
        {{"broker.segment_size", ConfigType::integer, std::to_string(limits::kSegmentBytesDefault),
          "bytes of one journal segment", static_cast<long long>(limits::kSegmentBytesMin),
          1024 * kMiB},
         "--segment-size"},
        {{"broker.storage_reserve", ConfigType::integer, std::to_string(256 * kMiB),
          "bytes free below which submissions are refused; 0 never refuses", 0, (1LL << 40)},
         ""},
        {{"broker.blobs_max", ConfigType::integer, std::to_string(20'480 * kMiB),
          "bytes that the files of sessions which ran elsewhere may take", 16 * kMiB, (1LL << 50)},
         ""},
        {{"broker.heartbeat", ConfigType::duration, "10s", "interval of the workers' heartbeats",
          100, 60'000},
         ""},
        {{"broker.unreachable", ConfigType::duration, "45s",
          "silence after which a worker is unreachable", 400, 3'600'000},
         ""},
        {{"broker.lost", ConfigType::duration, "10m",
          "silence after which a worker's sessions are lost", 1'000, 30LL * 24 * 3'600'000},
         ""},
        {{"backup.at", ConfigType::text, "03:00",
          "when the nightly backup is made, local time; empty: never", 0, 0},
         ""},
        {{"backup.keep", ConfigType::integer, "7", "so many backups stay in backup.folder", 1,
          1000},
         ""},
        {{"backup.folder", ConfigType::path, "", "where backups are made; default in data_dir", 0,
          0},
         ""},
        {{"broker.log_level", ConfigType::text, "info", "debug, info, warn or error", 0, 0},
         "--log-level"},
        {{"broker.log_format", ConfigType::text, "text", "text or json", 0, 0}, "--log-format"},
    };
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

std::variant<BrokerOptions, io::Farewell> checked(const io::Config& config) {
    if (const auto wrong = io::check_logging(config, "broker")) return io::wrong_config(*wrong);
    if (config.text("broker.data_dir").empty()) {
        return io::wrong_config(
            "broker.data_dir is empty; name the folder of journal and database");
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
    options.blobs_max = static_cast<std::uint64_t>(config.integer("broker.blobs_max"));
    options.heartbeat = config.duration("broker.heartbeat");
    options.unreachable = config.duration("broker.unreachable");
    options.lost = config.duration("broker.lost");
    options.log_level = config.text("broker.log_level");
    options.log_format = config.text("broker.log_format");
    if (const auto wrong = check_leases(options)) return io::wrong_config(*wrong);
    if (const auto wrong = read_backup(config, options)) return io::wrong_config(*wrong);
    if (const Status endpoint = io::check_endpoint(options.endpoint); !endpoint.ok()) {
        return io::wrong_config("broker.endpoint: " + endpoint.error().message);
    }
    return options;
}

}  // namespace

std::variant<BrokerOptions, io::Farewell> parse_options(int argc, const char* const* argv) {
    std::string restore;
    auto read = io::read_program_options(
        {.name = "ibroker",
         .about = "The broker of a fleet: keeps sessions in a durable queue and hands them to "
                  "workers.",
         .config_name = "broker",
         .settings = settings(),
         .orders = {{"--restore",
                     "put this backup in the place of the store and end; no broker may be running",
                     &restore}}},
        argc, argv);
    if (auto* farewell = std::get_if<io::Farewell>(&read)) return std::move(*farewell);
    const auto& given = *std::get_if<io::ProgramOptions>(&read);
    std::variant<BrokerOptions, io::Farewell> options = checked(given.config);
    auto* right = std::get_if<BrokerOptions>(&options);
    if (right == nullptr) return options;
    if (!restore.empty()) right->restore = io::absolute_path(restore);
    if (!given.check_only) return options;
    return io::config_is_fine();
}

std::string socket_path(const std::string& endpoint) {
    return endpoint.substr(kIpcPrefix.size());
}

}  // namespace iw::broker
