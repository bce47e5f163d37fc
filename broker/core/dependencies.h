#pragma once

// Which sessions wait for the end of which: derived from the submissions of live sessions, like the
// ready queue, and never recorded. A dependency that is not live any more has been met, since one
// that is not met ends its dependents before it is gone.

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "broker/core/session.h"
#include "common/base/ids.h"
#include "common/base/statuses.h"

namespace iw::broker {

// Whether an end with this final status is what the condition asks for.
bool is_met(AfterCondition condition, SessionStatus status);
// "needs success of 20251118-...-a, which is FAILED".
std::string unmet_text(const Dependency& dependency, SessionStatus status);

class DependencyIndex {
  public:
    // The session waits for all of these; at least one, none twice. It stands here at most once.
    void block(Session& session, const std::vector<const Session*>& dependencies);
    // Takes the session out; nothing happens when it does not stand here.
    void unblock(const Session& session);
    // Takes out what waits for this one (by ordinal), which is final, and hands out those that wait
    // for nothing any more, in the order of creation.
    std::vector<Session*> settle(std::uint64_t dependency);

    bool is_blocked(const Session& session) const { return open_.contains(session.ordinal); }
    // How many dependencies the session waits for.
    std::size_t open(const Session& session) const;
    // What waits for the session itself, by ordinal.
    using Dependents = std::map<std::uint64_t, Session*>;
    const Dependents& dependents(const Session& dependency) const;
    std::size_t size() const { return open_.size(); }

  private:
    // By ordinal: of what is waited for, and of what waits.
    std::map<std::uint64_t, Dependents> dependents_;
    std::map<std::uint64_t, std::vector<std::uint64_t>> open_;
};

}  // namespace iw::broker
