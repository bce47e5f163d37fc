#include <CLI/CLI.hpp>
#include <memory>

#include "ctl/command.h"
#include "ctl/context.h"
#include "ctl/holding.h"

namespace iw::ctl {
namespace {

constexpr const char* kDrainDetails =
    R"(A drained worker gets nothing new, except what its running sessions hand on themselves.
What runs there goes on. The drain is kept by the broker, over restarts of everything, until
`ictl undrain`, or until --for is over. The name of a host means all of its workers.

Examples:
  ictl drain hosta --reason "kernel update" --for 2h
  ictl wait $(ictl drain hosta --json | jq -r '.holds[].running[]') && sudo reboot

Exit codes: 0; 4 no such worker or host; 64 wrong arguments; 69 no broker; 75 repeat; 77
denied.
)";
constexpr const char* kUndrainDetails =
    R"(Lifts a drain: the worker takes sessions again. The name of a host means all of its
workers.

Examples:
  ictl undrain hosta

Exit codes: 0, also when it was not drained; 4 no such worker or host; 64 wrong arguments;
69 no broker; 75 repeat; 77 denied.
)";

struct Options {
    std::string name;
    HoldOptions hold;
};

int run(Context& context, const Options& options, bool on) {
    const Terminal& terminal = context.terminal();
    const Result<HoldRequest> form =
        to_hold(options.hold, HoldRequest{.scope = HoldScope::worker, .on = on});
    if (!form) return terminal.fail(form.error());
    const Result<std::vector<WorkerName>> workers = find_workers(context, options.name);
    if (!workers) return terminal.fail(workers.error());
    std::vector<HoldRequest> requests;
    for (const WorkerName& worker : *workers) {
        requests.push_back(*form);
        requests.back().name = worker.str();
    }
    return hold_and_report(context, requests, options.hold.json);
}

Runner declare(CLI::App& app, bool on) {
    auto options = std::make_shared<Options>();
    app.add_option("worker", options->name, "a worker, or a host")->required();
    if (on) {
        declare_laying(app, options->hold);
    } else {
        declare_lifting(app, options->hold);
    }
    return [options, on](Context& context) { return run(context, *options, on); };
}

}  // namespace

Command drain_command() {
    return {.name = "drain",
            .group = kGroupFleet,
            .summary = "Give a worker nothing new; what runs there goes on",
            .details = kDrainDetails,
            .declare = [](CLI::App& app) { return declare(app, true); }};
}

Command undrain_command() {
    return {.name = "undrain",
            .group = kGroupFleet,
            .summary = "Let a drained worker take sessions again",
            .details = kUndrainDetails,
            .declare = [](CLI::App& app) { return declare(app, false); }};
}

}  // namespace iw::ctl
