#pragma once

// The worker's private tmux server: display, input and attach. It is never asked how an agent
// ended; the launcher's exit record says that. No text of users or paths reaches a tmux argument
// that tmux expands: only session names, fixed words and argv behind `--`.

#include <initializer_list>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "common/base/ids.h"
#include "common/base/result.h"
#include "common/io/processes.h"

namespace iw::worker {

struct TmuxOptions {
    std::string
        state_folder;        // the socket is <state_folder>/tmux.sock, the configuration beside it
    std::string launcher;    // absolute path of iexec
    std::string log_writer;  // absolute path of ilogd
};

class Tmux {
  public:
    // config when tmux is missing or too old (needs 3.2), or the socket's path is too long.
    static Result<Tmux> open(TmuxOptions options);

    // Starts the server if none runs: from `/`, with a clean environment, in a process session of
    // its own, outside the worker's own unit when systemd started the worker. Idempotent. A living
    // server whose socket somebody removed gets a new one.
    Status start_server();
    // One session `iw-<id>` whose pane runs `iexec <attempt name>`, its output piped to `ilogd
    // <attempt name>` in the same command list, so that nothing is lost. conflict when a session of
    // that name exists.
    Status start_session(const AttemptRef& attempt);
    // Missing is fine.
    Status kill_session(const SessionId& id);

    // not_found: no server runs. Other errors mean "unknown", never "gone".
    struct Session {
        SessionId id;
        int pane_pid = 0;
        bool attached = false;
    };
    Result<std::vector<Session>> list_sessions() const;
    // Pid of the server, if one answers.
    std::optional<int> server_pid() const;
    // The server that was started last, if it still runs, whether it answers or not.
    std::optional<io::ProcessId> recorded_server() const;
    // Somebody may have removed the socket of a living server: then it makes a new one. Nobody
    // lives: nothing is done.
    Status keep_socket();
    const std::string& socket() const { return socket_; }

  private:
    Tmux(TmuxOptions options, std::string program, std::string socket)
        : options_(std::move(options)), program_(std::move(program)), socket_(std::move(socket)) {}

    std::string configuration() const;
    std::string server_file() const;
    std::string log_file() const;
    std::vector<std::string> environment() const;
    std::vector<std::string> command(std::initializer_list<std::string> words) const;
    io::CommandResult run(std::initializer_list<std::string> words) const;
    Status record_server(int pid);
    Status revive_socket(const io::ProcessId& server);
    bool launch_server(std::vector<std::string> front);

    TmuxOptions options_;
    std::string program_;  // path of tmux
    std::string socket_;
};

// The socket under a worker's state folder: ictl attaches there.
std::string tmux_socket(const std::string& worker_state_folder);

}  // namespace iw::worker
