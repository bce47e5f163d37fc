#pragma once

// Judges a run from its history alone: what clients were told, what agents noted about themselves,
// what was committed, what watchers saw. It shares the vocabulary of records with the cores, and no
// code. Times are true time; only the rate of the broker's clock is known to it, because the
// broker's deadlines are kept on that clock.

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "broker/core/record.h"
#include "common/messages/messages.h"
#include "tests/sim/rules.h"

namespace iw::sim {

// The reason of a release that does not wait for every worker.
inline constexpr const char* kForced = "some are not coming";

class Oracle {
  public:
    enum class End { by_itself, by_signal, stopped, platform };

    explicit Oracle(std::int64_t broker_rate) : broker_rate_(broker_rate) {}

    // ---- What clients asked and were told
    void acknowledged(const std::string& key, const SessionId& id);
    void kill_asked(const SessionId& id) { kill_asked_.insert(id); }
    void death_confirmed(const WorkerName& worker) { confirmed_workers_.insert(worker); }
    void told(const SessionId& id, SessionStatus status);
    void told_unknown(const SessionId& id);

    // ---- The broker
    void broker_started(Timestamp now);
    // Its wall clock was set. Due times are put on it over a restart, and nobody can tell.
    void broker_clock_set(Duration by);
    // It did not run for so long; what it could not read it cannot blame on anybody.
    void broker_stood_still(Duration how_long);
    void heard(const WorkerName& worker, Timestamp now);
    void greeted(const WorkerName& worker, const std::string& state_id, Timestamp now);
    void reported_lost(const AttemptRef& attempt) { reported_lost_.insert(attempt); }
    // All but the first `kept` records are gone for good; what was made of the others is not
    // promised any more. But nothing that ran may run a second time for it.
    void restored(std::size_t kept);
    bool knows(const SessionId& id) const { return sessions_.contains(id); }
    // On disk for good. `decided`: when the step was that made it.
    void committed(const broker::Record& record, Timestamp decided);

    // ---- The hosts
    void agent_started(const AttemptRef& attempt, const std::string& prompt, Timestamp now);
    void agent_stopped(const AttemptRef& attempt, Timestamp now);
    void agent_ended(const AttemptRef& attempt, End how, int code);
    // The worker has the last files of the session where people read them.
    void files_written(const WorkerName& worker, const SessionId& id) {
        files_.insert({worker, id});
    }
    // A fault of ours may keep the end of this attempt from being known.
    void disturbed(const AttemptRef& attempt) { disturbed_.insert(attempt); }

    // ---- Watchers
    void page(const std::string& watcher, const EventsRequest& request, const EventsReply& page);

    // Nothing goes on any more.
    void finished();
    const std::optional<std::string>& violation() const {
        return violation_ ? violation_ : rules_.violation();
    }

  private:
    struct Agent {
        Timestamp started;
        bool is_alive = true;
        End how = End::by_itself;
        int code = 0;
    };
    struct Known {  // a session, from records alone
        Submission submission;
        std::vector<SessionId> above;  // now or at any time before
        Fence fence;
        bool is_held = false;
        WorkerName worker;
        std::string state_id;
        std::optional<Timestamp> expires;
        Duration timeout_min{0};
        std::optional<SessionStatus> ended;
        bool is_closed = false;
    };

    struct Committed {
        broker::Record record;
        Timestamp decided;
    };

    void fail(std::string what);
    // Of before a restore, and not on disk any more.
    bool is_forgotten(const SessionId& id) const {
        return forgotten_.contains(id) && !sessions_.contains(id);
    }
    void check_second_run(const AttemptRef& attempt);
    void on(const broker::SessionCreated& body, Timestamp decided);
    void on(const broker::AttemptAssigned& body, Timestamp decided);
    void on(const broker::AttemptAdopted& body, Timestamp decided);
    void on(const broker::AttemptReturned& body, Timestamp decided);
    void on(const broker::SessionEnded& body, Timestamp decided);
    void on(const broker::SessionClosed& body, Timestamp decided);
    void on(const broker::WorkerRegistered& body, Timestamp decided);
    void on(const broker::WorkerNoted& body, Timestamp decided);
    void on(const broker::TimeoutChanged& body, Timestamp decided);
    void on(const broker::SessionEdited& body, Timestamp decided);
    void check_closed(const Known& known, const broker::SessionClosed& closed, Timestamp decided);
    void on(const broker::RestoreReleased& body, Timestamp decided);
    template <typename Other>
    void on(const Other&, Timestamp) {}
    void check_lost(const Known& known, const AttemptRef& attempt, const std::string& evidence,
                    Timestamp decided);
    void check_outcome(const Known& known, const broker::SessionEnded& ended, Timestamp decided);
    bool is_kill_due(const Known& known, const SessionId& id) const;
    void check_end(const Known& known, const AttemptRef& attempt, Detail how,
                   std::optional<int> code, Timestamp now);
    bool is_timed_out(const Known& known, const AttemptRef& attempt, Timestamp now) const;
    // On the broker's clock, and only while it could listen.
    Duration silence(Timestamp heard, Timestamp now) const;
    const Agent* agent(const AttemptRef& attempt) const;

    Rules rules_;
    std::int64_t broker_rate_;
    Duration stood_still_{0};
    Timestamp broker_started_{};
    std::map<std::string, SessionId> keys_;
    std::map<std::string, SessionId> created_keys_;
    std::set<SessionId> kill_asked_;
    std::map<SessionId, SessionStatus> told_final_;
    // Less what the broker stood still since.
    std::map<WorkerName, Timestamp> heard_name_;
    std::map<std::string, Timestamp> heard_state_;
    std::map<WorkerName, std::string> state_of_;
    std::map<std::string, Timestamp> greeted_;
    std::set<AttemptRef> reported_lost_;
    std::set<AttemptRef> disturbed_;
    std::set<WorkerName> confirmed_workers_;
    std::set<AttemptRef> confirmed_;
    std::map<AttemptRef, Agent> agents_;
    std::map<SessionId, Known> sessions_;
    std::map<WorkerName, broker::WorkerRegistered> workers_;
    std::map<WorkerName, std::string> states_;  // as recorded; none yet: up
    std::set<std::pair<WorkerName, SessionId>> files_;
    std::vector<SessionId> history_;  // by seq
    std::vector<Committed> records_;
    std::set<SessionId> forgotten_;
    std::set<AttemptRef> forgotten_attempts_;
    std::set<AttemptRef> returned_;  // since the restore
    bool is_restored_ = false;
    bool is_forced_ = false;  // released before all were heard, so what they ran may run again
    bool is_replaying_ = false;
    std::map<std::string, Seq> seen_;
    std::optional<std::string> violation_;
};

}  // namespace iw::sim
