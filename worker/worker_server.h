#pragma once

// The shell around the worker's core: one thread that reads sockets, files and signals, hands them
// to the core as events, and performs its actions in order. It decides nothing about attempts.

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "common/io/event_loop.h"
#include "common/io/exit_codes.h"
#include "common/io/signals.h"
#include "common/io/socket.h"
#include "common/workspace/workspace.h"
#include "worker/agents/agents.h"
#include "worker/attempt_store/attempt_store.h"
#include "worker/broker_link.h"
#include "worker/core/worker_core.h"
#include "worker/fetcher.h"
#include "worker/folder_watch.h"
#include "worker/identity.h"
#include "worker/local_sockets.h"
#include "worker/options.h"
#include "worker/project_watch.h"
#include "worker/session_runner.h"
#include "worker/tmux/tmux.h"
#include "worker/uploader.h"
#include "worker/workspace_keeper.h"

namespace iw::worker {

class WorkerServer {
  public:
    // What was opened before the server exists; see open().
    struct Parts {
        AttemptStore store;
        Agents agents;
        Tmux tmux;
        FolderWatch watch;
    };
    // Reads the log level again, for SIGHUP.
    using Reload = std::function<std::string()>;

    static std::variant<Parts, Refusal> open(const WorkerOptions& options);

    // `context` and `signals` outlive the server.
    WorkerServer(WorkerOptions options, const Identity& identity, Parts parts, io::Context& context,
                 io::SignalFd& signals, Reload reload);
    ~WorkerServer();
    WorkerServer(const WorkerServer&) = delete;
    WorkerServer& operator=(const WorkerServer&) = delete;

    // Adopts what earlier processes left, then serves until SIGTERM. The exit code.
    int run();

  private:
    bool adopt();  // false: what is there cannot be read
    void adopt(const AttemptFacts& facts);
    void adopt_broken(AttemptFacts facts);
    void reopen_broken(const AttemptRef& attempt, const Result<AttemptFacts>& facts);
    void dispatch(CoreEvent event);
    void perform(Action& action);
    void result(CoreEvent event) { events_.push_back(std::move(event)); }

    // Actions (worker_actions.cc).
    void act(SendHello& action);
    void act(Reconnect& action);
    void act(SendHeartbeat& action);
    void act(SendReports& action);
    void act(SendGoodbye& action);
    void act(RecordSeen& action);
    void act(AcceptAssignment& action);
    void act(TakeClaim& action);
    void act(RecordStop& action);
    void act(RecordLimits& action);
    void act(RecordEnd& action);
    void act(RecordOutcome& action);
    void act(RecordReported& action);
    void act(RecordClosed& action);
    void act(ForgetAttempt& action);
    void act(ReopenAttempt& action);
    void act(Launch& action);
    void act(CheckSession& action);
    void act(KillSession& action);
    void act(SignalLauncher& action);
    void act(SignalTree& action);
    void act(MeasureDisk& action);
    void act(WriteStarted& action);
    void act(Judge& action);
    void act(WriteFinal& action);
    void act(NoteSession& action);
    void act(Transition& action);
    void send(Request request);
    void keep(const SessionView& session);

    // Files and sessions that travel (worker_travel.cc).
    void judged(const Judge& action, JudgedEvent event);
    void write_final(const WriteFinal& action);
    void fetched(const WriteFinal& action, const Result<std::vector<std::string>>& lines);
    void follow(FollowPush push);
    void told(const SessionView& view);
    void told_end(const SessionView& view);
    void warn_of(const SessionId& id, const std::string& text);
    void relink();
    Uploader::Handlers uploader_handlers();
    Fetcher::Handlers fetcher_handlers();
    WorkspaceKeeper::Parts keeper_parts();

    // Attempts on disk and their launchers.
    struct Watched {
        io::UniqueFd launcher;  // pidfd, once there is a process record
    };
    void watch_attempt(const AttemptRef& attempt);
    void reopen_socket(const AttemptRef& attempt);
    void unwatch_attempt(const AttemptRef& attempt);
    void look_at(const AttemptRef& attempt);
    void look_at_all();
    LauncherState watch_launcher(const AttemptRef& attempt, const AttemptFacts& facts);
    void launcher_ended(const AttemptRef& attempt);
    void unwatch_launcher(Watched& watched);
    void watch_tmux();
    void watch_tmux_socket();
    void tmux_ended();

    void read_watch();
    void read_signals();
    void reload();
    void offer();
    void keep_house();
    void log_state();
    std::optional<Timestamp> deadline() const;
    Now core_now() const;
    WallTime broker_now() const { return core_.broker_time(core_now()); }

    WorkerOptions options_;
    std::string boot_id_;
    Parts parts_;
    workspace::ProjectPaths project_;
    io::SignalFd& signals_;
    Reload reload_;
    io::EventLoop loop_;
    BrokerLink link_;
    LocalSockets sockets_;
    ProjectWatch project_watch_;
    SessionRunner runner_;
    WorkspaceKeeper keeper_;
    ResultChecks checks_;
    Uploader uploader_;
    Fetcher fetcher_;
    std::map<SessionId, ErrorCode> warned_;  // why files could not be brought, said once
    WorkerCore core_;

    std::map<AttemptRef, Watched> watched_;
    io::UniqueFd tmux_server_;  // pidfd, once there is one
    std::deque<CoreEvent> events_;
    bool dispatching_ = false;
    bool linked_ = false;
    bool offer_changed_ = false;
    bool stopping_ = false;
    bool said_goodbye_ = false;
    Timestamp stop_by_;
    Timestamp keep_house_at_;
};

}  // namespace iw::worker
