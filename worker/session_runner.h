#pragma once

// What a worker does about sessions outside its records: workspaces, plans, tmux sessions, results.

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <utility>

#include "common/base/result.h"
#include "common/workspace/workspace.h"
#include "worker/agents/agents.h"
#include "worker/attempt_store/attempt_store.h"
#include "worker/core/action.h"
#include "worker/core/event.h"
#include "worker/local_sockets.h"
#include "worker/options.h"
#include "worker/tmux/tmux.h"

namespace iw::worker {

class SessionRunner {
  public:
    // Everything outlives this.
    struct Parts {
        const WorkerOptions& options;
        const workspace::ProjectPaths& project;
        AttemptStore& store;
        Agents& agents;
        Tmux& tmux;
        LocalSockets& sockets;
        // Whether the broker was heard recently enough: preparing a start can take long.
        std::function<bool()> may_start;
    };
    explicit SessionRunner(Parts parts) : parts_(std::move(parts)) {}

    LaunchedEvent launch(const Launch& action);
    SessionCheckedEvent check(const AttemptRef& attempt) const;
    JudgedEvent judge(const Judge& action);
    DiskEvent measure(const AttemptRef& attempt) const;

    // `now` is on the broker's clock.
    WrittenEvent write_started(const WriteStarted& action, WallTime now);
    WrittenEvent write_final(const WriteFinal& action, WallTime now);
    void note(const NoteSession& action, WallTime now);
    // Whether the session's workspace is this worker's to write.
    bool is_ours(const SessionView& session) const;

  private:
    Status prepare_workspace(const Launch& action, const std::string& prompt);
    WrittenEvent write_return(const WriteFinal& action, WallTime now);
    std::string deliverables_folder(const AttemptRef& attempt) const;
    Deliverables read_deliverables(const Judge& action) const;
    Result<LaunchPlan> plan(const Launch& action, const AgentRun& run, const RunRequest& request);
    void add_variables(const Launch& action, LaunchPlan& plan) const;
    Status start_tmux(const AttemptRef& attempt);
    SuccessRule rule_of(const AttemptRef& attempt) const;

    Parts parts_;
};

}  // namespace iw::worker
