#pragma once

// Who is below whom. A session submitted from inside another one is its child; ids of all that are
// above it stand in the session itself. These indexes give the other direction. They are derived
// from the live sessions and stored nowhere.

#include <cstdint>
#include <map>

#include "broker/core/session.h"
#include "common/base/ids.h"

namespace iw::broker {

// The live sessions below each live session, at any depth.
class Descendants {
  public:
    using Group = std::map<std::uint64_t, Session*>;  // by ordinal, so in order of creation

    // The ancestor is live.
    void add(const SessionId& ancestor, Session& session);
    // The session leaves memory.
    void remove(const Session& session);
    // It is below nobody any more; others stay below it.
    void leave(const Session& session);
    bool contains(const SessionId& ancestor, const Session& session) const;
    // Empty where there are none.
    const Group& below(const SessionId& id) const;
    // Live sessions that have live sessions below them.
    std::size_t size() const { return groups_.size(); }

  private:
    std::map<SessionId, Group> groups_;  // none of them empty
};

// What one worker holds, seen as families: a held session that has a held descendant at the same
// worker lends that one its slot, whatever it does meanwhile. Each of them can lend to a different
// one, so the number of lenders is the number of slots lent.
class Lending {
  public:
    void add(const Session& held);
    void remove(const Session& held);
    std::size_t lenders() const { return lenders_; }
    // Whether the session has an ancestor here.
    bool is_family(const Session& session) const;
    // Whether its nearest ancestor here has not lent its slot yet.
    bool is_lent_to(const Session& session) const;
    // Whether the session, which is held here, has lent nobody its slot yet.
    bool can_lend(const Session& held) const;

  private:
    struct Node {
        bool is_held = false;
        std::uint32_t below = 0;  // held ones
    };
    void drop_if_idle(const SessionId& id);

    std::map<SessionId, Node> nodes_;
    std::size_t lenders_ = 0;
};

}  // namespace iw::broker
