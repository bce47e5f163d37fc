#pragma once

// Keeps the workspaces of running sessions as they must be while scripts edit, move or remove them:
// a foreign edit of state.json is put right at once (fields that are the scripts' own survive), and
// a workspace that is gone is made again. Final ones are left alone.

#include <functional>
#include <map>
#include <optional>
#include <string>

#include "common/base/ids.h"
#include "common/base/time.h"
#include "common/messages/messages.h"
#include "common/workspace/workspace.h"
#include "worker/folder_watch.h"

namespace iw::worker {

class WorkspaceKeeper {
  public:
    struct Parts {
        FolderWatch& watch;
        const workspace::ProjectPaths& project;
        std::function<std::optional<SessionView>(const AttemptRef&)> view;
        std::function<std::string(const AttemptRef&)> prompt;
        std::function<WallTime()> now;  // on the broker's clock
    };
    // What `parts` refers to outlives this.
    explicit WorkspaceKeeper(Parts parts) : parts_(std::move(parts)) {}
    WorkspaceKeeper(const WorkspaceKeeper&) = delete;
    WorkspaceKeeper& operator=(const WorkspaceKeeper&) = delete;

    // From the start of an attempt until leave(). Following it again is fine.
    void follow(const AttemptRef& attempt);
    // Before the final files are written.
    void leave(const SessionId& id);
    // Only if it is this attempt that is followed: a later one may have taken over.
    void leave(const AttemptRef& attempt);
    // Changes were lost: looks at every workspace.
    void look_at_all();

  private:
    // A version of state.json: who finds another one there knows that somebody else wrote it.
    struct Version {
        std::uint64_t inode = 0;
        std::int64_t changed_ns = 0;
        bool operator==(const Version&) const = default;
    };
    struct Followed {
        AttemptRef attempt;
        std::optional<Version> ours;
    };

    void watch_folders(const Followed& followed);
    void look_at(Followed& followed);
    void make_again(Followed& followed);
    void put_right(Followed& followed);
    std::optional<Version> version(const SessionId& id) const;

    Parts parts_;
    std::map<SessionId, Followed> followed_;
};

}  // namespace iw::worker
