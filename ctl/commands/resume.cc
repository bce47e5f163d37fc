#include <CLI/CLI.hpp>
#include <memory>

#include "common/base/text.h"
#include "ctl/command.h"
#include "ctl/context.h"
#include "ctl/exit_code.h"
#include "ctl/fleet_text.h"
#include "ctl/holding.h"
#include "ctl/json.h"
#include "ctl/pausing.h"

namespace iw::ctl {
namespace {

constexpr const char* kDetails =
    R"(Lifts a pause; --project and --agent as for `ictl pause`.

--after-restore lets go what a restore holds back. It shows which workers have not been
heard since, and what runs although the restored state does not know it; while a worker is
unheard it refuses, because what that one ran could run again. --force goes on all the same.
--accept-loss ends the read-only state of a broker whose store has lost records: a new epoch
begins, which holds as after a restore. It asks first; without a terminal --force is needed.

Examples:
  ictl resume --agent claude
  ictl resume --after-restore
  ictl resume --accept-loss --reason "the old disk is gone" && ictl fleet

Exit codes: 0; 1 it does not stand so, answered no, or a worker is unheard; 64 wrong
arguments, no terminal to ask on; 69 no broker; 75 repeat; 77 denied.
)";

struct Options {
    std::string agent;
    bool after_restore = false;
    bool accept_loss = false;
    bool force = false;
    std::string reason;
    HoldOptions hold;
};

std::optional<int> check(const Terminal& terminal, const Options& options) {
    if (options.after_restore && options.accept_loss) {
        return terminal.fail(kExitUsage,
                             "--after-restore and --accept-loss exclude each other; give one");
    }
    const bool releases = options.after_restore || options.accept_loss;
    if (releases && !options.agent.empty()) {
        return terminal.fail(kExitUsage, "a restore holds the whole fleet; leave out --agent");
    }
    if (!releases && (options.force || !options.reason.empty())) {
        return terminal.fail(kExitUsage,
                             "--force and --reason go with --after-restore or --accept-loss");
    }
    if (options.accept_loss && !options.force && !terminal.in_is_terminal)
        return terminal.fail(kExitUsage, "no terminal to ask on; give --force");
    return std::nullopt;
}

int report(const Terminal& terminal, const ReleaseReply& reply, bool json) {
    if (json) {
        terminal.print(fields_json({{"epoch", reply.epoch},
                                    {"generation", std::to_string(reply.generation)},
                                    {"held", reply.held ? "true" : "false"}}));
        return kExitOk;
    }
    if (!reply.held) {
        terminal.print("sessions are assigned again\n");
        return kExitOk;
    }
    terminal.print("epoch " + printable(reply.epoch, true) + " has begun, generation " +
                   std::to_string(reply.generation) + "\n");
    terminal.say(
        "nothing is assigned yet: once the workers are back, run `ictl resume "
        "--after-restore`");
    return kExitOk;
}

// What the person has to know before anything is let go.
Status show_unknown(Context& context, BrokerClient& broker) {
    const Result<FleetReply> fleet = broker.call<FleetReply>(FleetRequest{});
    if (!fleet) return fleet.error();
    const Result<WorkersReply> workers = broker.call<WorkersReply>(WorkersRequest{});
    if (!workers) return workers.error();
    const Terminal& terminal = context.terminal();
    for (const WorkerName& worker : fleet->unheard)
        terminal.say("not heard since: worker " + worker.str());
    for (const WorkerView& worker : workers->workers) {
        for (const AttemptRef& attempt : worker.unknown) {
            terminal.say("not known here, but at " + worker.name.str() + ": " +
                         attempt_words(attempt));
        }
    }
    return Done{};
}

int release(Context& context, const Options& options) {
    const Terminal& terminal = context.terminal();
    Result<BrokerClient*> broker = context.broker(Insistence::patient);
    if (!broker) return terminal.fail(broker.error());
    if (options.accept_loss && !options.force &&
        !terminal.confirm("Give up what the store has lost, for good?")) {
        return terminal.fail(kExitFailure, "nothing was changed");
    }
    if (options.after_restore) {
        const Status shown = show_unknown(context, **broker);
        if (!shown) return terminal.fail(shown.error());
    }
    const Result<ReleaseReply> reply = (*broker)->call<ReleaseReply>(ReleaseRequest{
        .accept_loss = options.accept_loss, .force = options.force, .reason = options.reason});
    if (!reply) return terminal.fail(reply.error());
    return report(terminal, *reply, options.hold.json);
}

int run(Context& context, const Options& options) {
    if (const std::optional<int> refused = check(context.terminal(), options)) return *refused;
    if (options.after_restore || options.accept_loss) return release(context, options);
    Result<HoldRequest> target = pause_target(context, options.agent);
    if (!target) return context.terminal().fail(target.error());
    target->on = false;
    return hold_and_report(context, {*target}, options.hold.json);
}

Runner declare(CLI::App& app) {
    auto options = std::make_shared<Options>();
    app.add_option("--agent", options->agent, "lift the pause of this agent")->type_name("NAME");
    app.add_flag("--after-restore", options->after_restore, "let go what a restore holds back");
    app.add_flag("--accept-loss", options->accept_loss, "of a read-only broker: go on without");
    app.add_flag("--force", options->force, "although workers are unheard; do not ask");
    app.add_option("--reason", options->reason, "kept with the release")->type_name("TEXT");
    declare_lifting(app, options->hold);
    return [options](Context& context) { return run(context, *options); };
}

}  // namespace

Command resume_command() {
    return {.name = "resume",
            .group = kGroupFleet,
            .summary = "Go on after a pause, a restore or a loss",
            .details = kDetails,
            .declare = declare};
}

}  // namespace iw::ctl
