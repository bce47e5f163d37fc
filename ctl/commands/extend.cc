#include <CLI/CLI.hpp>
#include <memory>

#include "common/base/text.h"
#include "ctl/command.h"
#include "ctl/context.h"
#include "ctl/exit_code.h"
#include "ctl/json.h"

namespace iw::ctl {
namespace {

constexpr const char* kDetails =
    R"(Gives a session another run time, counted from the start of an attempt: --timeout sets it,
--add adds to what it has. It holds for the attempt that runs, which is told at once, and
for those that follow.

Examples:
  ictl extend $ID --add 2h
  ictl extend $ID --timeout 12h

Exit codes: 0; 1 it has ended; 4 no such session; 64 wrong arguments; 69 no broker; 75
repeat; 77 denied.
)";

struct Options {
    std::string id;
    std::string timeout;
    std::string add;
    bool json = false;
};

Result<ExtendRequest> to_request(BrokerClient& broker, const Options& options) {
    const bool adds = !options.add.empty();
    if (adds == !options.timeout.empty()) {
        return make_error(ErrorCode::bad_request, "give either --timeout D or --add D");
    }
    const Result<Duration> time = parse_duration(adds ? options.add : options.timeout);
    if (!time) {
        return make_error(ErrorCode::bad_request,
                          std::string(adds ? "--add: " : "--timeout: ") + time.error().message);
    }
    const Result<StatusReply> status = broker.status(options.id, false);
    if (!status) return status.error();
    // A sum is sent as what it comes to, so that a request that has to be repeated adds only once.
    const Duration timeout = adds ? status->session.timeout + *time : *time;
    return ExtendRequest{.id = status->session.id.str(), .timeout = timeout, .exact = true};
}

int run(Context& context, const Options& options) {
    const Terminal& terminal = context.terminal();
    if (trim(options.id).empty()) {
        return terminal.fail(kExitUsage,
                             "no session id given; did create fail? see logs/orchestrator.log");
    }
    Result<BrokerClient*> broker = context.broker(Insistence::patient);
    if (!broker) return terminal.fail(broker.error());
    const Result<ExtendRequest> request = to_request(**broker, options);
    if (!request) return terminal.fail(request.error());
    const Result<ExtendReply> reply = (*broker)->call<ExtendReply>(*request);
    if (!reply) return terminal.fail(reply.error());
    const SessionView& session = reply->session;
    const std::string timeout = format_duration(session.timeout);
    if (options.json) {
        terminal.print(fields_json({{"session_id", session.id.str()},
                                    {"status", std::string(name(session.status))},
                                    {"timeout", timeout}}));
        return kExitOk;
    }
    terminal.print(printable(session.id.str(), true) + "  timeout " + timeout + "\n");
    return kExitOk;
}

Runner declare(CLI::App& app) {
    auto options = std::make_shared<Options>();
    app.add_option("id", options->id, "the session")->required();
    app.add_option("--timeout", options->timeout, "run time of an attempt from now on")
        ->type_name("D");
    app.add_option("--add", options->add, "this much more than it has")->type_name("D");
    app.add_flag("--json", options->json, "print JSON");
    return [options](Context& context) { return run(context, *options); };
}

}  // namespace

Command extend_command() {
    return {.name = "extend",
            .group = kGroupSessions,
            .summary = "Give a session more time, or less",
            .details = kDetails,
            .declare = declare};
}

}  // namespace iw::ctl
