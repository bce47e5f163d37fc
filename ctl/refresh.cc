#include "ctl/refresh.h"

#include <poll.h>

#include <algorithm>
#include <cerrno>
#include <map>
#include <string>
#include <utility>

#include "common/io/config_file.h"
#include "common/io/files.h"
#include "common/io/system_clock.h"
#include "common/workspace/incoming.h"
#include "common/workspace/state_file.h"
#include "common/workspace/workspace.h"
#include "ctl/context.h"
#include "ctl/edits.h"
#include "ctl/fetching.h"
#include "ctl/folder_watch.h"

namespace iw::ctl {
namespace {

constexpr std::size_t kStateMax = 4u << 20;
// Between two looks at who serves a root.
constexpr Duration kLookPause{1'000};

// Its state.json tells this very end, so its files are there.
bool shows_end(const workspace::ProjectPaths& project, const SessionView& session) {
    const Result<std::string> text =
        io::read_file(project.workspace(session.id) + "/state.json", kStateMax);
    return text && workspace::shows_outcome(*text, session);
}

bool is_lasting(const Error& error) {
    return error.code == ErrorCode::not_found || error.code == ErrorCode::conflict ||
           error.code == ErrorCode::bad_request || error.code == ErrorCode::unknown_verb;
}

// The files of an end come first: nothing may show it before.
Status bring_files(Context& context, const workspace::ProjectPaths& project,
                   const SessionView& session, workspace::Incoming& incoming) {
    Result<BrokerClient*> broker = context.broker(Insistence::brief);
    if (!broker) return broker.error();
    std::vector<std::string> lines;
    Result<workspace::Manifest> manifest = fetch_manifest(**broker, session);
    if (manifest) {
        lines = manifest->left_out;
        for (std::string& line : lines)
            line.insert(0, "left behind: ");
        const Result<std::vector<std::string>> missing =
            fetch_files(**broker, session.id, std::move(*manifest), incoming);
        if (!missing) return missing.error();
        lines.insert(lines.end(), missing->begin(), missing->end());
    } else if (is_lasting(manifest.error())) {
        // Asking again will not bring them.
        lines.push_back(manifest.error().message);
    } else {
        return manifest.error();
    }
    for (const std::string& line : lines) {
        static_cast<void>(workspace::log_session(project, session.id, io::wall_now(),
                                                 workspace::LogWord::warn, line));
    }
    return Done{};
}

Status write_end(Context& context, const workspace::ProjectPaths& project,
                 const SessionView& session) {
    const Status begun = workspace::write_run(project, session, io::wall_now());
    if (!begun) return begun;
    // Held until the end is written: a worker that starts meanwhile must not begin anew.
    Result<workspace::Incoming> incoming =
        workspace::Incoming::open(project.workspace(session.id), workspace::Incoming::Busy::wait);
    if (!incoming) return incoming.error();
    // Another ictl may have done it while this one waited.
    if (shows_end(project, session)) return Done{};
    if (session.deliverables) {
        const Status brought = bring_files(context, project, session, *incoming);
        if (!brought) return brought;
    }
    const SessionStatus from = session.started_at ? SessionStatus::running : SessionStatus::created;
    return workspace::write_end(project, session, from, io::wall_now());
}

// A file that shows an end was written by who knew it, after this answer, or by a script that only
// thinks so. False: nobody can tell now.
bool ask_again(Context& context, SessionView& session) {
    Result<BrokerClient*> broker = context.broker(Insistence::brief);
    if (!broker) return false;
    Result<StatusReply> reply = (*broker)->status(session.id.str(), /*exact=*/true);
    if (reply) session = std::move(reply->session);
    return reply.ok();
}

Status refresh_one(Context& context, SessionView& session) {
    const workspace::ProjectPaths project(session.origin.root);
    const std::optional<SessionView> before = workspace::standing_view(project, session.id);
    if (!before) return Done{};
    // Who writes an end also knows when it was.
    const bool whole_end = is_final(before->status) && before->completed_at;
    if (whole_end && !is_final(session.status) && !ask_again(context, session)) return Done{};
    session.workspace = project.workspace(session.id);
    Status written = Done{};
    if (is_final(session.status)) {
        if (!shows_end(project, session)) written = write_end(context, project, session);
    } else if (before->status != session.status || before->detail != session.detail ||
               before->attempt != session.attempt) {
        written = workspace::write_live(project, session, io::wall_now());
    }
    return written ? settle_edits(context, project, session) : written;
}

void hold_back(SessionView& view, const std::string& why) {
    view = workspace::delivering_view(view);
    view.reason = why;
}

// The worker of its root was away when it ended: the broker told the end to others before the files
// had come. A status that a script wrote has no time of completion.
bool is_awaited(const SessionView& view) {
    if (!is_final(view.status) || !view.deliverables) return false;
    const workspace::ProjectPaths project(view.origin.root);
    const Result<std::string> text =
        io::read_file(project.workspace(view.id) + "/state.json", kStateMax);
    const Result<SessionView> shown =
        text ? workspace::view_from_state(*text) : Result<SessionView>(text.error());
    return shown && shown->id == view.id && !(is_final(shown->status) && shown->completed_at);
}

bool is_here(const Context& context, const SessionView& view) {
    return !view.origin.empty() && view.origin.host == context.host();
}

bool is_served(const std::string& root) {
    return io::lock_holder(io::root_lock_file(root)).has_value();
}

}  // namespace

std::optional<SessionView> ended_by_files(const workspace::ProjectPaths& project,
                                          const std::string& id) {
    if (!is_session_id(id)) return std::nullopt;
    const Result<std::string> text = workspace::read_state(project, SessionId(id));
    if (!text) return std::nullopt;
    Result<SessionView> view = workspace::view_from_state(*text);
    if (!view || !is_final(view->status)) return std::nullopt;
    // Where the files stand now; the text may name where they stood.
    const bool standing = io::exists(project.workspace(view->id));
    view->workspace = standing ? project.workspace(view->id) : project.archived(view->id);
    return std::move(view).value();
}

void refresh_workspaces(Context& context, std::vector<SessionView>& views) {
    std::map<std::string, bool> served;  // by root: a worker holds it
    for (SessionView& view : views) {
        if (!is_here(context, view)) continue;
        const auto [entry, is_new] = served.try_emplace(view.origin.root, false);
        if (is_new) entry->second = is_served(view.origin.root);
        if (entry->second) {
            if (is_awaited(view)) hold_back(view, "its worker is bringing its files here");
            continue;
        }
        const Status done = refresh_one(context, view);
        if (done) continue;
        context.terminal().say("ictl: warning: " + view.id.str() + ": " + done.error().message);
        if (is_final(view.status) && view.deliverables)
            hold_back(view, "its files cannot be brought here yet: " + done.error().message);
    }
}

void refresh_workspace(Context& context, SessionView& view) {
    std::vector<SessionView> views = {std::move(view)};
    refresh_workspaces(context, views);
    view = std::move(views.front());
}

void refresh_end(Context& context, SessionView& view, std::optional<Timestamp> deadline) {
    const std::string folder = workspace::ProjectPaths(view.origin.root).workspace(view.id);
    bool told = false;
    while (is_here(context, view) && is_served(view.origin.root)) {
        // Opened first: what changes after the look is seen.
        Result<FolderWatch> watch = FolderWatch::open(folder, FolderWatch::Interest::names);
        if (!watch || !is_awaited(view)) break;
        const Duration left = deadline ? *deadline - io::steady_now() : kLookPause;
        if (left <= Duration(0)) break;
        pollfd changes{.fd = watch->fd(), .events = POLLIN, .revents = 0};
        const Duration pause = std::min(left, kLookPause);
        const int changed = ::poll(&changes, 1, static_cast<int>(pause.count()));
        if (changed < 0 && errno != EINTR) break;
        if (changed != 0 || std::exchange(told, true)) continue;
        context.terminal().say("ictl: " + view.id.str() +
                               " has ended; waiting for its worker to bring its files here");
    }
    refresh_workspace(context, view);
}

}  // namespace iw::ctl
