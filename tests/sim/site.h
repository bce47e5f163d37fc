#pragma once

// Where one worker lives on a host: its state directory, its tmux server, the launchers and the
// agents. All of it but the worker itself outlives the worker; a power cut leaves the disk.

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tests/sim/network.h"
#include "tests/sim/oracle.h"
#include "tests/sim/plans.h"
#include "tests/sim/world.h"
#include "worker/core/action.h"
#include "worker/core/event.h"

namespace iw::sim {

struct Host {
    std::string name;
    HostClock clock;
    std::uint64_t boots = 1;
    bool is_on = true;

    std::string boot_id() const { return name + "-boot-" + std::to_string(boots); }
};

// One attempt's folder in the state directory. What stands in it is synced.
struct AttemptFolder {
    struct Process {
        std::string boot_id;
        WallTime started_at;
        Timestamp started;  // on the host's steady clock
    };
    std::optional<Assignment> assignment;  // with its prompt
    worker::StartHolder holder = worker::StartHolder::nobody;
    std::string holder_reason;
    std::optional<Process> process;
    std::optional<Duration> timeout;
    std::optional<worker::StopFact> stop;
    std::optional<worker::EndFact> end;
    bool log_done = false;
    std::optional<SessionView> outcome;
    std::uint32_t reported = 0;
    std::uint32_t reported_synced = 0;
    std::optional<WallTime> closed_at;

    bool is_blank() const {
        return !assignment && holder == worker::StartHolder::nobody && !stop && !end && !outcome &&
               !closed_at;
    }
};

class Site {
  public:
    using Answer = std::variant<Reply, ErrorReply>;
    struct Parts {
        World& world;
        Oracle& oracle;
        Plans& plans;
        Host& host;
    };
    Site(Parts parts, WorkerName name, std::uint32_t slots);
    Site(const Site&) = delete;
    Site& operator=(const Site&) = delete;

    const WorkerName& name() const { return name_; }
    Host& host() { return parts_.host; }
    std::string root() const { return "/srv/" + name_.str(); }

    // ---- The state directory
    std::map<AttemptRef, AttemptFolder>& disk() { return disk_; }
    worker::AttemptSnapshot snapshot(const AttemptRef& attempt) const;
    worker::LauncherState launcher_state(const AttemptRef& attempt) const;
    std::uint64_t next_start() { return ++starts_; }
    std::string state_id() const { return name_.str() + "-state-" + std::to_string(wipes_); }
    std::uint32_t slots() const { return slots_; }
    void set_slots(std::uint32_t slots) { slots_ = slots; }
    std::optional<SeenHead>& seen() { return seen_; }
    void files_written(const SessionId& id) { parts_.oracle.files_written(name_, id); }

    // ---- What the worker hangs onto it
    struct Watch {
        std::function<void(AttemptRef)> on_record;         // a foreign record appeared
        std::function<void(AttemptRef)> on_launcher_gone;  // of a launcher that is known
        // A process inside an attempt asks. False: cannot be passed on now.
        std::function<bool(AttemptRef, Request, std::function<void(Answer)>)> on_relay;
    };
    void set_watch(Watch watch) { watch_ = std::move(watch); }
    void clear_watch() { watch_ = {}; }

    // ---- tmux, launchers, agents
    worker::LaunchedEvent launch(const worker::Launch& action);
    worker::SessionCheckedEvent check(const AttemptRef& attempt);
    void kill_session(const SessionId& session);
    void signal_launcher(const worker::SignalLauncher& action);
    worker::TreeEvent signal_tree(const AttemptRef& attempt, worker::TreeSignal signal);

    // ---- Faults
    void power_off();
    void wipe();  // with the power off
    void kill_tmux_server();
    void kill_some_launcher();
    std::size_t alive() const { return agents_.size(); }
    std::string describe() const;

  private:
    struct Launcher {
        std::uint64_t serial = 0;
        Timestamp start_by;
        bool is_claimed = false;
        bool stop_sent = false;
        bool hangup = false;
    };
    struct Agent {
        std::uint64_t serial = 0;
        Plan plan;
        std::size_t next_child = 0;
        std::uint64_t asked = 0;
        std::vector<SessionId> children;
        bool is_ending = false;
    };

    // Forgotten when the power goes.
    void later(Duration delay, std::function<void()> what);
    void note(const AttemptRef& attempt, const std::string& what);
    void record_appeared(const AttemptRef& attempt);
    Launcher* launcher(const AttemptRef& attempt, std::uint64_t serial);
    Agent* agent(const AttemptRef& attempt, std::uint64_t serial);

    void claim(const AttemptRef& attempt, std::uint64_t serial);
    void start_agent(const AttemptRef& attempt, std::uint64_t serial);
    void write_process(const AttemptRef& attempt, std::uint64_t serial, Now started);
    void stop_if_recorded(const AttemptRef& attempt);
    void stop(const AttemptRef& attempt);
    void hang_up(const AttemptRef& attempt);
    void end_launcher(const AttemptRef& attempt);
    void write_exit(const AttemptRef& attempt, std::uint64_t serial, worker::EndFact end);

    void live(const AttemptRef& attempt, std::uint64_t serial);
    void submit_child(const AttemptRef& attempt, std::uint64_t serial);
    void await_children(const AttemptRef& attempt, std::uint64_t serial);
    void terminate(const AttemptRef& attempt, Duration grace);
    void end_agent(const AttemptRef& attempt, std::uint64_t serial, Oracle::End how, int code);

    Parts parts_;
    WorkerName name_;
    std::uint32_t slots_;
    std::uint64_t starts_ = 0;
    std::optional<SeenHead> seen_;
    std::uint64_t wipes_ = 1;
    std::uint64_t last_serial_ = 0;
    std::shared_ptr<char> power_ = std::make_shared<char>('x');
    Watch watch_;
    std::map<AttemptRef, AttemptFolder> disk_;
    std::map<SessionId, AttemptRef> sessions_;  // of tmux
    std::map<AttemptRef, Launcher> launchers_;
    std::map<AttemptRef, Agent> agents_;
};

}  // namespace iw::sim
