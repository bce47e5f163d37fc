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
    explicit State(CoreConfig config)
        : config_(std::move(config)), seen_(config_.seen), seen_recorded_(config_.seen) {}

    Actions step(Now now, CoreEvent event);
    std::optional<Timestamp> next_deadline() const;

    const Link& link() const { return link_; }
    bool is_known(const AttemptRef& ref) const {
        return live_.contains(ref) || closed_.contains(ref);
    }
    bool may_start(Timestamp now) const {
        return link_.fresh(now) && !shutting_down_ && read_only_.empty();
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
    void on(LimitsEvent event);
    void on(ReadOnlyEvent event);
    void on(HeardEvent);
    void on(NotSentEvent);
    // Results (results.cc).
    void on(AcceptedEvent event);
    void on(LaunchedEvent event);
    void on(ClaimedEvent event);
    void on(StopRecordedEvent event);
    void on(LimitsRecordedEvent event);
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
    void change_limit(const LimitChange& change);
    void merge(Attempt& attempt, AttemptSnapshot snapshot);
    void supersede(Attempt& attempt, const std::string& why);
    void reopen(const AttemptRef& ref);
    void see(Seq seq);
    void record_seen();
    void enter_epoch();
    void writable_again();
    void list_closed(HeartbeatRequest& heartbeat);
    void closed_listed();
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
    bool note_timeout(Attempt& attempt);
    std::optional<Timestamp> times_out_at(const Attempt& attempt) const;
    void begin_stop(Attempt& attempt);
    void record_end(Attempt& attempt, EndFact end);
    EndFact lost_end(const Attempt& attempt, const std::string& evidence) const;
    void make_dormant(Attempt& attempt);
    void kill_session(Attempt& attempt);
    void close_locally(Attempt& attempt);
    bool sibling_holds_session(const Attempt& attempt) const;
    bool sibling_is_in_the_way(const Attempt& attempt) const;
    bool is_followed(const Attempt& attempt) const;

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
    std::set<AttemptRef> reopening_;  // being read again
    std::map<AttemptRef, ForeignEnd> foreign_;

    std::string refused_;    // why the last hello was, so that it is said once
    std::string read_only_;  // why the broker takes nothing; empty: it does
    // The newest record that the broker was seen to have, and how far that is on disk.
    std::optional<SeenHead> seen_;
    std::optional<SeenHead> seen_recorded_;
    // Of an epoch that this worker does not yet belong to, see enter_epoch.
    std::optional<SeenHead> next_seen_;
    Timestamp seen_recorded_at_;
    // While the broker was restored, closed attempts are listed in pages. The next page begins
    // behind `closed_next_`; a page counts once its heartbeat is answered.
    bool restored_ = false;
    bool closed_all_ = false;  // over this connection every one has been listed
    std::optional<AttemptRef> closed_next_;
    std::optional<AttemptRef> closed_sent_;  // last of the page under way; none: no page is
    bool closed_sent_end_ = false;

    // Of the step under way.
    Now now_;
    Actions actions_;
};

}  // namespace iw::worker
