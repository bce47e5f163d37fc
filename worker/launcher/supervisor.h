#pragma once

// Watches over a running agent until it and everything it started are gone: takes stops and
// hang-ups, gives the terminal back to an agent that was suspended, ends what is left over. Only
// signals and deadlines wake it.

#include <cstdint>
#include <optional>
#include <string>

#include "common/base/time.h"
#include "common/io/signals.h"
#include "worker/attempt_store/attempt_store.h"
#include "worker/launcher/process_tree.h"

namespace iw::worker {

struct AgentEnd {
    int wait_status = 0;  // as of waitpid
    WallTime ended_at;
    bool stop_sent = false;    // a TERM for a recorded stop went out before the agent ended
    bool hangup = false;       // the terminal closed before the agent ended
    std::string hangup_cause;  // why it closed, as far as that can be told
    std::uint32_t swept =
        0;  // processes that were left when the agent had ended, and had to be ended
    std::uint32_t left = 0;  // of those, how many could not be ended
};

// Whose end closes the terminal.
struct Terminal {
    io::ProcessId server;  // the tmux server
    io::ProcessId guard;   // the pane's process; pid 0: this process is it
};

class Supervisor {
  public:
    // `signals` has HUP, TERM and CHLD; `process` names our child, the leader of its group. All
    // outlive this.
    Supervisor(AttemptStore& store, const LaunchPlan& plan, io::SignalFd& signals,
               ProcessRecord process, Terminal terminal);

    // Records the process, and tries on while that fails (a full disk). Returns when nothing of the
    // attempt runs any more.
    AgentEnd run();
    // The same for an agent that another supervisor has started and been killed over.
    AgentEnd take_over();
    // Nobody can tell how the agent ended: ends what is left of it.
    AgentEnd end_what_is_left();

  private:
    void supervise();
    void record();
    Timestamp next_wake() const;
    void take_signals();
    void wait(Timestamp deadline);
    void reap();
    void agent_ended(int status);
    void agent_stopped(int signal);
    void stop_if_recorded();
    void stop();
    void hang_up();
    bool terminal_closed() const;
    std::string hangup_cause() const;
    void send_all(int signal, const std::vector<TreeProcess>& processes);
    void end_tree(Duration grace, std::initializer_list<int> signals);
    void kill_tree();
    void sweep();
    bool tree_ends_before(Timestamp deadline);
    std::vector<TreeProcess> tree() const { return find_processes(launcher_, mark_); }

    AttemptStore& store_;
    const LaunchPlan& plan_;
    io::SignalFd& signals_;
    const ProcessRecord process_;
    const Terminal terminal_;
    const pid_t agent_;
    const pid_t launcher_;
    const bool has_terminal_;
    bool watches_terminal_;  // until it has closed
    Mark mark_;
    bool agent_alive_ = true;
    std::optional<Timestamp> record_at_;  // while the process is not recorded
    std::optional<Timestamp> kill_at_;    // set once the tree was asked to end
    AgentEnd end_;
};

}  // namespace iw::worker
