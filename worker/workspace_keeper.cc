#include "worker/workspace_keeper.h"

#include <sys/inotify.h>

#include <algorithm>
#include <array>
#include <utility>

#include "common/io/files.h"
#include "common/io/logging.h"

namespace iw::worker {
namespace {

constexpr std::uint32_t kWritten = IN_MOVED_TO | IN_CLOSE_WRITE | IN_DELETE;
constexpr std::uint32_t kComeOrGone = IN_CREATE | IN_MOVED_TO | IN_MOVED_FROM | IN_DELETE;
constexpr Duration kRetryPause{10'000};
// Of a running session, besides state.json.
constexpr std::array kMadeAgain = {"prompt.md", "session.log"};

void log_failure(const Status& status, const SessionId& id) {
    if (status) return;
    io::log(io::LogLevel::warn, "workspace not put right",
            {{"session", id.str()}, {"error", status.error().message}});
}

}  // namespace

// ---- Which workspaces --------------------------------------------------------------------------

WorkspaceKeeper::Followed& WorkspaceKeeper::entry(const SessionId& id) {
    Followed& followed = followed_[id];
    followed.id = id;
    return followed;
}

void WorkspaceKeeper::follow(const AttemptRef& attempt) {
    const bool is_new = !followed_.contains(attempt.session);
    Followed& followed = entry(attempt.session);
    followed.attempt = attempt;
    final_.erase(attempt.session);
    awaited_.erase(attempt.session);
    if (is_new) {
        if (const auto view = parts_.view(attempt)) followed.known = workspace::shared_of(*view);
        followed.base = followed.known;
        // An edit that an earlier process has told the broker differs from the assignment.
        followed.confirmed = listed_;
    }
    watch_folders(attempt.session);
    look_at(attempt.session);
}

void WorkspaceKeeper::keep(SessionView session) {
    const SessionId id = session.id;
    const bool runs = session.status == SessionStatus::running;
    if (!runs && !io::exists(parts_.project.workspace(id))) {
        leave(id);
        if (!is_final(session.status)) await(std::move(session));
        return;
    }
    awaited_.erase(id);
    const auto found = followed_.find(id);
    if (found != followed_.end() && found->second.view.revision > session.revision) return;
    Followed& followed = entry(id);
    session.workspace = parts_.project.workspace(id);
    followed.known = workspace::shared_of(session);
    if (found == followed_.end()) followed.base = followed.known;
    followed.confirmed = true;
    followed.attempt.reset();
    followed.view = std::move(session);
    followed.seen.reset();
    final_.erase(id);
    if (is_final(followed.view.status)) final_.insert(id);
    watch_folders(id);
    look_at(id);
    drop_oldest_final();
}

// Ids begin with the second in which they were made.
void WorkspaceKeeper::drop_oldest_final() {
    while (final_.size() > kFinalMax)
        leave(SessionId(*final_.begin()));
}

void WorkspaceKeeper::await(SessionView session) {
    const SessionId id = session.id;
    awaited_.insert_or_assign(id, std::move(session));
    while (awaited_.size() > kAwaitedMax)
        awaited_.erase(awaited_.begin());
    watch_sessions();
    // It may have been made before it was watched for.
    if (io::exists(parts_.project.workspace(id))) changed(id);
}

void WorkspaceKeeper::leave(const SessionId& id) {
    final_.erase(id);
    awaited_.erase(id);
    if (followed_.erase(id) == 0) return;
    parts_.watch.remove(parts_.project.workspace(id));
    if (followed_.empty() && awaited_.empty()) parts_.watch.remove(parts_.project.sessions);
}

void WorkspaceKeeper::leave(const AttemptRef& attempt) {
    const auto found = followed_.find(attempt.session);
    if (found != followed_.end() && found->second.attempt == attempt) leave(attempt.session);
}

void WorkspaceKeeper::watch_sessions() {
    const std::string& sessions = parts_.project.sessions;
    const auto on_change = [this](const std::string& name) { changed(SessionId(name)); };
    const Status watched = parts_.watch.add(sessions, kComeOrGone, on_change);
    if (watched) return;
    io::log(io::LogLevel::warn, "cannot watch the workspaces",
            {{"error", watched.error().message}});
}

// A folder of this name has come or gone.
void WorkspaceKeeper::changed(const SessionId& id) {
    const auto found = awaited_.find(id);
    if (found == awaited_.end()) return look_at(id);
    SessionView session = std::move(found->second);
    awaited_.erase(found);
    keep(std::move(session));
}

void WorkspaceKeeper::watch_folders(const SessionId& id) {
    watch_sessions();
    log_failure(parts_.watch.add(parts_.project.workspace(id), kWritten,
                                 [this, id](const std::string& name) {
                                     if (name == "state.json" || is_lost(id, name)) look_at(id);
                                 }),
                id);
}

// ---- Putting right -----------------------------------------------------------------------------

void WorkspaceKeeper::look_at_all() {
    std::vector<SessionId> ids;
    for (const auto& [id, followed] : followed_)
        ids.push_back(id);
    for (const auto& [id, session] : awaited_)
        ids.push_back(id);
    for (const SessionId& id : ids)
        changed(id);
}

bool WorkspaceKeeper::is_lost(const SessionId& id, const std::string& name) const {
    return std::ranges::find(kMadeAgain, name) != kMadeAgain.end() &&
           !io::exists(parts_.project.workspace(id) + "/" + name);
}

void WorkspaceKeeper::look_at(const SessionId& id) {
    const auto found = followed_.find(id);
    if (found == followed_.end()) return;
    Followed& followed = found->second;
    const bool runs = followed.attempt || followed.view.status == SessionStatus::running;
    if (!io::exists(parts_.project.workspace(id))) {
        return runs ? make_again(followed) : leave(id);
    }
    // A removal goes file by file, and what we write in between keeps it from taking the folder.
    if (runs &&
        std::ranges::any_of(kMadeAgain, [&](const char* name) { return is_lost(id, name); }))
        return make_again(followed);
    const auto now = workspace::state_version(parts_.project, id);
    // Somebody removes a workspace that is over, file by file: what we put there would be in the
    // way.
    if (!now && is_final(followed.view.status)) return;
    if (now && now == followed.seen) return;
    if (!is_right(followed)) return put_right(followed);
    followed.seen = now;
    followed.base = shown(followed);
    send(followed);
}

// The moved copy is left alone: it is somebody's, who may still be looking at it.
void WorkspaceKeeper::make_again(Followed& followed) {
    const SessionId id = followed.id;
    const std::optional<SessionView> view = view_of(followed);
    if (!view) return;
    // The watch went with the old folder.
    parts_.watch.remove(parts_.project.workspace(id));
    const AttemptRef attempt{id, {view->generation, view->attempt}};
    const std::string prompt = parts_.prompt(followed.attempt.value_or(attempt));
    log_failure(workspace::create(parts_.project, *view, prompt), id);
    warn(id, "Workspace of a running session was moved or removed; made again: " + id.str());
    followed.seen = workspace::state_version(parts_.project, id);
    watch_folders(id);
}

std::optional<SessionView> WorkspaceKeeper::view_of(const Followed& followed) const {
    std::optional<SessionView> view =
        followed.attempt ? parts_.view(*followed.attempt) : std::optional(followed.view);
    if (view) workspace::set_shared(*view, shown(followed));
    return view;
}

// What the broker has, and what a script has written since.
workspace::SharedFields WorkspaceKeeper::shown(const Followed& followed) const {
    workspace::SharedFields fields = followed.known;
    if (followed.in_flight) fields = workspace::apply(std::move(fields), *followed.in_flight);
    return workspace::apply(std::move(fields), followed.wanted);
}

bool WorkspaceKeeper::is_active(const Followed& followed) const {
    if (followed.attempt) return true;
    return followed.view.status == SessionStatus::running &&
           followed.view.detail != Detail::delivering;
}

// Final workspaces are many, and a write of ours would make each of them look young.
bool WorkspaceKeeper::is_right(const Followed& followed) const {
    const std::optional<SessionView> view = view_of(followed);
    const Result<std::string> text =
        io::read_file(parts_.project.workspace(followed.id) + "/state.json", 4u << 20);
    return view && text &&
           workspace::shows_session(*text, *view, is_active(followed), parts_.now());
}

void WorkspaceKeeper::put_right(Followed& followed) {
    const SessionId id = followed.id;
    std::vector<std::string> refused;
    const auto make = [&](const std::string& kept) {
        const auto edit = workspace::foreign_edit(kept, followed.base);
        if (edit) {
            refused.insert(refused.end(), edit->refused.begin(), edit->refused.end());
            workspace::merge_into(followed.wanted, *edit);
        }
        const std::optional<SessionView> view = view_of(followed);
        if (!view) return kept;
        return workspace::state_json_of(*view, is_active(followed), parts_.now(), kept);
    };
    if (!view_of(followed)) return;
    const auto written = workspace::rewrite_state(parts_.project, id, make);
    if (!written) return log_failure(written.error(), id);
    followed.seen = written->version;
    followed.base = shown(followed);
    if (!written->broken.empty()) warn(id, workspace::broken_line(written->broken));
    for (const std::string& what : refused)
        refuse(id, what);
    followed.wanted.refused.clear();
    send(followed);
}

// ---- Edits -------------------------------------------------------------------------------------

void WorkspaceKeeper::send(Followed& followed) {
    if (!followed.confirmed || followed.in_flight || followed.wanted.empty()) return;
    const std::uint64_t ticket = ++last_ticket_;
    const SessionId id = followed.id;
    const bool sent = parts_.ask(
        workspace::edit_request(id, followed.wanted),
        [this, id, ticket](Result<Reply> reply) { answered(id, ticket, std::move(reply)); });
    // Nobody is connected, or what waits to be sent is too much for now.
    if (!sent) {
        retry_at_ = now_ + kRetryPause;
        return;
    }
    followed.ticket = ticket;
    followed.in_flight = std::exchange(followed.wanted, {});
}

void WorkspaceKeeper::answered(const SessionId& id, std::uint64_t ticket, Result<Reply> reply) {
    const auto found = followed_.find(id);
    if (found == followed_.end() || found->second.ticket != ticket) return;
    Followed& followed = found->second;
    if (!followed.in_flight) return;
    const auto* taken = reply ? std::get_if<EditReply>(&*reply) : nullptr;
    if (taken != nullptr) {
        followed.known = workspace::shared_of(taken->session);
        for (const std::string& what : taken->refused)
            refuse(id, what);
    } else if (reply) {
        refuse(id, "the broker answered something else");
    } else if (is_retryable(reply.error().code) || reply.error().code == ErrorCode::read_only) {
        retry_at_ = now_ + kRetryPause;
        return unsend(followed);
    } else if (reply.error().code == ErrorCode::unknown_verb) {
        // A broker of an earlier version; the file keeps what the script has written.
        followed.known = workspace::apply(followed.known, *followed.in_flight);
    } else {
        refuse(id, reply.error().message);
    }
    followed.in_flight.reset();
    put_right(followed);
}

// Back to what has to be sent, under what was written since.
void WorkspaceKeeper::unsend(Followed& followed) {
    if (!followed.in_flight) return;
    workspace::merge_into(*followed.in_flight, followed.wanted);
    followed.wanted = *std::exchange(followed.in_flight, std::nullopt);
}

void WorkspaceKeeper::refuse(const SessionId& id, const std::string& what) {
    warn(id, "Edit of state.json of " + id.str() + " put right: " + what);
}

void WorkspaceKeeper::warn(const SessionId& id, const std::string& text) {
    const WallTime now = parts_.now();
    log_failure(workspace::log_session(parts_.project, id, now, workspace::LogWord::warn, text),
                id);
    log_failure(workspace::log_project(parts_.project, now, workspace::LogWord::warn, text), id);
}

void WorkspaceKeeper::connected() {
    for (auto& [id, followed] : followed_) {
        unsend(followed);
        send(followed);
    }
    if (!listed_) list_known();
}

void WorkspaceKeeper::tick(Timestamp now) {
    now_ = now;
    if (!retry_at_ || now < *retry_at_) return;
    retry_at_.reset();
    for (auto& [id, followed] : followed_)
        send(followed);
    if (!listed_ && !page_.empty()) ask_next_page();
}

// ---- What the broker knows ---------------------------------------------------------------------

void WorkspaceKeeper::list_known() {
    unlisted_ = workspace::list_workspaces(parts_.project);
    if (unlisted_.size() > kFinalMax)
        unlisted_.erase(unlisted_.begin(),
                        unlisted_.end() - static_cast<std::ptrdiff_t>(kFinalMax));
    for (const auto& [id, followed] : followed_) {
        if (std::ranges::find(unlisted_, id) == unlisted_.end()) unlisted_.push_back(id);
    }
    page_.clear();
    ask_next_page();
}

void WorkspaceKeeper::ask_next_page() {
    if (page_.empty()) {
        const std::size_t size = std::min(unlisted_.size(), limits::kIdsPerRequestMax);
        page_.assign(unlisted_.end() - static_cast<std::ptrdiff_t>(size), unlisted_.end());
        unlisted_.resize(unlisted_.size() - size);
        page_after_ = SessionId();
    }
    if (page_.empty()) {
        listed_ = true;
        // What the broker does not know it will say when it is asked to change it.
        for (auto& [id, followed] : followed_) {
            followed.confirmed = true;
            send(followed);
        }
        return;
    }
    ListRequest request;
    request.ids = page_;
    request.after = page_after_;
    const std::uint64_t ticket = ++last_ticket_;
    page_ticket_ = ticket;
    const bool sent = parts_.ask(std::move(request), [this, ticket](Result<Reply> reply) {
        listed(ticket, std::move(reply));
    });
    if (!sent) retry_at_ = now_ + kRetryPause;
}

void WorkspaceKeeper::listed(std::uint64_t ticket, Result<Reply> reply) {
    if (ticket != page_ticket_) return;
    auto* list = reply ? std::get_if<ListReply>(&*reply) : nullptr;
    if (list == nullptr) {
        retry_at_ = now_ + kRetryPause;
        return;
    }
    for (const SessionView& session : list->sessions)
        confirm(session);
    page_after_ = list->next;
    if (list->next.empty()) page_.clear();
    ask_next_page();
}

void WorkspaceKeeper::confirm(const SessionView& session) {
    if (!parts_.is_ours(session)) return;
    const auto found = followed_.find(session.id);
    if (found == followed_.end() || !found->second.attempt) return parts_.on_listed(session);
    Followed& followed = found->second;
    if (followed.confirmed) return;
    followed.known = workspace::shared_of(session);
    followed.confirmed = true;
    // An earlier process has told the broker part of what differs from the assignment, or all.
    followed.wanted = workspace::without(followed.wanted, followed.known);
    put_right(followed);
}

}  // namespace iw::worker
