#include "worker/options.h"

#include <utility>

#include "common/base/text.h"
#include "common/io/config_file.h"
#include "common/io/files.h"
#include "common/io/socket.h"
#include "common/workspace/workspace.h"

namespace iw::worker {
namespace {

constexpr std::uint32_t kSlotsDefault = 5;
constexpr std::size_t kConfigFileMax = 1u << 20;
constexpr long long kMiB = 1 << 20;
constexpr long long kDaysMax = 36'500;

// One list for files, environment and command line.
std::vector<io::ProgramSetting> settings() {
    using io::ConfigType;
    return {
        {{"worker.name", ConfigType::text, "", "name in the fleet; default <host>:<project>", 0, 0},
         "--name"},
        {{"worker.host", ConfigType::text, "", "this host's name; default the system's", 0, 0},
         "--host"},
        {{"worker.root", ConfigType::path, "", "root folder of the project; required", 0, 0},
         "--root"},
        {{"worker.project", ConfigType::text, "", "the project's name in the fleet", 0, 0},
         "--project"},
        {{"worker.state_dir", ConfigType::path, "",
          "folder of attempts, tmux socket and local sockets", 0, 0},
         "--state-dir"},
        {{"worker.broker", ConfigType::text, "", "endpoint of the broker", 0, 0}, "--broker"},
        {{"worker.slots", ConfigType::integer, "0",
          "sessions at a time; 0: as scripts/ops/config.sh says", 0, limits::kSlotsMax},
         "--slots"},
        {{"worker.labels", ConfigType::text, "", "labels for --require, as in gpu=yes,os=debian", 0,
          0},
         "--labels"},
        {{"worker.log_bytes", ConfigType::integer, std::to_string(32 * kMiB),
          "bytes of one session's output.log", 64 << 10, 1024 * kMiB},
         "--log-bytes"},
        {{"worker.compress_days", ConfigType::integer, "30",
          "days after which an archived session is compressed; 0: never", 0, kDaysMax},
         "--compress-days"},
        {{"worker.prune_days", ConfigType::integer, "0",
          "days after which an archived session is removed; 0: never", 0, kDaysMax},
         "--prune-days"},
        {{"worker.archive_bytes", ConfigType::integer, "0",
          "bytes of the archive, above which the oldest are removed; 0: no limit", 0, 0},
         "--archive-bytes"},
        {{"worker.project_log_bytes", ConfigType::integer, std::to_string(10 * kMiB),
          "bytes of logs/orchestrator.log before it is rotated; 0: never", 0, 0},
         "--project-log-bytes"},
        {{"worker.stop_grace", ConfigType::duration, "10s",
          "between SIGTERM and SIGKILL of an agent", 10, 600'000},
         "--stop-grace"},
        {{"worker.log_level", ConfigType::text, "info", "debug, info, warn or error", 0, 0},
         "--log-level"},
        {{"worker.log_format", ConfigType::text, "text", "text or json", 0, 0}, "--log-format"},
    };
}

std::optional<std::string> read_labels(const std::string& text,
                                       std::map<std::string, std::string>& labels) {
    if (trim(text).empty()) return std::nullopt;
    for (const std::string& part : split(text, ',')) {
        const std::string_view pair = trim(part);
        const auto equals = pair.find('=');
        const std::string name(pair.substr(0, equals));
        if (equals == std::string_view::npos || !is_plain_name(name) ||
            pair.size() > limits::kTagBytesMax) {
            return "worker.labels has \"" + printable(pair, true) +
                   "\"; write labels as name=value,name=value";
        }
        labels[name] = std::string(pair.substr(equals + 1));
    }
    return std::nullopt;
}

// Names, from what is set or from host and root.
std::optional<std::string> read_names(const io::Config& config, WorkerOptions& options) {
    options.host = config.text("worker.host");
    if (options.host.empty()) options.host = io::host_name();
    options.project = config.text("worker.project");
    if (options.project.empty()) options.project = workspace::project_name(options.root);
    std::string name = config.text("worker.name");
    if (name.empty()) name = options.host + ":" + options.project;
    options.name = WorkerName(name);
    const std::map<std::string, std::string> names = {
        {"worker.host", options.host}, {"worker.project", options.project}, {"worker.name", name}};
    for (const auto& [key, value] : names) {
        if (is_plain_name(value)) continue;
        return key + " is \"" + printable(value, true) +
               "\"; allowed are 1 to 128 of A-Z a-z 0-9 . _ : @ -, not beginning with . or -";
    }
    return std::nullopt;
}

std::optional<std::string> read_paths(const io::Config& config, WorkerOptions& options) {
    const std::string root = config.text("worker.root");
    if (root.empty()) return "worker.root is not set; name the project's root folder with --root";
    options.root = io::real_path(io::absolute_path(root));
    if (options.root.empty()) return "worker.root " + printable(root, true) + " does not exist";
    const io::FleetPaths fleet = io::fleet_paths(options.root);
    options.state_dir = config.text("worker.state_dir");
    if (options.state_dir.empty()) options.state_dir = fleet.worker_state;
    options.state_dir = io::absolute_path(options.state_dir);
    options.broker = config.text("worker.broker");
    if (options.broker.empty()) options.broker = fleet.endpoint;
    if (const Status endpoint = io::check_endpoint(options.broker); !endpoint.ok()) {
        return "worker.broker: " + endpoint.error().message;
    }
    return std::nullopt;
}

std::variant<WorkerOptions, io::Farewell> checked(const io::Config& config) {
    if (const auto wrong = io::check_logging(config, "worker")) return io::wrong_config(*wrong);
    WorkerOptions options;
    if (const auto wrong = read_paths(config, options)) return io::wrong_config(*wrong);
    if (const auto wrong = read_names(config, options)) return io::wrong_config(*wrong);
    if (const auto wrong = read_labels(config.text("worker.labels"), options.labels))
        return io::wrong_config(*wrong);
    const long long slots = config.integer("worker.slots");
    if (slots > 0) options.slots = static_cast<std::uint32_t>(slots);
    options.log_bytes = static_cast<std::uint64_t>(config.integer("worker.log_bytes"));
    const auto number = [&](const char* key) {
        return static_cast<std::uint64_t>(config.integer(key));
    };
    options.housekeeping = {
        .compress_days = static_cast<std::uint32_t>(number("worker.compress_days")),
        .prune_days = static_cast<std::uint32_t>(number("worker.prune_days")),
        .archive_bytes = number("worker.archive_bytes"),
        .log_bytes = number("worker.project_log_bytes")};
    options.stop_grace = config.duration("worker.stop_grace");
    options.log_level = config.text("worker.log_level");
    options.log_format = config.text("worker.log_format");
    return options;
}

}  // namespace

std::variant<WorkerOptions, io::Farewell> parse_options(int argc, const char* const* argv) {
    auto read = io::read_program_options(
        {.name = "iworker",
         .about =
             "The worker of a project root: runs its sessions in tmux and reports to a broker.",
         .config_name = "worker",
         .settings = settings(),
         .orders = {}},
        argc, argv);
    if (auto* farewell = std::get_if<io::Farewell>(&read)) return std::move(*farewell);
    const auto& given = *std::get_if<io::ProgramOptions>(&read);
    std::variant<WorkerOptions, io::Farewell> options = checked(given.config);
    if (!given.check_only || std::holds_alternative<io::Farewell>(options)) return options;
    return io::config_is_fine();
}

std::uint32_t slots_of_project(const std::string& root) {
    const Result<std::string> text = io::read_file(root + "/scripts/ops/config.sh", kConfigFileMax);
    if (!text) return kSlotsDefault;
    std::uint32_t slots = kSlotsDefault;
    constexpr std::string_view kName = "MAX_CONCURRENT_SESSIONS=";
    // Plain NAME=value, as the shell would read it; the last one counts.
    for (const std::string& line : split(*text, '\n')) {
        std::string_view rest = trim(line);
        if (!rest.starts_with(kName)) continue;
        rest = rest.substr(kName.size());
        rest = trim(rest.substr(0, rest.find('#')));
        long long number = 0;
        if (parse_int(rest, 1, limits::kSlotsMax, number))
            slots = static_cast<std::uint32_t>(number);
    }
    return slots;
}

}  // namespace iw::worker
