#include <CLI/CLI.hpp>
#include <algorithm>
#include <memory>

#include "common/base/limits.h"
#include "common/base/text.h"
#include "ctl/command.h"
#include "ctl/context.h"
#include "ctl/exit_code.h"
#include "ctl/filters.h"
#include "ctl/json.h"
#include "ctl/killing.h"
#include "ctl/render.h"

namespace iw::ctl {
namespace {

constexpr const char* kDetails =
    R"(Stops sessions with all they started and submitted; returns when they are stopped. Asks
first on a terminal; without one --force is needed, and takes full ids only. With filters
instead of ids: every unfinished session that matches. The wish is kept by the broker until
it is done, also while a host is away. --json says of each: ended, already-terminated, or
wished when its end is not known yet.

Examples:
  ictl kill $ID --force --reason "wrong branch"
  ictl kill --agent claude --status CREATED --force

Exit codes: 0 stopped, or it had ended already; 1 answered no; 2 not confirmed within 60s
(the wish stays); 4 no such session; 64 wrong arguments, no terminal to ask on; 69 no
broker; 75 repeat; 77 denied.
)";

struct Options {
    std::vector<std::string> ids;
    SessionFilter filter;
    std::string reason;
    bool force = false;
    bool no_wait = false;
    bool keep_children = false;
    bool json = false;
};

// The unfinished sessions that the filters mean.
Result<std::vector<std::string>> matching(Context& context, const SessionFilter& filter) {
    Result<ListRequest> request = to_request(context, filter);
    if (!request) return request.error();
    if (request->status.empty()) {
        request->status = {SessionStatus::created, SessionStatus::running};
    }
    Result<BrokerClient*> broker = context.broker(Insistence::patient);
    if (!broker) return broker.error();
    const Result<Listing> listing = (*broker)->list(*request);
    if (!listing) return listing.error();
    std::vector<std::string> ids;
    for (const SessionView& session : listing->sessions) {
        if (!is_final(session.status)) ids.push_back(session.id.str());
    }
    return ids;
}

// Nothing: go on.
std::optional<int> check(const Terminal& terminal, const Options& options) {
    if (options.ids.empty() && options.filter.empty()) {
        return terminal.fail(
            kExitUsage, "no session given; name ids, or filters such as --agent NAME or --all");
    }
    if (!options.ids.empty() && !options.filter.empty()) {
        return terminal.fail(kExitUsage, "ids and filters exclude each other; give one of them");
    }
    if (std::ranges::any_of(options.ids, [](const auto& id) { return trim(id).empty(); })) {
        return terminal.fail(kExitUsage,
                             "no session id given; did create fail? see logs/orchestrator.log");
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

bool confirmed_by_person(const Terminal& terminal, const std::vector<std::string>& ids) {
    const std::string what =
        ids.size() == 1 ? printable(ids.front(), true) : std::to_string(ids.size()) + " sessions";
    return terminal.confirm("Kill " + what + "?");
}

std::string family_words(const KillOutcome& outcome) {
    if (outcome.descendants == 0) return "";
    const std::string count = std::to_string(outcome.descendants);
    return ", and " + count + (outcome.descendants == 1 ? " descendant" : " descendants");
}

// The wish waits for its worker.
std::string silence_words(const SessionView& session) {
    if (session.detail != Detail::unreachable) return "";
    return "; " + printable(session.reason, true) + ", the wish stays";
}

// Of those that were waited for.
int report_unconfirmed(const Terminal& terminal, const std::vector<KillOutcome>& outcomes) {
    int code = kExitOk;
    for (const KillOutcome& outcome : outcomes) {
        if (outcome.confirmed || outcome.already_final) continue;
        code = terminal.fail(kExitFault, outcome.session.id.str() + ": not confirmed yet (" +
                                             status_words(outcome.session) +
                                             "); the wish stays, see `ictl status`");
    }
    return code;
}

void print(const Terminal& terminal, const std::vector<KillOutcome>& outcomes, bool waited) {
    for (const KillOutcome& outcome : outcomes) {
        const std::string id = outcome.session.id.str();
        const std::string status(name(outcome.session.status));
        if (outcome.already_final) {
            terminal.print(id + " already terminated (status: " + status + ")\n");
        } else if (outcome.confirmed) {
            terminal.print(session_line(outcome.session) + family_words(outcome) + "\n");
        } else if (!waited) {
            terminal.print(id + " is being killed" + family_words(outcome) +
                           silence_words(outcome.session) + "\n");
        }
    }
}

int run(Context& context, const Options& options) {
    const Terminal& terminal = context.terminal();
    if (const std::optional<int> refused = check(terminal, options)) return *refused;
    std::vector<std::string> ids = options.ids;
    if (ids.empty()) {
        Result<std::vector<std::string>> found = matching(context, options.filter);
        if (!found) return terminal.fail(found.error());
        ids = std::move(*found);
        if (ids.empty()) {
            if (options.json) terminal.print(kills_json({}));
            terminal.say("nothing to kill: no unfinished session matches");
            return kExitOk;
        }
    }
    if (!options.force && !confirmed_by_person(terminal, ids)) {
        return terminal.fail(kExitFailure, "nothing was killed");
    }
    set_interrupt_note("ictl: no longer waiting; the wish to kill stays");
    const Result<std::vector<KillOutcome>> outcomes =
        kill_sessions(context, ids,
                      {.reason = options.reason,
                       .exact = options.force,
                       .keep_children = options.keep_children,
                       .wait = !options.no_wait});
    if (!outcomes) return terminal.fail(outcomes.error());
    if (options.json) terminal.print(kills_json(*outcomes));
    if (!options.json) print(terminal, *outcomes, !options.no_wait);
    return options.no_wait ? kExitOk : report_unconfirmed(terminal, *outcomes);
}

Runner declare(CLI::App& app) {
    auto options = std::make_shared<Options>();
    app.add_option("id", options->ids, "the sessions");
    declare_filter(app, options->filter, "every unfinished session of the project");
    app.add_flag("--force", options->force, "do not ask; full ids only");
    app.add_option("--reason", options->reason, "kept with the session")->type_name("TEXT");
    app.add_flag("--keep-children", options->keep_children, "what it has submitted lives on");
    app.add_flag("--no-wait", options->no_wait, "return once the wish is on the broker's disk");
    app.add_flag("--json", options->json, "print JSON");
    return [options](Context& context) { return run(context, *options); };
}

}  // namespace

Command kill_command() {
    return {.name = "kill",
            .group = kGroupSessions,
            .summary = "Stop sessions",
            .details = kDetails,
            .declare = declare};
}

}  // namespace iw::ctl
