#include "ctl/holding.h"

#include <CLI/CLI.hpp>

#include "common/base/text.h"
#include "ctl/context.h"
#include "ctl/exit_code.h"
#include "ctl/fleet_json.h"
#include "ctl/fleet_text.h"

namespace iw::ctl {
namespace {

std::string report_line(const HoldRequest& request, const HoldReply& reply) {
    const std::string what = hold_target(request.scope, request.name);
    const bool drains = request.scope == HoldScope::worker;
    if (!request.on) {
        if (!reply.changed) return what + (drains ? " was not drained" : " was not paused");
        return what + (drains ? " takes sessions again" : " goes on");
    }
    std::string line = what + (drains ? " is drained" : " is paused");
    if (!reply.changed) line = what + (drains ? " was drained already" : " was paused already");
    if (reply.hold && reply.hold->until) line += " until " + format_utc(*reply.hold->until);
    if (!drains) return line + "; what runs goes on";
    if (reply.running.empty()) return line + "; nothing runs there";
    std::vector<std::string> ids;
    for (const SessionId& id : reply.running)
        ids.push_back(id.str());
    return line + "; still running there: " + join(ids, " ");
}

}  // namespace

void declare_lifting(CLI::App& app, HoldOptions& options) {
    app.add_flag("--json", options.json, "print JSON");
}

void declare_laying(CLI::App& app, HoldOptions& options) {
    app.add_option("--reason", options.reason, "shown to whoever asks why nothing starts")
        ->type_name("TEXT");
    app.add_option("--for", options.lasts, "lifts by itself after this")->type_name("D");
    declare_lifting(app, options);
}

Result<HoldRequest> to_hold(const HoldOptions& options, HoldRequest request) {
    if (options.reason.size() > limits::kReasonMax) {
        return make_error(
            ErrorCode::bad_request,
            "--reason has " + std::to_string(options.reason.size()) + " bytes; at most 1024");
    }
    request.reason = options.reason;
    if (options.lasts.empty()) return request;
    const Result<Duration> lasts = parse_duration(options.lasts);
    if (!lasts) return make_error(ErrorCode::bad_request, "--for: " + lasts.error().message);
    request.lasts = *lasts;
    return request;
}

int hold_and_report(Context& context, const std::vector<HoldRequest>& requests, bool json) {
    const Terminal& terminal = context.terminal();
    Result<BrokerClient*> broker = context.broker(Insistence::patient);
    if (!broker) return terminal.fail(broker.error());
    std::vector<HoldAnswer> answers;
    for (const HoldRequest& request : requests) {
        Result<HoldReply> reply = (*broker)->call<HoldReply>(request);
        if (!reply && reply.error().code == ErrorCode::unknown_outcome) {
            return terminal.fail(exit_code(reply.error().code),
                                 reply.error().message + "; repeat the command, it does no harm");
        }
        if (!reply) return terminal.fail(reply.error());
        if (!json) terminal.print(printable(report_line(request, *reply), true) + "\n");
        answers.push_back({.request = request, .reply = std::move(*reply)});
    }
    if (json) terminal.print(holds_json(answers));
    return kExitOk;
}

namespace {

// Workers that `name` means: the one of that name, else all of that host. not_found names the
// nearest; bad_request for what is no name.
Result<std::vector<WorkerName>> find_workers(Context& context, const std::string& name) {
    if (!is_plain_name(name)) {
        return make_error(ErrorCode::bad_request,
                          "\"" + name + "\" is no worker's or host's name; see `ictl workers`");
    }
    Result<BrokerClient*> broker = context.broker(Insistence::patient);
    if (!broker) return broker.error();
    const Result<WorkersReply> reply = (*broker)->call<WorkersReply>(WorkersRequest{});
    if (!reply) return reply.error();
    std::vector<WorkerName> of_host;
    std::vector<std::string> known;
    for (const WorkerView& worker : reply->workers) {
        if (worker.name.str() == name) return std::vector<WorkerName>{worker.name};
        if (worker.host == name) of_host.push_back(worker.name);
        known.push_back(worker.name.str());
        known.push_back(worker.host);
    }
    if (!of_host.empty()) return of_host;
    const std::string near = nearest(name, known);
    return make_error(ErrorCode::not_found,
                      "no worker or host is called \"" + name + "\"" +
                          (near.empty() ? "" : "; did you mean " + near + "?") +
                          " See `ictl workers`");
}

}  // namespace

int hold_workers(Context& context, const WorkerHold& options, bool on) {
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

}  // namespace iw::ctl
