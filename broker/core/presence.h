#pragma once

// What the broker knows of a worker from its messages alone: on which connection it is, when it was
// heard, what it was sent and what it says it runs. None of it is durable; after a start it begins
// anew.

#include <algorithm>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>

#include "broker/core/event.h"
#include "common/base/ids.h"
#include "common/base/time.h"
#include "common/messages/messages.h"

namespace iw::broker {

struct Presence {
    std::optional<PeerId> peer;  // none: no hello yet, or goodbye
    Timestamp heard_at;          // less the broker's own stalls; at a start, the start
    std::optional<WallTime> heard_wall;
    bool is_given_up = false;  // silent for so long that no end waits for its files
    // Heartbeats and hellos so far: the unit in which a message is given time to arrive.
    std::uint64_t beat = 0;
    // By ordinal, the beat at which an assignment or an outcome was last sent on this connection.
    std::map<std::uint64_t, std::uint64_t> sent;
    // Attempts that it runs although they are not (or no longer) given to it: they take room.
    std::set<AttemptRef> foreign;
    // Those of them, and after a restore finished ones as well, that no session here is known for.
    std::set<AttemptRef> unknown;
    // Since a restore: it has not been heard at all; it has not yet listed every attempt that it
    // closed, so that the broker may be about to give it what it has run before.
    bool is_unheard = false;
    bool is_listing = false;
    // Meanwhile, by ordinal, what it holds and has listed.
    std::set<std::uint64_t> listed;
    // By ordinal, how far it had come then with what it holds: asked for until it is known here.
    std::map<std::uint64_t, AttemptPhase> owed;
    // As the owner of a root: since its hello it has been told how the sessions from there stand up
    // to this one; nothing: all of them. Changes have been lost meanwhile: once more from the
    // first.
    std::optional<SessionId> told_up_to;
    bool tell_again = false;
    // Since it was heard another start has asked for the name, and waits for it.
    bool is_awaited = false;
    // An admin's word that it is gone for good, with the evidence; until it is heard. Empty: nobody
    // has said so.
    std::string confirmed_dead;
    // Attempts given to the name's previous incarnation, by ordinal, and when they count as lost.
    std::map<std::uint64_t, Timestamp> orphans;

    // Whether it has listed attempts as over whose ends are not known here.
    bool owes_ends() const {
        return std::any_of(owed.begin(), owed.end(), [](const auto& each) {
            return each.second == AttemptPhase::closed || each.second == AttemptPhase::closing;
        });
    }
    // An assignment sent after the previous beat may still be on its way: only a list that was made
    // a whole beat later proves that it did not arrive.
    bool is_due_again(std::uint64_t ordinal) const {
        const auto last = sent.find(ordinal);
        return last == sent.end() || last->second + 2 <= beat;
    }
};

}  // namespace iw::broker
