#pragma once

// Makes session ids, `YYYYMMDD-HHMMSS-<agent>` with `-2`, `-3` ... for later ones of the same
// second. What it knows follows from the ids in records alone, so recovery brings it to where it
// was.

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "common/base/ids.h"
#include "common/base/time.h"

namespace iw::broker {

// The second an id begins with; nothing for a text that is not an id.
std::optional<WallTime> second_of(const SessionId& id);

class IdMaker {
  public:
    // An id that no session has had. It is used up only once note() is told of it.
    SessionId next(WallTime wall, const AgentName& agent) const;

    // The id is taken by a session of `agent`. Ids are noted in the order in which they were made.
    void note(const SessionId& id, const AgentName& agent);
    // Recovery: ids up to this second, and `ids` of it, were noted by a process that is gone.
    void restore(WallTime second, const std::vector<SessionId>& ids);
    // No id noted so far is as new as this one, or it is of the newest second and has not been
    // noted: a session of which no record tells.
    bool is_unknown(const SessionId& id) const;
    // Ids of this second and of all before it may be taken without having been noted one by one:
    // the next id is of a later one.
    void skip_past(WallTime second);

    // Newest second in use; the epoch when there is none.
    WallTime second() const { return second_; }

  private:
    WallTime earliest(WallTime wall) const;

    WallTime second_{};    // newest noted second
    WallTime earliest_{};  // no id before this second
    // Whole ids of `second_`: agent `foo-2` and the second `foo` want the same one.
    std::set<SessionId> used_;
    // Where to look first for an agent's next number, so that thousands in a second cost no search
    // each.
    std::map<AgentName, std::uint64_t> number_hint_;
};

}  // namespace iw::broker
