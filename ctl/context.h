#pragma once

// What every command stands in: the project, the broker's endpoint, ictl's settings, and the
// connection, each found when it is first asked for. One per run of ictl.

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "common/base/result.h"
#include "common/io/config_file.h"
#include "common/io/socket.h"
#include "common/workspace/workspace.h"
#include "ctl/broker_client.h"
#include "ctl/terminal.h"

namespace iw::ctl {

// Options that every command takes.
struct GlobalOptions {
    std::string
        project;         // a project's root (or a folder in it), or the name of a project elsewhere
    std::string broker;  // endpoint
    std::string patience;  // duration; how long a silent or missing broker is waited for
    std::string config;    // a file read after the usual ones
};

struct Project {
    std::string root;  // absolute, links resolved; empty: only its name is known
    std::string name;  // on the wire
};

enum class Insistence {
    brief,    // a reader: says soon that nobody listens
    patient,  // a change: rides out a restart of the broker
};

class Context {
  public:
    Context(GlobalOptions options, const Terminal& terminal);
    ~Context();
    Context(const Context&) = delete;
    Context& operator=(const Context&) = delete;

    const Terminal& terminal() const { return terminal_; }
    const GlobalOptions& options() const { return options_; }

    // ictl.toml, IW_CFG_*. config: wrong file or value.
    Result<const io::Config*> config();
    // From --project, upwards from the current directory, or the session that we run in. Nothing
    // when there is none; bad_request when --project names nothing.
    Result<std::optional<Project>> project();
    // The same with a root, or an error that says how to get one.
    Result<Project> require_project();

    // --broker, the session's local socket, the configuration, the project's embedded fleet: the
    // first that is there. unreachable when there is none.
    Result<std::string> endpoint();
    // Whether endpoint() is the one of the project's embedded fleet.
    bool is_embedded();
    // Owned by the context. Nothing is sent yet.
    Result<BrokerClient*> broker(Insistence insistence);
    // What broker() does, from its first call on, while nobody listens at the endpoint.
    void set_on_absent(std::function<void()> action) { on_absent_ = std::move(action); }

    // Inside a session of ours: its id; else empty.
    SessionId inside_session() const;
    // The state folder of the worker of a root on this host.
    std::string worker_state(const std::string& root);
    const std::string& host() const { return host_; }

  private:
    Result<std::optional<Project>> find_project() const;
    Result<std::string> find_endpoint();

    GlobalOptions options_;
    const Terminal& terminal_;
    std::string host_;
    std::optional<Result<io::Config>> config_;
    std::optional<Result<std::optional<Project>>> project_;
    std::function<void()> on_absent_;
    std::unique_ptr<io::Context> sockets_;
    std::unique_ptr<BrokerClient> broker_;
};

}  // namespace iw::ctl
