#pragma once

// The broker's process around the real core: drains its socket, steps, ticks once, commits, sends;
// the database works behind it. It can be killed or stood still at any point of that.

#include <cstddef>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "broker/core/broker_core.h"
#include "tests/sim/database.h"
#include "tests/sim/network.h"
#include "tests/sim/oracle.h"
#include "tests/sim/world.h"

namespace iw::sim {

// What is on the broker's disk.
struct BrokerStore {
    std::vector<broker::Record> journal;  // synced
    Seq applied = 0;                      // by the database
    Seq checkpointed = 0;                 // as much of it as a power cut leaves
    std::string epoch = "epoch-1";
    bool is_restored = false;  // just now: the next start begins an epoch
};

class BrokerShell {
  public:
    struct Parts {
        World& world;
        Network& network;
        HostClock& clock;
        Oracle& oracle;
        BrokerStore& store;
        std::function<void()> on_death;
    };
    explicit BrokerShell(Parts parts);
    BrokerShell(const BrokerShell&) = delete;
    BrokerShell& operator=(const BrokerShell&) = delete;

    // Recovers and serves. Nothing of it may be called after its death.
    void start();
    void kill(const std::string& why);
    void freeze();
    void thaw();
    bool is_frozen() const { return frozen_at_.has_value(); }
    bool is_dead() const { return life_ == nullptr; }
    const broker::BrokerCore& core() const { return core_; }
    bool is_database_level() const { return database_.applied() == parts_.store.journal.size(); }

  private:
    using Answer = std::variant<Reply, ErrorReply>;
    using Rewrite = std::function<std::optional<Answer>(Answer)>;
    struct To {
        broker::PeerId peer;
        std::string request;
        std::optional<AttemptRef> inside;
        WorkerName relayed_by;
    };
    struct Outbound {
        broker::PeerId peer;
        Payload payload;
    };
    // Runs on the database's thread; what it returns, on the loop's.
    using Question = std::function<std::function<void()>(const Database&)>;
    struct Job {
        std::vector<broker::Record> records;
        Question question;
    };
    struct Waiter {
        To to;
        EventsRequest request;
        Timestamp deadline;
        bool is_parked = false;
        EventsReply last{};
    };

    // ---- The loop
    void later(Duration delay, std::function<void()> what);
    void wake();
    void plan();
    void turn();
    Duration stall();
    void step(broker::CoreEvent event);
    void step(const To& to, broker::CoreEvent event, const Rewrite& rewrite);
    void fill_prompts();
    void commit();
    void committed();
    void tear();
    void make_durable();
    void hand_over(std::vector<broker::Record> records);
    void send();
    void recover();
    void begin_epoch();
    void check_recovery();
    void note(const std::string& what) { parts_.world.note("broker", what); }

    // ---- The database's thread
    void ask(Question question) { asked_.push_back({.records = {}, .question = question}); }
    void work();
    void do_work();
    void do_job();

    // ---- Requests
    void handle(Network::Received received);
    void handle_worker(const To& to, const WorkerName& worker, Request request);
    void handle_client(const To& to, Request request);
    void handle_admin(const To& to, const Request& request);
    void hello(const To& to, const HelloRequest& request);
    void greeted(broker::PeerId peer, const std::vector<AttemptState>& inventory);
    void report(const To& to, const WorkerName& worker, ReportRequest request);
    void fill_acks(const To& to, ReportReply reply, const std::vector<bool>& starts);
    void submit(const To& to, std::vector<Submission> sessions);
    void look_up(const To& to, std::vector<broker::SubmitEvent::Item> items, bool is_retry);
    void create(const To& to, std::vector<broker::SubmitEvent::Item> items, bool is_retry);
    void retry(const To& to, const RetryRequest& request);
    void status(const To& to, const StatusRequest& request);
    void kill_session(const To& to, const KillRequest& request);
    void extend(const To& to, const ExtendRequest& request);
    void edit(const To& to, const EditRequest& request);
    void events(std::size_t waiter);
    void reply(const To& to, Answer answer);
    void refuse(const To& to, ErrorCode code, std::string message);
    broker::Caller caller(const To& to) const;

    Parts parts_;
    broker::BrokerCore core_;
    Database database_;
    std::shared_ptr<char> life_ = std::make_shared<char>('x');
    std::optional<Timestamp> frozen_at_;

    // Of the loop.
    std::uint64_t wake_ = 0;
    std::optional<Timestamp> wake_at_;  // true time
    std::optional<Timestamp> planned_;  // this and the following on the host's steady clock
    Timestamp worked_until_{};
    Duration worked_{0};
    std::vector<broker::PeerId> gone_;
    std::vector<std::function<void()>> completions_;
    std::map<broker::PeerId, WorkerName> peers_;
    std::set<std::string> keys_;
    std::map<std::string, Seq> unapplied_;
    std::map<SessionId, std::string> prompts_;
    std::map<std::size_t, Waiter> waiters_;
    std::size_t last_waiter_ = 0;

    // Of the turn under way.
    Now time_{};
    Timestamp decided_{};
    std::vector<broker::Record> records_;
    std::vector<Outbound> outgoing_;
    bool is_committing_ = false;
    bool is_commit_done_ = false;

    // Of the database's thread.
    std::vector<Job> asked_;
    std::deque<Job> jobs_;
    bool is_working_ = false;
    bool is_work_held_ = false;
};

}  // namespace iw::sim
