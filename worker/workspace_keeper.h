#pragma once

// Keeps the workspaces that stand in the project's sessions/ as they must be while scripts edit,
// move or remove them. An edit of what scripts may edit goes to the broker, and what it does not
// take is put right with a WARN; every other field is put right at once. A running session's
// workspace that is gone is made again, a final one is let go. Edits wait for the broker while it
// is away; after a restart they are found by comparing with what the broker lists.

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "common/base/ids.h"
#include "common/base/time.h"
#include "common/messages/messages.h"
#include "common/workspace/edits.h"
#include "common/workspace/workspace.h"
#include "worker/folder_watch.h"

namespace iw::worker {

class WorkspaceKeeper {
  public:
    using OnAnswer = std::function<void(Result<Reply>)>;
    struct Parts {
        FolderWatch& watch;
        const workspace::ProjectPaths& project;
        // Of an attempt that runs here, as this worker knows it.
        std::function<std::optional<SessionView>(const AttemptRef&)> view;
        std::function<std::string(const AttemptRef&)> prompt;
        std::function<WallTime()> now;  // on the broker's clock
        // False: nobody is connected. An answer that is lost with its connection never comes.
        std::function<bool(Request, OnAnswer)> ask;
        // What the broker knows of a session that does not run here, when it was asked.
        std::function<void(const SessionView&)> on_listed;
        // Whether a session's workspace is to be kept by this worker.
        std::function<bool(const SessionView&)> is_ours;
    };
    // What `parts` refers to outlives this.
    explicit WorkspaceKeeper(Parts parts) : parts_(std::move(parts)) {}
    WorkspaceKeeper(const WorkspaceKeeper&) = delete;
    WorkspaceKeeper& operator=(const WorkspaceKeeper&) = delete;

    // An attempt that runs here, from its start until keep() or leave(). Following it again is
    // fine.
    void follow(const AttemptRef& attempt);
    // A session that does not run here, as the broker shows it: waiting, running elsewhere, or
    // final. What was kept of it before is replaced, unless that was newer. Of final ones the
    // newest kFinalMax are kept. A waiting one may be told of before ictl has made its workspace,
    // and is kept from the moment that it stands there.
    void keep(SessionView session);
    void leave(const SessionId& id);
    // Only if it is this attempt that is followed: a later one may have taken over.
    void leave(const AttemptRef& attempt);
    // Changes were lost: looks at every workspace.
    void look_at_all();

    // A new connection: what has no answer is sent again, and once in a lifetime the broker is
    // asked what it knows of the workspaces that stand there.
    void connected();
    // When tick() has something to send; nothing: never.
    std::optional<Timestamp> deadline() const { return retry_at_; }
    void tick(Timestamp now);

    static constexpr std::size_t kFinalMax = 2000;
    static constexpr std::size_t kAwaitedMax = 2000;

  private:
    struct Followed {
        SessionId id;
        std::optional<AttemptRef> attempt;  // that runs here; else `view`
        SessionView view;
        // What the broker has of the shared fields. Not confirmed: as it was before this process.
        workspace::SharedFields known;
        bool confirmed = false;
        workspace::SharedFields base;   // what the file showed when it was last looked at
        workspace::ForeignEdit wanted;  // not sent
        std::optional<workspace::ForeignEdit> in_flight;  // not answered
        std::uint64_t ticket = 0;                         // of the edit in flight
        std::optional<workspace::StateVersion> seen;
    };

    Followed& entry(const SessionId& id);
    // One of the files that a running session has from its creation on is not there.
    bool is_lost(const SessionId& id, const std::string& name) const;
    void look_at(const SessionId& id);
    void watch_sessions();
    void watch_folders(const SessionId& id);
    void await(SessionView session);
    void changed(const SessionId& id);
    void make_again(Followed& followed);
    void unsend(Followed& followed);
    void put_right(Followed& followed);
    std::optional<SessionView> view_of(const Followed& followed) const;
    workspace::SharedFields shown(const Followed& followed) const;
    bool is_active(const Followed& followed) const;
    bool is_right(const Followed& followed) const;
    void send(Followed& followed);
    void answered(const SessionId& id, std::uint64_t ticket, Result<Reply> reply);
    void refuse(const SessionId& id, const std::string& what);
    void list_known();
    void ask_next_page();
    void listed(std::uint64_t ticket, Result<Reply> reply);
    void confirm(const SessionView& session);
    void drop_oldest_final();
    void warn(const SessionId& id, const std::string& text);

    Parts parts_;
    std::map<SessionId, Followed> followed_;
    std::set<SessionId> final_;  // of followed_
    // Live ones that do not run here and whose workspace has not been seen yet.
    std::map<SessionId, SessionView> awaited_;
    std::uint64_t last_ticket_ = 0;
    Timestamp now_;
    std::optional<Timestamp> retry_at_;
    // Of the question what the broker knows: ids that have not been asked for, the newest last.
    bool listed_ = false;
    std::vector<SessionId> unlisted_;
    std::vector<SessionId> page_;
    SessionId page_after_;
    std::uint64_t page_ticket_ = 0;
};

}  // namespace iw::worker
