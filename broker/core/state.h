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
    std::vector<std::string> known_agents(std::string_view project) const;
    bool is_live(const SessionId& id) const { return durable_.session(id) != nullptr; }
    bool is_current(const AttemptRef& inside) const;
    void check_invariants() const;

  private:
    // ---- Events
    void on(SubmitEvent event);
    void on(KillEvent event);
    void on(HelloEvent event);
    void on(HeartbeatEvent event);
    void on(ReportEvent event);
    void on(GoodbyeEvent event);
    void on(TickEvent event);

    // ---- What a step does: records, answers, messages, notes
    // Decides a fact: numbers it, applies it, keeps the schedule in step with it, notes the change.
    void emit(RecordBody body);
    void note_session(const RecordBody& body, const std::string& from, const Session* after);
    void reply(const Caller& caller, Reply body);
    void refuse(const Caller& caller, ErrorCode code, std::string message);
    void push(const Presence& presence, Push body);
    void transition(std::string subject, std::string from, std::string to, std::string why);
    // The worker does not hold the session any more.
    void released(const Worker& worker, std::uint64_t ordinal);
    void refresh_schedule(Session& session);
    void unschedule(Session& session);
    void begin_schedule(Session& session, std::int64_t accepted_ms);
    // Milliseconds that begin as the wall clock at the start and from then on follow the steady
    // clock.
    std::int64_t run_time_ms() const;
    // The presence of a registered worker that speaks on its own connection; refuses the caller
    // otherwise.
    Presence* present(const Caller& caller, const WorkerName& name);
    void heard(const WorkerName& name, Presence& presence);

    // ---- Submit
    SubmitOutcome submit(const Caller& caller, SubmitEvent::Item& item);
    std::optional<SubmitOutcome> known_key(const Caller& caller,
                                           const SubmitEvent::Item& item) const;
    std::optional<Error> refusal(const Caller& caller, const Submission& submission) const;
    std::optional<Error> parent_refusal(const SessionId& parent) const;
    std::optional<Error> agent_refusal(const Submission& submission) const;

    // ---- Workers
    std::optional<Error> hello_refusal(const WorkerHello& hello) const;
    void register_worker(const HelloEvent& event);
    void change_registration(WorkerRegistered registered);
    void update_offer(const Worker& worker, const HeartbeatRequest& heartbeat);
    // What the name's previous incarnation held: lost when the host was started anew since, else
    // waited for.
    void settle_previous(const Worker& worker, const WorkerRegistered& before, Timestamp heard_at);
    void expect_orphans(const Worker& worker, Timestamp heard_at);
    void take_inventory(const Worker& worker, Presence& presence,
                        const std::vector<AttemptState>& inventory);
    std::vector<StopOrder> stops(const Worker& worker,
                                 const std::vector<AttemptState>& inventory) const;
    void send_missing(const Worker& worker, Presence& presence,
                      const std::vector<AttemptState>& inventory);
    void send_assignment(Presence& presence, const Session& session);
    bool is_reachable(const Worker& worker) const;
    bool has_room(const Worker& worker) const;
    std::size_t used(const Worker& worker) const;
    void note_worker(const Worker& worker, std::string_view state, std::string evidence);

    // ---- Reports
    ReportAck handle(const Worker& worker, Report& report);
    void handle_started(const Session& session, const Report& report, ReportAck& ack);
    void handle_declined(const Session& session, const Report& report, ReportAck& ack);
    void handle_ended(const Worker& worker, const Session& session, Report& report, ReportAck& ack);
    void handle_closed(const Worker& worker, const Session& session, const Report& report,
                       ReportAck& ack);
    void supersede(const Worker& worker, const Session& session, const Report& report,
                   std::string what, ReportAck& ack);
    void give_outcome(const Worker& worker, const Session& session, ReportAck& ack);

    // ---- Ending. The session stays in memory until begin_closing is called for it.
    void end_queued(const Session& session, Detail detail, std::string kill_reason);
    void end_attempt(const Session& session, EndedReport& report);
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
    const Worker* owner_of(const Origin& root) const;
    bool is_waited_for(const Worker& worker) const;
    std::string why_nobody(const Origin& root) const;
    // Gives the outcome of an ended session to the owner of its workspace, or closes it where there
    // is none; then it is gone. Does nothing for a session that has not ended.
    void begin_closing(const SessionId& id);
    void close(const SessionId& id, std::string by);
    void close_abandoned();
    void push_outcomes(const Worker& worker, Presence& presence);
    Outcome outcome_of(const Session& session) const;

    // ---- Time
    void check_leases();
    void give_up_attempts(const Worker& worker, const std::string& evidence);
    void check_orphans();
    void lose(const Session& session, const std::string& evidence);
    void fire_timers();

    // ---- Handing out
    void dispatch();
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
    void check_queue() const;

    const CoreConfig config_;
    DurableState durable_;
    bool started_ = false;
    Duration run_offset_{0};  // wall less steady at the start

    ReadyQueue ready_;
    SessionTimers due_;
    SessionTimers expiry_;
    std::map<WorkerName, Presence> presence_;

    // Of the step under way.
    Now time_{};
    std::size_t outcome_bytes_ = 0;  // in the acknowledgements of this step
    Actions actions_;
};

}  // namespace iw::broker
