#pragma once

// Where on this host a session runs: under its own project's root, or under that of another worker.

#include <map>
#include <optional>
#include <string>

#include "common/messages/messages.h"

namespace iw::ctl {

class Context;

class Runners {
  public:
    explicit Runners(Context& context) : context_(context) {}

    // The root that the session's current attempt runs under; empty when that is not on this host
    // or nobody knows. Asks the broker for its workers, once, only where the name tells nothing.
    std::string root_of(const SessionView& session);
    // The state folder of that root's worker.
    std::string state_of(const std::string& root);

  private:
    Context& context_;
    std::optional<std::map<std::string, std::string>> roots_;  // of this host's workers, by name
};

}  // namespace iw::ctl
