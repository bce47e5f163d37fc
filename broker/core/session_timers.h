#pragma once

// Deadlines of sessions in order of time. A session stands at most once in each.

#include <cstdint>
#include <map>
#include <optional>
#include <utility>

#include "broker/core/session.h"
#include "common/base/time.h"

namespace iw::broker {

class SessionTimers {
  public:
    void set(Timestamp at, Session& session);
    void clear(Timestamp at, const Session& session);
    bool contains(Timestamp at, const Session& session) const;

    std::optional<Timestamp> earliest() const;
    // Takes out the earliest session whose time has come: exactly at its deadline counts. Null when
    // none has.
    Session* pop(Timestamp time);
    std::size_t size() const { return timers_.size(); }

  private:
    std::map<std::pair<Timestamp, std::uint64_t>, Session*> timers_;  // by time, then ordinal
};

}  // namespace iw::broker
