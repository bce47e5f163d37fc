#pragma once

// What a worker does about sessions outside its records: workspaces, plans, tmux sessions, results.

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
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
#include "worker/schema_check/result_checks.h"
#include "worker/tmux/tmux.h"
#include "worker/uploader.h"

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
    JudgedEvent judge(const Judge& action) const;
    // What has to be asked of the result before its verdict counts; nothing where no schema is.
    struct ResultCheck {
        std::string schema;
        std::string file;
    };
    std::optional<ResultCheck> result_check(const JudgedEvent& event) const;
    static void take_check(const Result<CheckedResult>& checked, Deliverables& deliverables);
    // Kept, so that what was reported is reported again in the same words.
    void record(const JudgedEvent& event);
    // What has to reach the broker before the end is reported; nothing for an attempt in its own
    // project.
    std::optional<Uploader::Job> delivery(const Judge& action, const JudgedEvent& event) const;
    DiskEvent measure(const AttemptRef& attempt) const;

    // `now` is on the broker's clock.
    WrittenEvent write_started(const WriteStarted& action, WallTime now);
    WrittenEvent write_final(const WriteFinal& action, WallTime now);
    void note(const NoteSession& action, WallTime now);
    // Whether the session's workspace is this worker's to write.
    bool is_ours(const SessionView& session) const;

    // Sessions of this root that run elsewhere, or not yet: `view` as the broker told it last.
    // A workspace that is not there stays away.
    void write_followed(const SessionView& view, WallTime now);
    // Before its files come: what the project shows of a run that it was not told of.
    void prepare_delivery(const SessionView& outcome, WallTime now);
    // Whether the files of this end have to be fetched first.
    bool is_delivered(const WriteFinal& action) const;
    // The prompt of a followed session, for a workspace that has to be made again.
    std::string kept_prompt(const SessionId& id) const;
    // The workspace of a forgotten attempt, when its project stands elsewhere.
    void remove_away(const AttemptRef& attempt);

  private:
    Status check_root() const;
    Status prepare_workspace(const Launch& action, const std::string& prompt);
    WrittenEvent write_return(const WriteFinal& action, WallTime now);
    std::string deliverables_folder(const AttemptRef& attempt) const;
    Deliverables read_deliverables(const Judge& action) const;
    Result<LaunchPlan> plan(const Launch& action, const AgentRun& run, const RunRequest& request);
    void add_variables(const Launch& action, LaunchPlan& plan) const;
    Status start_tmux(const AttemptRef& attempt);
    SuccessRule rule_of(const AttemptRef& attempt) const;
    bool is_away(const Origin& origin) const;
    void mark_away(const Assignment& assignment) const;
    std::string away_mark(const SessionId& id) const;
    std::string prompt_copy(const SessionId& id) const;
    void keep_prompt(const SessionId& id) const;

    Parts parts_;
};

}  // namespace iw::worker
