#include <CLI/CLI.hpp>
#include <memory>

#include "common/base/text.h"
#include "common/io/system_clock.h"
#include "ctl/command.h"
#include "ctl/context.h"
#include "ctl/exit_code.h"
#include "ctl/explaining.h"
#include "ctl/render.h"

namespace iw::ctl {
namespace {

constexpr const char* kDetails =
    R"(Why a session waits, is overdue or ended so: what it comes after, until when it is held
back, the pauses that concern it, and for each worker whether it could run there. A worker
that could may still not be the one that is asked for by --host or --require; the reason
says that.

Examples:
  ictl explain $ID

Exit codes: 0; 4 no such session; 64 wrong arguments; 69 no broker; 77 denied.
)";

struct Options {
    std::string id;
    bool json = false;
};

Result<ExplainInput> gather(BrokerClient& broker, const std::string& id) {
    Result<StatusReply> status = broker.status(id, false);
    if (!status) return status.error();
    ExplainInput input{.session = std::move(status->session)};
    for (const Dependency& dependency : input.session.after) {
        Result<StatusReply> other = broker.status(dependency.id.str(), true);
        if (other) input.dependencies[dependency.id] = std::move(other->session);
        if (!other && other.error().code != ErrorCode::not_found) return other.error();
    }
    Result<WorkersReply> workers = broker.call<WorkersReply>(WorkersRequest{});
    if (!workers) return workers.error();
    input.workers = std::move(workers->workers);
    Result<FleetReply> fleet = broker.call<FleetReply>(FleetRequest{});
    if (!fleet) return fleet.error();
    input.fleet = std::move(*fleet);
    return input;
}

int run(Context& context, const Options& options) {
    const Terminal& terminal = context.terminal();
    if (trim(options.id).empty()) {
        return terminal.fail(kExitUsage,
                             "no session id given; did create fail? see logs/orchestrator.log");
    }
    Result<BrokerClient*> broker = context.broker(Insistence::brief);
    if (!broker) return terminal.fail(broker.error());
    const Result<ExplainInput> input = gather(**broker, options.id);
    if (!input) return terminal.fail(input.error());
    const Explanation found = explain(*input, io::wall_now());
    if (options.json) {
        terminal.print(explanation_json(found));
        return kExitOk;
    }
    terminal.print(printable(found.session.id.str(), true) + "  " + status_words(found.session) +
                   "\n");
    for (const std::string& note : found.notes)
        terminal.print("  " + printable(note, true) + "\n");
    for (const WorkerChance& worker : found.workers)
        terminal.print(chance_line(worker) + "\n");
    return kExitOk;
}

Runner declare(CLI::App& app) {
    auto options = std::make_shared<Options>();
    app.add_option("id", options->id, "the session")->required();
    app.add_flag("--json", options->json, "print JSON");
    return [options](Context& context) { return run(context, *options); };
}

}  // namespace

Command explain_command() {
    return {.name = "explain",
            .group = kGroupSessions,
            .summary = "Say why a session waits, and where it could run",
            .details = kDetails,
            .declare = declare};
}

}  // namespace iw::ctl
