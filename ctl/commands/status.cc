#include <CLI/CLI.hpp>
#include <memory>

#include "common/io/system_clock.h"
#include "common/workspace/workspace.h"
#include "ctl/command.h"
#include "ctl/context.h"
#include "ctl/exit_code.h"
#include "ctl/json.h"
#include "ctl/refresh.h"
#include "ctl/render.h"
#include "ctl/tmux_sessions.h"
#include "ctl/waiting.h"

namespace iw::ctl {
namespace {

constexpr const char* kDetails =
    R"(ID is a full session id or a unique beginning of one. --json prints the fields of
state.json, and attempts, timeout, times and dependencies.

Examples:
  ictl status 20251118-153042-grafana-agent
  ictl status 20251118-1530 --json | jq -r .status

Exit codes: 0; 4 no such session; 64 wrong arguments or an ambiguous beginning; 69 no
broker; 77 denied.
)";

struct Options {
    std::string id;
    bool json = false;
    bool brief = false;
};

int run(Context& context, const Options& options) {
    const Terminal& terminal = context.terminal();
    if (options.json && options.brief) {
        return terminal.fail(kExitUsage, "--json and --brief exclude each other; give one");
    }
    Result<BrokerClient*> broker = context.broker(Insistence::brief);
    if (!broker) return terminal.fail(broker.error());
    Result<Resolved> resolved = resolve(**broker, {options.id}, false);
    if (!resolved) return terminal.fail(resolved.error());
    refresh_workspaces(context, resolved->sessions);
    SessionView& session = resolved->sessions.front();
    const WallTime now = io::wall_now();
    const bool active = TmuxSessions(context).active(session);
    if (options.json) {
        terminal.print(details_json({.view = session, .tmux_active = active}, now));
        return kExitOk;
    }
    if (options.brief) {
        terminal.print(session_line(session) + "\n");
        return kExitOk;
    }
    terminal.print(session_details(session, active, now) + session_particulars(session, now));
    return kExitOk;
}

Runner declare(CLI::App& app) {
    auto options = std::make_shared<Options>();
    app.add_option("id", options->id, "the session")->required();
    app.add_flag("--json", options->json, "print JSON");
    app.add_flag("--brief", options->brief, "one line");
    return [options](Context& context) { return run(context, *options); };
}

}  // namespace

Command status_command() {
    return {.name = "status",
            .group = kGroupSessions,
            .summary = "Show one session",
            .details = kDetails,
            .declare = declare};
}

}  // namespace iw::ctl
