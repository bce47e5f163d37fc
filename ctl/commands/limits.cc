// What scripts/ops/session-watchdog.sh runs: an edited config.sh reaches the sessions that run.

#include <CLI/CLI.hpp>
#include <algorithm>
#include <memory>

#include "common/base/text.h"
#include "common/io/event_loop.h"
#include "common/io/files.h"
#include "common/io/system_clock.h"
#include "common/workspace/workspace.h"
#include "ctl/command.h"
#include "ctl/context.h"
#include "ctl/exit_code.h"
#include "ctl/folder_watch.h"
#include "ctl/json.h"
#include "ctl/lifetimes.h"
#include "ctl/project_limits.h"

namespace iw::ctl {
namespace {

constexpr const char* kDetails =
    R"(Sessions made by scripts/ops/session-manager.sh run under MAX_SESSION_LIFETIME_SECONDS of
scripts/ops/config.sh. Shows those of this project whose run time an edit of that file
would change; --apply changes it; --watch applies every edit until it is ended, without
polling. Left alone: what was made by `ictl submit`, and what somebody has extended by
hand. A lower limit ends at once what has run for longer.

Examples:
  ictl limits
  ictl limits --apply

Exit codes: 0; 1 not in a project; 64 wrong arguments, or config.sh states no number; 69 no
broker; 75 repeat; 77 denied.
)";

// An editor may need several writes for one change.
constexpr Duration kSettled{500};
// What could not be done (no broker, say) is tried again this seldom.
constexpr Duration kTryAgain{60'000};
constexpr std::size_t kAppliedMax = 100;
constexpr std::size_t kAppliedFileMax = 64u << 10;

struct Options {
    bool apply = false;
    bool watch = false;
    bool json = false;
};

struct Change {
    SessionView session;
    Duration timeout;
};

// The lifetimes that were applied here before, so that a timeout can be told from one that
// somebody has set by hand. Newest last.
class AppliedLifetimes {
  public:
    explicit AppliedLifetimes(const std::string& root)
        : path_(io::fleet_paths(root).folder + "/lifetimes") {
        const Result<std::string> text = io::read_file(path_, kAppliedFileMax);
        if (!text) return;
        for (const std::string& line : split(*text, '\n')) {
            long long seconds = 0;
            if (parse_int(line, 1, INT64_MAX / 1000, seconds)) values_.emplace_back(seconds * 1000);
        }
    }
    const std::vector<Duration>& values() const { return values_; }

    Status add(Duration lifetime) {
        if (std::ranges::find(values_, lifetime) != values_.end()) return Done{};
        values_.push_back(lifetime);
        if (values_.size() > kAppliedMax) values_.erase(values_.begin());
        std::string text;
        for (const Duration value : values_)
            text += std::to_string(value.count() / 1000) + "\n";
        if (Status made = io::make_folders(io::parent_folder(path_), 0700); !made) return made;
        return io::write_file(path_, text, 0600, io::Sync::file_and_folder);
    }

  private:
    std::string path_;
    std::vector<Duration> values_;
};

// What config.sh states now means.
struct Plan {
    std::optional<Duration> lifetime;
    std::vector<Change> changes;
};

Result<Plan> make_plan(Context& context, const Project& project, const AppliedLifetimes& applied) {
    const Result<std::optional<Duration>> lifetime = read_stated_lifetime(project.root);
    if (!lifetime) return lifetime.error();
    Plan plan{.lifetime = *lifetime, .changes = {}};
    if (!plan.lifetime) return plan;
    ListRequest request;
    request.root = project.root;
    request.status = {SessionStatus::created, SessionStatus::running};
    Result<BrokerClient*> broker = context.broker(Insistence::brief);
    if (!broker) return broker.error();
    Result<Listing> listing = (*broker)->list(request);
    if (!listing) return listing.error();
    for (SessionView& session : listing->sessions) {
        if (session.origin.host != context.host()) continue;
        const auto timeout = timeout_to_set(session, *plan.lifetime, applied.values());
        if (timeout) plan.changes.push_back({.session = std::move(session), .timeout = *timeout});
    }
    return plan;
}

std::string words(const Change& change) {
    return change.session.id.str() + ": " + format_duration(change.session.timeout) + " -> " +
           format_duration(change.timeout);
}

// Each change is noted in logs/orchestrator.log. The first failure that is no session's end.
Status apply(Context& context, const Project& project, const std::vector<Change>& changes) {
    Result<BrokerClient*> broker = context.broker(Insistence::brief);
    if (!broker) return broker.error();
    const workspace::ProjectPaths paths(project.root);
    for (const Change& change : changes) {
        const Result<ExtendReply> reply =
            (*broker)->call<ExtendReply>(ExtendRequest{.id = change.session.id.str(),
                                                       .timeout = change.timeout,
                                                       .add = std::nullopt,
                                                       .exact = true});
        // It has ended meanwhile.
        if (!reply && (reply.error().code == ErrorCode::conflict ||
                       reply.error().code == ErrorCode::not_found))
            continue;
        if (!reply) return reply.error();
        const Status noted = workspace::log_project(paths, io::wall_now(), workspace::LogWord::info,
                                                    "Session lifetime: " + words(change));
        if (!noted) context.terminal().say("ictl: warning: " + noted.error().message);
    }
    return Done{};
}

Result<Plan> change_all(Context& context, const Project& project) {
    AppliedLifetimes applied(project.root);
    Result<Plan> plan = make_plan(context, project, applied);
    if (!plan || plan->changes.empty()) return plan;
    // Remembered first: after a crash in between, what was changed is still known as ours.
    if (Status added = applied.add(*plan->lifetime); !added) return added.error();
    if (Status done = apply(context, project, plan->changes); !done) return done.error();
    return plan;
}

void show(const Terminal& terminal, const std::vector<Change>& changes, bool json) {
    if (json) {
        std::vector<TimeoutChange> rows;
        for (const Change& change : changes)
            rows.push_back({change.session.id, change.session.timeout, change.timeout});
        return terminal.print(timeouts_json(rows));
    }
    for (const Change& change : changes)
        terminal.print(words(change) + "\n");
}

// Waits until config.sh has changed and is left alone for a moment, or until `deadline`.
Status wait_for_edit(FolderWatch& watch, std::optional<Timestamp> deadline) {
    bool edited = false;
    bool gone = false;
    io::EventLoop loop;
    loop.add_fd(watch.fd(), [&] {
        for (const FolderWatch::Change& change : watch.read()) {
            edited = edited || change.name == "config.sh";
            gone = gone || change.folder_gone;
        }
    });
    while (!edited && !gone && (!deadline || io::steady_now() < *deadline)) {
        if (Status waited = loop.wait(deadline); !waited) return waited;
    }
    while (edited) {
        edited = false;
        const Timestamp quiet = io::steady_now() + kSettled;
        while (!edited && !gone && io::steady_now() < quiet) {
            if (Status waited = loop.wait(quiet); !waited) return waited;
        }
    }
    if (gone) return make_error(ErrorCode::conflict, "scripts/ops was moved away or removed");
    return Done{};
}

int watch_edits(Context& context, const Project& project, bool json) {
    const Terminal& terminal = context.terminal();
    const std::string folder = project.root + "/scripts/ops";
    Result<FolderWatch> watch = FolderWatch::open(folder, FolderWatch::Interest::names_and_content);
    if (!watch) return terminal.fail(watch.error());
    std::string complaint;
    while (true) {
        std::optional<Timestamp> again;
        {
            // A connection of its own for each edit: between them there is no traffic at all.
            Context once(context.options(), terminal);
            const Result<Plan> plan = change_all(once, project);
            if (plan) show(terminal, plan->changes, json);
            if (!plan) again = io::steady_now() + kTryAgain;
            const std::string problem = plan ? "" : plan.error().message;
            if (!problem.empty() && problem != complaint)
                terminal.say("ictl: warning: " + problem + "; tried again each minute");
            complaint = problem;
        }
        terminal.out.flush();
        if (Status waited = wait_for_edit(*watch, again); !waited)
            return terminal.fail(waited.error());
    }
}

int run(Context& context, const Options& options) {
    const Terminal& terminal = context.terminal();
    const Result<Project> project = context.require_project();
    if (!project) return terminal.fail(project.error());
    if (options.watch) return watch_edits(context, *project, options.json);
    const Result<Plan> plan = options.apply
                                  ? change_all(context, *project)
                                  : make_plan(context, *project, AppliedLifetimes(project->root));
    if (!plan) return terminal.fail(plan.error());
    show(terminal, plan->changes, options.json);
    return kExitOk;
}

Runner declare(CLI::App& app) {
    auto options = std::make_shared<Options>();
    app.add_flag("--apply", options->apply, "change them");
    app.add_flag("--watch", options->watch, "apply every edit of config.sh until ended");
    app.add_flag("--json", options->json, "print JSON");
    return [options](Context& context) { return run(context, *options); };
}

}  // namespace

Command limits_command() {
    return {.name = "limits",
            .group = kGroupProject,
            .summary = "Bring an edited config.sh to the sessions that run",
            .details = kDetails,
            .declare = declare};
}

}  // namespace iw::ctl
