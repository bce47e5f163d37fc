#pragma once

// Which sessions have their tmux session on this host, asked of each worker's server once.

#include <map>
#include <set>
#include <string>

#include "common/messages/messages.h"
#include "ctl/runners.h"

namespace iw::ctl {

class Context;

std::string tmux_socket(const std::string& worker_state_folder);

class TmuxSessions {
  public:
    explicit TmuxSessions(Context& context) : context_(context), runners_(context) {}

    // True when the session is RUNNING and tmux has it. On another host, and where its server
    // cannot be asked (inside a session), the broker's word counts: RUNNING and not at its end.
    bool active(const SessionView& session);

  private:
    Context& context_;
    Runners runners_;
    std::map<std::string, std::set<std::string>> seen_;  // by socket
};

}  // namespace iw::ctl
