#include <CLI/CLI.hpp>
#include <algorithm>
#include <memory>

#include "ctl/command.h"
#include "ctl/context.h"
#include "ctl/exit_code.h"
#include "ctl/fleet.h"
#include "ctl/json.h"
#include "ctl/waiting.h"

namespace iw::ctl {
namespace {

constexpr Duration kKillWait{60'000};

struct Options {
    bool kill = false;
    bool json = false;
};

bool all_final(const std::vector<SessionView>& sessions) {
    return count_final(sessions) == sessions.size();
}

Result<std::vector<std::string>> unfinished(BrokerClient& broker, const std::string& root) {
    ListRequest request;
    request.root = root;
    request.status = {SessionStatus::created, SessionStatus::running};
    const Result<Listing> listing = broker.list(request);
    if (!listing) return listing.error();
    std::vector<std::string> ids;
    for (const SessionView& session : listing->sessions)
        ids.push_back(session.id.str());
    return ids;
}

// Kills every unfinished session of the root and waits for their ends.
Status kill_all(Context& context, const std::string& root) {
    Result<BrokerClient*> broker = context.broker(Insistence::brief);
    if (!broker) return broker.error();
    const Result<std::vector<std::string>> ids = unfinished(**broker, root);
    if (!ids) return ids.error();
    if (ids->empty()) return Done{};
    context.terminal().say("killing " + std::to_string(ids->size()) + " sessions");
    for (const std::string& id : *ids) {
        KillRequest request{.id = id, .reason = "ictl down --kill", .exact = true};
        const Result<KillReply> killed = (*broker)->call<KillReply>(request);
        if (!killed) return killed.error();
    }
    const Result<Resolved> resolved = resolve(**broker, *ids, /*exact=*/true);
    if (!resolved) return resolved.error();
    const Result<Watched> watched =
        watch(**broker, *resolved, {.timeout = kKillWait, .until = all_final, .on_change = {}});
    if (!watched) return watched.error();
    if (!watched->timed_out) return Done{};
    const std::size_t left = watched->sessions.size() - count_final(watched->sessions);
    return make_error(ErrorCode::unreachable, std::to_string(left) +
                                                  " sessions have not ended after 60 s; the fleet "
                                                  "stays up, see `ictl list`");
}

int run(Context& context, const Options& options) {
    const Terminal& terminal = context.terminal();
    if (!context.inside_session().empty())
        return terminal.fail(kExitFailure, "a session cannot end the fleet that runs it");
    const Result<Project> project = context.require_project();
    if (!project) return terminal.fail(project.error());
    const FleetState before = look_at_fleet(io::fleet_paths(project->root));
    if (options.kill && before.broker) {
        if (Status killed = kill_all(context, project->root); !killed)
            return terminal.fail(killed.error());
    }
    if (Status stopped = stop_fleet(project->root); !stopped) return terminal.fail(stopped.error());
    const bool was_up = before.broker || before.worker;
    if (options.json) {
        terminal.print(
            fields_json({{"root", project->root}, {"was_up", was_up ? "true" : "false"}}));
        return kExitOk;
    }
    terminal.say(was_up ? "fleet of " + project->root + " is down"
                        : "no fleet of " + project->root + " was running");
    if (was_up && !options.kill) terminal.say("running agents go on; `ictl up` adopts them again");
    return kExitOk;
}

}  // namespace

Command down_command() {
    return {
        .name = "down",
        .group = kGroupFleet,
        .summary = "End the embedded fleet of this project; agents that run go on",
        .details =
            "Sessions stay queued or running; `ictl up` takes up where this stopped. With\n"
            "--kill every unfinished session of the project is killed first.\n\n"
            "Exit codes: 0 down, 69 something did not end in time.\n\n"
            "Examples:\n  ictl down\n  ictl down --kill",
        .declare = [](CLI::App& app) -> Runner {
            auto options = std::make_shared<Options>();
            app.add_flag("--kill", options->kill, "Kill the project's unfinished sessions first");
            app.add_flag("--json", options->json, "Print root and whether a fleet ran as JSON");
            return [options](Context& context) { return run(context, *options); };
        },
    };
}

}  // namespace iw::ctl
