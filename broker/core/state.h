#pragma once

// The inside of BrokerCore: durable state, what is known besides, and the handlers of events. One
// file each: submit, kill, hello, heartbeat, report, leases (time), ending, closing, dispatch,
// view, invariants.

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "broker/core/broker_core.h"
#include "broker/core/durable_state.h"
#include "broker/core/presence.h"
#include "broker/core/ready_queue.h"
#include "broker/core/session_timers.h"

namespace iw::broker {

// A session that the platform failed waits this long for each time that it did.
inline constexpr Duration kRetryDelay{5'000};

class BrokerCore::State {
  public:
    State(CoreConfig config, std::uint32_t generation);
    State(const State&) = delete;
    State& operator=(const State&) = delete;

    void restore(const LiveState& state);
    void apply(const Record& record);
    void started(Now time);
    Actions step(Now time, CoreEvent event);
    std::optional<Timestamp> next_deadline() const;

    const DurableState& durable() const { return durable_; }
    std::optional<SessionView> view(const SessionId& id) const;
    std::vector<SessionId> match(std::string_view prefix, std::size_t max) const;
    WorkersReply workers_view() const;
    FleetReply fleet() const;
    std::vector<std::string> known_agents(std::string_view project) const;
    bool is_live(const SessionId& id) const { return durable_.session(id) != nullptr; }
    bool is_current(const AttemptRef& inside) const;
    bool is_current(const AttemptRef& inside, const WorkerName& by) const;
    std::vector<SessionId> unsettled(const Submission& submission,
                                     const std::map<SessionId, SessionStatus>& settled) const;
    // Whether the caller may speak for the attempt that it says to be inside of.
    bool may_speak(const Caller& caller) const;
    void check_invariants() const;

  private:
    // ---- Events
    // Each answers its caller, except those that have none. What it makes possible is handed out
    // by the end of the step, not by the handler.
    void on(SubmitEvent event);
    void on(KillEvent event);
    void on(HelloEvent event);
    void on(HeartbeatEvent event);
    void on(ReportEvent event);
    void on(GoodbyeEvent event);
    void on(PeerGoneEvent event);
    void on(TickEvent event);
    void on(ExtendEvent event);
    void on(HoldEvent event);
    void on(ConfirmDeadEvent event);
    void on(BeginEpochEvent event);
    void on(ReleaseEvent event);

    // ---- What a step does: records, answers, messages, notes
    // Decides a fact: numbers it, applies it, keeps the schedule in step with it, notes the change.
    void emit(RecordBody body);
    // The line for the log about a record of a session; for a closed one before it is gone.
    void note_session(const RecordBody& body, const std::string& from, const Session* after);
    void reply(const Caller& caller, Reply body);
    void refuse(const Caller& caller, ErrorCode code, std::string message);
    // The worker must be connected.
    void push(const Presence& presence, Push body);
    void transition(std::string subject, std::string from, std::string to, std::string why);
    // The worker does not hold the session any more.
    void released(const Worker& worker, std::uint64_t ordinal);
    // A queued session stands in the ready queue or among the due times, and perhaps among the
    // expiries. Every record takes it out before and puts it back after, so that none of them holds
    // a stale order.
    void refresh_schedule(Session& session);
    void unschedule(Session& session);
    // Puts due time, expiry and order on the steady clock, once, from the times in the record.
    void begin_schedule(Session& session, std::int64_t accepted_ms);
    // Milliseconds that begin as the wall clock at the start and from then on follow the steady
    // clock.
    std::int64_t run_time_ms() const;
    // The presence of a registered worker that speaks on its own connection; refuses the caller
    // otherwise.
    Presence* present(const Caller& caller, const WorkerName& name);
    // Renews the lease, and notes it when the worker had been taken for silent.
    void heard(const WorkerName& name, Presence& presence);

    // ---- Submit
    // The item's submission, prompt and all, is moved into the record.
    SubmitOutcome submit(const Caller& caller, SubmitEvent::Item& item);
    // The answer to a key that is known; nothing for a new one.
    std::optional<SubmitOutcome> known_key(const Caller& caller,
                                           const SubmitEvent::Item& item) const;
    // Why a submission cannot be accepted; nothing when it can.
    std::optional<Error> refusal(const Caller& caller, const Submission& submission) const;
    std::optional<Error> parent_refusal(const SessionId& parent) const;
    std::optional<Error> agent_refusal(const Submission& submission) const;

    // ---- Workers
    // Why the worker may not have this name or this root now.
    std::optional<Error> hello_refusal(const WorkerHello& hello) const;
    // A record only where something durable differs from what is registered.
    void register_worker(const HelloEvent& event);
    void change_registration(WorkerRegistered registered);
    // Names that the worker's state directory had before: nobody speaks under them any more.
    void leave_other_names(const Worker& worker);
    // Agents and slots that a heartbeat states.
    void update_offer(const Worker& worker, const HeartbeatRequest& heartbeat);
    // What the name's previous incarnation held: lost when the host was started anew since, else
    // waited for.
    void settle_previous(const Worker& worker, const WorkerRegistered& before, Timestamp heard_at);
    // When each attempt of another incarnation counts as lost; those of this one are dropped from
    // the list.
    void expect_orphans(const Worker& worker, Timestamp heard_at);
    // Which attempts take the worker's room without being given to it.
    void take_inventory(const Worker& worker, Presence& presence,
                        const std::vector<AttemptState>& inventory);
    std::vector<StopOrder> stops(const Worker& worker,
                                 const std::vector<AttemptState>& inventory) const;
    // Sends again what the list shows not to have arrived.
    void send_missing(const Worker& worker, Presence& presence,
                      const std::vector<AttemptState>& inventory);
    // Gives up started attempts that a hello does not list.
    void lose_forgotten(const Worker& worker, const std::vector<AttemptState>& inventory);
    void send_assignment(Presence& presence, const Session& session);
    // Connected and not taken for silent.
    bool is_reachable(const Worker& worker) const;
    bool has_room(const Worker& worker) const;
    // Has been sent as many assignments as one step may send on a connection.
    bool is_sated(const Presence& presence) const;
    // Reachable and with room, whatever it was sent in this step.
    bool could_take(const Worker& worker) const;
    // Unfinished attempts, its own and those that it runs besides.
    std::size_t used(const Worker& worker) const;
    void note_worker(const Worker& worker, std::string_view state, std::string evidence);

    // ---- Reports
    // Everything that a report changes is emitted here; the acknowledgement leaves after the
    // commit.
    ReportAck handle(const Worker& worker, Report& report);
    void handle_started(const Session& session, const Report& report, ReportAck& ack);
    void handle_declined(const Session& session, const Report& report, ReportAck& ack);
    void handle_ended(const Worker& worker, const Session& session, Report& report, ReportAck& ack);
    void handle_closed(const Worker& worker, const Session& session, const Report& report,
                       ReportAck& ack);
    // Refuses with STALE_FENCE, and keeps the report for the record once.
    void supersede(const Worker& worker, const Session& session, const Report& report,
                   std::string what, ReportAck& ack);
    // Puts the outcome into the acknowledgement when the reporter owns the workspace.
    void give_outcome(const Worker& worker, const Session& session, ReportAck& ack);

    // ---- Ending. The session stays in memory until begin_closing is called for it.
    // One that is with no worker: killed or expired.
    void end_queued(const Session& session, Detail detail, std::string kill_reason);
    // As its worker judged it; the result's bytes are moved into the record.
    void end_attempt(const Session& session, EndedReport& report);
    // The wish to its worker, if that is connected and knows the attempt.
    void send_stop(const Session& session);
    // The attempt goes back to the queue, or the session ends where that has happened too often or
    // a kill is wished.
    void return_attempt(const Session& session, Detail cause, std::string reason,
                        std::string evidence);
    // It is proven that the attempt runs no more, or silence has lasted long enough for the policy
    // to act.
    void lose_attempt(const Session& session, const std::string& evidence);
    void fail_attempt(const Session& session, Detail detail, std::string reason,
                      std::string evidence);

    // ---- Closing
    // Null when no worker has registered for the root.
    const Worker* owner_of(const Origin& root) const;
    bool is_waited_for(const Worker& worker) const;
    // What SessionClosed states as `by` when no owner is waited for.
    std::string why_nobody(const Origin& root) const;
    // Gives the outcome of an ended session to the owner of its workspace, or closes it where there
    // is none; then it is gone. Does nothing for a session that has not ended.
    void begin_closing(const SessionId& id);
    void close(const SessionId& id, std::string by);
    // Closes whatever nobody is waited for any more.
    void close_abandoned();
    // Sends the owner what it has not answered; bounded, oldest first.
    void push_outcomes(const Worker& worker, Presence& presence);
    // The view with its final status, as the owner's last files show it.
    Outcome outcome_of(const Session& session) const;

    // ---- Run timeouts
    // The session's timeout to the worker that holds it, if that is connected and knows the attempt.
    void send_limit(const Session& session);
    // Attempts of the list that run under another timeout than their session's.
    std::vector<LimitChange> limit_changes(const Worker& worker,
                                           const std::vector<AttemptState>& inventory) const;

    // ---- Time
    // Notes silent workers and applies on_lost to what they hold.
    void check_leases();
    void give_up_attempts(const Worker& worker, const std::string& evidence);
    // Gives up what no living incarnation of a name can report on any more.
    void check_orphans();
    // lose_attempt and what follows from it.
    void lose(const Session& session, const std::string& evidence);
    // Expiries, then due times, up to the step's moment.
    void fire_timers();

    // ---- Handing out
    void dispatch();
    // The worker for the next session of the class; null when none has room.
    const Worker* pick(const ReadyQueue::Class& placement_class) const;
    void assign(Session& session, const Worker& worker);

    // ---- Views
    SessionView view_of(const Session& session) const;
    void describe_queued(const Session& session, SessionView& view) const;
    void describe_held(const Session& session, SessionView& view) const;
    void apply_outcome(const SessionEnded& ended, SessionView& view) const;

    // ---- Invariants
    void check_schedule(const Session& session) const;
    void check_workers() const;
    // In particular, that nothing waits for which there is room: handing out missed nobody.
    void check_queue() const;

    const CoreConfig config_;
    DurableState durable_;
    bool started_ = false;
    bool was_stalled_ = false;  // at the tick before
    Duration run_offset_{0};    // wall less steady at the start: see run_time_ms

    ReadyQueue ready_;
    SessionTimers due_;
    SessionTimers expiry_;
    std::map<WorkerName, Presence> presence_;  // one for each registered worker

    // Of the step under way.
    Now time_{};
    std::map<PeerId, std::size_t> assignments_;  // sent, by connection
    std::size_t outcome_bytes_ = 0;              // in the acknowledgements of this step
    Actions actions_;
};

}  // namespace iw::broker
