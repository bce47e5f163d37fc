#include <CLI/CLI.hpp>
#include <algorithm>
#include <memory>

#include "common/io/files.h"
#include "common/io/system_clock.h"
#include "common/workspace/workspace.h"
#include "ctl/command.h"
#include "ctl/context.h"
#include "ctl/exit_code.h"
#include "ctl/filters.h"
#include "ctl/json.h"
#include "ctl/refresh.h"
#include "ctl/render.h"
#include "ctl/tmux_sessions.h"

namespace iw::ctl {
namespace {

constexpr const char* kDetails =
    R"(Lists the project's sessions, oldest first; without a project everybody's. Those that ended
and whose workspace was moved away are left out unless --all is given. The last column is
the host of what runs, or why a session waits or how it ended. What runs past its
estimate is marked (overdue) there. --json prints {"sessions": [...], "overdue": [ids],
"seq": N}; seq is a cursor for events.

Examples:
  ictl list
  ictl list --status FAILED,KILLED --all
  ictl list --agent claude --tag nightly --json

Exit codes: 0; 64 wrong arguments; 69 no broker; 77 denied.
)";

struct Options {
    SessionFilter filter;
    bool json = false;
};

// Whether its files are where a new session has them.
bool stands(const Context& context, const SessionView& session) {
    if (!is_final(session.status) || session.origin.empty()) return true;
    if (session.origin.host != context.host()) return true;
    return io::exists(workspace::ProjectPaths(session.origin.root).workspace(session.id));
}

int run(Context& context, const Options& options) {
    const Terminal& terminal = context.terminal();
    const Result<ListRequest> request = to_request(context, options.filter);
    if (!request) return terminal.fail(request.error());
    Result<BrokerClient*> broker = context.broker(Insistence::brief);
    if (!broker) return terminal.fail(broker.error());
    Result<Listing> listing = (*broker)->list(*request);
    if (!listing) return terminal.fail(listing.error());
    std::vector<SessionView>& sessions = listing->sessions;
    if (!options.filter.all) {
        std::erase_if(sessions, [&](const SessionView& view) { return !stands(context, view); });
    }
    refresh_workspaces(context, sessions);
    // One whose files are still coming shows as running.
    std::erase_if(sessions, [&](const SessionView& view) {
        return !request->status.empty() &&
               std::ranges::find(request->status, view.status) == request->status.end();
    });
    const WallTime now = io::wall_now();
    if (!options.json) {
        terminal.print(session_table(sessions, now, {.place = true, .colours = terminal.colour}));
        return kExitOk;
    }
    TmuxSessions tmux(context);
    std::vector<SeenSession> seen;
    for (SessionView& view : sessions) {
        const bool active = tmux.active(view);
        seen.push_back({.view = std::move(view), .tmux_active = active});
    }
    terminal.print(list_json(seen, listing->seq, now));
    return kExitOk;
}

Runner declare(CLI::App& app) {
    auto options = std::make_shared<Options>();
    declare_filter(app, options->filter, "also those whose workspace was moved away");
    app.add_flag("--json", options->json, "print JSON");
    return [options](Context& context) { return run(context, *options); };
}

}  // namespace

Command list_command() {
    return {.name = "list",
            .group = kGroupSessions,
            .summary = "List sessions",
            .details = kDetails,
            .declare = declare};
}

}  // namespace iw::ctl
