#include <CLI/CLI.hpp>
#include <memory>

#include "ctl/command.h"
#include "ctl/context.h"
#include "ctl/holding.h"
#include "ctl/pausing.h"

namespace iw::ctl {
namespace {

constexpr const char* kDetails =
    R"(Nothing new is started: in the whole fleet, of one project (--project, a root or a name),
or of one agent. Submissions are taken and wait; what runs goes on, and what it hands on
itself is run, too. The pause is kept by the broker until `ictl resume`, or until --for is
over.

Examples:
  ictl pause --reason "licence server down" --for 1h
  ictl pause --project . --reason "rebasing"
  ictl pause --agent claude

Exit codes: 0, also when it was paused already; 64 wrong arguments; 69 no broker; 75 repeat;
77 denied.
)";

struct Options {
    std::string agent;
    HoldOptions hold;
};

int run(Context& context, const Options& options) {
    const Terminal& terminal = context.terminal();
    const Result<HoldRequest> target = pause_target(context, options.agent);
    if (!target) return terminal.fail(target.error());
    const Result<HoldRequest> request = to_hold(options.hold, *target);
    if (!request) return terminal.fail(request.error());
    return hold_and_report(context, {*request}, options.hold.json);
}

Runner declare(CLI::App& app) {
    auto options = std::make_shared<Options>();
    app.add_option("--agent", options->agent, "only sessions of this agent")->type_name("NAME");
    declare_laying(app, options->hold);
    return [options](Context& context) { return run(context, *options); };
}

}  // namespace

Command pause_command() {
    return {.name = "pause",
            .group = kGroupFleet,
            .summary = "Start nothing new in the fleet, a project or of an agent",
            .details = kDetails,
            .declare = declare};
}

}  // namespace iw::ctl
