#include <CLI/CLI.hpp>
#include <memory>

#include "ctl/command.h"
#include "ctl/context.h"
#include "ctl/holding.h"

namespace iw::ctl {
namespace {

constexpr const char* kDetails =
    R"(Lifts a drain: the worker takes sessions again. The name of a host means all of its
workers.

Examples:
  ictl undrain hosta

Exit codes: 0, also when it was not drained; 4 no such worker or host; 64 wrong arguments;
69 no broker; 75 repeat; 77 denied.
)";

Runner declare(CLI::App& app) {
    auto options = std::make_shared<WorkerHold>();
    app.add_option("worker", options->name, "a worker, or a host")->required();
    declare_lifting(app, options->hold);
    return [options](Context& context) { return hold_workers(context, *options, false); };
}

}  // namespace

Command undrain_command() {
    return {.name = "undrain",
            .group = kGroupFleet,
            .summary = "Let a drained worker take sessions again",
            .details = kDetails,
            .declare = declare};
}

}  // namespace iw::ctl
