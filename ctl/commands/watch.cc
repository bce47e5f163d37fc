#include <CLI/CLI.hpp>
#include <memory>

#include "common/base/text.h"
#include "ctl/command.h"
#include "ctl/context.h"
#include "ctl/exit_code.h"
#include "ctl/fleet_json.h"
#include "ctl/fleet_text.h"

namespace iw::ctl {
namespace {

constexpr const char* kDetails =
    R"(Prints what happens, a line each, from now on or from a cursor: every change of a session,
of a worker, and every pause, drain and restore. Nothing is left out and nothing comes
twice; where the broker no longer has what came after the cursor, a line says so. --json
prints an object a line; its seq is a cursor for --since. --once ends when everything until
now is printed. Ctrl+C ends it.

Examples:
  ictl watch
  ictl watch --agent claude --json | jq -r 'select(.status == "FAILED") | .session_id'
  ictl watch --since 0 --once

Exit codes: 0 with --once; 4 no such session; 64 wrong arguments; 69 no broker; 77 denied;
130 interrupted.
)";

// Below limits::kEventsWaitMax, so that the answer comes before anybody takes the broker for dead.
constexpr Duration kPollMax{25'000};

struct Options {
    std::vector<std::string> ids;
    std::optional<Seq> since;
    std::string agent;
    bool once = false;
    bool json = false;
};

Result<EventsRequest> to_request(Context& context, BrokerClient& broker, const Options& options) {
    EventsRequest request;
    if (!options.agent.empty() && !is_agent_name(options.agent)) {
        return make_error(ErrorCode::bad_request,
                          "--agent \"" + options.agent + "\" is no agent's name");
    }
    request.agent = options.agent;
    if (!context.options().project.empty()) {
        const Result<std::optional<Project>> project = context.project();
        if (!project) return project.error();
        request.project = (*project)->name;
    }
    for (const std::string& id : options.ids) {
        const Result<StatusReply> status = broker.status(id, false);
        if (!status) return status.error();
        request.ids.push_back(status->session.id);
    }
    const Result<WelcomeReply> welcome = broker.welcome();
    if (!welcome) return welcome.error();
    request.epoch = welcome->epoch;
    request.after = options.since.value_or(welcome->seq);
    return request;
}

void print_page(const Terminal& terminal, const EventsReply& page, bool json) {
    if (page.gap) {
        terminal.print(json ? gap_json(page)
                            : "events are missing here (epoch " + printable(page.epoch, true) +
                                  "); `ictl list` shows how things stand\n");
    }
    for (const Event& event : page.events)
        terminal.print(json ? event_json(event, page.epoch) : event_line(event) + "\n");
    terminal.out.flush();
}

int run(Context& context, const Options& options) {
    const Terminal& terminal = context.terminal();
    Result<BrokerClient*> broker = context.broker(Insistence::patient);
    if (!broker) return terminal.fail(broker.error());
    Result<EventsRequest> request = to_request(context, **broker, options);
    if (!request) return terminal.fail(request.error());
    if (!options.once) request->wait = kPollMax;
    // Where the cursor has to come for --once; later events are left to the next call.
    const Seq end = (*broker)->welcome()->seq;
    while (terminal.out) {
        const Result<EventsReply> page = (*broker)->call<EventsReply>(*request);
        if (!page) return terminal.fail(page.error());
        print_page(terminal, *page, options.json);
        const bool moved = page->next > request->after || page->epoch != request->epoch;
        request->epoch = page->epoch;
        request->after = page->next;
        if (options.once && (!moved || page->next >= end)) return kExitOk;
    }
    return kExitOk;
}

Runner declare(CLI::App& app) {
    auto options = std::make_shared<Options>();
    app.add_option("id", options->ids, "only these sessions");
    app.add_option("--since", options->since, "what came after this cursor; 0: all that is kept")
        ->type_name("SEQ");
    app.add_option("--agent", options->agent, "only of this agent")->type_name("NAME");
    app.add_flag("--once", options->once, "end when everything until now is printed");
    app.add_flag("--json", options->json, "print JSON, an object a line");
    return [options](Context& context) { return run(context, *options); };
}

}  // namespace

Command watch_command() {
    return {.name = "watch",
            .group = kGroupFleet,
            .summary = "Print what happens, as it happens",
            .details = kDetails,
            .declare = declare};
}

}  // namespace iw::ctl
