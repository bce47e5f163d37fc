#include "ctl/refresh.h"

#include <map>
#include <string>

#include "common/io/files.h"
#include "common/io/system_clock.h"
#include "common/workspace/workspace.h"
#include "ctl/context.h"
#include "ctl/tmux_sessions.h"

namespace iw::ctl {
namespace {

// What state.json shows now; nothing when there is no readable one, and then there is nothing to
// refresh.
std::optional<SessionView> shown(const workspace::ProjectPaths& project, const SessionId& id) {
    if (!io::exists(project.workspace(id))) return std::nullopt;
    const Result<std::string> text = workspace::read_state(project, id);
    if (!text) return std::nullopt;
    Result<SessionView> view = workspace::view_from_state(*text);
    if (!view) return std::nullopt;
    return std::move(view).value();
}

Status refresh_one(const SessionView& session, bool tmux_active) {
    const workspace::ProjectPaths project(session.origin.root);
    const std::optional<SessionView> before = shown(project, session.id);
    if (!before) return Done{};
    // A final state.json was written by who knew; an older answer never takes it back.
    if (is_final(before->status)) return Done{};
    SessionView now = session;
    now.workspace = project.workspace(session.id);
    if (is_final(session.status)) {
        return workspace::write_end(project, now, before->status, io::wall_now());
    }
    if (before->status == session.status && before->detail == session.detail) return Done{};
    if (before->status == SessionStatus::created && session.status == SessionStatus::running) {
        return workspace::write_started(project, now, io::wall_now());
    }
    return workspace::write_state(project, now, tmux_active, io::wall_now());
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

void refresh_workspaces(Context& context, const std::vector<SessionView>& views) {
    TmuxSessions tmux(context);
    std::map<std::string, bool> owned;  // by root: a worker holds it
    for (const SessionView& view : views) {
        if (view.origin.empty() || view.origin.host != context.host()) continue;
        const auto [entry, is_new] = owned.try_emplace(view.origin.root, false);
        if (is_new) {
            const std::string lock = context.worker_state(view.origin.root) + "/lock";
            entry->second = io::lock_holder(lock).has_value();
        }
        if (entry->second) continue;
        const Status done = refresh_one(view, tmux.active(view));
        if (!done) context.terminal().say("ictl: warning: " + done.error().message);
    }
}

}  // namespace iw::ctl
