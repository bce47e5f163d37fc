#pragma once

// The inside of WorkerCore, for the files of this folder only.

#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "worker/core/action.h"
#include "worker/core/attempt.h"
#include "worker/core/link.h"
#include "worker/core/worker_core.h"

namespace iw::worker {

// An end that this worker has to write into a workspace without having run the attempt.
struct ForeignEnd {
    SessionView outcome;
    bool written = false;
    bool busy = false;
    Timestamp retry_at;
    Duration retry_pause{0};
    SendState sent;
};

class WorkerCore::State {
  public:
    explicit State(CoreConfig config) : config_(std::move(config)) {}

    Actions step(Now now, CoreEvent event);
    std::optional<Timestamp> next_deadline() const;

    const Link& link() const { return link_; }
    bool is_known(const AttemptRef& ref) const {
        return live_.contains(ref) || closed_.contains(ref);
    }
    std::optional<SessionView> view(const AttemptRef& ref, Now now) const;
    std::vector<AttemptState> inventory() const;
    Counts counts() const;

  private:
    // Events of the shell (worker_core.cc).
    void on(RestoredEvent event);
    void on(SeenEvent event);
    void on(LauncherGoneEvent event);
    void on(OfferEvent event);
    void on(ShutdownEvent);
    void on(TickEvent);
    // Events of the broker (from_broker.cc).
    void on(WelcomeEvent event);
    void on(RefusedEvent event);
    void on(NoSessionEvent);
    void on(HeartbeatAnsweredEvent event);
    void on(AcksEvent event);
    void on(ReportsRefusedEvent event);
    void on(AssignEvent event);
    void on(StopEvent event);
    void on(CloseEvent event);
    void on(HeardEvent);
    void on(NotSentEvent);
    // Results (results.cc).
    void on(AcceptedEvent event);
    void on(LaunchedEvent event);
    void on(ClaimedEvent event);
    void on(StopRecordedEvent event);
    void on(SessionCheckedEvent event);
    void on(TreeEvent event);
    void on(WrittenEvent event);
    void on(JudgedEvent event);
    void on(DiskEvent event);

    bool hear();
    void lose_link(const std::string& why);
    void assign(Assignment assignment);
    void wish_stop(const StopOrder& order);
    void close(Outcome outcome);
    void take_ack(ReportAck ack);
    void take_bad_ack(Attempt& attempt, const ReportAck& ack);
    void merge(Attempt& attempt, AttemptSnapshot snapshot);
    void supersede(Attempt& attempt);
    void note_disk(Attempt& attempt, std::uint64_t bytes);

    // What the facts of an attempt ask for next (advance.cc).
    void advance(Attempt& attempt);
    void advance_unclaimed(Attempt& attempt);
    void advance_declined(Attempt& attempt);
    void advance_claimed(Attempt& attempt);
    void advance_running(Attempt& attempt);
    void advance_stopping(Attempt& attempt);
    void advance_tree(Attempt& attempt);
    void advance_ended(Attempt& attempt);
    void advance_foreign(const AttemptRef& ref, ForeignEnd& end);
    bool check_session(Attempt& attempt);
    void begin_stop(Attempt& attempt);
    void record_end(Attempt& attempt, EndFact end);
    EndFact lost_end(const Attempt& attempt, const std::string& evidence) const;
    void make_dormant(Attempt& attempt);
    void kill_session(Attempt& attempt);
    void close_locally(Attempt& attempt);
    bool sibling_holds_session(const Attempt& attempt) const;
    bool may_start() const { return link_.fresh(now_.steady) && !shutting_down_; }

    void check_invariants() const;  // invariants.cc
    void check_invariants_of(const AttemptRef& ref, const Attempt& attempt) const;

    void tick_link();
    void send_hello();
    void send_heartbeat();
    void send_reports();
    void forget_old();

    Attempt* find(const AttemptRef& ref);
    Attempt* find_idle(const AttemptRef& ref);  // the same, and its action is over
    void start_action(Attempt& attempt, Action action);
    void emit(Action action) { actions_.push_back(std::move(action)); }
    void note(const AttemptRef& ref, std::string from, std::string to, std::string why);
    Duration clock_offset() const { return link_.broker_time(now_) - now_.wall; }
    std::string workspace_of(const Attempt& attempt) const;
    SessionView view_of(const Attempt& attempt) const;
    Report make_report(const Attempt& attempt, std::uint32_t number) const;

    CoreConfig config_;
    Link link_;
    bool started_ = false;
    bool shutting_down_ = false;
    // Versions of what is offered: as it is, as last sent, and as an answer has shown that it
    // arrived.
    std::uint64_t offer_ = 0;
    std::uint64_t offer_sent_ = 0;
    std::uint64_t offer_known_ = 0;
    std::map<AttemptRef, Attempt> live_;
    std::map<AttemptRef, Timestamp> closed_;  // when to forget
    std::set<std::pair<Timestamp, AttemptRef>> forget_;
    std::map<AttemptRef, ForeignEnd> foreign_;

    // Of the step under way.
    Now now_;
    Actions actions_;
};

}  // namespace iw::worker
