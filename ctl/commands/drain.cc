#include <CLI/CLI.hpp>
#include <memory>

#include "ctl/command.h"
#include "ctl/context.h"
#include "ctl/holding.h"

namespace iw::ctl {
namespace {

constexpr const char* kDetails =
    R"(A drained worker gets nothing new, except what its running sessions hand on themselves.
What runs there goes on. The drain is kept by the broker, over restarts of everything, until
`ictl undrain`, or until --for is over. The name of a host means all of its workers.

Examples:
  ictl drain hosta --reason "kernel update" --for 2h
  ictl wait $(ictl drain hosta --json | jq -r '.holds[].running[]') && sudo reboot

Exit codes: 0; 4 no such worker or host; 64 wrong arguments; 69 no broker; 75 repeat; 77
denied.
)";

Runner declare(CLI::App& app) {
    auto options = std::make_shared<WorkerHold>();
    app.add_option("worker", options->name, "a worker, or a host")->required();
    declare_laying(app, options->hold);
    return [options](Context& context) { return hold_workers(context, *options, true); };
}

}  // namespace

Command drain_command() {
    return {.name = "drain",
            .group = kGroupFleet,
            .summary = "Give a worker nothing new; what runs there goes on",
            .details = kDetails,
            .declare = declare};
}

}  // namespace iw::ctl
