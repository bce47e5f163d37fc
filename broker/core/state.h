#pragma once

// The inside of BrokerCore: durable state, what is known besides, and the handlers of events. One
// file each: submit, kill, editing, hello, heartbeat, report, leases (time), ending, closing,
// following, dispatch, view, invariants.

#include <deque>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "broker/core/broker_core.h"
#include "broker/core/dependencies.h"
#include "broker/core/durable_state.h"
#include "broker/core/id_maker.h"
#include "broker/core/presence.h"
#include "broker/core/ready_queue.h"
#include "broker/core/session_timers.h"

namespace iw::broker {

class BrokerCore::State {
  public:
    State(CoreConfig config, std::uint32_t generation);
    State(const State&) = delete;
    State& operator=(const State&) = delete;

    void restore(const LiveState& state);
    void restore(const LiveSession& session);
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
    void on(EditEvent event);

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
    // Into the ready queue, among the due times or among the waiting parents; blocked ones stand in
    // none of them.
    void enqueue(Session& session);
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

    // ---- Dependencies
    std::optional<Error> dependency_refusal(const SubmitEvent::Item& item) const;
    // Why it would wait for a session that waits for it.
    std::optional<Error> cycle_refusal(const Submission& submission) const;
    // Adds whatever waits for the ancestor, through any chain, under its id.
    void note_waiting(const Session& ancestor, const SessionId& id,
                      std::map<std::uint64_t, SessionId>& waiting) const;
    // Why the new session can never start; empty: it may.
    std::string unmet_at_submission(const SubmitEvent::Item& item) const;
    // Before a session's first schedule: notes what it waits for.
    void begin_waiting(Session& session);
    // Ends what can never start, now that the session is about to be final. Before that is
    // recorded: whatever part of the records a crash leaves, nobody has lost a dependency that was
    // not met. False: this step has ended as many as one may, the next goes on.
    bool fail_dependents(const Session& session);
    // By the ordinal of a session that is final: what waited for nothing else may start.
    void release_dependents(std::uint64_t ordinal);
    // Delivers or closes what fail_dependents and submissions have ended, and closes what that left
    // unfinished.
    void close_failed();

    // ---- Workers
    // Why the worker may not have this name or this root now.
    std::optional<Error> hello_refusal(const WorkerHello& hello) const;
    // A record only where something durable differs from what is registered. The registration of
    // another state directory that the name had before.
    std::optional<WorkerRegistered> register_worker(const HelloEvent& event);
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
    void lose_forgotten(const Worker& worker, const std::vector<AttemptState>& inventory,
                        bool is_new_start);
    void send_assignment(Presence& presence, const Session& session);
    // Connected and not taken for silent.
    bool is_reachable(const Worker& worker) const;
    bool has_room(const Worker& worker) const;
    // Has been sent as many assignments as one step may send on a connection.
    bool is_sated(const Presence& presence) const;
    // Reachable, and nothing is known to be missing from what it has said of itself.
    bool is_open(const Worker& worker) const;
    // Open to anything and with room, whatever it was sent in this step.
    bool could_take(const Worker& worker) const;
    // The same for descendants of a session that it holds.
    bool could_take_below(const Worker& worker, const Session& ancestor) const;
    // Slots in use: unfinished attempts, its own and those that it runs besides, less those that
    // run on a slot lent by an ancestor.
    std::size_t used(const Worker& worker) const;
    void note_worker(const Worker& worker, std::string_view state, std::string evidence);

    // Superseded, or its session is over: the worker should not run it.
    bool is_known_over(const AttemptState& attempt) const;

    // ---- Epochs
    // Nobody has been heard yet, and everybody's closed attempts are missing.
    void await_workers();
    // New ids are of seconds that the forgotten past cannot have reached.
    void skip_past_ids();
    // At a hello: whether the worker has to list what it closed.
    void begin_listing(const WorkerHello& hello, Presence& presence);
    // From a worker that lists: takes over the attempts that this state knows less of.
    void merge(const Worker& worker, Presence& presence, const std::vector<AttemptState>& attempts);
    void raise_generation_above(Fence fence);
    void raise_generation(std::uint32_t generation, const std::string& why);
    bool is_to_be_adopted(const Session& session, const Worker& worker,
                          const AttemptState& attempt) const;
    void end_listing(const Worker& worker, Presence& presence);
    // Gives up started attempts that the worker has not listed once.
    void lose_unlisted(const Worker& worker, Presence& presence);
    std::vector<WorkerName> unheard() const;
    // Why the restore may not be released yet.
    std::optional<Error> release_refusal() const;

    // ---- Confirmed losses
    std::optional<Error> confirm_refusal(const Session& session) const;
    std::optional<Error> confirm_refusal(const Worker& worker) const;
    // The sessions that the request is about, or why it cannot be. Notes the evidence for each
    // worker that it names.
    Result<std::vector<SessionId>> confirmed_dead(const ConfirmDeadRequest& request,
                                                  const std::string& evidence);
    // Counts the session's attempt as lost; the session as it stands after that.
    SessionView lose_and_show(const SessionId& id, const std::string& evidence);
    // All that the worker holds.
    void lose_confirmed(const Worker& worker, const std::string& evidence);

    // ---- Reports
    // Everything that a report changes is emitted here; the acknowledgement leaves after the
    // commit.
    ReportAck handle(const Worker& worker, Report& report);
    void handle_started(const Session& session, Report& report, ReportAck& ack);
    void handle_declined(const Session& session, Report& report, ReportAck& ack);
    void handle_ended(const Worker& worker, const Session& session, Report& report, ReportAck& ack);
    void handle_closed(const Worker& worker, const Session& session, Report& report,
                       ReportAck& ack);
    // Refuses with STALE_FENCE, and keeps the report for the record once. The result's bytes are
    // moved into the record.
    void supersede(const Worker& worker, const Session& session, Report& report, std::string what,
                   ReportAck& ack);
    // Puts the outcome into the acknowledgement.
    void give_outcome(const Worker& worker, const Session& session, ReportAck& ack);
    // The same for a session that goes on: its view, which shows that another attempt follows.
    void give_return(const Session& session, ReportAck& ack);
    // Whether an acknowledgement still holds the session's view besides its other ones.
    bool fits_ack(const Session& session);

    // ---- Ending. The session stays in memory until begin_closing is called for it.
    // One that is with no worker: killed or expired.
    void end_queued(const Session& session, Detail detail, std::string kill_reason);
    // One that was never started and never will be.
    void fail_queued(const Session& session, Detail detail, std::string reason);
    // As its worker judged it: the session ends, or another attempt follows. The result's bytes are
    // moved into the record.
    void end_attempt(const Session& session, EndedReport& report);
    // The wish to its worker, if that is connected and knows the attempt.
    void send_stop(const Session& session);
    // The attempt goes back to the queue, or the session ends where that has happened too often or
    // a kill is wished.
    void return_attempt(const Session& session, Detail cause, std::string reason,
                        std::string evidence);
    // Gives the session another attempt where its policy has one for such an end; false, and
    // nothing is changed, where it has not.
    bool retry_attempt(const Session& session, SessionEnded& ended);
    // Back into the queue, for the delay among the due times. The record's retry_at is set here.
    void give_back(const Session& session, Duration delay, AttemptReturned returned);
    // It is proven that the attempt runs no more, or silence has lasted long enough for the policy
    // to act.
    void lose_attempt(const Session& session, const std::string& evidence);
    void fail_attempt(const Session& session, Detail detail, std::string reason,
                      std::string evidence);

    // ---- Families (family.h)
    // Whether children of its earlier attempts are not final yet, which its next one waits for.
    bool waits_for_children(const Session& session) const;
    // Whether it descends from one of the attempts of the queued session, which are all over.
    bool is_of_over_attempt(const Session& parent, const Session& descendant) const;
    bool has_unfinished_child(const Session& session) const;
    // The ancestor of one that has just become final may have waited for that.
    void child_is_final(const SessionId& ancestor);
    // A family being killed: those below first, then the one that the kill is about.
    struct Cascade {
        SessionId root;
        std::deque<SessionId> rest;  // not looked at yet, in order of creation
        std::string reason;          // of those below; short, there may be thousands
        Principal principal;
        std::optional<KillEvent> kill;  // none: attempts of the root are over, not the root itself
        std::uint32_t killed = 0;
    };
    // It has neither ended nor been told to.
    bool can_be_killed(const Session& session) const;
    // It has been told to end, or is below one that a cascade under way is about.
    bool is_being_killed(const Session& session) const;
    // Begins to kill what the attempts of the queued session have left unfinished.
    void end_attempts_children(const Session& parent);
    // Does so for the sessions that have come back to the queue, and goes on with what is under
    // way.
    void settle_families();
    void run_cascades();
    // True: it has ended and is to be delivered.
    bool kill_descendant(const SessionId& id, Cascade& cascade,
                         std::map<WorkerName, StopPush>& stops);
    void kill_root(const Cascade& cascade);
    // begin_closing for many.
    void deliver(const std::vector<SessionId>& ended);

    // ---- Edits
    void edit_final(EditEvent event);
    // Why the session may not have this parent; empty: none.
    std::optional<Error> parent_refusal(const Session& session, const SessionId& parent) const;
    // Why the parent is no affair of who asks from inside.
    std::optional<Error> stranger_refusal(const AttemptRef& inside, const SessionId& parent) const;
    // Why those that would move along keep the session where it is.
    std::optional<Error> family_refusal(const Session& session, const Session& parent) const;
    // Records another parent, and puts everybody whose family that changes in its place again.
    void move_family(const Session& session, SessionEdited edited);

    // ---- Following
    // The session shows something else than before.
    void note_change(const Session& session);
    // Of a worker that has just said hello.
    void tell_from_first(const Worker& owner, Presence& presence);
    // From its first session on, or once more behind the present round.
    static void begin_telling(Presence& presence);
    // Tells owners what of their sessions runs elsewhere, or waits: some, and not too often.
    void tell_owners();
    using Follows = std::map<WorkerName, FollowPush>;
    void tell(const Session& session, Follows& follows);
    void send(Follows follows);
    void tell_all(const Worker& owner, Presence& presence, Follows& follows);
    // Who has to be told of the session; null: nobody.
    const Worker* owner_to_tell(const Session& session) const;
    std::optional<Timestamp> telling_due() const;

    // ---- Holds
    std::optional<Error> unknown_worker(const std::string& worker) const;
    // False: it is so already.
    bool change_hold(const HoldRequest& request, const Principal& principal);
    void emit_hold(HoldChanged changed);
    // At the start: deadlines of holds on the steady clock.
    void begin_holds();
    void end_holds();
    const HoldView* hold_on(HoldScope scope, const std::string& name) const;
    // The pause that keeps sessions of this placement back; null when none does.
    const HoldView* pause_of(const Placement& placement) const;
    const HoldView* drain_of(const Worker& worker) const;
    // Whether one of its ancestors is held, which it may be needed for.
    bool is_below_held(const Session& session) const;
    // Why a session that is ready is not handed out although there may be room; empty: nothing
    // keeps it back.
    std::string held_back_by(const Session& session) const;

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
    // The session's timeout to the worker that holds it, if that is connected and knows the
    // attempt.
    void send_limit(const Session& session);
    // Attempts of the list that run under another timeout than their session's.
    std::vector<LimitChange> limit_changes(const Worker& worker,
                                           const std::vector<AttemptState>& inventory) const;

    // ---- Time
    // Notes silent workers and applies on_lost to what they hold.
    void check_leases();
    // Whether deadlines end sessions now.
    bool may_give_up() const;
    void give_up_attempts(const Worker& worker, const std::string& evidence);
    // Gives up what no living incarnation of a name can report on any more.
    void check_orphans();
    // lose_attempt and what follows from it.
    void lose(const Session& session, const std::string& evidence);
    // Expiries, then due times, up to the step's moment.
    void fire_timers();

    // ---- Handing out
    void dispatch();
    void hand_out_by_class();
    // What is ready below the sessions with these ordinals. Adds those to `unfinished` that the
    // next step must look at again.
    void hand_out_in_families(const std::set<std::uint64_t>& touched,
                              std::set<std::uint64_t>& unfinished);
    // The worker for the next session of the class; null when none has room.
    const Worker* pick(const ReadyQueue::Class& placement_class) const;
    // The same for one below the held ancestor.
    const Worker* pick_below(const ReadyQueue::Class& placement_class,
                             const Session& ancestor) const;
    // Whether only the bound of a step keeps one of the class from being handed out.
    bool is_room_left(const ReadyQueue::Class& placement_class) const;
    bool is_room_left_below(const ReadyQueue::Class& placement_class,
                            const Session& ancestor) const;
    void assign(Session& session, const Worker& worker);
    // Above every fence that any store is known to have given out for the session.
    Fence next_fence(const Session& session) const;

    // ---- Views
    // What records say that the session shows, and what it waits for.
    StatusChange shown_of(const Session& session) const;
    SessionView view_of(const Session& session) const;
    void describe_queued(const Session& session, SessionView& view) const;
    std::string blocked_text(const Session& session) const;
    std::string retrying_text(const Session& session) const;
    // The detail of a session that could run now, and why it does not.
    void describe_ready(const Session& session, SessionView& view) const;
    void describe_held(const Session& session, SessionView& view) const;
    void apply_outcome(const SessionEnded& ended, SessionView& view) const;

    // ---- Invariants
    void check_schedule(const Session& session) const;
    void check_workers() const;
    void check_queue() const;
    // That it does not wait although there is room for it: handing out missed nobody.
    void check_ready(const Session& session, const ReadyQueue::Class& placement_class) const;
    bool could_go(const Session& session, const Worker& worker) const;
    bool lends_slot(const Session& lender, const Worker& worker) const;
    std::size_t use_from_tree(const Worker& worker) const;

    const CoreConfig config_;
    DurableState durable_;
    bool started_ = false;
    bool was_stalled_ = false;  // at the tick before
    Duration run_offset_{0};    // wall less steady at the start: see run_time_ms

    ReadyQueue ready_;
    DependencyIndex dependencies_;
    std::deque<SessionId> to_close_;  // ended by fail_queued, not yet delivered
    // Sessions whose dependents are not all ended yet, with what SessionClosed will state as `by`.
    std::map<SessionId, std::string> unfinished_closes_;
    // Queued and due, but see waits_for_children; by ordinal.
    std::map<std::uint64_t, Session*> waiting_parents_;
    std::vector<SessionId> returned_;  // attempts are over, what they left is not looked at yet
    std::deque<Cascade> cascades_;
    std::size_t killed_in_turn_ = 0;
    std::set<SessionId> changed_;  // of which an owner is perhaps to be told
    Timestamp tell_at_{};          // not before
    std::map<DurableState::HoldKey, Timestamp> hold_ends_;
    IdMaker store_ids_;  // what the store knew of ids when it was restored
    SessionTimers due_;
    SessionTimers expiry_;
    std::map<WorkerName, Presence> presence_;  // one for each registered worker

    // Of the step under way.
    Now time_{};
    std::map<PeerId, std::size_t> assignments_;  // sent, by connection
    std::size_t outcome_bytes_ = 0;              // in the acknowledgements of this step
    std::size_t failed_in_step_ = 0;             // by fail_dependents
    Actions actions_;
};

}  // namespace iw::broker
