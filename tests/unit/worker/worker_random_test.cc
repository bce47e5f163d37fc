// Random histories of a worker's core: lost, doubled and reordered messages, crashes between any
// two actions, a broker that forgets connections and gives sessions away. Whatever happens, an
// attempt is started at most once, and in the end every session is closed. The broker retries some
// sessions, changes run timeouts, goes read-only, and is restored to an older state, upon which it
// learns of what it has forgotten only from the worker.

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <deque>
#include <map>
#include <set>
#include <string>

#include "common/base/overloaded.h"
#include "common/base/random.h"
#include "tests/unit/worker/core_bench.h"

namespace iw::worker::test {
namespace {

// What iexec and tmux do with an attempt, apart from the worker.
struct Machine {
    bool tmux = false;      // a session of the attempt exists
    bool launcher = false;  // its launcher lives
    bool untold = false;    // it has ended, and nobody has noticed yet
    int starts = 0;
};

// The broker's side of one session.
struct BrokerSession {
    enum class State { queued, assigned, ended, closed };
    State state = State::queued;
    Fence fence{.generation = 1, .attempt = 0};
    int retries_left = 2;
    bool stop_wished = false;
    Duration timeout{1'800'000};
    std::set<Fence> declined;
    std::set<Fence> returned;
};

class World {
  public:
    World(std::uint64_t seed, int sessions) : random_(seed), bench_(bench_config()) {
        for (int i = 0; i < sessions; ++i) {
            std::string number = std::to_string(i + 10);
            sessions_[SessionId("20251118-1530" + number + "-alpha")];
        }
        restart();
    }

    void turn(bool faults) {
        faults_ = faults;
        restarted_ = false;
        if (!faults) read_only_ = false;
        if (chance(150)) backup_ = sessions_;
        if (chance(250) && !backup_.empty()) restore();
        if (chance(60)) read_only_ = !read_only_;
        const auto gap = static_cast<std::int64_t>(random_.below(faults ? 20'000 : 3'000));
        bench_.pass(Duration{gap});
        if (faults && random_.below(40) == 0) bench_.pass(Duration{60'000});  // frozen
        broker_turn();
        deliver();
        machine_turn();
        feed(TickEvent{});
        if (!restarted_) check_deadline();
        if (faults && random_.below(25) == 0) restart();
    }

    bool all_closed() const {
        return std::ranges::all_of(sessions_, [](const auto& entry) {
            return entry.second.state == BrokerSession::State::closed;
        });
    }
    bool nothing_lives() const {
        return std::ranges::none_of(machines_,
                                    [](const auto& entry) { return entry.second.launcher; });
    }
    int starts_max() const {
        int most = 0;
        for (const auto& [ref, machine] : machines_)
            most = std::max(most, machine.starts);
        return most;
    }
    std::size_t open_attempts() const { return bench_.core.inventory().size(); }
    std::string open_text() const {
        std::string text;
        for (const AttemptState& open : bench_.core.inventory()) {
            text += attempt_name(AttemptRef{open.session, open.fence}) + " " +
                    std::string(name(open.phase)) + "; ";
        }
        for (const auto& [id, session] : sessions_) {
            if (session.state == BrokerSession::State::closed) continue;
            text += id.str() + " state " + std::to_string(static_cast<int>(session.state)) +
                    " attempt " + std::to_string(session.fence.attempt) + "; ";
        }
        return text;
    }

  private:
    bool chance(std::uint64_t one_in) { return faults_ && random_.below(one_in) == 0; }

    // ---- Worker process ------------------------------------------------------------------------

    void restart() {
        ++start_count_;
        CoreConfig config = bench_config();
        config.start_count = start_count_;
        config.seen = seen_;
        told_read_only_ = false;
        bench_.core = WorkerCore(config);
        events_.clear();
        to_worker_.clear();
        connected_ = false;
        restarted_ = true;
        for (auto& [ref, snapshot] : disk_) {
            LauncherState launcher = LauncherState::not_asked;
            if (snapshot.started_at && !snapshot.end) {
                launcher = machines_[ref].launcher ? LauncherState::alive : LauncherState::gone;
            }
            bench_.step(RestoredEvent{snapshot, launcher});
        }
    }

    void feed(CoreEvent event) {
        events_.push_back(std::move(event));
        while (!events_.empty()) {
            CoreEvent next = std::move(events_.front());
            events_.pop_front();
            bench_.step(std::move(next));
            const Actions actions = bench_.actions;
            for (const Action& action : actions) {
                // A crash between any two actions: what was not done is not done.
                if (chance(400)) {
                    restart();
                    return;
                }
                std::visit([this](const auto& what) { perform(what); }, action);
            }
        }
    }

    void check_deadline() {
        const std::optional<Timestamp> deadline = bench_.core.next_deadline();
        ASSERT_TRUE(deadline.has_value());
        EXPECT_GT(*deadline, bench_.steady) << "the core would spin";
    }

    bool fails() { return chance(30); }
    std::optional<Error> maybe_error() {
        if (!fails()) return std::nullopt;
        return make_error(ErrorCode::io, "disk full");
    }

    void perform(const SendHello& action) {
        if (!send()) return;
        to_broker_.push_back(action.hello);
    }
    void perform(const Reconnect&) { to_worker_.clear(); }
    void perform(const SendHeartbeat& action) {
        if (send()) to_broker_.push_back(action.heartbeat);
    }
    void perform(const SendReports& action) {
        if (!send()) return;
        for (const Report& report : action.reports) {
            to_broker_.push_back(report);
            if (chance(20)) to_broker_.push_back(report);
        }
    }
    void perform(const SendGoodbye&) {}
    void perform(const RecordSeen& action) {
        if (seen_ && seen_->epoch == action.seen.epoch) {
            EXPECT_GE(action.seen.seq, seen_->seq) << "the record of the head went back";
        }
        seen_ = action.seen;
    }
    void perform(const RecordLimits& action) {
        EXPECT_TRUE(disk_[action.attempt].assignment) << "a limit of an unknown attempt";
        std::optional<Error> error = maybe_error();
        if (!error) disk_[action.attempt].timeout = action.timeout;
        events_.push_back(LimitsRecordedEvent{action.attempt, action.timeout, error});
    }
    bool send() {
        if (chance(60)) {
            events_.push_back(NotSentEvent{});
            return false;
        }
        return !chance(40);
    }

    void perform(const AcceptAssignment& action) {
        const AttemptRef ref{action.assignment.session, action.assignment.fence};
        std::optional<Error> error = maybe_error();
        if (!error) {
            EXPECT_FALSE(disk_.contains(ref) && disk_[ref].assignment);
            disk_[ref].attempt = ref;
            disk_[ref].assignment = action.assignment;
            disk_[ref].assignment->prompt.clear();
        }
        events_.push_back(AcceptedEvent{ref, error});
    }
    void perform(const TakeClaim& action) {
        AttemptSnapshot& snapshot = disk_[action.attempt];
        snapshot.attempt = action.attempt;
        if (snapshot.holder == StartHolder::nobody) {
            if (auto error = maybe_error()) {
                events_.push_back(ClaimedEvent{action.attempt, StartHolder::nobody, error});
                return;
            }
            snapshot.holder = action.holder;
            snapshot.holder_reason = action.reason;
        }
        events_.push_back(ClaimedEvent{action.attempt, snapshot.holder, std::nullopt});
        events_.push_back(SeenEvent{snapshot});
    }
    void perform(const RecordStop& action) {
        std::optional<Error> error = maybe_error();
        if (!error && !disk_[action.attempt].stop) disk_[action.attempt].stop = action.stop;
        events_.push_back(StopRecordedEvent{action.attempt, error});
    }
    void perform(const RecordEnd& action) {
        if (auto error = maybe_error()) {
            events_.push_back(WrittenEvent{action.attempt, WrittenFile::end, error});
            return;
        }
        AttemptSnapshot& snapshot = disk_[action.attempt];
        EXPECT_FALSE(machines_[action.attempt].launcher) << "an end while its launcher lives";
        if (!snapshot.end) snapshot.end = action.end;
        events_.push_back(SeenEvent{snapshot});
    }
    void perform(const RecordOutcome& action) {
        std::optional<Error> error = maybe_error();
        if (!error) disk_[action.attempt].outcome = action.outcome;
        events_.push_back(WrittenEvent{action.attempt, WrittenFile::outcome, error});
    }
    void perform(const RecordReported& action) { disk_[action.attempt].reported = action.number; }
    void perform(const RecordClosed& action) { disk_[action.attempt].closed_at = bench_.wall; }
    void perform(const ForgetAttempt& action) { disk_.erase(action.attempt); }
    void perform(const ReopenAttempt& action) {
        AttemptSnapshot snapshot = disk_.at(action.attempt);
        EXPECT_TRUE(snapshot.closed_at);
        snapshot.closed_at.reset();
        snapshot.outcome.reset();
        snapshot.reported = snapshot.started_at ? 1 : 0;
        events_.push_back(RestoredEvent{snapshot, LauncherState::not_asked});
    }
    void perform(const Launch& action) {
        const AttemptRef ref{action.assignment.session, action.assignment.fence};
        EXPECT_FALSE(told_read_only_) << "launched although the broker takes nothing";
        EXPECT_LE(bench_.steady - delivered_at_, Duration{45'000}) << "launched without a broker";
        EXPECT_GE(action.start_by, bench_.steady);
        EXPECT_LE(action.start_by, delivered_at_ + Duration{50'000});
        for (const auto& [other, machine] : machines_) {
            EXPECT_FALSE(machine.tmux && other.session == ref.session && other != ref)
                << "two attempts under one tmux name";
        }
        if (fails()) {
            const auto outcome =
                random_.below(2) == 0 ? LaunchOutcome::platform_fault : LaunchOutcome::agent_fault;
            machines_[ref].tmux = random_.below(2) == 0;  // it may have come up all the same
            events_.push_back(LaunchedEvent{ref, outcome, "could not"});
            return;
        }
        machines_[ref].tmux = true;
        events_.push_back(LaunchedEvent{ref, LaunchOutcome::launched, ""});
    }
    void perform(const CheckSession& action) {
        Presence presence = machines_[action.attempt].tmux ? Presence::present : Presence::absent;
        if (chance(5)) presence = Presence::unknown;
        events_.push_back(SessionCheckedEvent{action.attempt, presence});
    }
    // By the name that all attempts of a session share.
    void perform(const KillSession& action) {
        for (auto& [ref, machine] : machines_) {
            if (ref.session != action.attempt.session) continue;
            EXPECT_FALSE(machine.launcher && ref != action.attempt)
                << "the terminal of another attempt was closed";
            machine.tmux = machine.launcher;
        }
    }
    void perform(const SignalLauncher& action) {
        Machine& machine = machines_[action.attempt];
        if (!machine.launcher) return;
        if (action.kill || random_.below(10) != 0) {
            end_agent(action.attempt, action.kill);
        }
    }
    void perform(const SignalTree& action) {
        const std::size_t left = action.signal == TreeSignal::kill ? 0 : random_.below(2);
        events_.push_back(TreeEvent{action.attempt, left, "looked"});
    }
    void perform(const MeasureDisk& action) {
        events_.push_back(DiskEvent{action.attempt, random_.below(600'000'000)});
    }
    void perform(const WriteStarted& action) {
        events_.push_back(WrittenEvent{action.attempt, WrittenFile::started, maybe_error()});
    }
    void perform(const Judge& action) { events_.push_back(JudgedEvent{action.attempt, {}}); }
    void perform(const WriteFinal& action) {
        EXPECT_FALSE(machines_[action.attempt].launcher) << "final files while its launcher lives";
        for (const auto& [other, machine] : machines_) {
            const bool later = other.session == action.attempt.session && action.attempt < other;
            const bool returns = action.outcome.status == SessionStatus::created;
            EXPECT_FALSE(returns && later && machine.launcher)
                << "a return written over a later attempt that runs";
        }
        events_.push_back(WrittenEvent{action.attempt, WrittenFile::final_files, maybe_error()});
    }
    void perform(const NoteSession&) {}
    void perform(const Transition&) {}

    // ---- Launchers -----------------------------------------------------------------------------

    void end_agent(const AttemptRef& ref, bool without_record) {
        Machine& machine = machines_[ref];
        machine.launcher = false;
        machine.tmux = false;
        machine.untold = true;
        AttemptSnapshot& snapshot = disk_[ref];
        if (!without_record && !snapshot.end) {
            EndFact end = exited(0, bench_.wall);
            end.stop_sent = snapshot.stop.has_value();
            snapshot.end = end;
            snapshot.log_done = random_.below(3) != 0;
        }
    }

    void machine_turn() {
        for (auto& [ref, machine] : machines_) {
            AttemptSnapshot& snapshot = disk_[ref];
            snapshot.attempt = ref;
            if (machine.tmux && !machine.launcher && snapshot.holder == StartHolder::nobody) {
                if (random_.below(2) == 0) continue;
                snapshot.holder = StartHolder::launcher;
                machine.launcher = true;
                ++machine.starts;
                if (chance(20)) {  // died between claim and process record
                    machine.launcher = false;
                    machine.tmux = false;
                    feed(SeenEvent{snapshot});
                    continue;
                }
                snapshot.started_at = bench_.wall;
                feed(SeenEvent{snapshot});
            } else if (machine.tmux && !machine.launcher && !snapshot.end) {
                machine.tmux = false;  // did not get the start: runs nothing and ends
            } else if (machine.launcher && random_.below(6) == 0) {
                end_agent(ref, chance(5));
            }
            if (std::exchange(machine.untold, false)) {
                feed(SeenEvent{snapshot});
                if (!snapshot.end) feed(LauncherGoneEvent{ref});
            }
        }
    }

    // ---- Broker --------------------------------------------------------------------------------

    // The sessions as they were, and another epoch: the worker has to tell the rest.
    void restore() {
        sessions_ = backup_;
        ++generation_;
        epoch_ = "epoch-" + std::to_string(generation_);
        seq_ /= 2;
        connected_ = false;
        holding_ = true;
        read_only_ = false;
        to_worker_.clear();
        to_broker_.clear();
    }

    // What a restored broker hears of: live or closed there, at or above what it knows.
    void adopt(const std::vector<AttemptState>& listed) {
        for (const AttemptState& state : listed) {
            BrokerSession& session = sessions_.at(state.session);
            if (session.state == BrokerSession::State::closed || state.fence < session.fence)
                continue;
            if (session.state != BrokerSession::State::queued && state.fence == session.fence)
                continue;
            if (session.declined.contains(state.fence) || session.returned.contains(state.fence))
                continue;
            session.fence = state.fence;
            session.state = BrokerSession::State::assigned;
        }
    }

    using ToBroker = std::variant<WorkerHello, HeartbeatRequest, Report>;

    void broker_turn() {
        ++seq_;
        if (chance(50)) connected_ = false;
        for (auto& [id, session] : sessions_) {
            const bool gives = connected_ && !holding_ && !read_only_;
            if (session.state == BrokerSession::State::queued && gives) {
                session.fence = Fence{generation_, session.fence.attempt + 1};
                session.state = BrokerSession::State::assigned;
                push_assign(id, session);
            }
            if (session.state == BrokerSession::State::assigned && chance(100))
                session.stop_wished = true;
            if (session.state == BrokerSession::State::assigned && chance(200)) {
                session.state =
                    BrokerSession::State::queued;  // given away: the worker counted as lost
            }
            if (session.state == BrokerSession::State::ended && random_.below(10) == 0)
                push_close(id, session);
            if (chance(100)) {
                session.timeout += Duration{60'000};
                push(LimitsEvent{{{id, session.fence, session.timeout}}});
            }
        }
        std::deque<ToBroker> messages = std::exchange(to_broker_, {});
        if (faults_ && messages.size() > 1 && random_.below(4) == 0)
            std::swap(messages.front(), messages.back());
        for (ToBroker& message : messages)
            std::visit([this](auto& what) { hear(what); }, message);
    }

    void push(CoreEvent event) {
        if (!connected_ || chance(30)) return;
        to_worker_.push_back(event);
        if (chance(30)) to_worker_.push_back(event);
    }
    void push_assign(const SessionId& id, const BrokerSession& session) {
        push(AssignEvent{{assignment_of(AttemptRef{id, session.fence})}});
    }
    void push_close(const SessionId& id, const BrokerSession& session) {
        push(CloseEvent{
            {Outcome{outcome_of(AttemptRef{id, session.fence}, SessionStatus::failed)}}});
    }

    void hear(const WorkerHello& hello) {
        if (read_only_) {
            to_worker_.push_back(RefusedEvent{make_error(ErrorCode::read_only, "less than seen")});
            return;
        }
        if (hello.seen && hello.seen->epoch == epoch_) {
            EXPECT_LE(hello.seen->seq, seq_) << "claims to have seen what never was";
        }
        connected_ = true;
        if (holding_) adopt(hello.inventory);
        WelcomeReply reply;
        reply.time = bench_.wall;
        reply.heartbeat = Duration{10'000};
        reply.unreachable = Duration{45'000};
        reply.epoch = epoch_;
        reply.seq = seq_;
        reply.restored = holding_;
        push(WelcomeEvent{reply});
    }

    void hear(const HeartbeatRequest& heartbeat) {
        if (!connected_) {
            to_worker_.push_back(NoSessionEvent{});
            return;
        }
        if (read_only_) return push(ReadOnlyEvent{"less than seen"});
        HeartbeatReply reply;
        reply.time = bench_.wall;
        reply.seq = seq_;
        if (holding_) {
            adopt(heartbeat.attempts);
            adopt(heartbeat.closed);
            if (heartbeat.closed_all) holding_ = false;
        }
        reply.restored = holding_;
        hear_timeouts(heartbeat, reply);
        for (const auto& [id, session] : sessions_) {
            if (session.state != BrokerSession::State::assigned) continue;
            const Fence fence = session.fence;
            if (session.stop_wished) reply.stops.push_back({id, fence, Detail::killed, "wished"});
            const bool listed =
                std::ranges::any_of(heartbeat.attempts, [&](const AttemptState& state) {
                    return state.session == id && state.fence == fence;
                });
            if (!listed) push_assign(id, session);
        }
        push(HeartbeatAnsweredEvent{reply});
    }

    void hear_timeouts(const HeartbeatRequest& heartbeat, HeartbeatReply& reply) {
        for (const AttemptState& state : heartbeat.attempts) {
            const bool timed =
                state.phase == AttemptPhase::accepted || state.phase == AttemptPhase::running;
            EXPECT_TRUE(timed || !state.timeout) << name(state.phase);
            const BrokerSession& session = sessions_.at(state.session);
            if (!state.timeout || state.fence != session.fence) continue;
            if (*state.timeout != session.timeout)
                reply.limits.push_back({state.session, state.fence, session.timeout});
        }
    }

    void hear(const Report& report) {
        if (!connected_) {
            to_worker_.push_back(NoSessionEvent{});
            return;
        }
        if (read_only_) return push(ReadOnlyEvent{"less than seen"});
        ReportAck ack{report.session, report.fence, report.number, std::nullopt, std::nullopt};
        BrokerSession& session = sessions_.at(report.session);
        const bool current = report.fence == session.fence;
        const bool repeat = session.declined.contains(report.fence) && report.number == 1;
        if (!current && !repeat) ack.error = make_error(ErrorCode::stale_fence, "stale");
        if (current) hear_current(session, report, ack);
        push(AcksEvent{{ack}});
    }

    void hear_ended(BrokerSession& session, const AttemptRef& ref, ReportAck& ack) {
        using State = BrokerSession::State;
        EXPECT_FALSE(machines_[ref].launcher) << "reported ended while its launcher lives";
        const bool again = session.retries_left > 0 && random_.below(3) == 0;
        if (session.state == State::assigned && again) {
            --session.retries_left;
            session.state = State::queued;
            session.returned.insert(ref.fence);
        }
        if (session.state == State::assigned) session.state = State::ended;
        const bool returned = session.returned.contains(ref.fence);
        ack.outcome =
            Outcome{outcome_of(ref, returned ? SessionStatus::created : SessionStatus::completed)};
    }

    void hear_current(BrokerSession& session, const Report& report, ReportAck& ack) {
        using State = BrokerSession::State;
        const AttemptRef ref{report.session, report.fence};
        if (session.state == State::queued) {
            if (report.number == 2 && session.returned.contains(ref.fence))
                return hear_ended(session, ref, ack);
            if (!session.declined.contains(ref.fence))
                ack.error = make_error(ErrorCode::stale_fence, "given away");
            return;
        }
        if (std::holds_alternative<DeclinedReport>(report.body) &&
            session.state == State::assigned) {
            session.declined.insert(ref.fence);
            session.state = State::queued;
            session.stop_wished = false;
        }
        if (report.number == 2) hear_ended(session, ref, ack);
        if (report.number == 3 && session.state == State::ended) session.state = State::closed;
    }

    void deliver() {
        std::deque<CoreEvent> messages = std::exchange(to_worker_, {});
        if (faults_ && messages.size() > 1 && random_.below(4) == 0)
            std::swap(messages.front(), messages.back());
        for (CoreEvent& message : messages) {
            const bool answered = std::holds_alternative<WelcomeEvent>(message) ||
                                  std::holds_alternative<HeartbeatAnsweredEvent>(message);
            if (answered) told_read_only_ = false;
            if (std::holds_alternative<ReadOnlyEvent>(message)) told_read_only_ = true;
            delivered_at_ = bench_.steady;
            feed(std::move(message));
        }
    }

    Random random_;
    Bench bench_;
    bool faults_ = true;
    bool restarted_ = false;  // in this turn: the core may not have been asked anything yet
    bool connected_ = false;
    bool read_only_ = false;
    bool told_read_only_ = false;
    bool holding_ = false;
    std::uint32_t generation_ = 1;
    std::string epoch_ = "epoch-1";
    Seq seq_ = 100;
    Timestamp delivered_at_;
    std::optional<SeenHead> seen_;
    std::uint64_t start_count_ = 0;
    std::map<AttemptRef, AttemptSnapshot> disk_;
    std::map<AttemptRef, Machine> machines_;
    std::map<SessionId, BrokerSession> sessions_;
    std::map<SessionId, BrokerSession> backup_;
    std::deque<CoreEvent> events_;
    std::deque<CoreEvent> to_worker_;
    std::deque<ToBroker> to_broker_;
};

void run_seed(std::uint64_t seed) {
    SCOPED_TRACE("replay with IW_SEED=" + std::to_string(seed));
    World world(seed, 6);
    for (int i = 0; i < 400; ++i)
        world.turn(true);
    // Faults first, then healing: everything must come to its end.
    int healing = 0;
    const auto healed = [&] {
        return world.all_closed() && world.nothing_lives() && world.open_attempts() == 0;
    };
    while (!healed() && healing < 3'000) {
        world.turn(false);
        ++healing;
    }
    EXPECT_TRUE(world.all_closed()) << world.open_text();
    EXPECT_TRUE(world.nothing_lives());
    EXPECT_EQ(world.open_attempts(), 0u) << world.open_text();
    EXPECT_LE(world.starts_max(), 1) << "an attempt was started twice";
}

TEST(WorkerRandom, EveryAttemptStartsAtMostOnceAndEverySessionCloses) {
    if (const char* seed = std::getenv("IW_SEED"))
        return run_seed(std::strtoull(seed, nullptr, 10));
    for (std::uint64_t seed = 1; seed <= 1000 && !HasFailure(); ++seed)
        run_seed(seed);
}

}  // namespace
}  // namespace iw::worker::test
