#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>

#include "common/base/text.h"
#include "common/io/files.h"
#include "common/workspace/archive.h"
#include "common/workspace/edits.h"
#include "common/workspace/project_log.h"
#include "common/workspace/state_file.h"
#include "common/workspace/workspace.h"

namespace iw::workspace {
namespace {

constexpr mode_t kFolderMode = 0755;
constexpr mode_t kFileMode = 0644;
// state.json is small; what a script put there may be larger, up to here.
constexpr std::size_t kStateMax = 4u << 20;
// How far back session.log is read to see which lines are there already.
constexpr std::size_t kLogTailMax = 64u << 10;
constexpr std::string_view kStartedLine = "Status: CREATED → RUNNING";
constexpr std::string_view kReturnedLine = "Status: RUNNING → CREATED (retrying)";

bool is_folder(const std::string& path) {
    struct stat status {};
    return ::lstat(path.c_str(), &status) == 0 && S_ISDIR(status.st_mode);
}

std::string state_path(const std::string& folder) {
    return folder + "/state.json";
}
std::string log_path(const std::string& folder) {
    return folder + "/session.log";
}

std::string_view word(LogWord level) {
    switch (level) {
        case LogWord::info:
            return "INFO";
        case LogWord::warn:
            return "WARN";
        case LogWord::error:
            return "ERROR";
    }
    return "INFO";
}

std::string log_line(WallTime time, LogWord level, std::string_view text) {
    return "[" + format_utc(time) + "] [" + std::string(word(level)) + "] " +
           printable(text, /*single_line=*/true) + "\n";
}

std::string change_line(WallTime time, SessionStatus from, SessionStatus to) {
    const std::string text = "Status: " + std::string(name(from)) + " → " + std::string(name(to));
    return log_line(time, LogWord::info, text);
}

// The workspace is the agent's too: what stands under one of our names and is of the wrong kind (a
// folder, a link, a FIFO) goes aside, unfollowed and unread, so that the file can be made anew.
// That it could not be moved shows when the file is written.
void clear_name(const std::string& path, mode_t kind) {
    struct stat status {};
    if (::lstat(path.c_str(), &status) != 0 || (status.st_mode & S_IFMT) == kind) return;
    const std::string aside = path + ".odd-" + io::random_hex(4);
    static_cast<void>(::rename(path.c_str(), aside.c_str()));
}

Status append_line(const std::string& path, std::string_view lines) {
    clear_name(path, S_IFREG);
    return io::append_file(path, lines, kFileMode);
}

// A workspace that somebody has moved or removed is left alone by all but create().
Status unless_missing(const std::string& folder, Status status) {
    if (status.ok() || is_folder(folder)) return status;
    return Done{};
}

Status ignore_conflict(Status status) {
    if (!status.ok() && status.error().code == ErrorCode::conflict) return Done{};
    return status;
}

std::string tail_of_log(const std::string& path) {
    const Result<std::string> text = io::read_file(path, kStateMax);
    if (!text) return {};
    const std::size_t start = text->size() > kLogTailMax ? text->size() - kLogTailMax : 0;
    return text->substr(start);
}

// Appends the lines unless the last of them is there already: a writer that was ended in the middle
// repeats the whole call.
Status append_once(const std::string& folder, const std::string& lines, const std::string& last) {
    if (!is_folder(folder)) return Done{};
    clear_name(log_path(folder), S_IFREG);
    if (tail_of_log(log_path(folder)).find(last) != std::string::npos) return Done{};
    return unless_missing(folder, append_line(log_path(folder), lines));
}

// Of a run that was timed by another host's worker nothing stands in this project's logs yet.
void tell_timeout(const ProjectPaths& project, const SessionView& outcome, WallTime time) {
    constexpr std::string_view kFront = "Timeout (";
    if (outcome.detail != Detail::timeout || !outcome.kill_reason.starts_with(kFront)) return;
    const std::string elapsed =
        outcome.kill_reason.substr(kFront.size(), outcome.kill_reason.find(')') - kFront.size());
    const std::string folder = project.workspace(outcome.id);
    const std::string told = "Session timeout: " + outcome.id.str() + " (";
    if (!is_folder(folder) || tail_of_log(log_path(folder)).find(told) != std::string::npos) return;
    const std::string line =
        told + elapsed + " > " + std::to_string(outcome.timeout.count() / 1000) + "s)";
    static_cast<void>(log_session(project, outcome.id, time, LogWord::warn, line));
    static_cast<void>(log_project(project, time, LogWord::warn, line));
}

// Archived after its end a workspace is complete and nobody writes it any more; one that was moved
// there while its session runs is missed.
bool is_archived_final(const ProjectPaths& project, const SessionView& session) {
    if (session.status == SessionStatus::running) return false;
    const std::string folder = project.archived(session.id);
    if (!io::exists(folder)) return is_compressed(project, session.id);
    const Result<std::string> text = io::read_file(state_path(folder), kStateMax);
    if (!text) return true;
    const Result<SessionView> view = view_from_state(*text);
    return !view || is_final(view->status);
}

}  // namespace

Status create(const ProjectPaths& project, const SessionView& session, std::string_view prompt) {
    if (is_archived_final(project, session)) return Done{};
    const std::string folder = project.workspace(session.id);
    if (Status made = io::make_folders(folder, kFolderMode); !made) return made;
    const std::string log =
        log_line(session.created_at, LogWord::info, "Session created: " + session.id.str());
    SessionView view = session;
    view.workspace = folder;
    const std::string state = state_json(view, /*tmux_active=*/false, session.created_at);
    const std::array<std::pair<std::string, std::string_view>, 3> files = {
        {{folder + "/prompt.md", prompt}, {log_path(folder), log}, {state_path(folder), state}}};
    for (const auto& [path, bytes] : files) {
        Status written = io::write_file_new(path, bytes, kFileMode, io::Sync::none);
        if (Status status = ignore_conflict(std::move(written)); !status) return status;
    }
    return Done{};
}

Status write_state(const ProjectPaths& project, const SessionView& session, bool tmux_active,
                   WallTime now) {
    const std::string folder = project.workspace(session.id);
    if (!is_folder(folder)) return Done{};
    clear_name(state_path(folder), S_IFREG);
    const Result<RewrittenState> written = rewrite_state(
        project, session.id,
        [&](const std::string& kept) { return merge_state_json(session, tmux_active, now, kept); });
    if (!written) return unless_missing(folder, written.error());
    if (written->broken.empty()) return Done{};
    return log_session(project, session.id, now, LogWord::warn, broken_line(written->broken));
}

std::string broken_line(const std::string& kept_as) {
    return "state.json was no JSON object; it was written anew, what stood there is in " + kept_as;
}

Status log_session(const ProjectPaths& project, const SessionId& id, WallTime time, LogWord level,
                   std::string_view text) {
    const std::string folder = project.workspace(id);
    if (!is_folder(folder)) return Done{};
    return unless_missing(folder, append_line(log_path(folder), log_line(time, level, text)));
}

Status log_project(const ProjectPaths& project, WallTime time, LogWord level,
                   std::string_view text) {
    clear_name(project.global_log, S_IFREG);
    return append_project_log(project, log_line(time, level, text));
}

Status write_started(const ProjectPaths& project, const SessionView& session, WallTime now) {
    const WallTime time = session.started_at.value_or(now);
    const std::string change = change_line(time, SessionStatus::created, SessionStatus::running);
    std::string lines;
    if (session.attempt > 1) {
        const std::string text = "Attempt " + std::to_string(session.attempt);
        lines += log_line(time, LogWord::info, text);
    }
    lines += log_line(time, LogWord::info, "tmux session started") + change;
    const std::string folder = project.workspace(session.id);
    // Two short attempts can start within one second: their changes read alike.
    const std::string& mark = session.attempt > 1 ? lines : change;
    if (Status logged = append_once(folder, lines, mark); !logged) return logged;
    return write_state(project, session, /*tmux_active=*/true, now);
}

Status write_end(const ProjectPaths& project, const SessionView& outcome, SessionStatus before,
                 WallTime now) {
    const std::string folder = project.workspace(outcome.id);
    clear_name(state_path(folder), S_IFREG);
    const Result<std::string> old = io::read_file(state_path(folder), kStateMax);
    if (old.ok() && shows_outcome(*old, outcome)) return Done{};
    const WallTime time = outcome.completed_at.value_or(now);
    tell_timeout(project, outcome, time);
    std::string lines;
    if (outcome.exit_code) {
        const LogWord level = *outcome.exit_code == 0 ? LogWord::info : LogWord::error;
        lines += log_line(time, level, "Exit code: " + std::to_string(*outcome.exit_code));
    }
    const bool plain_exit =
        outcome.detail == Detail::done || (outcome.detail == Detail::exited && outcome.exit_code);
    const std::string& why = outcome.kill_reason.empty() ? outcome.reason : outcome.kill_reason;
    if (!plain_exit && !why.empty()) lines += log_line(time, LogWord::warn, "Reason: " + why);
    const std::string change = change_line(time, before, outcome.status);
    if (Status logged = append_once(folder, lines + change, change); !logged) return logged;
    return write_state(project, outcome, /*tmux_active=*/false, now);
}

// No time in the line that is looked for: a return has none of its own.
Status write_returned(const ProjectPaths& project, const SessionView& session, SessionStatus before,
                      WallTime now) {
    const std::string folder = project.workspace(session.id);
    const Result<std::string> log = io::read_file(log_path(folder), kStateMax);
    const std::size_t returned = log.ok() ? log->rfind(kReturnedLine) : std::string::npos;
    const std::size_t started = log.ok() ? log->rfind(kStartedLine) : std::string::npos;
    const bool logged =
        returned != std::string::npos && (started == std::string::npos || started < returned);
    if (!logged && is_folder(folder)) {
        std::string lines;
        if (session.exit_code) {
            const LogWord level = *session.exit_code == 0 ? LogWord::info : LogWord::error;
            lines += log_line(now, level, "Exit code: " + std::to_string(*session.exit_code));
        }
        if (!session.reason.empty())
            lines += log_line(now, LogWord::warn, "Reason: " + session.reason);
        if (before == SessionStatus::running) lines += log_line(now, LogWord::info, kReturnedLine);
        if (Status wrote = unless_missing(folder, append_line(log_path(folder), lines)); !wrote)
            return wrote;
    }
    return write_state(project, session, /*tmux_active=*/false, now);
}

Result<std::string> read_state(const ProjectPaths& project, const SessionId& id) {
    Result<std::string> standing = io::read_file(state_path(project.workspace(id)), kStateMax);
    if (standing.ok()) return standing;
    Result<std::string> archived = io::read_file(state_path(project.archived(id)), kStateMax);
    if (archived.ok()) return archived;
    Result<std::string> compressed = read_compressed(project, id, "state.json", kStateMax);
    if (compressed.ok()) return compressed;
    return standing;
}

std::optional<SessionView> standing_view(const ProjectPaths& project, const SessionId& id) {
    const std::string folder = project.workspace(id);
    if (!is_folder(folder)) return std::nullopt;
    const Result<std::string> text = io::read_file(state_path(folder), kStateMax);
    Result<SessionView> view = text ? view_from_state(*text) : Result<SessionView>(text.error());
    if (view && view->id == id) return std::move(*view);
    SessionView nothing;
    nothing.id = id;
    return nothing;
}

}  // namespace iw::workspace
