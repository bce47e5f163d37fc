#include <CLI/CLI.hpp>
#include <algorithm>
#include <memory>
#include <set>

#include "common/base/text.h"
#include "common/io/files.h"
#include "common/io/system_clock.h"
#include "common/workspace/workspace.h"
#include "ctl/archive_upkeep.h"
#include "ctl/archiving.h"
#include "ctl/command.h"
#include "ctl/context.h"
#include "ctl/exit_code.h"
#include "ctl/filters.h"
#include "ctl/json.h"
#include "ctl/refresh.h"

namespace iw::ctl {
namespace {

constexpr Duration kCompressAfter{30LL * 86'400'000};
constexpr std::uint64_t kBytesPerMb = 1'000'000;
constexpr std::uint64_t kPruneMbMax = 1'000'000'000;

constexpr const char* kDetails =
    R"(Moves the workspaces of ended sessions from docs/.scratch/sessions/ to
docs/.scratch/archive/sessions/, by rename. Named by id, or by list's filters: then those
that have not ended are left out. status, logs and result find them there.

--compress packs old folders of the archive into <id>.tar.gz and removes a folder only once
its pack was compared with it; --prune-... removes archived sessions for good. Both go by the
time of the last change, and leave alone what is not named like a session.

Examples:
  ictl archive $ID
  ictl archive --status COMPLETED
  ictl archive --all --dry-run
  ictl archive --compress --older-than 7d
  ictl archive --prune-to-mb 1000 --dry-run

Exit codes: 0; 1 one of the named has not ended, stands on another host or has no
workspace (the others are moved); 2 one could not be packed or removed (it is whole); 4 no
such session; 64 wrong arguments; 69 no broker; 77 denied.
)";

struct Options {
    std::vector<std::string> ids;
    SessionFilter filter;
    bool compress = false;
    std::string older_than;
    std::string prune_older_than;
    std::uint64_t prune_to_mb = 0;
    ArchiveUpkeep upkeep;  // read from the four above
    bool moves() const { return !ids.empty() || !filter.empty(); }
    bool dry_run = false;
    bool json = false;
};

// What --compress and --prune-... ask for.
Result<ArchiveUpkeep> read_upkeep(const Options& options) {
    ArchiveUpkeep upkeep;
    const auto read = [](const char* option, const std::string& text) -> Result<Duration> {
        const Result<Duration> time = parse_duration(text);
        if (time) return time;
        return make_error(ErrorCode::bad_request,
                          std::string(option) + ": " + time.error().message);
    };
    if (!options.older_than.empty() && !options.compress) {
        return make_error(ErrorCode::bad_request, "--older-than goes with --compress");
    }
    if (options.compress) {
        upkeep.compress_after = kCompressAfter;
        if (!options.older_than.empty()) {
            const Result<Duration> age = read("--older-than", options.older_than);
            if (!age) return age.error();
            upkeep.compress_after = *age;
        }
    }
    if (!options.prune_older_than.empty()) {
        const Result<Duration> age = read("--prune-older-than", options.prune_older_than);
        if (!age) return age.error();
        upkeep.prune.age = *age;
    }
    if (options.prune_to_mb > 0) upkeep.prune.bytes_max = options.prune_to_mb * kBytesPerMb;
    return upkeep;
}

std::optional<int> check(const Terminal& terminal, const Options& options) {
    if (!options.moves() && options.upkeep.empty()) {
        return terminal.fail(
            kExitUsage,
            "no session given; name ids, or filters such as --status COMPLETED or --all");
    }
    if (!options.ids.empty() && !options.filter.empty()) {
        return terminal.fail(kExitUsage, "ids and filters exclude each other; give one of them");
    }
    if (std::ranges::any_of(options.ids, [](const auto& id) { return trim(id).empty(); })) {
        return terminal.fail(kExitUsage,
                             "no session id given; did create fail? see logs/orchestrator.log");
    }
    return std::nullopt;
}

// A session as its own files tell, for one that the broker has forgotten.
std::optional<SessionView> forgotten(const Context& context, const workspace::ProjectPaths& project,
                                     const std::string& id) {
    std::optional<SessionView> view = ended_by_files(project, id);
    if (view) view->origin = Origin{.host = context.host(), .root = project.root};
    return view;
}

Result<std::vector<SessionView>> named(Context& context, BrokerClient& broker,
                                       const std::vector<std::string>& ids) {
    std::vector<SessionView> sessions;
    std::set<SessionId> known;
    for (const std::string& id : ids) {
        Result<StatusReply> reply = broker.status(id, false);
        std::optional<SessionView> view;
        if (reply) view = std::move(reply->session);
        if (!reply && reply.error().code == ErrorCode::not_found) {
            const Result<Project> project = context.require_project();
            if (project) view = forgotten(context, workspace::ProjectPaths(project->root), id);
        }
        if (!view) return reply.error();
        if (known.insert(view->id).second) sessions.push_back(std::move(*view));
    }
    return sessions;
}

// The sessions that stand in this project's sessions/ and are of no interest to the broker any
// more, as far as the filters mean them.
std::vector<SessionView> forgotten_ones(Context& context, BrokerClient& broker,
                                        const ListRequest& wanted,
                                        const std::set<SessionId>& found) {
    const Result<Project> here = context.require_project();
    if (!here) return {};
    const workspace::ProjectPaths project(here->root);
    std::vector<SessionView> sessions;
    for (const SessionId& id : workspace::list_workspaces(project)) {
        if (found.contains(id)) continue;
        std::optional<SessionView> view = forgotten(context, project, id.str());
        if (!view) continue;
        const bool is_wanted =
            (wanted.status.empty() || std::ranges::count(wanted.status, view->status) > 0) &&
            (wanted.agent.empty() || wanted.agent == view->agent.str()) &&
            (wanted.tag.empty() || std::ranges::count(view->tags, wanted.tag) > 0);
        if (!is_wanted) continue;
        const Result<StatusReply> known = broker.status(id.str(), true);
        if (!known && known.error().code == ErrorCode::not_found)
            sessions.push_back(std::move(*view));
    }
    return sessions;
}

// The ended sessions that the filters mean and whose workspace is still in sessions/.
Result<std::vector<SessionView>> matching(Context& context, BrokerClient& broker,
                                          const SessionFilter& filter) {
    Result<ListRequest> request = to_request(context, filter);
    if (!request) return request.error();
    if (request->status.empty()) {
        request->status = {SessionStatus::completed, SessionStatus::failed, SessionStatus::killed};
    }
    Result<Listing> listing = broker.list(*request);
    if (!listing) return listing.error();
    std::vector<SessionView>& sessions = listing->sessions;
    std::erase_if(sessions, [&](const SessionView& session) {
        return !is_final(session.status) || session.origin.empty() ||
               session.origin.host != context.host() ||
               !io::exists(workspace::ProjectPaths(session.origin.root).workspace(session.id));
    });
    std::set<SessionId> found;
    for (const SessionView& session : sessions)
        found.insert(session.id);
    for (SessionView& session : forgotten_ones(context, broker, *request, found))
        sessions.push_back(std::move(session));
    return std::move(sessions);
}

int report_upkeep(const Terminal& terminal, const std::vector<UpkeepOutcome>& outcomes, bool json) {
    int code = kExitOk;
    for (const UpkeepOutcome& outcome : outcomes) {
        if (!outcome.problem.empty()) {
            code = terminal.fail(kExitFault, outcome.id.str() + " was not " + outcome.done + ": " +
                                                 printable(outcome.problem, true));
        } else if (!json) {
            terminal.print(outcome.id.str() + "  " + outcome.done + "\n");
        }
    }
    return code;
}

int report(const Terminal& terminal, const std::vector<ArchiveOutcome>& outcomes,
           const Options& options) {
    using Kind = ArchiveOutcome::Kind;
    int code = kExitOk;
    for (const ArchiveOutcome& outcome : outcomes) {
        if (outcome.kind == Kind::refused) {
            code =
                terminal.fail(kExitFailure, outcome.id.str() + " " + printable(outcome.why, true));
        } else if (!options.json && outcome.kind == Kind::moved) {
            terminal.print(outcome.id.str() + "\n");
        } else if (!options.json) {
            terminal.say(outcome.id.str() + " is in the archive already");
        }
    }
    if (options.moves() && outcomes.empty() && !options.json) {
        terminal.say(
            "nothing to archive: no ended session that stands in docs/.scratch/sessions/ "
            "matches");
    }
    return code;
}

Result<std::vector<ArchiveOutcome>> move_them(Context& context, const Options& options) {
    if (!options.moves()) return std::vector<ArchiveOutcome>();
    Result<BrokerClient*> broker = context.broker(Insistence::brief);
    if (!broker) return broker.error();
    Result<std::vector<SessionView>> sessions = options.ids.empty()
                                                    ? matching(context, **broker, options.filter)
                                                    : named(context, **broker, options.ids);
    if (!sessions) return sessions.error();
    return archive_sessions(context, std::move(*sessions), options.dry_run);
}

int run(Context& context, Options& options) {
    const Terminal& terminal = context.terminal();
    const Result<ArchiveUpkeep> wanted = read_upkeep(options);
    if (!wanted) return terminal.fail(wanted.error());
    options.upkeep = *wanted;
    if (const std::optional<int> refused = check(terminal, options)) return *refused;
    const Result<std::vector<ArchiveOutcome>> moved = move_them(context, options);
    if (!moved) return terminal.fail(moved.error());
    std::vector<UpkeepOutcome> kept_up;
    if (!options.upkeep.empty()) {
        const Result<Project> project = context.require_project();
        if (!project) return terminal.fail(project.error());
        kept_up = keep_up_archive(workspace::ProjectPaths(project->root), options.upkeep,
                                  io::wall_now(), options.dry_run);
    }
    if (options.json) terminal.print(archive_json(*moved, kept_up, options.dry_run));
    const int code = report(terminal, *moved, options);
    return std::max(code, report_upkeep(terminal, kept_up, options.json));
}

Runner declare(CLI::App& app) {
    auto options = std::make_shared<Options>();
    app.add_option("id", options->ids, "the sessions");
    declare_filter(app, options->filter, "every ended session of the project");
    app.add_flag("--compress", options->compress,
                 "make <id>.tar.gz of archived folders that are over 30 days old");
    app.add_option("--older-than", options->older_than, "another age for --compress")
        ->type_name("D");
    app.add_option("--prune-older-than", options->prune_older_than,
                   "remove what has been in the archive for longer")
        ->type_name("D");
    app.add_option("--prune-to-mb", options->prune_to_mb,
                   "remove the oldest until the archive holds no more than this")
        ->type_name("MB")
        ->check(CLI::Range(std::uint64_t{1}, kPruneMbMax));
    app.add_flag("--dry-run", options->dry_run, "only print what would be done");
    app.add_flag("--json", options->json, "print JSON");
    return [options](Context& context) { return run(context, *options); };
}

}  // namespace

Command archive_command() {
    return {.name = "archive",
            .group = kGroupSessions,
            .summary = "Move the files of ended sessions to the archive",
            .details = kDetails,
            .declare = declare};
}

}  // namespace iw::ctl
