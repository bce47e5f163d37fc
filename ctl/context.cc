#include "ctl/context.h"

#include <algorithm>

#include "common/base/ids.h"
#include "common/base/text.h"
#include "common/io/files.h"
#include "ctl/command_line.h"

namespace iw::ctl {
namespace {

constexpr Duration kPatienceDefault{30'000};
constexpr Duration kBriefAbsence{2'000};

std::vector<io::ConfigKey> config_keys() {
    return {{.name = "broker.endpoint",
             .type = io::ConfigType::text,
             .default_value = "",
             .help = "the broker to talk to; empty: the project's embedded fleet"},
            {.name = "worker.state_dir",
             .type = io::ConfigType::path,
             .default_value = "",
             .help = "state folder of this host's worker, for attach; empty: the embedded fleet's"},
            {.name = "client.patience",
             .type = io::ConfigType::duration,
             .default_value = format_duration(kPatienceDefault),
             .help = "how long a broker that does not answer is asked again",
             .min = 100}};
}

Error no_broker() {
    return make_error(ErrorCode::unreachable,
                      "no broker: run `ictl up` in your project, or name one with --broker");
}

}  // namespace

Context::Context(GlobalOptions options, const Terminal& terminal)
    : options_(std::move(options)), terminal_(terminal), host_(io::host_name()) {}

Context::~Context() = default;

SessionId Context::inside_session() const {
    const std::string id = io::environment("IW_SESSION_ID");
    return is_session_id(id) ? SessionId(id) : SessionId();
}

Result<const io::Config*> Context::config() {
    if (!config_) {
        std::map<std::string, std::string> flags;
        if (!options_.broker.empty()) flags["broker.endpoint"] = options_.broker;
        if (!options_.patience.empty()) flags["client.patience"] = options_.patience;
        config_ = io::Config::load(config_keys(), io::config_files("ictl"), options_.config, flags);
    }
    if (!*config_) return config_->error();
    return &**config_;
}

Result<std::optional<Project>> Context::find_project() const {
    if (!options_.project.empty()) {
        const std::string found = workspace::find_project(options_.project);
        if (!found.empty())
            return std::optional(Project{.root = found, .name = workspace::project_name(found)});
        const bool folder = !io::real_path(options_.project).empty();
        if (!folder && is_plain_name(options_.project)) {
            return std::optional(Project{.root = "", .name = options_.project});
        }
        return make_error(ErrorCode::bad_request,
                          "--project " + options_.project + ": " +
                              (folder ? "no folder from there upwards holds scripts/ops; run "
                                        "`ictl init` in the project's root"
                                      : "no such folder, and not a project's name"));
    }
    std::string root = workspace::find_project(io::current_folder());
    // An agent may have changed to anywhere; its session's project is still the one that is meant.
    if (root.empty() && !inside_session().empty()) {
        root = workspace::find_project(io::environment("IW_PROJECT_ROOT"));
    }
    if (root.empty()) return std::optional<Project>();
    return std::optional(Project{.root = root, .name = workspace::project_name(root)});
}

Result<std::optional<Project>> Context::project() {
    if (!project_) project_ = find_project();
    return *project_;
}

Result<Project> Context::require_project() {
    const Result<std::optional<Project>> found = project();
    if (!found) return found.error();
    if (*found && !(*found)->root.empty()) return **found;
    return make_error(ErrorCode::conflict,
                      "not in a project: run `ictl init` in its root, or name it with --project");
}

Result<std::string> Context::find_endpoint() {
    const Result<const io::Config*> settings = config();
    if (!settings) return settings.error();
    if (!options_.broker.empty()) return options_.broker;
    const std::string socket = io::environment("IW_SOCKET");
    if (!inside_session().empty() && !socket.empty()) {
        return socket.starts_with("ipc://") ? socket : "ipc://" + socket;
    }
    const std::string configured = (*settings)->text("broker.endpoint");
    if (!configured.empty()) return configured;
    const Result<std::optional<Project>> found = project();
    if (!found) return found.error();
    if (!*found || (*found)->root.empty()) return no_broker();
    return io::fleet_paths((*found)->root).endpoint;
}

Result<std::string> Context::endpoint() {
    return find_endpoint();
}

bool Context::is_embedded() {
    const Result<std::string> used = endpoint();
    const Result<std::optional<Project>> found = project();
    if (!used || !found || !*found || (*found)->root.empty()) return false;
    return *used == io::fleet_paths((*found)->root).endpoint;
}

Result<BrokerClient*> Context::broker(Insistence insistence) {
    if (broker_) return broker_.get();
    const Result<std::string> found = endpoint();
    if (!found) return found.error();
    const Duration patience = (*config())->duration("client.patience");
    // Who asked for patience gets it, also for a broker that is not there yet.
    const bool asked = (*config())->values().at("client.patience").origin != "default";
    const Duration absence = asked || insistence == Insistence::patient ? patience : kBriefAbsence;
    sockets_ = std::make_unique<io::Context>();
    broker_ = std::make_unique<BrokerClient>(
        *sockets_,
        ClientOptions{.endpoint = *found,
                      .software = software_name(),
                      .patience = patience,
                      .absent_patience = absence,
                      .never_seen_patience = asked ? patience : kBriefAbsence,
                      .notice = [this](const std::string& line) { terminal_.say("ictl: " + line); },
                      .on_absent = on_absent_});
    return broker_.get();
}

std::string Context::worker_state(const std::string& root) {
    const Result<const io::Config*> settings = config();
    const std::string configured = settings ? (*settings)->text("worker.state_dir") : "";
    return configured.empty() ? io::fleet_paths(root).worker_state : configured;
}

}  // namespace iw::ctl
