#include <CLI/CLI.hpp>
#include <memory>

#include "common/io/system_clock.h"
#include "ctl/command.h"
#include "ctl/context.h"
#include "ctl/exit_code.h"
#include "ctl/fleet_json.h"
#include "ctl/fleet_text.h"

namespace iw::ctl {
namespace {

constexpr const char* kDetails =
    R"(The state of the whole: epoch and generation, sessions, workers, pauses and drains, what
a restore holds back, whether the store is read-only, the newest backup, the broker's disk.

Examples:
  ictl fleet
  ictl fleet --json | jq .sessions.queued

Exit codes: 0; 64 wrong arguments; 69 no broker; 77 denied.
)";

int run(Context& context, bool json) {
    const Terminal& terminal = context.terminal();
    Result<BrokerClient*> broker = context.broker(Insistence::brief);
    if (!broker) return terminal.fail(broker.error());
    const Result<FleetReply> fleet = (*broker)->call<FleetReply>(FleetRequest{});
    if (!fleet) return terminal.fail(fleet.error());
    const Result<WorkersReply> workers = (*broker)->call<WorkersReply>(WorkersRequest{});
    if (!workers) return terminal.fail(workers.error());
    terminal.print(json ? fleet_json(*fleet, workers->workers)
                        : fleet_text(*fleet, workers->workers, io::wall_now()));
    return kExitOk;
}

Runner declare(CLI::App& app) {
    auto json = std::make_shared<bool>(false);
    app.add_flag("--json", *json, "print JSON");
    return [json](Context& context) { return run(context, *json); };
}

}  // namespace

Command fleet_command() {
    return {.name = "fleet",
            .group = kGroupFleet,
            .summary = "Show the state of the fleet as a whole",
            .details = kDetails,
            .declare = declare};
}

}  // namespace iw::ctl
