#include <CLI/CLI.hpp>
#include <memory>

#include "common/io/system_clock.h"
#include "ctl/command.h"
#include "ctl/context.h"
#include "ctl/exit_code.h"
#include "ctl/fleet_text.h"
#include "ctl/json.h"
#include "ctl/render.h"

namespace iw::ctl {
namespace {

constexpr const char* kDetails =
    R"(Lists the workers that the broker knows: state (up, unreachable, lost, away), slots in use
and in all, and the agents they offer. Drains, and attempts that the broker does not know,
are told besides.

Examples:
  ictl workers --json | jq -r '.workers[].host'

Exit codes: 0; 64 wrong arguments; 69 no broker; 77 denied.
)";

// What does not fit a table, apart from it.
void tell_more(const Terminal& terminal, const std::vector<WorkerView>& workers) {
    for (const WorkerView& worker : workers) {
        if (worker.drain) terminal.say(hold_line(*worker.drain));
        for (const AttemptRef& attempt : worker.unknown) {
            terminal.say("not known here, but at " + worker.name.str() + ": " +
                         attempt_words(attempt));
        }
    }
}

int run(Context& context, bool json) {
    const Terminal& terminal = context.terminal();
    Result<BrokerClient*> broker = context.broker(Insistence::brief);
    if (!broker) return terminal.fail(broker.error());
    const Result<WorkersReply> reply = (*broker)->call<WorkersReply>(WorkersRequest{});
    if (!reply) return terminal.fail(reply.error());
    terminal.print(json ? workers_json(reply->workers)
                        : worker_table(reply->workers, io::wall_now(), terminal.colour));
    if (!json) tell_more(terminal, reply->workers);
    return kExitOk;
}

Runner declare(CLI::App& app) {
    auto json = std::make_shared<bool>(false);
    app.add_flag("--json", *json, "print JSON");
    return [json](Context& context) { return run(context, *json); };
}

}  // namespace

Command workers_command() {
    return {.name = "workers",
            .group = kGroupFleet,
            .summary = "List the workers and what they offer",
            .details = kDetails,
            .declare = declare};
}

}  // namespace iw::ctl
