#include <CLI/CLI.hpp>
#include <memory>

#include "common/base/text.h"
#include "common/io/files.h"
#include "ctl/command.h"
#include "ctl/context.h"
#include "ctl/exit_code.h"
#include "ctl/fleet.h"
#include "ctl/json.h"

namespace iw::ctl {
namespace {

constexpr const char* kDetails =
    R"(Puts a backup in the place of the broker's store. No broker may be running (`ictl down`);
agents may. The former store is moved aside, not deleted; what its journal holds beyond the
backup is brought back where that is possible. Afterwards a new epoch begins, in which
nothing is assigned until `ictl resume --after-restore`, so that nothing runs twice.

Without --data-dir the store is the one of the project's embedded fleet, or where another
broker is configured the one of broker.toml.

Examples:
  ictl down && ictl restore /mnt/backups/20251118-030000 && ictl up && ictl fleet

Exit codes: 0; 1 a broker runs, answered no, or it could not be restored; 64 wrong arguments,
no terminal to ask on; 65 the backup is damaged or none.
)";
constexpr std::size_t kOutputMax = 1u << 20;
constexpr int kRestoreMs = 24 * 3'600'000;

struct Options {
    std::string folder;
    std::string data_dir;
    bool force = false;
    bool json = false;
};

// ibroker as it would serve this store, or an error that says why that is not known.
Result<std::vector<std::string>> broker_command(Context& context, const Options& options) {
    if (!options.data_dir.empty()) {
        return std::vector<std::string>{io::bin_folder() + "/ibroker", "--data-dir",
                                        io::absolute_path(options.data_dir)};
    }
    const Result<std::string> endpoint = context.endpoint();
    if (!endpoint) return endpoint.error();
    if (!context.is_embedded()) return std::vector<std::string>{io::bin_folder() + "/ibroker"};
    const Result<Project> project = context.require_project();
    if (!project) return project.error();
    return embedded_broker_command(io::fleet_paths(project->root));
}

int report(const Terminal& terminal, const Options& options, const io::CommandResult& result) {
    constexpr int kBusy = 75;
    const std::string errors(trim(result.errors));
    if (result.exit_code == kBusy) {
        return terminal.fail(kExitFailure, "a broker is running: end it first (`ictl down`); " +
                                               printable(errors, true));
    }
    if (result.exit_code != kExitOk) {
        return terminal.fail(result.exit_code == kExitData ? kExitData : kExitFailure,
                             printable(errors, true));
    }
    if (options.json) {
        terminal.print(fields_json(
            {{"restored", options.folder}, {"report", std::string(trim(result.output))}}));
        return kExitOk;
    }
    terminal.print(printable(result.output, false));
    terminal.say(
        "start the broker (`ictl up`); nothing is assigned until `ictl resume "
        "--after-restore`");
    return kExitOk;
}

int run(Context& context, const Options& options) {
    const Terminal& terminal = context.terminal();
    if (!context.inside_session().empty())
        return terminal.fail(kExitFailure, "a session cannot restore the store that it is in");
    Result<std::vector<std::string>> command = broker_command(context, options);
    if (!command) return terminal.fail(command.error());
    if (!options.force && !terminal.in_is_terminal)
        return terminal.fail(kExitUsage, "no terminal to ask on; give --force");
    if (!options.force && !terminal.confirm("Put the backup " + printable(options.folder, true) +
                                            " in the place of the broker's store?")) {
        return terminal.fail(kExitFailure, "nothing was changed");
    }
    command->push_back("--restore");
    command->push_back(io::absolute_path(options.folder));
    return report(terminal, options, io::run_command(*command, {}, "", kOutputMax, kRestoreMs));
}

Runner declare(CLI::App& app) {
    auto options = std::make_shared<Options>();
    app.add_option("folder", options->folder, "of the backup, as `ictl backup` printed it")
        ->required();
    app.add_option("--data-dir", options->data_dir, "folder of the broker's store")
        ->type_name("FOLDER");
    app.add_flag("--force", options->force, "do not ask");
    app.add_flag("--json", options->json, "print JSON");
    return [options](Context& context) { return run(context, *options); };
}

}  // namespace

Command restore_command() {
    return {.name = "restore",
            .group = kGroupFleet,
            .summary = "Put a backup in the place of the broker's store",
            .details = kDetails,
            .declare = declare};
}

}  // namespace iw::ctl
