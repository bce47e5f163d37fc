// Random histories from seeds: messages get lost, doubled and reordered, workers and the broker
// restart, time jumps. First everything may go wrong and only safety is asked for; then faults
// stop, and all must end.

#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "common/base/random.h"
#include "tests/unit/broker/core_driver.h"
#include "tests/unit/broker/fake_worker.h"
#include "tests/unit/broker/live_state_model.h"

namespace iw::broker {
namespace {

using testing::CoreDriver;
using testing::FakeWorker;
using testing::LiveStateModel;
using testing::seconds;

// Judges the records alone.
class Oracle {
  public:
    void see(const Record& record) {
        ASSERT_EQ(record.seq, last_ + 1);
        last_ = record.seq;
        const RecordBody& body = record.body;
        if (const auto* created = std::get_if<SessionCreated>(&body)) see(*created);
        if (const auto* assigned = std::get_if<AttemptAssigned>(&body)) see(*assigned);
        if (const auto* returned = std::get_if<AttemptReturned>(&body)) release(returned->id);
        if (const auto* ended = std::get_if<SessionEnded>(&body)) {
            ASSERT_TRUE(ended_.insert(ended->id).second) << ended->id.str() << " ended twice";
            statuses_[ended->id] = ended->status;
            const bool is_unmet = has_unmet(ended->id);
            if (ended->detail == Detail::dependency_failed) {
                ASSERT_TRUE(is_unmet) << ended->id.str() << " had no reason to end";
                ASSERT_EQ(fences_.at(ended->id), Fence{});
            }
            release(ended->id);
        }
        if (const auto* closed = std::get_if<SessionClosed>(&body)) {
            ASSERT_TRUE(ended_.contains(closed->id));
            ASSERT_TRUE(closed_.insert(closed->id).second) << closed->id.str() << " closed twice";
            see_dependents(closed->id);
        }
        if (const auto* adopted = std::get_if<AttemptAdopted>(&body)) see(*adopted);
        if (const auto* wished = std::get_if<KillWished>(&body)) wished_.insert(wished->id);
        if (const auto* hold = std::get_if<HoldChanged>(&body)) {
            if (hold->on) holds_.insert({hold->scope, hold->name});
            if (!hold->on) holds_.erase({hold->scope, hold->name});
        }
        if (const auto* epoch = std::get_if<EpochBegun>(&body)) {
            ASSERT_GT(epoch->generation, generation_);
            generation_ = epoch->generation;
            is_restored_ = true;
        }
        if (std::holds_alternative<RestoreReleased>(body)) is_restored_ = false;
        if (const auto* edited = std::get_if<SessionEdited>(&body)) see(*edited);
        if (const auto* worker = std::get_if<WorkerRegistered>(&body)) {
            slots_[worker->name] = worker->slots;
            states_[worker->name] = worker->state_id;
            // A state directory takes what it holds along to its new name.
            for (auto& [id, holder] : holder_) {
                if (given_to_.at(id) == worker->state_id) holder = worker->name;
            }
        }
    }
    // After a kill of the session: nothing below it is left that has not been told to end.
    void see_killed_with_descendants(const SessionId& killed) const {
        for (const auto& [id, parent] : parents_) {
            if (ended_.contains(id) || wished_.contains(id)) continue;
            for (SessionId above = parent; !above.empty(); above = parents_.at(above))
                ASSERT_NE(above, killed) << id.str() << " goes on";
        }
    }
    // Of a session that is final.
    std::optional<SessionStatus> final_status(const SessionId& id) const {
        if (!closed_.contains(id)) return std::nullopt;
        return statuses_.at(id);
    }
    bool is_restored() const { return is_restored_; }
    bool is_ended(const SessionId& id) const { return ended_.contains(id); }
    bool knows(const SessionId& id) const { return fences_.contains(id); }
    std::size_t created() const { return fences_.size(); }
    std::size_t closed() const { return closed_.size(); }

  private:
    void see(const SessionCreated& created) {
        ASSERT_TRUE(fences_.emplace(created.id, Fence{}).second) << "id used twice";
        ASSERT_FALSE(created.submission.prompt.empty());
        const SessionId& parent = created.submission.parent;
        ASSERT_FALSE(wished_.contains(parent)) << "a child of one that is being killed";
        parents_[created.id] = parent;
        agents_[created.id] = created.submission.agent.str();
        after_[created.id] = created.submission.after;
        for (const Dependency& each : created.submission.after) {
            ASSERT_TRUE(fences_.contains(each.id)) << "follows an unknown session";
            dependents_[each.id].push_back(created.id);
        }
        if (created.parent_fence) is_from_inside_.insert(created.id);
        if (created.submission.keep_children) keeps_children_.insert(created.id);
    }
    static bool is_met(AfterCondition on, SessionStatus status) {
        if (on == AfterCondition::any_end) return true;
        return (on == AfterCondition::success) == (status == SessionStatus::completed);
    }
    bool has_unmet(const SessionId& id) const {
        const std::vector<Dependency>& after = after_.at(id);
        return std::any_of(after.begin(), after.end(), [this](const Dependency& each) {
            const auto status = statuses_.find(each.id);
            return status != statuses_.end() && !is_met(each.on, status->second);
        });
    }
    // Once a session is final, nothing is left that waits for it in vain.
    void see_dependents(const SessionId& closed) const {
        const auto found = dependents_.find(closed);
        if (found == dependents_.end()) return;
        const SessionStatus status = statuses_.at(closed);
        for (const SessionId& id : found->second) {
            if (ended_.contains(id) || fences_.at(id).attempt > 0) continue;
            for (const Dependency& each : after_.at(id))
                ASSERT_TRUE(each.id != closed || is_met(each.on, status)) << id.str() << " waits";
        }
    }
    void see(const AttemptAssigned& assigned) {
        if (fences_.at(assigned.id).attempt == 0) {
            for (const Dependency& each : after_.at(assigned.id))
                ASSERT_TRUE(closed_.contains(each.id)) << assigned.id.str() << " starts too early";
            ASSERT_FALSE(has_unmet(assigned.id)) << assigned.id.str() << " starts in vain";
        }
        ASSERT_GT(assigned.fence, fences_.at(assigned.id)) << assigned.id.str();
        fences_[assigned.id] = assigned.fence;
        ASSERT_FALSE(ended_.contains(assigned.id));
        ASSERT_TRUE(holder_.emplace(assigned.id, assigned.worker).second) << "given out twice";
        given_to_[assigned.id] = states_.at(assigned.worker);
        ASSERT_LE(use(assigned.worker), slots_.at(assigned.worker)) << "more than the slots";
        ASSERT_FALSE(is_restored_) << "assigned before the restore was released";
        ASSERT_EQ(assigned.fence.generation, generation_);
        see_holds(assigned);
        if (keeps_children_.contains(assigned.id)) return;
        for (const auto& [child, parent] : parents_) {
            if (parent != assigned.id || !is_from_inside_.contains(child)) continue;
            ASSERT_TRUE(closed_.contains(child)) << child.str() << " is of an earlier attempt";
        }
    }
    // Slots in use, counted from the tree alone: who has a held descendant beside it lends its own.
    std::uint32_t use(const WorkerName& worker) const {
        std::set<SessionId> lenders;
        std::uint32_t held = 0;
        for (const auto& [id, holder] : holder_) {
            if (holder != worker) continue;
            ++held;
            for (SessionId above = parents_.at(id); !above.empty(); above = parents_.at(above)) {
                const auto found = holder_.find(above);
                if (found != holder_.end() && found->second == worker) lenders.insert(above);
            }
        }
        return held - static_cast<std::uint32_t>(lenders.size());
    }
    // Under a hold only what descends from a held session is handed out.
    void see_holds(const AttemptAssigned& assigned) const {
        bool is_family = false;
        bool is_family_here = false;
        for (SessionId above = parents_.at(assigned.id); !above.empty();
             above = parents_.at(above)) {
            const auto found = holder_.find(above);
            if (found == holder_.end()) continue;
            is_family = true;
            is_family_here = is_family_here || found->second == assigned.worker;
        }
        ASSERT_TRUE(is_family_here || !holds_.contains({HoldScope::worker, assigned.worker.str()}));
        ASSERT_TRUE(is_family || !holds_.contains({HoldScope::fleet, ""}));
        ASSERT_TRUE(is_family || !holds_.contains({HoldScope::agent, agents_.at(assigned.id)}));
    }
    void see(const AttemptAdopted& adopted) {
        ASSERT_TRUE(is_restored_ || generation_ > 1);
        ASSERT_GE(adopted.fence, fences_.at(adopted.id));
        ASSERT_FALSE(ended_.contains(adopted.id));
        fences_[adopted.id] = adopted.fence;
        holder_[adopted.id] = adopted.worker;
        given_to_[adopted.id] = states_.at(adopted.worker);
    }
    void see(const SessionEdited& edited) {
        if (!edited.parent) return;
        ASSERT_FALSE(ended_.contains(edited.id));
        ASSERT_FALSE(is_from_inside_.contains(edited.id)) << "a vouched parent was changed";
        ASSERT_FALSE(wished_.contains(*edited.parent)) << "a child of one that is being killed";
        std::size_t depth = 0;
        for (SessionId above = *edited.parent; !above.empty(); above = parents_.at(above)) {
            ASSERT_NE(above, edited.id) << "a circle";
            ASSERT_LE(++depth, 8u);
        }
        parents_[edited.id] = *edited.parent;
    }
    void release(const SessionId& id) { holder_.erase(id); }

    Seq last_ = 0;
    std::map<SessionId, Fence> fences_;
    std::map<SessionId, WorkerName> holder_;
    std::map<SessionId, std::string> given_to_;  // the state directory of the last attempt
    std::map<WorkerName, std::uint32_t> slots_;
    std::map<WorkerName, std::string> states_;
    std::set<SessionId> ended_;
    std::set<SessionId> closed_;
    std::set<SessionId> wished_;
    std::map<SessionId, SessionStatus> statuses_;  // of ended ones
    std::map<SessionId, std::vector<Dependency>> after_;
    std::map<SessionId, std::vector<SessionId>> dependents_;
    std::map<SessionId, SessionId> parents_;
    std::map<SessionId, std::string> agents_;
    std::set<SessionId> is_from_inside_;
    std::set<SessionId> keeps_children_;
    std::set<std::pair<HoldScope, std::string>> holds_;
    std::uint32_t generation_ = 1;
    bool is_restored_ = false;
};

// What must be the same after recovery. Why a queued session waits depends on who is connected.
std::string essence(const SessionView& view) {
    std::string text = view.id.str() + " " + std::string(name(view.status)) + " ";
    if (view.status != SessionStatus::created || view.detail == Detail::assigned ||
        view.detail == Detail::delivering) {
        text += std::string(name(view.detail)) + " " + view.reason + " ";
    }
    text += view.kill_reason + " " + std::to_string(view.attempt) + " " + view.worker + " " +
            view.host + " " + view.workspace + " " + std::to_string(view.revision) + " " +
            std::to_string(to_ms(view.created_at)) + " " + view.parent.str() + " " +
            std::to_string(view.timeout.count()) + " " + std::to_string(view.attempts_used) + " " +
            std::to_string(view.after.size()) +
            (view.detail == Detail::blocked ? " blocked " : " ");
    text += view.not_before ? std::to_string(to_ms(*view.not_before)) + " " : "- ";
    text += view.started_at ? std::to_string(to_ms(*view.started_at)) : "-";
    for (const std::string& tag : view.tags)
        text += " " + tag;
    return text;
}

class World {
  public:
    explicit World(std::uint64_t seed) : random_(seed) {
        for (const std::string name : {"w", "x", "y"}) {
            WorkerHello hello = CoreDriver::worker(name);
            hello.slots = 1 + static_cast<std::uint32_t>(random_.below(3));
            hello.agents =
                name == "y" ? std::vector<std::string>{"b"} : std::vector<std::string>{"a", "b"};
            workers_.push_back({FakeWorker(hello), 0, {}, false});
        }
    }

    void run_with_faults(int steps) {
        for (int i = 0; i < steps && !::testing::Test::HasFatalFailure(); ++i)
            act();
    }

    // Nothing is lost any more: a bounded number of rounds must end everything.
    void heal() {
        faults_ = false;
        lift_holds();
        for (Site& site : workers_)
            connect(site);
        for (int round = 0; round < 400 && !driver_.core.match("", 1).empty(); ++round) {
            for (Site& site : workers_) {
                if (site.peer == 0) connect(site);
                deliver_all(site);
                work(site);
                report(site, site.worker.outbox());
                heartbeat(site);
            }
            driver_.advance(seconds(10));
            see(driver_.tick());
            // A name that has lost its state directory is never heard again.
            if (oracle_.is_restored()) release(round > 20);
            if (round == 100) kill_all();
            if (round == 150) rename_all();
        }
    }

    // A copy that recovers from the journal, or from a database that is behind it, shows the same.
    void check_recovery() {
        const std::size_t cut = random_.below(driver_.journal.size() + 1);
        LiveStateModel database;
        for (std::size_t i = 0; i < cut; ++i)
            database.apply(driver_.journal[i]);
        BrokerCore from_database(driver_.config_, 1);
        from_database.restore(database.state());
        for (std::size_t i = cut; i < driver_.journal.size(); ++i) {
            from_database.apply(driver_.journal[i]);
        }
        from_database.started(driver_.time);
        from_database.check_invariants();
        const BrokerCore from_journal = driver_.replayed();
        const std::vector<SessionId> ids = driver_.core.match("", 100'000);
        ASSERT_EQ(from_journal.match("", 100'000), ids);
        ASSERT_EQ(from_database.match("", 100'000), ids);
        ASSERT_EQ(from_database.head(), driver_.core.head());
        for (const SessionId& id : ids) {
            const std::string live = essence(driver_.view(id));
            ASSERT_EQ(essence(*from_journal.view(id, driver_.time)), live);
            ASSERT_EQ(essence(*from_database.view(id, driver_.time)), live);
        }
    }

    // No fence was run twice, not even by a worker that lost its memory in between.
    void check_runs() const {
        std::set<AttemptRef> runs;
        for (const Site& site : workers_) {
            for (const AttemptRef& run : site.worker.started()) {
                ASSERT_TRUE(runs.insert(run).second) << attempt_name(run) << " ran twice";
            }
        }
    }

    const Oracle& oracle() const { return oracle_; }
    std::string digest() const {
        std::string text;
        for (const Record& record : driver_.journal) {
            text += std::string(name(record.body));
            if (const SessionId* id = session_of(record.body)) text += id->str();
        }
        return text;
    }
    bool is_empty() const { return driver_.core.match("", 1).empty(); }

  private:
    struct Site {
        FakeWorker worker;
        std::uint64_t peer = 0;      // 0: not connected
        std::vector<Push> arriving;  // on the way to it
        bool is_listing = false;     // tells what it closed as well
    };
    struct Backup {
        std::size_t records = 0;
        Oracle oracle;
    };

    void act() {
        Site& site = workers_[random_.below(workers_.size())];
        switch (random_.below(20)) {
            case 0:
            case 1:
            case 2:
                return submit();
            case 3:
                return kill();
            case 4:
            case 5:
                return deliver_some(site);
            case 6:
                return work(site);
            case 7:
            case 8:
                return report(site, shuffled(site.worker.outbox()));
            case 9:
            case 10:
                return heartbeat(site);
            case 11:
                return pass_time();
            case 12:
                return connect(site);
            case 13:
                return disturb(site);
            case 14:
                return repeat_old();
            case 15:
            case 16:
                return submit_inside(site);
            case 17:
                return administer();
            case 18:
                return random_.below(2) == 0 ? extend() : edit();
            default:
                return work(site);
        }
    }

    void administer() {
        switch (random_.below(6)) {
            case 0:
            case 1:
                return lay_hold();
            case 2:
                return confirm_dead();
            case 3:
                return restore_backup();
            case 4:
                return release(random_.below(4) == 0);
            default:
                if (random_.below(4) == 0) take_backup();
        }
    }

    void lay_hold() {
        HoldRequest request;
        request.scope = static_cast<HoldScope>(1 + random_.below(4));
        if (request.scope == HoldScope::project) request.name = "p";
        if (request.scope == HoldScope::agent) request.name = random_.below(2) == 0 ? "a" : "b";
        if (request.scope == HoldScope::worker) request.name = random_.below(2) == 0 ? "w" : "x";
        request.on = random_.below(2) == 0;
        if (request.on && random_.below(2) == 0) request.lasts = seconds(100);
        see(driver_.step(HoldEvent{CoreDriver::caller(1), request}));
    }
    void lift_holds() {
        for (const HoldView& hold : driver_.core.fleet(driver_.time).holds) {
            see(driver_.step(
                HoldEvent{CoreDriver::caller(1),
                          {.scope = hold.scope, .name = hold.name, .on = false, .reason = "end"}}));
        }
    }

    void confirm_dead() {
        ConfirmDeadRequest request;
        request.reason = "x";
        const std::vector<SessionId> live = driver_.core.match("", 50);
        if (random_.below(2) == 0) request.host = "h";
        if (request.host.empty() && random_.below(2) == 0) request.worker = "w";
        if (request.host.empty() && request.worker.empty()) {
            if (live.empty()) return;
            request.id = live[random_.below(live.size())].str();
        }
        // Never of what runs: whoever says so wrongly gets what they ask for.
        if (!faults_) return;
        see(driver_.step(ConfirmDeadEvent{CoreDriver::caller(1), request}));
    }

    void take_backup() { backup_ = Backup{driver_.journal.size(), oracle_}; }

    // The store of then under the workers of now. The clock has gone on, as it does.
    void restore_backup() {
        if (!backup_) return;
        driver_.journal.resize(backup_->records);
        oracle_ = backup_->oracle;
        driver_.time.wall = std::max(driver_.time.wall, latest_) + seconds(2);
        driver_.core = driver_.replayed();
        for (Site& site : workers_) {
            site.peer = 0;
            site.arriving.clear();
        }
        see(driver_.step(BeginEpochEvent{.caller = std::nullopt,
                                         .epoch = "epoch-" + std::to_string(++last_epoch_),
                                         .reason = "restored",
                                         .principal = "uid:0"}));
        if (random_.below(2) == 0) backup_.reset();
    }

    void release(bool force) {
        const Actions actions =
            driver_.step(ReleaseEvent{.caller = CoreDriver::caller(1), .force = force});
        see(actions);
        // Who forces it accepts that what nobody was asked about runs again.
        if (force && !CoreDriver::refusal(actions)) done_.clear();
    }

    void submit_inside(const Site& site) {
        for (const SessionId& id : driver_.core.match("", 50)) {
            const SessionView view = driver_.view(id);
            if (view.worker != site.worker.name().str() || random_.below(3) == 0) continue;
            SubmitEvent event;
            event.caller = CoreDriver::caller(1);
            event.caller.inside = AttemptRef{id, {view.generation, view.attempt}};
            Submission submission = CoreDriver::submission(random_.below(2) == 0 ? "a" : "b");
            submission.queue_anyway = true;
            submission.on_lost = static_cast<OnLost>(1 + random_.below(3));
            submission.keep_children = random_.below(4) == 0;
            if (random_.below(2) == 0) submission.retry = RetryPolicy{.attempts_max = 3};
            event.items.push_back({submission, CoreDriver::hash(1), std::nullopt});
            return see(driver_.step(std::move(event)));
        }
    }

    void submit() {
        Submission submission = CoreDriver::submission(random_.below(2) == 0 ? "a" : "b");
        submission.queue_anyway = true;
        submission.priority = static_cast<int>(random_.below(5)) - 2;
        submission.on_lost = static_cast<OnLost>(1 + random_.below(3));
        submission.keep_children = random_.below(4) == 0;
        if (random_.below(4) == 0) submission.retry = RetryPolicy{.attempts_max = 3};
        if (random_.below(4) == 0) follow_some(submission);
        if (random_.below(5) == 0)
            submission.delay = seconds(static_cast<std::int64_t>(random_.below(60)));
        if (random_.below(5) == 0)
            submission.expires = seconds(1 + static_cast<std::int64_t>(random_.below(90)));
        if (random_.below(4) == 0)
            submission.origin = {"h", random_.below(2) == 0 ? "/r" : "/none"};
        // Whoever is of the project may run it then, though its files are read elsewhere.
        if (!submission.origin.empty() && random_.below(2) == 0) submission.project = "p";
        if (random_.below(4) == 0) submission.tags = {"t"};
        if (random_.below(3) == 0) submission.key = "k" + std::to_string(random_.below(10));
        const std::vector<SessionId> live = driver_.core.match("", 5);
        if (!live.empty() && random_.below(5) == 0)
            submission.parent = live[random_.below(live.size())];
        SubmitEvent event;
        event.caller = CoreDriver::caller(1);
        event.items.push_back(
            {submission, CoreDriver::hash(1), std::nullopt, looked_up(submission)});
        see(driver_.step(std::move(event)));
    }
    // Sessions of any age, some of which are final, or were before a restore.
    void follow_some(Submission& submission) {
        for (std::uint64_t count = 1 + random_.below(3); count > 0 && !made_.empty(); --count) {
            const std::uint64_t back = random_.below(std::min<std::uint64_t>(made_.size(), 30));
            const SessionId& id = made_[made_.size() - 1 - back];
            submission.after.push_back({id, static_cast<AfterCondition>(1 + random_.below(3))});
        }
    }
    // What the shell finds in the database before it submits.
    std::map<SessionId, SessionStatus> looked_up(const Submission& submission) const {
        std::map<SessionId, SessionStatus> found;
        for (const SessionId& id : driver_.core.unsettled(submission, {})) {
            if (const auto status = oracle_.final_status(id)) found[id] = *status;
        }
        return found;
    }

    void extend() {
        const std::vector<SessionId> live = driver_.core.match("", 50);
        if (live.empty()) return;
        const SessionId id = live[random_.below(live.size())];
        const Duration timeout = seconds(1 + static_cast<std::int64_t>(random_.below(5)));
        see(driver_.step(ExtendEvent{CoreDriver::caller(1), id, timeout, std::nullopt}));
    }

    void edit() {
        const std::vector<SessionId> live = driver_.core.match("", 50);
        if (live.empty()) return;
        EditRequest request{.id = live[random_.below(live.size())].str()};
        if (random_.below(3) > 0) request.parent = live[random_.below(live.size())];
        if (request.parent && random_.below(4) == 0) request.parent = SessionId();
        if (!request.parent || random_.below(3) == 0)
            request.tags = std::vector<std::string>{"t" + std::to_string(random_.below(3))};
        see(driver_.step(EditEvent{.caller = CoreDriver::caller(1), .request = request}));
    }

    void kill() {
        const std::vector<SessionId> live = driver_.core.match("", 50);
        if (live.empty()) return;
        const SessionId id = live[random_.below(live.size())];
        const bool is_ended = oracle_.is_ended(id);
        const bool keeps = random_.below(3) == 0;
        const Actions actions = driver_.step(KillEvent{
            .caller = CoreDriver::caller(1), .id = id, .reason = "x", .keep_children = keeps});
        see(actions);
        if (!keeps && !is_ended) oracle_.see_killed_with_descendants(id);
    }
    void work(Site& site) {
        site.worker.work(random_);
        for (const SessionId& id : site.worker.take_begun())
            ASSERT_FALSE(done_.contains(id)) << id.str() << " has ended, and runs again";
    }
    void kill_all() {
        for (const SessionId& id : driver_.core.match("", 10'000))
            see(driver_.kill(id, "end"));
    }

    // A worker that lost its state and then came back under another name looks like one that is
    // merely silent, which OnLost::wait waits for: until another state directory has its name.
    void rename_all() {
        for (Site& site : workers_) {
            site.worker.rename();
            connect(site);
        }
    }

    void deliver_some(Site& site) {
        while (!site.arriving.empty() && random_.below(4) != 0) {
            const std::size_t which = random_.below(site.arriving.size());
            site.worker.receive(site.arriving[which]);
            // Now and then it stays on its way and arrives again.
            if (random_.below(8) == 0) continue;
            site.arriving.erase(site.arriving.begin() + static_cast<std::ptrdiff_t>(which));
        }
    }
    void deliver_all(Site& site) {
        for (const Push& push : site.arriving)
            site.worker.receive(push);
        site.arriving.clear();
    }

    std::vector<Report> shuffled(std::vector<Report> reports) {
        for (std::size_t i = reports.size(); i > 1; --i) {
            std::swap(reports[i - 1], reports[random_.below(i)]);
        }
        return reports;
    }

    void report(Site& site, std::vector<Report> reports) {
        if (site.peer == 0 || reports.empty()) return;
        if (faults_) {
            old_reports_.push_back({site.worker.name(), reports});
            if (random_.below(6) == 0) return;
        }
        const Actions actions = driver_.step(
            ReportEvent{CoreDriver::caller(site.peer), site.worker.name(), std::move(reports)});
        see(actions);
        if (CoreDriver::refusal(actions)) {
            site.peer = 0;
            return;
        }
        if (faults_ && random_.below(6) == 0) return;
        for (const ReportAck& ack : CoreDriver::reply<ReportReply>(actions).acks) {
            site.worker.acknowledged(ack);
            // Not where its end came in the queue, after this attempt: a restore forgets that.
            if (ack.number == 2 && ack.outcome && is_final(ack.outcome->session.status) &&
                ack.outcome->session.started_at) {
                done_.insert(ack.session);
            }
        }
    }

    void heartbeat(Site& site) {
        if (site.peer == 0) return;
        HeartbeatEvent event{CoreDriver::caller(site.peer), site.worker.name(), {}};
        event.heartbeat.attempts = site.worker.inventory();
        if (site.is_listing) {
            event.heartbeat.closed = site.worker.closed();
            event.heartbeat.closed_all = true;
        }
        if (faults_ && random_.below(10) == 0) {
            event.heartbeat.slots = static_cast<std::uint32_t>(1 + random_.below(4));
        }
        const Actions actions = driver_.step(std::move(event));
        see(actions);
        if (CoreDriver::refusal(actions)) {
            site.peer = 0;
            return;
        }
        if (faults_ && random_.below(6) == 0) return;
        const auto answer = CoreDriver::reply<HeartbeatReply>(actions);
        site.is_listing = answer.restored;
        site.worker.receive(LimitsPush{answer.limits});
        // The first beats after the faults set right what got lost in them.
        ASSERT_TRUE(healed_beats_ < 10 || answer.limits.empty()) << "a timeout that never agrees";
        if (!faults_) ++healed_beats_;
        for (const StopOrder& order : answer.stops)
            site.worker.stop(order);
    }

    void connect(Site& site) {
        site.peer = ++last_peer_;
        site.arriving.clear();
        const Actions actions = driver_.hello(site.worker.hello(), site.peer);
        see(actions);
        if (CoreDriver::refusal(actions)) {
            site.peer = 0;
            return;
        }
        site.is_listing = CoreDriver::reply<WelcomeReply>(actions).restored;
        site.worker.belong_to(driver_.core.fleet(driver_.time).epoch);
    }

    void pass_time() {
        const std::vector<std::int64_t> leaps = {0, 1, 5, 10, 44, 45, 100, 600};
        driver_.advance(seconds(leaps[random_.below(leaps.size())]));
        if (random_.below(10) == 0) driver_.time.wall -= seconds(3000);
        if (random_.below(10) == 0) driver_.time.wall += seconds(7000);
        see(driver_.tick(random_.below(4) == 0 ? seconds(30) : Duration(0)));
    }

    void disturb(Site& site) {
        switch (random_.below(7)) {
            case 0:
                site.worker.restart();
                return connect(site);
            case 1:
                if (site.peer != 0) see(driver_.goodbye(site.worker.name().str(), site.peer));
                site.peer = 0;
                return;
            case 2:
                if (random_.below(4) == 0) {
                    site.worker.wipe(++last_state_, random_.below(2) == 0);
                    done_.clear();
                }
                site.peer = 0;
                site.arriving.clear();
                return;
            case 3:
                return restart_broker();
            case 4:
                if (random_.below(3) == 0) site.worker.rename();
                return connect(site);
            default:
                site.peer = 0;
                site.arriving.clear();
        }
    }

    void restart_broker() {
        check_recovery();
        driver_.core = driver_.replayed();
        for (Site& site : workers_) {
            site.peer = 0;
            site.arriving.clear();
        }
    }

    // A report that was acknowledged, or overtaken, long ago arrives once more.
    void repeat_old() {
        if (old_reports_.empty()) return;
        const auto& [name, reports] = old_reports_[random_.below(old_reports_.size())];
        for (const Site& site : workers_) {
            if (site.worker.name() != name || site.peer == 0) continue;
            see(driver_.step(ReportEvent{CoreDriver::caller(site.peer), name, reports}));
        }
    }

    void see(const Actions& actions) {
        latest_ = std::max(latest_, driver_.time.wall);
        for (const Record& record : actions.records) {
            oracle_.see(record);
            if (const auto* created = std::get_if<SessionCreated>(&record.body))
                made_.push_back(created->id);
        }
        for (const Outgoing& out : actions.outgoing) {
            const auto* push = std::get_if<SendPush>(&out);
            if (push == nullptr) continue;
            if (faults_ && random_.below(8) == 0) continue;
            for (Site& site : workers_) {
                if (site.peer == push->peer.value) site.arriving.push_back(push->body);
            }
        }
    }

    Random random_;
    CoreDriver driver_;
    Oracle oracle_;
    std::vector<Site> workers_;
    std::vector<std::pair<WorkerName, std::vector<Report>>> old_reports_;
    std::optional<Backup> backup_;
    std::set<SessionId> done_;
    WallTime latest_{};
    std::uint64_t last_epoch_ = 0;
    std::vector<SessionId> made_;  // all, in order; also what a restore has forgotten
    std::uint64_t last_peer_ = 100;
    std::uint64_t last_state_ = 0;
    bool faults_ = true;
    int healed_beats_ = 0;
};

class Model : public ::testing::TestWithParam<std::uint64_t> {};

TEST_P(Model, SafeUnderFaultsAndDoneAfterThem) {
    World world(GetParam());
    world.run_with_faults(1500);
    ASSERT_FALSE(HasFatalFailure()) << "seed " << GetParam();
    world.check_recovery();
    ASSERT_FALSE(HasFatalFailure()) << "seed " << GetParam();
    world.heal();
    ASSERT_FALSE(HasFatalFailure()) << "seed " << GetParam();
    world.check_runs();
    EXPECT_TRUE(world.is_empty()) << "seed " << GetParam();
    EXPECT_EQ(world.oracle().closed(), world.oracle().created()) << "seed " << GetParam();
    EXPECT_GT(world.oracle().created(), 50u);
}

INSTANTIATE_TEST_SUITE_P(Seeds, Model, ::testing::Range<std::uint64_t>(1, 41));

TEST(ModelSeeds, OneSeedIsOneHistory) {
    World first(7);
    World second(7);
    first.run_with_faults(800);
    second.run_with_faults(800);
    EXPECT_EQ(first.digest(), second.digest());
}

}  // namespace
}  // namespace iw::broker
