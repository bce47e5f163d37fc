#pragma once

// Everything that the journal would bring back, and nothing else. It changes by apply() alone, in
// steps and in recovery; what steps know besides (presence, schedules, what was sent to whom)
// stands elsewhere.

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "broker/core/family.h"
#include "broker/core/id_maker.h"
#include "broker/core/key_index.h"
#include "broker/core/placement.h"
#include "broker/core/record.h"
#include "broker/core/session.h"
#include "common/base/ids.h"

namespace iw::broker {

namespace worker_state {
inline constexpr std::string_view kUp = "up";
inline constexpr std::string_view kUnreachable = "unreachable";
inline constexpr std::string_view kLost = "lost";
inline constexpr std::string_view kAway = "away";
}  // namespace worker_state

struct Worker {
    WorkerRegistered registration;
    std::string state{worker_state::kUp};    // as last noted
    std::map<std::uint64_t, Session*> held;  // sessions with an unfinished attempt here, by ordinal
    Lending lending;                         // among those

    bool is_up() const { return state == worker_state::kUp; }
    Origin root() const { return {registration.host, registration.root}; }
};

class DurableState {
  public:
    explicit DurableState(std::uint32_t generation);
    DurableState(const DurableState&) = delete;
    DurableState& operator=(const DurableState&) = delete;

    void restore(const LiveState& state);
    // One more session than the state had, in order of creation.
    void restore(const LiveSession& live);
    // The one function that changes it. The record must be the successor of head().
    void apply(const Record& record);

    Seq head() const { return head_; }
    std::uint32_t generation() const { return generation_; }
    // Of the newest EpochBegun; empty: the database's first one.
    const std::string& epoch() const { return epoch_; }
    // Why nothing is assigned since a restore; nothing: it is.
    const std::optional<std::string>& restored() const { return restored_; }
    // Pauses and drains, by what they are laid on.
    using HoldKey = std::pair<HoldScope, std::string>;
    const std::map<HoldKey, HoldView>& holds() const { return holds_; }
    const std::map<SessionId, Session>& sessions() const { return sessions_; }
    const std::map<WorkerName, Worker>& workers() const { return workers_; }
    // Sessions whose outcome is decided, by the root that their workspace belongs to, then by
    // ordinal.
    using ClosingGroup = std::map<std::uint64_t, Session*>;
    const std::map<Origin, ClosingGroup>& closing() const { return closing_; }
    const KeyIndex& keys() const { return keys_; }
    const Descendants& descendants() const { return descendants_; }
    const IdMaker& ids() const { return ids_; }
    const PlacementTable& placements() const { return placements_; }
    std::size_t count(Phase phase) const { return counts_[static_cast<std::size_t>(phase)]; }

    const Worker* worker(const WorkerName& name) const;
    // The caller may set its schedule and nothing else. Null when there is none.
    Session* session(const SessionId& id);
    const Session* session(const SessionId& id) const;
    template <typename Each>
    void for_each_session(Each each) {
        for (auto& [id, session] : sessions_)
            each(session);
    }
    // Recovery is over: ids of seconds that have been used are used up.
    void finish_recovery() {
        link_late();
        ids_.skip_past(ids_.second());
    }
    // Others have ids of this second that no record here tells of: new ones are of later ones.
    void skip_ids(WallTime second) { ids_.skip_past(second); }
    // Aborts on a broken assumption.
    void check() const;

  private:
    void on(const Record& record, const SessionCreated& created);
    void on(const Record& record, const AttemptAssigned& assigned);
    void on(const Record& record, const AttemptStarted& started);
    void on(const Record& record, const AttemptReturned& returned);
    void on(const Record& record, const SessionEnded& ended);
    void on(const Record& record, const SessionClosed& closed);
    void on(const Record& record, const KillWished& wished);
    void on(const Record& record, const ReportSuperseded& superseded);
    void on(const Record& record, const WorkerRegistered& registered);
    void on(const Record& record, const WorkerNoted& noted);
    void on(const Record& record, const TimeoutChanged& changed);
    void on(const Record& record, const HoldChanged& changed);
    void on(const Record& record, const EpochBegun& begun);
    void on(const Record& record, const RestoreReleased& released);
    void on(const Record& record, const AttemptAdopted& adopted);
    void on(const Record& record, const SessionEdited& edited);

    Session& create(const SessionId& id, const Submission& submission,
                    const std::vector<SessionId>& ancestors);
    // What the session and its parent know of how it came to be below its ancestors.
    void link(Session& session);
    // The session and those below it, under another parent.
    void move_family(Session& session, const SessionEdited& edited);
    // Out of its ancestors' descendants and of what its worker lends, and in again.
    void leave_family(Session& session);
    void join_family(Session& session);
    // An edited parent may be younger than its child, and so be restored behind it.
    void link_late();
    // The session the record is about, one revision on and in its next phase.
    Session& advance(const SessionId& id, const RecordBody& body);
    void enter(Session& session, Phase phase);
    void hold(Session& session);
    void let_go(Session& session);
    // A state directory that starts under another name brings its attempts along.
    void take_over(Worker& worker);
    void begin_closing(Session& session);
    Origin owner_of(const Session& session) const;
    void check_session(const Session& session) const;

    std::uint32_t generation_;
    std::string epoch_;
    std::optional<std::string> restored_;
    std::map<HoldKey, HoldView> holds_;
    Seq head_ = 0;
    std::uint64_t next_ordinal_ = 1;
    std::map<SessionId, Session> sessions_;
    std::map<WorkerName, Worker> workers_;
    std::map<Origin, ClosingGroup> closing_;
    Descendants descendants_;
    PlacementTable placements_;
    KeyIndex keys_;
    IdMaker ids_;
    std::array<std::size_t, kPhases> counts_{};
    // While sessions are restored: those of which not all ancestors were there before them.
    std::vector<Session*> late_;
};

// Whether the attempt was given to the worker's name under another state directory: its process of
// today has never heard of it, and handing it over again would run it twice.
bool is_orphan(const Session& session, const Worker& worker);
// Whether the session's newest attempt was given to the state directory that the worker has now,
// under whatever name that was: what it says of the attempt counts.
bool is_of(const Session& session, const Worker& worker);

}  // namespace iw::broker
