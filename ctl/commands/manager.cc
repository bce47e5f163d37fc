// What scripts/ops/session-manager.sh hands over to: the commands, texts and exit codes that users'
// scripts have relied on since there was one host. See the session contract; change nothing
// lightly.

#include <CLI/CLI.hpp>
#include <algorithm>
#include <functional>
#include <memory>

#include "common/base/text.h"
#include "common/io/files.h"
#include "common/io/system_clock.h"
#include "common/workspace/workspace.h"
#include "ctl/attachment.h"
#include "ctl/command.h"
#include "ctl/command_line.h"
#include "ctl/context.h"
#include "ctl/exit_code.h"
#include "ctl/fleet.h"
#include "ctl/json.h"
#include "ctl/killing.h"
#include "ctl/lifetimes.h"
#include "ctl/project_limits.h"
#include "ctl/refresh.h"
#include "ctl/render.h"
#include "ctl/submission.h"
#include "ctl/submission_header.h"
#include "ctl/tmux_sessions.h"

namespace iw::ctl {
namespace {

using workspace::LogWord;
using workspace::ProjectPaths;

constexpr std::string_view kHelp =
    "usage: scripts/ops/session-manager.sh COMMAND ...\n"
    "\n"
    "  create AGENT PROMPT-FILE [--key=K] hand a task to an agent; prints \"Session created: ID "
    "...\"\n"
    "                                     (the same key again gives the same session)\n"
    "  status ID [--json]                 what is known of a session\n"
    "  list [--status=STATUS] [--all]     sessions in docs/.scratch/sessions/ (--all: archived "
    "too)\n"
    "  attach ID                          enter its terminal; Ctrl+B D leaves it running\n"
    "  kill ID [--force] [--reason=TEXT]  end it; asks first without --force\n"
    "  init                               make the folders that sessions need\n"
    "  help                               this text\n"
    "\n"
    "STATUS: CREATED, RUNNING, COMPLETED, FAILED or KILLED. ID: a full id or a unique prefix.\n"
    "Exit codes: 0 done, 1 wrong arguments or a precondition does not hold, 2 it could not be "
    "done,\n"
    "130 interrupted. `ictl help` shows all that ictl can do besides.\n";

// The words of one call: what is not an option, and the options with their values.
struct Words {
    std::vector<std::string> plain;
    std::vector<std::pair<std::string, std::string>> options;

    bool has(std::string_view name) const {
        return std::ranges::any_of(options,
                                   [&](const auto& option) { return option.first == name; });
    }
    std::string value(std::string_view name) const {
        for (const auto& [option, text] : options) {
            if (option == name) return text;
        }
        return {};
    }
};

Words read_words(const std::vector<std::string>& arguments) {
    Words words;
    for (const std::string& argument : arguments) {
        if (!argument.starts_with("--")) {
            words.plain.push_back(argument);
            continue;
        }
        const std::size_t equals = argument.find('=');
        const bool has_value = equals != std::string::npos;
        words.options.emplace_back(argument.substr(0, equals),
                                   has_value ? argument.substr(equals + 1) : std::string());
    }
    return words;
}

struct Call {
    Context& context;
    Project project;
    ProjectPaths paths;
    Words words;

    const Terminal& terminal() const { return context.terminal(); }
};

// ictl's exit codes as the three that scripts know.
int plain_code(int code) {
    switch (code) {
        case kExitOk:
        case kExitInterrupted:
            return code;
        case kExitFailure:
        case kExitUnknownId:
        case kExitUsage:
        case kExitNoInput:
            return 1;
        default:
            return 2;
    }
}

// Outside sessions, and where no broker is configured, every command starts what is missing of the
// project's own fleet.
Status ensure_fleet(Call& call) {
    if (!call.context.inside_session().empty() || !call.context.is_embedded()) return Done{};
    const std::string root = call.project.root;
    const Result<FleetStart> started = start_fleet(root);
    if (!started) return started.error();
    // Nobody else starts an embedded broker again that dies while this command waits for it.
    call.context.set_on_absent([root] { static_cast<void>(start_fleet(root)); });
    return Done{};
}

int refuse_create(Call& call, const Error& error, const std::string& agent) {
    const std::string text = "Create refused: " + agent + ": " + error.message;
    static_cast<void>(workspace::log_project(call.paths, io::wall_now(), LogWord::warn, text));
    return call.terminal().fail(error);
}

int run_create(Call& call) {
    const Terminal& terminal = call.terminal();
    if (call.words.plain.size() != 2)
        return terminal.fail(kExitUsage, "create takes an agent and a prompt file");
    const std::string key = call.words.value("--key");
    if (call.words.has("--key") && (key.empty() || key.size() > limits::kKeyMax))
        return terminal.fail(kExitUsage, "bad --key; it is --key=K, K of 1 to 128 bytes");
    const std::string& agent = call.words.plain[0];
    if (!is_agent_name(agent)) {
        const Error bad = make_error(ErrorCode::bad_request,
                                     "bad agent name \"" + printable(agent, true) +
                                         "\"; it is [a-z0-9][a-z0-9_-]*, at most 64 characters");
        return refuse_create(call, bad, printable(agent, true));
    }
    Result<std::string> prompt = read_prompt(call.context, call.words.plain[1]);
    if (!prompt) return refuse_create(call, prompt.error(), agent);
    const Result<ProjectLimits> limits = read_project_limits(call.project.root);
    if (!limits) return refuse_create(call, limits.error(), agent);
    if (Status up = ensure_fleet(call); !up) return refuse_create(call, up.error(), agent);

    Submission submission;
    submission.agent = AgentName(agent);
    submission.key = key;
    submission.prompt = std::move(*prompt);
    submission.timeout = limits->lifetime;
    submission.disk_limit = limits->disk_limit;
    PromptHeader header = parse_prompt_header(submission.prompt);
    apply_header(header, {.timeout_max = limits->lifetime}, submission);
    for (const std::string& warning : header.warnings)
        terminal.say("session-manager.sh: warning: " + warning);
    LimitsNote note{.lifetime = limits->lifetime, .max = std::nullopt};
    if (header.timeout) note.max = header.timeout->value;
    submission.metadata = limits_metadata(note);
    const Result<Submitted> submitted = submit_session(
        call.context, std::move(submission),
        "scripts/ops/session-manager.sh create " + agent + " " + call.words.plain[1] + " --key=");
    if (!submitted) return terminal.fail(submitted.error());
    const std::string& id = submitted->id.str();
    terminal.print("Session created: " + id + "\n");
    terminal.print("Workspace: " + std::string(workspace::kSessionsFolder) + "/" + id + "\n");
    terminal.print("Tmux: " + tmux_session_name(submitted->id) + "\n");
    terminal.print("Attach: scripts/ops/session-manager.sh attach " + id + "\n");
    return kExitOk;
}

// The one id of a call, or a refusal: scripts put the output of a failed create here.
std::optional<std::string> one_id(Call& call, const char* command, int& code) {
    const Terminal& terminal = call.terminal();
    if (call.words.plain.size() > 1) {
        code = terminal.fail(kExitUsage, std::string(command) + " takes one session id");
        return std::nullopt;
    }
    if (call.words.plain.empty() || call.words.plain[0].empty()) {
        code = terminal.fail(kExitUsage,
                             "no session id given; did create fail? see logs/orchestrator.log");
        return std::nullopt;
    }
    return call.words.plain[0];
}

void print_session(Call& call, const SessionView& session) {
    const WallTime now = io::wall_now();
    const bool active = TmuxSessions(call.context).active(session);
    call.terminal().print(call.words.has("--json") ? session_json({session, active}, now)
                                                   : session_details(session, active, now));
}

// A session that no broker knows any more, or whose broker is away: its own files tell.
int print_from_files(Call& call, const std::string& id, const Error& why) {
    const Terminal& terminal = call.terminal();
    const Result<std::string> text = is_session_id(id)
                                         ? workspace::read_state(call.paths, SessionId(id))
                                         : Result<std::string>(why);
    const Result<SessionView> view =
        text.ok() ? workspace::view_from_state(*text) : Result<SessionView>(why);
    if (!view) return terminal.fail(why);
    const bool stale = why.code != ErrorCode::not_found;
    if (stale) terminal.say("ictl: warning: " + why.message + "; this is the last known state");
    if (call.words.has("--json")) {
        terminal.print(safe_json(stale ? workspace::mark_stale(*text) : *text));
    } else {
        terminal.print(session_details(*view, /*tmux_active=*/false, io::wall_now()));
    }
    return kExitOk;
}

int run_status(Call& call) {
    int code = kExitOk;
    const std::optional<std::string> id = one_id(call, "status", code);
    if (!id) return code;
    if (Status up = ensure_fleet(call); !up) return print_from_files(call, *id, up.error());
    Result<BrokerClient*> broker = call.context.broker(Insistence::patient);
    if (!broker) return print_from_files(call, *id, broker.error());
    Result<StatusReply> reply = (*broker)->status(*id, /*exact=*/false);
    if (!reply) return print_from_files(call, *id, reply.error());
    refresh_workspace(call.context, reply->session);
    print_session(call, reply->session);
    return kExitOk;
}

// What the broker knows of this root; nothing (with a warning) when it is away.
std::vector<SessionView> known_sessions(Call& call) {
    const auto away = [&](const Error& error) {
        call.terminal().say("ictl: warning: " + error.message +
                            "; this is what the workspaces last said");
        return std::vector<SessionView>();
    };
    if (Status up = ensure_fleet(call); !up) return away(up.error());
    Result<BrokerClient*> broker = call.context.broker(Insistence::patient);
    if (!broker) return away(broker.error());
    ListRequest request;
    request.root = call.project.root;
    Result<Listing> listing = (*broker)->list(request);
    if (!listing) return away(listing.error());
    return std::move(listing->sessions);
}

std::vector<SessionView> standing_sessions(Call& call) {
    std::vector<SessionView> sessions = known_sessions(call);
    std::erase_if(sessions, [&](const SessionView& session) {
        const bool standing = io::exists(call.paths.workspace(session.id));
        return !standing &&
               !(call.words.has("--all") && io::exists(call.paths.archived(session.id)));
    });
    refresh_workspaces(call.context, sessions);
    for (const SessionId& id : workspace::list_workspaces(call.paths)) {
        const bool known = std::ranges::any_of(
            sessions, [&](const SessionView& session) { return session.id == id; });
        const Result<std::string> text =
            known ? Result<std::string>(Error{}) : workspace::read_state(call.paths, id);
        if (!text) continue;
        const Result<SessionView> view = workspace::view_from_state(*text);
        if (view) sessions.push_back(*view);
    }
    std::ranges::stable_sort(sessions, {}, [](const SessionView& session) {
        return std::pair(session.created_at, session.id);
    });
    return sessions;
}

int run_list(Call& call) {
    const Terminal& terminal = call.terminal();
    if (!call.words.plain.empty()) {
        return terminal.fail(kExitUsage, "list takes no \"" + printable(call.words.plain[0], true) +
                                             "\"; it is list [--status=STATUS] [--all]");
    }
    std::optional<SessionStatus> wanted;
    if (call.words.has("--status")) {
        const std::string word = call.words.value("--status");
        wanted = parse_session_status(word);
        if (!wanted) {
            return terminal.fail(kExitUsage, "unknown status \"" + printable(word, true) +
                                                 "\"; one of CREATED, RUNNING, COMPLETED, FAILED, "
                                                 "KILLED");
        }
    }
    std::vector<SessionView> sessions = standing_sessions(call);
    std::erase_if(sessions,
                  [&](const SessionView& session) { return wanted && session.status != *wanted; });
    terminal.print(
        session_table(sessions, io::wall_now(), {.place = false, .colours = terminal.colour}));
    return kExitOk;
}

int run_attach(Call& call) {
    int code = kExitOk;
    const std::optional<std::string> id = one_id(call, "attach", code);
    if (!id) return code;
    if (Status up = ensure_fleet(call); !up) return call.terminal().fail(up.error());
    return attach_session(call.context, *id, /*worker_state=*/"");
}

int already_ended(Call& call, const SessionView& session) {
    call.terminal().print("already terminated (status: " + std::string(name(session.status)) +
                          ")\n");
    return kExitOk;
}

int run_kill(Call& call) {
    const Terminal& terminal = call.terminal();
    int code = kExitOk;
    const std::optional<std::string> id = one_id(call, "kill", code);
    if (!id) return code;
    const bool force = call.words.has("--force");
    if (!force && !terminal.in_is_terminal) {
        return terminal.fail(kExitFailure,
                             "kill asks first, and there is no terminal to ask on; "
                             "give --force");
    }
    if (!force && !terminal.confirm("Kill session " + printable(*id, true) + "?")) {
        return terminal.fail(kExitFailure, "not killed");
    }
    if (Status up = ensure_fleet(call); !up) return terminal.fail(up.error());
    Result<std::vector<KillOutcome>> killed = kill_sessions(
        call.context, {*id}, {.reason = call.words.value("--reason"), .exact = force});
    if (!killed && killed.error().code == ErrorCode::not_found) {
        if (const auto ended = ended_by_files(call.paths, *id)) return already_ended(call, *ended);
    }
    if (!killed) return terminal.fail(killed.error());
    KillOutcome& outcome = killed->front();
    const std::string status(name(outcome.session.status));
    if (outcome.already_final) return already_ended(call, outcome.session);
    if (!outcome.confirmed) {
        return terminal.fail(kExitFault, "not confirmed yet: the kill of " +
                                             outcome.session.id.str() +
                                             " stays wished and is repeated to its worker");
    }
    refresh_workspace(call.context, outcome.session);
    terminal.print("Session ended: " + outcome.session.id.str() + " (status: " + status + ")\n");
    return kExitOk;
}

int run_init(Call& call) {
    call.terminal().say("the folders of " + call.project.root + " are there");
    return kExitOk;
}

int run_help(Call& call) {
    call.terminal().print(kHelp);
    return kExitOk;
}

struct Entry {
    std::string name;
    std::vector<std::string> options;
    int (*run)(Call&);
};

const std::vector<Entry>& entries() {
    static const std::vector<Entry> kEntries = {
        {"create", {"--key"}, run_create},
        {"status", {"--json"}, run_status},
        {"list", {"--status", "--all"}, run_list},
        {"attach", {}, run_attach},
        {"kill", {"--force", "--reason"}, run_kill},
        {"init", {}, run_init},
        {"help", {}, run_help},
    };
    return kEntries;
}

int unknown_command(const Terminal& terminal, const std::string& word) {
    std::vector<std::string> names;
    for (const Entry& entry : entries())
        names.push_back(entry.name);
    const std::string near = nearest_command(word, names);
    return terminal.fail(kExitUsage, "unknown command \"" + printable(word, true) + "\"" +
                                         (near.empty() ? "" : ", did you mean " + near + "?") +
                                         "; there are " + join(names, ", "));
}

int run_manager(Context& context, std::vector<std::string> arguments) {
    const Terminal& terminal = context.terminal();
    if (arguments.empty()) {
        terminal.print(kHelp);
        return kExitUsage;
    }
    const std::string command = arguments.front();
    const auto is_command = [&](const Entry& each) { return each.name == command; };
    const auto entry = std::ranges::find_if(entries(), is_command);
    if (entry == entries().end()) return unknown_command(terminal, command);
    arguments.erase(arguments.begin());
    Words words = read_words(arguments);
    for (const auto& [option, value] : words.options) {
        if (std::ranges::find(entry->options, option) == entry->options.end()) {
            return terminal.fail(kExitUsage, command + " knows no option " +
                                                 printable(option, true) + "; see " +
                                                 "scripts/ops/session-manager.sh help");
        }
    }
    Result<Project> project = context.require_project();
    if (!project) return terminal.fail(project.error());
    ProjectPaths paths(project->root);
    if (Status made = workspace::prepare_project(paths); !made) return terminal.fail(made.error());
    Call call{context, std::move(*project), std::move(paths), std::move(words)};
    return entry->run(call);
}

}  // namespace

Command manager_command() {
    return {
        .name = "manager",
        .group = kGroupProject,
        .summary = "What scripts/ops/session-manager.sh hands over to",
        .details = std::string(kHelp),
        .declare = [](CLI::App& app) -> Runner {
            // Every word from the first on is this command's own, options too.
            app.fallthrough(false);
            app.prefix_command();
            app.set_help_flag();
            return [&app](Context& context) {
                return plain_code(run_manager(context, app.remaining()));
            };
        },
    };
}

}  // namespace iw::ctl
