#include <CLI/CLI.hpp>
#include <memory>

#include "ctl/command.h"
#include "ctl/context.h"
#include "ctl/exit_code.h"
#include "ctl/fleet.h"
#include "ctl/json.h"

namespace iw::ctl {
namespace {

struct Options {
    bool json = false;
};

std::string half_line(const char* name, bool started, std::optional<pid_t> pid,
                      const std::string& log) {
    const std::string state = started ? "started" : "was running";
    return std::string(name) + " " + state + " (pid " + std::to_string(pid.value_or(0)) + ", log " +
           log + ")";
}

int run(Context& context, const Options& options) {
    const Terminal& terminal = context.terminal();
    if (!context.inside_session().empty())
        return terminal.fail(kExitFailure, "inside a session the fleet is running already");
    const Result<Project> project = context.require_project();
    if (!project) return terminal.fail(project.error());
    const Result<FleetStart> started = start_fleet(project->root);
    if (!started) return terminal.fail(started.error());

    const io::FleetPaths paths = io::fleet_paths(project->root);
    const FleetState state = look_at_fleet(paths);
    if (options.json) {
        terminal.print(fields_json({{"root", project->root},
                                    {"endpoint", paths.endpoint},
                                    {"broker_pid", std::to_string(state.broker.value_or(0))},
                                    {"worker_pid", std::to_string(state.worker.value_or(0))},
                                    {"broker_log", paths.broker_log},
                                    {"worker_log", paths.worker_log}}));
        return kExitOk;
    }
    terminal.say("fleet of " + project->root + " is ready");
    terminal.say("  " +
                 half_line("ibroker", started->broker_started, state.broker, paths.broker_log));
    terminal.say("  " +
                 half_line("iworker", started->worker_started, state.worker, paths.worker_log));
    return kExitOk;
}

}  // namespace

Command up_command() {
    return {
        .name = "up",
        .group = kGroupFleet,
        .summary = "Start the embedded fleet of this project and wait until it is ready",
        .details =
            "A broker and a worker of this project's own, on sockets in your state folder\n"
            "(IW_CFG_STATE_DIR moves it). What runs already is left alone.\n\n"
            "Exit codes: 0 ready, 69 a half did not come up (its last words are shown).\n\n"
            "Examples:\n  ictl up\n  ictl up --json",
        .declare = [](CLI::App& app) -> Runner {
            auto options = std::make_shared<Options>();
            app.add_flag("--json", options->json, "Print endpoint, pids and logs as JSON");
            return [options](Context& context) { return run(context, *options); };
        },
    };
}

}  // namespace iw::ctl
