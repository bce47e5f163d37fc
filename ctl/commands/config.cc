#include <CLI/CLI.hpp>
#include <memory>

#include "common/io/files.h"
#include "ctl/command.h"
#include "ctl/context.h"
#include "ctl/exit_code.h"
#include "ctl/json.h"
#include "ctl/render.h"

namespace iw::ctl {
namespace {

constexpr const char* kDetails =
    R"(`show` prints the settings of ictl as they hold now, with --origin also where each comes
from: a flag, the environment (IW_CFG_...), ~/.config/native-orchestrator/ictl.toml, the
same below /etc, or the default. `check` reads them all and says whether they are right.

Examples:
  ictl config show --origin
  ictl config check --config new.toml

Exit codes: 0; 64 a file or a value is wrong (named with what is allowed).
)";

struct Options {
    bool origin = false;
    bool json = false;
};

int show(Context& context, const Options& options) {
    const Terminal& terminal = context.terminal();
    const Result<const io::Config*> config = context.config();
    if (!config) return terminal.fail(config.error());
    if (options.json) {
        terminal.print(config_json((*config)->values(), options.origin));
        return kExitOk;
    }
    std::vector<std::vector<Cell>> rows;
    for (const io::ConfigKey& key : (*config)->keys()) {
        const io::ConfigValue& value = (*config)->values().at(key.name);
        rows.push_back({{key.name}, {value.value}});
        if (options.origin) rows.back().push_back({value.origin});
    }
    terminal.print(table(rows, terminal.colour));
    return kExitOk;
}

int check(Context& context) {
    const Terminal& terminal = context.terminal();
    const Result<const io::Config*> config = context.config();
    if (!config) return terminal.fail(config.error());
    std::vector<std::string> files = io::config_files("ictl");
    if (!context.options().config.empty()) files.push_back(context.options().config);
    for (const std::string& file : files) {
        terminal.print(file + (io::exists(file) ? ": ok\n" : ": not there, which is fine\n"));
    }
    const Result<std::string> endpoint = context.endpoint();
    if (!endpoint) {
        terminal.print("endpoint: none yet\n");
        return kExitOk;
    }
    const Status usable = io::check_endpoint(*endpoint);
    if (!usable) return terminal.fail(usable.error());
    terminal.print("endpoint: " + *endpoint + "\n");
    return kExitOk;
}

Runner declare(CLI::App& app) {
    auto options = std::make_shared<Options>();
    CLI::App* showing = app.add_subcommand("show", "print the settings");
    showing->add_flag("--origin", options->origin, "with where each comes from");
    showing->add_flag("--json", options->json, "print JSON");
    CLI::App* checking = app.add_subcommand("check", "say whether they are right");
    // Global options may stand behind the inner command too.
    showing->fallthrough();
    checking->fallthrough();
    app.require_subcommand(1);
    return [options, checking](Context& context) {
        return checking->parsed() ? check(context) : show(context, *options);
    };
}

}  // namespace

Command config_command() {
    return {.name = "config",
            .group = kGroupSelf,
            .summary = "Show or check the settings of ictl",
            .details = kDetails,
            .declare = declare};
}

}  // namespace iw::ctl
