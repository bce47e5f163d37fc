#include "worker/workspace_keeper.h"

#include <sys/inotify.h>
#include <sys/stat.h>

#include <utility>

#include "common/io/files.h"
#include "common/io/logging.h"

namespace iw::worker {
namespace {

constexpr std::uint32_t kWritten = IN_MOVED_TO | IN_CLOSE_WRITE | IN_DELETE;
constexpr std::uint32_t kGone = IN_MOVED_FROM | IN_DELETE;

void log_failure(const Status& status, const SessionId& id) {
    if (status) return;
    io::log(io::LogLevel::warn, "workspace not put right",
            {{"session", id.str()}, {"error", status.error().message}});
}

}  // namespace

void WorkspaceKeeper::follow(const AttemptRef& attempt) {
    Followed& followed = followed_[attempt.session];
    followed.attempt = attempt;
    followed.ours = version(attempt.session);
    watch_folders(followed);
}

void WorkspaceKeeper::watch_folders(const Followed& followed) {
    const SessionId id = followed.attempt.session;
    log_failure(parts_.watch.add(parts_.project.sessions, kGone,
                                 [this](const std::string& name) {
                                     const auto found = followed_.find(SessionId(name));
                                     if (found != followed_.end()) look_at(found->second);
                                 }),
                id);
    log_failure(parts_.watch.add(parts_.project.workspace(id), kWritten,
                                 [this, id](const std::string& name) {
                                     const auto found = followed_.find(id);
                                     if (found == followed_.end() || name != "state.json") return;
                                     look_at(found->second);
                                 }),
                id);
}

void WorkspaceKeeper::leave(const SessionId& id) {
    if (followed_.erase(id) == 0) return;
    parts_.watch.remove(parts_.project.workspace(id));
    if (followed_.empty()) parts_.watch.remove(parts_.project.sessions);
}

void WorkspaceKeeper::leave(const AttemptRef& attempt) {
    const auto found = followed_.find(attempt.session);
    if (found != followed_.end() && found->second.attempt == attempt) leave(attempt.session);
}

void WorkspaceKeeper::look_at_all() {
    for (auto& [id, followed] : followed_)
        look_at(followed);
}

void WorkspaceKeeper::look_at(Followed& followed) {
    const SessionId& id = followed.attempt.session;
    if (!io::exists(parts_.project.workspace(id))) return make_again(followed);
    const std::optional<Version> now = version(id);
    if (!now || now != followed.ours) put_right(followed);
}

// The moved copy is left alone: it is somebody's, who may still be looking at it.
void WorkspaceKeeper::make_again(Followed& followed) {
    const SessionId& id = followed.attempt.session;
    const std::optional<SessionView> view = parts_.view(followed.attempt);
    if (!view) return;
    // The watch went with the old folder.
    parts_.watch.remove(parts_.project.workspace(id));
    const std::string prompt = parts_.prompt(followed.attempt);
    log_failure(workspace::create(parts_.project, *view, prompt), id);
    const std::string text = "Workspace of a running session was moved or removed; made again: ";
    const WallTime now = parts_.now();
    log_failure(
        workspace::log_session(parts_.project, id, now, workspace::LogWord::warn, text + id.str()),
        id);
    log_failure(
        workspace::log_project(parts_.project, now, workspace::LogWord::warn, text + id.str()), id);
    followed.ours = version(id);
    watch_folders(followed);
}

void WorkspaceKeeper::put_right(Followed& followed) {
    const SessionId& id = followed.attempt.session;
    const std::optional<SessionView> view = parts_.view(followed.attempt);
    if (!view) return;
    log_failure(workspace::write_state(parts_.project, *view, true, parts_.now()), id);
    followed.ours = version(id);
}

std::optional<WorkspaceKeeper::Version> WorkspaceKeeper::version(const SessionId& id) const {
    const std::string path = parts_.project.workspace(id) + "/state.json";
    struct stat info {};
    if (::lstat(path.c_str(), &info) != 0) return std::nullopt;
    return Version{.inode = info.st_ino,
                   .changed_ns = static_cast<std::int64_t>(info.st_mtim.tv_sec) * 1'000'000'000 +
                                 info.st_mtim.tv_nsec};
}

}  // namespace iw::worker
