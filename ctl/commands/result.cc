#include <CLI/CLI.hpp>
#include <algorithm>
#include <memory>
#include <set>

#include "common/base/text.h"
#include "common/io/files.h"
#include "common/workspace/archive.h"
#include "common/workspace/workspace.h"
#include "ctl/command.h"
#include "ctl/context.h"
#include "ctl/exit_code.h"
#include "ctl/fetching.h"
#include "ctl/json.h"
#include "ctl/output_log.h"
#include "ctl/refresh.h"
#include "ctl/render.h"

namespace iw::ctl {
namespace {

constexpr const char* kDetails =
    R"(Prints result.json byte for byte as the agent wrote it (on a terminal without control
characters), wherever it ran: from this host, or from the broker when the file travelled
(up to 64 MiB; a larger one is for `ictl fetch`). Of several sessions, or with --by-id,
one object: {"<id>": {"status", "result_status", "result", "file"}}, in the order of the
arguments. There "result" is null while it is not there or when it is not JSON ("problem"
says why), and "file" is where it stands on this host, or null.

Examples:
  ictl result $ID | jq .findings
  ictl result $A $B | jq 'map_values(.result.findings)'

Exit codes: 0; 1 there is none (yet), of several: of one of them; 4 no such session; 64
wrong arguments; 69 no broker; 77 denied.
)";

struct Options {
    std::vector<std::string> ids;
    bool by_id = false;
    bool json = false;
};

void print(const Terminal& terminal, const std::string& bytes) {
    if (!terminal.out_is_terminal) return terminal.print(bytes);
    const std::string text = printable(bytes, false);
    terminal.print(text.ends_with('\n') ? text : text + "\n");
}

// From a session that stands packed in the archive.
std::optional<std::string> packed_result(const SessionView& session) {
    if (session.origin.root.empty()) return std::nullopt;
    Result<std::string> bytes = workspace::read_compressed(
        workspace::ProjectPaths(session.origin.root), session.id, "result.json", SIZE_MAX - 1);
    if (!bytes) return std::nullopt;
    return std::move(bytes).value();
}

// The file on this host: what the broker does not hold, or not yet.
std::optional<std::string> local_result(const Context& context, const SessionView& session) {
    if (session.origin.host != context.host()) return std::nullopt;
    const std::string folder = session_folder(session);
    if (folder.empty()) return packed_result(session);
    const Result<std::optional<workspace::ResultFile>> file = workspace::read_result(folder);
    if (!file || !*file) return std::nullopt;
    if ((*file)->inlined) return (*file)->bytes;
    Result<std::string> bytes = io::read_file(folder + "/result.json", SIZE_MAX - 1);
    if (!bytes) return std::nullopt;
    return std::move(bytes).value();
}

// A session's result, or why there is none.
struct Found {
    SessionView session;
    std::string bytes;
    std::string problem;  // empty: `bytes` is the result
};

std::string why_none(const SessionView& session) {
    // While the agent runs, its file is not a result yet: it may be half written.
    if (!is_final(session.status)) {
        return "no result yet: " + session.id.str() + " is " + status_words(session) +
               "; see `ictl wait`";
    }
    if (session.result_size) {
        return "the result of " + session.id.str() + " has " +
               std::to_string(*session.result_size) + " bytes and stands on host " +
               session.origin.host + " in " + session.workspace + "/result.json";
    }
    return session.id.str() + " (" + status_words(session) +
           ") left no result.json; see `ictl logs " + session.id.str() + "`";
}

// What the project's files tell of a session that the broker has forgotten.
std::optional<SessionView> forgotten(Context& context, const std::string& id) {
    const Result<Project> project = context.require_project();
    if (!project) return std::nullopt;
    std::optional<SessionView> view = ended_by_files(workspace::ProjectPaths(project->root), id);
    if (view) view->origin = Origin{.host = context.host(), .root = project->root};
    return view;
}

Result<Found> find(Context& context, BrokerClient& broker, const std::string& id) {
    Result<ResultReply> reply = broker.call<ResultReply>(ResultRequest{.id = id});
    Found found;
    if (reply) {
        found.session = std::move(reply->session);
    } else if (reply.error().code == ErrorCode::not_found) {
        std::optional<SessionView> ended = forgotten(context, id);
        if (!ended) return reply.error();
        found.session = std::move(*ended);
    } else {
        return reply.error();
    }
    // Before anything here shows the end, its files do.
    if (is_final(found.session.status)) refresh_workspace(context, found.session);
    if (reply && reply->held) {
        found.bytes = std::move(reply->result);
        return found;
    }
    std::optional<std::string> bytes;
    if (is_final(found.session.status)) bytes = local_result(context, found.session);
    if (bytes) {
        found.bytes = std::move(*bytes);
        return found;
    }
    found.problem = why_none(found.session);
    const bool travelled = is_final(found.session.status) && found.session.deliverables;
    if (!travelled || !found.session.result_size) return found;
    Result<std::string> fetched = fetch_result(broker, found.session);
    if (fetched) {
        found.bytes = std::move(*fetched);
        found.problem.clear();
    } else if (fetched.error().code == ErrorCode::too_large) {
        found.problem = fetched.error().message + "; bring it with `ictl fetch " +
                        found.session.id.str() + " result.json`";
    } else {
        found.problem += " (" + fetched.error().message + ")";
    }
    return found;
}

ResultRow row_of(const Context& context, Found found) {
    ResultRow row{.session = std::move(found.session),
                  .result = std::move(found.bytes),
                  .problem = std::move(found.problem),
                  .file = ""};
    if (row.problem.empty() && !is_json(row.result)) {
        row.problem = "result.json of " + row.session.id.str() + " is not JSON";
    }
    if (row.session.origin.host != context.host()) return row;
    const std::string file = session_folder(row.session) + "/result.json";
    if (io::exists(file)) row.file = file;
    return row;
}

int print_all(Context& context, BrokerClient& broker, const std::vector<std::string>& ids) {
    const Terminal& terminal = context.terminal();
    std::vector<ResultRow> rows;
    std::set<SessionId> known;
    int code = kExitOk;
    for (const std::string& id : ids) {
        Result<Found> found = find(context, broker, id);
        if (!found) return terminal.fail(found.error());
        if (!known.insert(found->session.id).second) continue;
        rows.push_back(row_of(context, std::move(*found)));
    }
    terminal.print(results_json(rows));
    for (const ResultRow& row : rows) {
        if (!row.problem.empty()) code = terminal.fail(kExitFailure, row.problem);
    }
    return code;
}

int run(Context& context, const Options& options) {
    const Terminal& terminal = context.terminal();
    if (std::ranges::any_of(options.ids, [](const auto& id) { return trim(id).empty(); })) {
        return terminal.fail(kExitUsage,
                             "no session id given; did create fail? see logs/orchestrator.log");
    }
    Result<BrokerClient*> broker = context.broker(Insistence::brief);
    if (!broker) return terminal.fail(broker.error());
    if (options.by_id || options.ids.size() > 1) return print_all(context, **broker, options.ids);
    const Result<Found> found = find(context, **broker, options.ids.front());
    if (!found) return terminal.fail(found.error());
    if (!found->problem.empty()) return terminal.fail(kExitFailure, found->problem);
    print(terminal, found->bytes);
    return kExitOk;
}

Runner declare(CLI::App& app) {
    auto options = std::make_shared<Options>();
    app.add_option("id", options->ids, "the sessions")->required();
    app.add_flag("--by-id", options->by_id, "an object by session id also for one session");
    app.add_flag("--json", options->json, "the same: a result is JSON");
    return [options](Context& context) { return run(context, *options); };
}

}  // namespace

Command result_command() {
    return {.name = "result",
            .group = kGroupSessions,
            .summary = "Print a session's result.json",
            .details = kDetails,
            .declare = declare};
}

}  // namespace iw::ctl
