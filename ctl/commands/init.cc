#include <CLI/CLI.hpp>
#include <array>
#include <memory>

#include "common/base/text.h"
#include "common/io/config_file.h"
#include "common/io/files.h"
#include "common/workspace/workspace.h"
#include "ctl/command.h"
#include "ctl/context.h"
#include "ctl/exit_code.h"
#include "ctl/json.h"

namespace iw::ctl {
namespace {

constexpr std::size_t kTemplateMax = 1u << 20;

struct Options {
    std::string folder;
    std::string name;
    bool json = false;
};

struct Made {
    std::vector<std::string> files;
};

// Writes a file of the project unless it is there.
Status put(const std::string& path, std::string_view bytes, mode_t mode, Made& made) {
    Status written = io::write_file_new(path, bytes, mode, io::Sync::none);
    if (written.ok()) made.files.push_back(path);
    if (!written.ok() && written.error().code == ErrorCode::conflict) return Done{};
    return written;
}

// scripts/ops/ as this installation ships it.
Status put_scripts(const std::string& ops, Made& made) {
    const std::string source = io::share_folder() + "/ops";
    const std::vector<std::string> names = io::list_folder(source);
    if (names.empty()) {
        return make_error(ErrorCode::io,
                          "this installation has no scripts in " + source + "; install it again");
    }
    for (const std::string& name : names) {
        const Result<std::string> text = io::read_file(source + "/" + name, kTemplateMax);
        if (!text) return text.error();
        const bool runs = name.ends_with(".sh") && text->starts_with("#!");
        if (Status status = put(ops + "/" + name, *text, runs ? 0755 : 0644, made); !status)
            return status;
    }
    return Done{};
}

Status put_project(const std::string& root, const Options& options, Made& made) {
    const std::string ops = root + "/scripts/ops";
    for (const std::string& folder : {ops, root + "/agents"}) {
        if (Status status = io::make_folders(folder, 0755); !status) return status;
    }
    if (Status status = put_scripts(ops, made); !status) return status;
    const std::string name =
        options.name.empty() ? workspace::plain_project_name(io::base_name(root)) : options.name;
    if (Status status = put(ops + "/project-name", name + "\n", 0644, made); !status) return status;
    if (Status status = put(ops + "/.gitignore", ".ictl-path\n", 0644, made); !status)
        return status;
    // Ours alone, and true for this machine only: refreshed at each call.
    const std::string self = io::bin_folder() + "/ictl\n";
    if (Status status = io::write_file(ops + "/.ictl-path", self, 0644, io::Sync::none); !status)
        return status;
    return workspace::prepare_project(workspace::ProjectPaths(root));
}

int run(Context& context, const Options& options) {
    const Terminal& terminal = context.terminal();
    if (!options.name.empty() && !is_plain_name(options.name)) {
        return terminal.fail(kExitUsage, "bad project name \"" + printable(options.name, true) +
                                             "\"; give 1-128 of A-Z a-z 0-9 . _ : @ -");
    }
    const std::string folder = options.folder.empty() ? io::current_folder() : options.folder;
    if (Status made = io::make_folders(folder, 0755); !made) return terminal.fail(made.error());
    const std::string root = io::real_path(folder);
    Made made;
    if (Status status = put_project(root, options, made); !status)
        return terminal.fail(status.error());
    if (options.json) {
        terminal.print(made_json(root, made.files));
        return kExitOk;
    }
    for (const std::string& file : made.files)
        terminal.say("made " + file.substr(root.size() + 1));
    terminal.say(made.files.empty() ? root + " was a project already; nothing was overwritten"
                                    : "project " + root +
                                          " is ready: put agents into agents/, then "
                                          "`ictl up`");
    return kExitOk;
}

}  // namespace

Command init_command() {
    return {
        .name = "init",
        .group = kGroupProject,
        .summary = "Make a folder a project: scripts/ops/, agents/, the folders of its sessions",
        .details =
            "Overwrites nothing, so it may be run again at any time.\n\n"
            "Exit codes: 0 done, 64 bad name, 2 a file could not be written.\n\n"
            "Examples:\n  ictl init\n  ictl init ~/work/site --name site",
        .declare = [](CLI::App& app) -> Runner {
            auto options = std::make_shared<Options>();
            app.add_option("folder", options->folder, "The project's root (default: here)");
            app.add_option("--name", options->name,
                           "The project's name in a fleet (default: the folder's name)");
            app.add_flag("--json", options->json, "Print the root and the files made as JSON");
            return [options](Context& context) { return run(context, *options); };
        },
    };
}

}  // namespace iw::ctl
