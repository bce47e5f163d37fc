#include "ctl/archiving.h"

#include <fcntl.h>
#include <stdio.h>

#include <cerrno>
#include <cstring>

#include "common/io/files.h"
#include "common/io/system_clock.h"
#include "common/workspace/workspace.h"
#include "ctl/context.h"
#include "ctl/refresh.h"
#include "ctl/render.h"

namespace iw::ctl {
namespace {

using workspace::LogWord;
using workspace::ProjectPaths;

ArchiveOutcome refuse(const SessionId& id, const std::string& why) {
    return {.id = id, .kind = ArchiveOutcome::Kind::refused, .folder = "", .why = why};
}

// Where an archived session stands: as a folder, or packed beside the others.
std::string archived_at(const ProjectPaths& project, const SessionId& id) {
    const std::string folder = project.archived(id);
    for (const std::string& place : {folder, folder + ".tar.gz"}) {
        if (io::exists(place)) return place;
    }
    return {};
}

bool shows_end(const ProjectPaths& project, const SessionId& id) {
    const Result<std::string> text = workspace::read_state(project, id);
    if (!text) return false;
    const Result<SessionView> view = workspace::view_from_state(*text);
    return view && is_final(view->status);
}

// Nothing: it may be moved from sessions/ to the archive.
std::optional<ArchiveOutcome> hindrance(Context& context, const SessionView& session) {
    const SessionId& id = session.id;
    if (!is_final(session.status)) {
        return refuse(id, "is " + status_words(session) + "; only ended sessions are archived");
    }
    if (session.origin.empty() || session.origin.host != context.host()) {
        return refuse(id, session.origin.empty()
                              ? "has no workspace in a project"
                              : "has its workspace on host " + session.origin.host);
    }
    const ProjectPaths project(session.origin.root);
    const std::string archived = archived_at(project, id);
    if (io::exists(project.workspace(id))) {
        if (archived.empty()) return std::nullopt;
        return refuse(id, "stands in " + project.sessions + " and in " + archived +
                              "; move one of them away");
    }
    if (archived.empty()) {
        return refuse(id, "has no workspace any more, neither in " + project.sessions + " nor in " +
                              project.archive);
    }
    return ArchiveOutcome{
        .id = id, .kind = ArchiveOutcome::Kind::there_already, .folder = archived, .why = ""};
}

ArchiveOutcome move_workspace(Context& context, const SessionView& session) {
    const SessionId& id = session.id;
    const ProjectPaths project(session.origin.root);
    if (!shows_end(project, id)) {
        return refuse(id, "has ended, but its state.json does not show it yet; repeat in a moment");
    }
    if (Status made = workspace::prepare_project(project); !made)
        return refuse(id, made.error().message);
    const std::string from = project.workspace(id);
    const std::string to = project.archived(id);
    if (::renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), RENAME_NOREPLACE) != 0) {
        return refuse(id, std::string("cannot be moved to ") + to + ": " + std::strerror(errno));
    }
    const Status noted = workspace::log_project(project, io::wall_now(), LogWord::info,
                                                "Session archived: " + id.str());
    if (!noted) context.terminal().say("ictl: warning: " + noted.error().message);
    return {.id = id, .kind = ArchiveOutcome::Kind::moved, .folder = to, .why = ""};
}

}  // namespace

std::vector<ArchiveOutcome> archive_sessions(Context& context, std::vector<SessionView> sessions,
                                             bool dry_run) {
    if (!dry_run) refresh_workspaces(context, sessions);
    std::vector<ArchiveOutcome> outcomes;
    for (const SessionView& session : sessions) {
        if (std::optional<ArchiveOutcome> hindered = hindrance(context, session)) {
            outcomes.push_back(std::move(*hindered));
        } else if (dry_run) {
            outcomes.push_back({.id = session.id,
                                .kind = ArchiveOutcome::Kind::moved,
                                .folder = ProjectPaths(session.origin.root).archived(session.id),
                                .why = ""});
        } else {
            outcomes.push_back(move_workspace(context, session));
        }
    }
    return outcomes;
}

}  // namespace iw::ctl
