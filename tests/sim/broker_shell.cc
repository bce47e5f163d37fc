#include "tests/sim/broker_shell.h"

#include <algorithm>

#include "common/base/check.h"
#include "common/base/planted.h"

namespace iw::sim {

namespace {

// As the real loop: shorter delays are every day's.
constexpr Duration kStallMin{1'000};
constexpr std::size_t kMessagesPerTurn = 512;

std::string kind_and_id(const broker::Record& record) {
    const SessionId* id = broker::session_of(record.body);
    std::string line = std::to_string(record.seq) + " " + std::string(broker::name(record.body));
    return id == nullptr ? line : line + " " + id->str();
}

// What must be the same after every kind of recovery.
std::string essence(const SessionView& view) {
    std::string line = view.id.str() + " " + std::string(name(view.status)) + " " +
                       std::string(name(view.detail)) + " " + view.reason + " " + view.kill_reason +
                       " " + std::to_string(view.attempt) + " " + view.worker + " " + view.host +
                       " " + view.workspace + " " + std::to_string(view.revision) + " " +
                       std::to_string(to_ms(view.created_at)) + " " + view.parent.str() + " " +
                       std::to_string(view.timeout.count()) + " " +
                       std::to_string(view.attempts_used);
    if (view.started_at) line += " " + std::to_string(to_ms(*view.started_at));
    if (view.not_before) line += " " + std::to_string(to_ms(*view.not_before));
    return line;
}

}  // namespace

BrokerShell::BrokerShell(Parts parts) : parts_(std::move(parts)), core_(broker::CoreConfig{}, 1) {}

void BrokerShell::later(Duration delay, std::function<void()> what) {
    parts_.world.in(delay, [life = std::weak_ptr<char>(life_), what = std::move(what)] {
        if (!life.expired()) what();
    });
}

// ---- Life and death ----------------------------------------------------------------------------

void BrokerShell::start() {
    recover();
    check_recovery();
    if (parts_.store.is_restored) begin_epoch();
    parts_.oracle.broker_started(parts_.world.now());
    parts_.network.broker_up([this] { wake(); });
    worked_until_ = parts_.clock.read().steady;
    note("serves from " + std::to_string(core_.head()));
    wake();
}

// Live sessions from the database, which may lag, then the journal behind it.
void BrokerShell::recover() {
    const BrokerStore& store = parts_.store;
    for (Seq seq = 0; seq < store.applied; ++seq)
        database_.apply(store.journal[seq]);
    core_.restore(database_.live(store.epoch));
    for (Seq seq = store.applied; seq < store.journal.size(); ++seq) {
        core_.apply(store.journal[seq]);
        database_.apply(store.journal[seq]);
    }
    parts_.store.applied = store.journal.size();
    core_.started(parts_.clock.read());
    core_.check_invariants();
    for (const auto& [key, known] : database_.keys())
        keys_.insert(key);
}

// Before anybody is served, as the first thing after a restore.
void BrokerShell::begin_epoch() {
    parts_.store.is_restored = false;
    parts_.store.epoch += "+";
    time_ = parts_.clock.read();
    decided_ = parts_.world.now();
    step(broker::BeginEpochEvent{.caller = std::nullopt,
                                 .epoch = parts_.store.epoch,
                                 .reason = "restored a backup",
                                 .principal = "uid:0"});
    make_durable();
    for (const broker::Record& record : std::exchange(records_, {}))
        database_.apply(record);
    parts_.store.applied = parts_.store.journal.size();
}

// The journal alone must give what database and tail gave.
void BrokerShell::check_recovery() {
    broker::BrokerCore replayed(broker::CoreConfig{}, 1);
    for (const broker::Record& record : parts_.store.journal)
        replayed.apply(record);
    const Now present = parts_.clock.read();
    replayed.started(present);
    const std::vector<SessionId> ids = core_.match("", 100'000);
    IW_CHECK(replayed.match("", 100'000) == ids);
    IW_CHECK(replayed.head() == core_.head());
    for (const SessionId& id : ids) {
        const std::string one = essence(core_.view(id, present).value());
        const std::string other = essence(replayed.view(id, present).value());
        if (one != other) note("recovered as\n    " + one + "\n    " + other);
        IW_CHECK(one == other);
    }
}

void BrokerShell::kill(const std::string& why) {
    if (is_dead()) return;
    note("dies: " + why);
    // Nobody knows whether a commit under way reached the disk, or how much of a large one.
    if (is_committing_ && parts_.world.one_in(2)) {
        if (parts_.world.one_in(4)) tear();
        make_durable();
    }
    life_.reset();
    parts_.network.broker_down();
    parts_.on_death();
}

void BrokerShell::freeze() {
    frozen_at_ = parts_.world.now();
    parts_.network.freeze_broker(true);
    note("stands still");
}

void BrokerShell::thaw() {
    const Duration how_long = parts_.world.now() - *frozen_at_;
    frozen_at_.reset();
    note("goes on");
    parts_.oracle.broker_stood_still(how_long);
    parts_.network.freeze_broker(false);
    if (std::exchange(is_work_held_, false)) do_job();
    if (is_commit_done_) return committed();
    wake();
}

// ---- The loop ----------------------------------------------------------------------------------

void BrokerShell::wake() {
    if (is_dead() || is_frozen() || is_committing_) return;
    const Timestamp now = parts_.world.now();
    if (wake_at_ && *wake_at_ <= now) return;
    wake_at_ = now;
    later(Duration(0), [this, number = ++wake_] {
        if (number == wake_) turn();
    });
}

// Until the next deadline, or until something arrives.
void BrokerShell::plan() {
    worked_until_ = parts_.clock.read().steady;
    planned_ = core_.next_deadline();
    // As the real loop: only a near deadline shows a stall.
    const Timestamp look_at = worked_until_ + limits::kHeartbeatInterval + Duration(1'000);
    if (planned_) planned_ = std::min(*planned_, look_at);
    for (const auto& [id, waiter] : waiters_) {
        if (waiter.is_parked && (!planned_ || waiter.deadline < *planned_))
            planned_ = waiter.deadline;
    }
    if (!parts_.network.inbox().empty() || !completions_.empty() || !gone_.empty()) return wake();
    wake_at_.reset();
    ++wake_;
    if (!planned_) return;
    const Timestamp when = parts_.clock.when(*planned_);
    wake_at_ = when;
    later(when - parts_.world.now(), [this, number = wake_] {
        if (number == wake_) turn();
    });
}

// How long this process did not look at its socket although it should have.
Duration BrokerShell::stall() {
    const Timestamp woken = parts_.clock.read().steady;
    Duration stall{0};
    if (worked_ > kStallMin) stall += worked_;
    if (planned_) {
        const Duration overslept = woken - std::max(*planned_, worked_until_);
        if (overslept > kStallMin) stall += overslept;
    }
    return stall;
}

void BrokerShell::turn() {
    wake_at_.reset();
    if (is_frozen() || is_committing_) return;
    const Duration held_up = stall();
    time_ = parts_.clock.read();
    decided_ = parts_.world.now();
    for (const broker::PeerId peer : std::exchange(gone_, {}))
        step(broker::PeerGoneEvent{.peer = peer});
    for (const auto& completion : std::exchange(completions_, {}))
        completion();
    std::deque<Network::Received>& inbox = parts_.network.inbox();
    const bool is_slow = parts_.world.fault_one_in(8);
    std::size_t left = is_slow ? 1 + parts_.world.below(3) : kMessagesPerTurn;
    for (; left > 0 && !inbox.empty(); --left) {
        Network::Received received = std::move(inbox.front());
        inbox.pop_front();
        handle(std::move(received));
    }
    step(broker::TickEvent{.stall = held_up});
    for (auto& [id, waiter] : waiters_) {
        if (!waiter.is_parked || time_.steady < waiter.deadline) continue;
        reply(waiter.to, Reply(waiter.last));
    }
    std::erase_if(waiters_, [this](const auto& each) {
        return each.second.is_parked && time_.steady >= each.second.deadline;
    });
    fill_prompts();
    core_.check_invariants();
    commit();
}

void BrokerShell::step(broker::CoreEvent event) {
    broker::Actions actions = core_.step(time_, std::move(event));
    std::move(actions.records.begin(), actions.records.end(), std::back_inserter(records_));
    for (broker::Outgoing& out : actions.outgoing) {
        auto* push = std::get_if<broker::SendPush>(&out);
        if (push == nullptr) continue;
        outgoing_.push_back({push->peer, Payload{.id = {}, .body = std::move(push->body)}});
    }
}

void BrokerShell::step(const To& to, broker::CoreEvent event, const Rewrite& rewrite) {
    broker::Actions actions = core_.step(time_, std::move(event));
    std::move(actions.records.begin(), actions.records.end(), std::back_inserter(records_));
    std::size_t answers = 0;
    for (broker::Outgoing& out : actions.outgoing) {
        if (auto* push = std::get_if<broker::SendPush>(&out)) {
            outgoing_.push_back({push->peer, Payload{.id = {}, .body = std::move(push->body)}});
            continue;
        }
        auto* answer = std::get_if<broker::SendReply>(&out);
        ++answers;
        std::optional<Answer> body = std::move(answer->body);
        if (rewrite) body = rewrite(std::move(*body));
        if (body) reply(to, std::move(*body));
    }
    IW_CHECK(answers == 1);
}

// An assignment leaves once its prompt is at hand.
void BrokerShell::fill_prompts() {
    const auto fill = [this](Outbound& outbound) {
        auto* push = std::get_if<Push>(&outbound.payload.body);
        auto* assign = push == nullptr ? nullptr : std::get_if<AssignPush>(push);
        if (assign == nullptr) return false;
        Assignment& assignment = assign->assignments.at(0);
        if (!assignment.prompt.empty()) return false;
        const auto cached = prompts_.find(assignment.session);
        if (cached != prompts_.end()) {
            assignment.prompt = cached->second;
            return false;
        }
        ask([this, peer = outbound.peer, assignment](const Database& database) mutable {
            const auto found = database.submission(assignment.session);
            if (found) assignment.prompt = found->prompt;
            return [this, peer, assignment] {
                if (assignment.prompt.empty()) return;
                if (!core_.is_current({assignment.session, assignment.fence})) return;
                outgoing_.push_back(
                    {peer, Payload{.id = {}, .body = Push(AssignPush{{assignment}})}});
            };
        });
        return true;
    };
    std::erase_if(outgoing_, fill);
}

// ---- Commit, then send -------------------------------------------------------------------------

void BrokerShell::commit() {
    World& world = parts_.world;
    if (world.fault_one_in(2'000)) return kill("before a commit");
    if (IW_PLANT(send_before_commit)) send();
    is_committing_ = true;
    is_commit_done_ = false;
    if (records_.empty()) return committed();
    Duration duration = world.between(Duration(1), Duration(6));
    if (world.fault_one_in(150)) duration = world.between(Duration(500), 20_s);
    if (world.fault_one_in(250)) {
        later(world.between(Duration(0), duration), [this] { kill("inside a commit"); });
    }
    later(duration, [this] {
        is_commit_done_ = true;
        if (!is_frozen()) committed();
    });
}

// A turn too large for one unit of the journal is committed in several.
void BrokerShell::tear() {
    std::size_t kept = parts_.world.below(records_.size() + 1);
    while (kept > 0 && kept < records_.size() &&
           broker::is_bound(records_[kept - 1], records_[kept])) {
        ++kept;
    }
    records_.resize(kept);
}

void BrokerShell::make_durable() {
    is_committing_ = false;
    for (broker::Record& record : records_) {
        note(kind_and_id(record));
        parts_.store.journal.push_back(record);
        parts_.oracle.committed(record, decided_);
    }
}

void BrokerShell::committed() {
    is_commit_done_ = false;
    make_durable();
    worked_ = parts_.clock.read().steady - time_.steady;
    if (!records_.empty() && parts_.world.fault_one_in(250)) {
        return kill("between commit and send");
    }
    const bool has_records = !records_.empty();
    hand_over(std::exchange(records_, {}));
    // Whoever waits for events looks again, behind these records.
    for (const auto& [id, waiter] : waiters_) {
        if (has_records && waiter.is_parked) events(id);
    }
    send();
    if (is_dead()) return;
    plan();
}

void BrokerShell::send() {
    for (Outbound& outbound : std::exchange(outgoing_, {})) {
        if (parts_.world.fault_one_in(3'000)) return kill("while it sends");
        if (parts_.network.send(outbound.peer, std::move(outbound.payload))) continue;
        gone_.push_back(outbound.peer);
        peers_.erase(outbound.peer);
    }
}

// ---- The database's thread ---------------------------------------------------------------------

void BrokerShell::hand_over(std::vector<broker::Record> records) {
    if (!records.empty()) jobs_.push_back({.records = std::move(records), .question = {}});
    for (Job& job : std::exchange(asked_, {}))
        jobs_.push_back(std::move(job));
    work();
}

void BrokerShell::work() {
    if (is_working_ || jobs_.empty()) return;
    is_working_ = true;
    Duration lag = parts_.world.between(Duration(0), Duration(5));
    if (parts_.world.fault_one_in(60)) lag = parts_.world.between(Duration(100), 9_s);
    later(lag, [this] { do_work(); });
}

void BrokerShell::do_work() {
    if (is_frozen()) {
        is_work_held_ = true;
        return;
    }
    do_job();
}

void BrokerShell::do_job() {
    is_working_ = false;
    const Job job = std::move(jobs_.front());
    jobs_.pop_front();
    for (const broker::Record& record : job.records) {
        if (record.seq > database_.applied()) database_.apply(record);
    }
    parts_.store.applied = std::min<Seq>(database_.applied(), parts_.store.journal.size());
    if (parts_.world.one_in(20)) parts_.store.checkpointed = parts_.store.applied;
    if (job.question) {
        completions_.push_back(job.question(database_));
        wake();
    }
    work();
}

}  // namespace iw::sim
