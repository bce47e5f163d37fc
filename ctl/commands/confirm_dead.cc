#include <CLI/CLI.hpp>
#include <memory>

#include "common/base/limits.h"
#include "common/base/text.h"
#include "common/io/system_clock.h"
#include "ctl/command.h"
#include "ctl/context.h"
#include "ctl/exit_code.h"
#include "ctl/json.h"
#include "ctl/render.h"

namespace iw::ctl {
namespace {

constexpr const char* kDetails =
    R"(An admin's word that what a silent worker ran does not run any more: the host has burned,
or somebody has looked. Its sessions are lost with that as evidence: those with --on-lost
requeue run again, the others end FAILED (lost). Refused while the worker is heard. A worker
that comes back nevertheless stops what still runs and keeps its files.

It asks first; without a terminal --force is needed, and takes a session's full id only.

Examples:
  ictl confirm-dead --host hosta --reason "power supply burned"
  ictl confirm-dead $ID --reason "killed its container by hand" --force

Exit codes: 0; 1 the worker is not silent, or answered no; 4 no such session, worker or
host; 64 wrong arguments, no terminal to ask on; 69 no broker; 75 repeat; 77 denied.
)";

struct Options {
    std::string id;
    std::string host;
    std::string worker;
    std::string reason;
    bool force = false;
    bool json = false;
};

// Nothing: go on.
std::optional<int> check(const Terminal& terminal, const Options& options) {
    const int given = static_cast<int>(!options.id.empty()) +
                      static_cast<int>(!options.host.empty()) +
                      static_cast<int>(!options.worker.empty());
    if (given != 1) {
        return terminal.fail(kExitUsage, "give one of: a session's id, --host H, --worker W");
    }
    if (trim(options.reason).empty()) {
        return terminal.fail(kExitUsage, "--reason is missing: say how you know; it is kept");
    }
    if (options.reason.size() > limits::kReasonMax) {
        return terminal.fail(kExitUsage, "--reason has " + std::to_string(options.reason.size()) +
                                             " bytes; at most 1024");
    }
    if (!options.force && !terminal.in_is_terminal) {
        return terminal.fail(kExitUsage, "no terminal to ask on; give --force");
    }
    return std::nullopt;
}

std::string question(const Options& options, const std::string& id) {
    const std::string what = !options.id.empty()     ? "the attempt of session " + id
                             : !options.host.empty() ? "everything at host " + options.host
                                                     : "everything at worker " + options.worker;
    return "Does " + printable(what, true) + " certainly not run any more?";
}

// Of the session that is meant; empty when none is.
Result<std::string> full_id(BrokerClient& broker, const Options& options) {
    if (options.id.empty()) return std::string();
    const Result<StatusReply> status = broker.status(options.id, options.force);
    if (!status) return status.error();
    return status->session.id.str();
}

int run(Context& context, const Options& options) {
    const Terminal& terminal = context.terminal();
    if (const std::optional<int> refused = check(terminal, options)) return *refused;
    Result<BrokerClient*> broker = context.broker(Insistence::patient);
    if (!broker) return terminal.fail(broker.error());
    const Result<std::string> id = full_id(**broker, options);
    if (!id) return terminal.fail(id.error());
    if (!options.force && !terminal.confirm(question(options, *id))) {
        return terminal.fail(kExitFailure, "nothing was changed");
    }
    const Result<ConfirmDeadReply> reply = (*broker)->call<ConfirmDeadReply>(ConfirmDeadRequest{
        .id = *id, .worker = options.worker, .host = options.host, .reason = options.reason});
    if (!reply) return terminal.fail(reply.error());
    if (options.json) {
        std::vector<SeenSession> sessions;
        for (const SessionView& session : reply->sessions)
            sessions.push_back({.view = session, .tmux_active = false});
        terminal.print(sessions_json(sessions, io::wall_now()));
        return kExitOk;
    }
    for (const SessionView& session : reply->sessions)
        terminal.print(session_line(session) + "\n");
    if (reply->sessions.empty()) terminal.say("it held no session");
    return kExitOk;
}

Runner declare(CLI::App& app) {
    auto options = std::make_shared<Options>();
    app.add_option("id", options->id, "the session");
    app.add_option("--host", options->host, "all workers of this host")->type_name("H");
    app.add_option("--worker", options->worker, "this worker")->type_name("W");
    app.add_option("--reason", options->reason, "how you know; kept as evidence")
        ->type_name("TEXT");
    app.add_flag("--force", options->force, "do not ask");
    app.add_flag("--json", options->json, "print JSON");
    return [options](Context& context) { return run(context, *options); };
}

}  // namespace

Command confirm_dead_command() {
    return {.name = "confirm-dead",
            .group = kGroupFleet,
            .summary = "Say that what a silent worker ran is gone for good",
            .details = kDetails,
            .declare = declare};
}

}  // namespace iw::ctl
