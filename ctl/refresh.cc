#include "ctl/refresh.h"

#include <map>
#include <string>

#include "common/io/config_file.h"
#include "common/io/files.h"
#include "common/io/system_clock.h"
#include "common/workspace/incoming.h"
#include "common/workspace/state_file.h"
#include "common/workspace/workspace.h"
#include "ctl/context.h"
#include "ctl/edits.h"
#include "ctl/fetching.h"

namespace iw::ctl {
namespace {

// Its state.json tells this very end, so its files are there.
bool shows_end(const workspace::ProjectPaths& project, const SessionView& session) {
    constexpr std::size_t kStateMax = 4u << 20;
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
                   const SessionView& session) {
    Result<workspace::Incoming> incoming =
        workspace::Incoming::open(project.workspace(session.id), workspace::Incoming::Busy::wait);
    if (!incoming) return incoming.error();
    // Another ictl may have brought them while this one waited.
    if (shows_end(project, session)) return Done{};
    Result<BrokerClient*> broker = context.broker(Insistence::brief);
    if (!broker) return broker.error();
    std::vector<std::string> lines;
    Result<workspace::Manifest> manifest = fetch_manifest(**broker, session);
    if (manifest) {
        lines = manifest->left_out;
        for (std::string& line : lines)
            line.insert(0, "left behind: ");
        const Result<std::vector<std::string>> missing =
            fetch_files(**broker, session.id, std::move(*manifest), *incoming);
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
    if (session.deliverables) {
        const Status brought = bring_files(context, project, session);
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

void hold_back(SessionView& view, const Error& error) {
    view.status = SessionStatus::running;
    view.detail = Detail::delivering;
    view.completed_at.reset();
    view.reason = "its files cannot be brought here yet: " + error.message;
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
    std::map<std::string, bool> owned;  // by root: a worker serves it
    for (SessionView& view : views) {
        if (view.origin.empty() || view.origin.host != context.host()) continue;
        const auto [entry, is_new] = owned.try_emplace(view.origin.root, false);
        if (is_new)
            entry->second = io::lock_holder(io::root_lock_file(view.origin.root)).has_value();
        if (entry->second) continue;
        const Status done = refresh_one(context, view);
        if (done) continue;
        context.terminal().say("ictl: warning: " + view.id.str() + ": " + done.error().message);
        if (is_final(view.status) && view.deliverables) hold_back(view, done.error());
    }
}

void refresh_workspace(Context& context, SessionView& view) {
    std::vector<SessionView> views = {std::move(view)};
    refresh_workspaces(context, views);
    view = std::move(views.front());
}

}  // namespace iw::ctl
