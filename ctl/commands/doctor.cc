#include <sys/stat.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <memory>

#include "common/base/text.h"
#include "common/base/version.h"
#include "common/io/files.h"
#include "common/io/system_clock.h"
#include "common/workspace/workspace.h"
#include "ctl/command.h"
#include "ctl/command_line.h"
#include "ctl/context.h"
#include "ctl/exit_code.h"
#include "ctl/fleet_text.h"
#include "ctl/json.h"
#include "ctl/render.h"

namespace iw::ctl {
namespace {

constexpr const char* kDetails =
    R"(Checks what ictl and the fleet need here: project, folders, tmux, broker, workers, disk,
sockets, backups, state folder, locale. Each line says ok, warn or fail, and what to do.

Exit codes: 0 nothing failed (warnings may stand); 1 something failed.
)";

constexpr int kTmuxMs = 5'000;
constexpr double kTmuxVersionMin = 3.2;
constexpr std::uint64_t kDiskFail = 256ULL << 20;
constexpr std::uint64_t kDiskWarn = 2ULL << 30;

CheckLine ok(const std::string& name, const std::string& text) {
    return {.name = name, .state = "ok", .text = text, .next_step = ""};
}
CheckLine warn(const std::string& name, const std::string& text, const std::string& next) {
    return {.name = name, .state = "warn", .text = text, .next_step = next};
}
CheckLine fail(const std::string& name, const std::string& text, const std::string& next) {
    return {.name = name, .state = "fail", .text = text, .next_step = next};
}

// A message that says itself what to do is taken apart.
CheckLine fail(const std::string& name, const Error& error, const std::string& next) {
    const std::size_t own = error.message.find(": run ");
    if (own == std::string::npos) return fail(name, error.message, next);
    return fail(name, error.message.substr(0, own), error.message.substr(own + 2));
}

std::string megabytes(std::uint64_t bytes) {
    return std::to_string(bytes >> 20) + " MiB";
}

CheckLine check_project(const Result<std::optional<Project>>& project) {
    if (!project) return fail("project", project.error().message, "correct --project");
    if (!*project) {
        return warn("project", "none from here upwards", "run `ictl init` in a project's root");
    }
    const Project& found = **project;
    return ok("project", found.root.empty() ? found.name : found.name + " at " + found.root);
}

// The nearest folder that exists says whether the missing ones below can be made.
CheckLine check_writable(const std::string& name, const std::string& path) {
    std::string folder = path;
    while (!io::exists(folder) && folder != "/")
        folder = io::parent_folder(folder);
    struct stat status {};
    const bool is_folder = ::stat(folder.c_str(), &status) == 0 && S_ISDIR(status.st_mode);
    if (::access(folder.c_str(), is_folder ? W_OK | X_OK : W_OK) == 0) {
        return ok(name, path + " can be written");
    }
    return fail(
        name, folder + " cannot be written",
        "make it writable for " + std::to_string(::getuid()) + ", the user id that you are");
}

CheckLine check_disk(const std::string& name, const std::string& path) {
    std::string folder = path;
    while (!io::exists(folder) && folder != "/")
        folder = io::parent_folder(folder);
    const std::uint64_t free = io::free_bytes(folder);
    const std::string text = megabytes(free) + " free at " + folder;
    if (free < kDiskFail) return fail(name, text, "free some space: sessions would be refused");
    if (free < kDiskWarn) return warn(name, text, "free some space soon");
    return ok(name, text);
}

CheckLine check_tmux() {
    const io::CommandResult result = io::run_command({"tmux", "-V"}, {}, "", 4096, kTmuxMs);
    const std::string words(trim(result.output));
    if (result.exit_code != 0) {
        return fail("tmux", "not found or not working", "install tmux 3.2 or newer");
    }
    // "tmux 3.3a", "tmux next-3.4"
    const std::size_t digit = words.find_first_of("0123456789");
    const double version =
        digit == std::string::npos ? 0 : std::strtod(words.c_str() + digit, nullptr);
    if (version < kTmuxVersionMin) return fail("tmux", words, "install tmux 3.2 or newer");
    return ok("tmux", words);
}

CheckLine check_state_folder() {
    const std::string folder = io::state_folder();
    struct stat status {};
    if (::stat(folder.c_str(), &status) != 0) {
        return ok("state folder", folder + " is not there yet; `ictl up` makes it");
    }
    if (status.st_uid != ::getuid()) {
        return fail("state folder", folder + " belongs to another user",
                    "set IW_CFG_STATE_DIR to a folder of yours");
    }
    if ((status.st_mode & 077) != 0) {
        return fail("state folder", folder + " can be entered by others", "chmod 700 " + folder);
    }
    return ok("state folder", folder);
}

CheckLine check_locale() {
    // The order in which the system looks at them.
    for (const char* variable : {"LC_ALL", "LC_CTYPE", "LANG"}) {
        const std::string value = io::environment(variable);
        if (value.empty()) continue;
        const std::string lower = to_lower(value);
        const bool utf8 =
            lower.find("utf-8") != std::string::npos || lower.find("utf8") != std::string::npos;
        const std::string text = std::string(variable) + "=" + value;
        if (utf8) return ok("locale", text);
        return warn("locale", text + " is not UTF-8", "set LANG=C.UTF-8 to see all characters");
    }
    return warn("locale", "none is set", "set LANG=C.UTF-8 to see all characters");
}

// Programs name themselves as in "iworker 0.1.0".
bool is_our_version(const std::string& software) {
    return software.ends_with(kVersion);
}

std::string worker_words(const WorkerView& worker) {
    const std::string heard =
        worker.heard_at ? ", heard " + format_elapsed(io::wall_now() - *worker.heard_at) + " ago"
                        : ", never heard";
    return worker.name.str() + " on " + worker.host + " is " + worker.state + heard + ", " +
           std::to_string(worker.used) + " of " + std::to_string(worker.slots) + " slots in use";
}

void check_workers(BrokerClient& broker, const std::string& root, std::vector<CheckLine>& lines) {
    const Result<WorkersReply> reply = broker.call<WorkersReply>(WorkersRequest{});
    if (!reply) {
        lines.push_back(fail("workers", reply.error().message, "look at the broker's log"));
        return;
    }
    if (reply->workers.empty()) {
        lines.push_back(fail("workers", "none has registered",
                             "run `ictl up` in the project, or start iworker"));
        return;
    }
    bool of_root = root.empty();
    for (const WorkerView& worker : reply->workers) {
        of_root = of_root || worker.root == root;
        const std::string text = worker_words(worker);
        lines.push_back(worker.state == "up"
                            ? ok("worker", text)
                            : warn("worker", text, "look at its log; `ictl up` starts it again"));
        if (!is_our_version(worker.software)) {
            lines.push_back(warn("worker version", worker.software + " with " + software_name(),
                                 "use one version on all hosts"));
        }
    }
    if (!of_root) {
        lines.push_back(warn("worker", "none is of the project at " + root,
                             "run `ictl up` there, or start its iworker"));
    }
}

CheckLine check_backup(const FleetReply& fleet) {
    constexpr Duration kOld{48LL * 3'600'000};
    if (!fleet.backup_error.empty()) {
        return fail("backup", "the last try failed: " + fleet.backup_error,
                    "put that right, then run `ictl backup`");
    }
    if (!fleet.backup_at) return warn("backup", "there is none", "run `ictl backup`");
    const Duration age = io::wall_now() - *fleet.backup_at;
    const std::string text = format_elapsed(age) + " old, in " + fleet.backup_folder;
    if (age > kOld) {
        return warn("backup", text, "run `ictl backup`; the nightly one is set in broker.toml");
    }
    return ok("backup", text);
}

// Full, they keep sessions from ending: workers wait with what they have to deliver.
CheckLine check_blobs(const FleetReply& fleet) {
    const std::string text = size_text(fleet.blobs_bytes) + " of at most " +
                             size_text(fleet.blobs_max) + " held of sessions that ran elsewhere";
    if (fleet.blobs_bytes < fleet.blobs_max / 10 * 9) return ok("files", text);
    return warn("files", text, "raise broker.blobs_max in broker.toml, and restart the broker");
}

void check_store(BrokerClient& broker, std::vector<CheckLine>& lines) {
    const Result<FleetReply> fleet = broker.call<FleetReply>(FleetRequest{});
    if (!fleet) {
        lines.push_back(fail("store", fleet.error().message, "look at the broker's log"));
        return;
    }
    if (!fleet->read_only.empty()) {
        lines.push_back(fail("store", "read-only: " + fleet->read_only,
                             "see docs/operations.md, \"A store that has lost something\""));
    }
    if (fleet->restored) {
        lines.push_back(warn("restore", "nothing is assigned: " + fleet->restored_why,
                             "run `ictl resume --after-restore` once the workers are back"));
    }
    if (fleet->storage_low) {
        lines.push_back(fail("store", size_text(fleet->disk_free) + " free on the broker's disk",
                             "free some space: submissions are refused"));
    }
    lines.push_back(check_backup(*fleet));
    // A broker of an older version says nothing of them.
    if (fleet->blobs_max > 0) lines.push_back(check_blobs(*fleet));
}

void check_broker(Context& context, const std::string& root, std::vector<CheckLine>& lines) {
    const Result<std::string> endpoint = context.endpoint();
    if (!endpoint) {
        lines.push_back(fail("broker", endpoint.error(), "run `ictl up` in your project"));
        return;
    }
    const Status usable = io::check_endpoint(*endpoint);
    if (!usable) {
        lines.push_back(fail("endpoint", usable.error().message, "set another endpoint"));
        return;
    }
    lines.push_back(ok("endpoint", *endpoint + (context.is_embedded() ? " (embedded fleet)" : "")));
    Result<BrokerClient*> broker = context.broker(Insistence::brief);
    if (!broker) {
        lines.push_back(fail("broker", broker.error().message, "correct the settings"));
        return;
    }
    const Result<WelcomeReply> welcome = (*broker)->welcome();
    if (!welcome) {
        lines.push_back(fail("broker", welcome.error(), "run `ictl up` in your project"));
        return;
    }
    const std::string text = welcome->software + ", protocol " + std::to_string(welcome->protocol) +
                             ", epoch " + welcome->epoch + ", generation " +
                             std::to_string(welcome->generation) + ", seq " +
                             std::to_string(welcome->seq);
    lines.push_back(is_our_version(welcome->software)
                        ? ok("broker", text)
                        : warn("broker", text + "; this is " + software_name(),
                               "use one version: stop the fleet and run `ictl up` again"));
    check_store(**broker, lines);
    check_workers(**broker, root, lines);
}

std::vector<CheckLine> examine(Context& context) {
    std::vector<CheckLine> lines;
    const Result<const io::Config*> config = context.config();
    lines.push_back(config ? ok("settings", "ictl.toml and IW_CFG_* are right")
                           : fail("settings", config.error().message, "correct it"));
    const Result<std::optional<Project>> project = context.project();
    lines.push_back(check_project(project));
    std::string root;
    if (project && *project) root = (*project)->root;
    if (!root.empty()) {
        const workspace::ProjectPaths paths(root);
        lines.push_back(check_writable("sessions", paths.sessions));
        lines.push_back(check_writable("archive", paths.archive));
        lines.push_back(check_writable("log", paths.global_log));
        lines.push_back(check_disk("disk of the project", root));
    }
    lines.push_back(check_tmux());
    lines.push_back(check_state_folder());
    lines.push_back(check_disk("disk of the state", io::state_folder()));
    lines.push_back(check_locale());
    if (config) check_broker(context, root, lines);
    return lines;
}

int run(Context& context, bool json) {
    const Terminal& terminal = context.terminal();
    const std::vector<CheckLine> lines = examine(context);
    const bool failed =
        std::ranges::any_of(lines, [](const CheckLine& line) { return line.state == "fail"; });
    const int code = failed ? kExitFailure : kExitOk;
    if (json) {
        terminal.print(checks_json(lines));
        return code;
    }
    for (const CheckLine& line : lines) {
        const Colour colour = line.state == "ok"     ? Colour::green
                              : line.state == "warn" ? Colour::yellow
                                                     : Colour::red;
        std::string state = line.state;
        state.resize(4, ' ');
        const std::string next = line.next_step.empty() ? "" : "; " + line.next_step;
        terminal.print(paint(state, colour, terminal.colour) + "  " + line.name + ": " +
                       printable(line.text + next, true) + "\n");
    }
    return code;
}

Runner declare(CLI::App& app) {
    auto json = std::make_shared<bool>(false);
    app.add_flag("--json", *json, "print JSON");
    return [json](Context& context) { return run(context, *json); };
}

}  // namespace

Command doctor_command() {
    return {.name = "doctor",
            .group = kGroupFleet,
            .summary = "Check what the fleet needs here",
            .details = kDetails,
            .declare = declare};
}

}  // namespace iw::ctl
