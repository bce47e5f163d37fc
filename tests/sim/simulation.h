#pragma once

// A whole fleet from one seed: first everything may go wrong, then nothing does any more and all
// must end.

#include <cstdint>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "tests/sim/broker_shell.h"
#include "tests/sim/clients.h"
#include "tests/sim/network.h"
#include "tests/sim/oracle.h"
#include "tests/sim/plans.h"
#include "tests/sim/site.h"
#include "tests/sim/worker_shell.h"
#include "tests/sim/world.h"

namespace iw::sim {

struct Verdict {
    std::optional<std::string> violation;
    std::uint64_t hash = 0;
    std::uint64_t steps = 0;
    std::size_t records = 0;
    std::size_t faults = 0;
    Duration lasted{0};  // true time
};

class Simulation {
  public:
    Simulation(std::uint64_t seed, bool is_traced);
    Simulation(const Simulation&) = delete;
    Simulation& operator=(const Simulation&) = delete;

    Verdict run();

  private:
    enum class Fault {
        broker_killed,
        worker_killed,
        both_killed,
        power_cut,
        disk_replaced,
        broker_frozen,
        worker_frozen,
        partition,
        cut,
        wall_jump,
        launcher_killed,
        tmux_killed,
        worker_restarted,
        slots_changed,
    };
    static constexpr std::uint64_t kFaults = 14;
    struct Place {  // a worker, whatever becomes of its process
        std::unique_ptr<Site> site;
        std::unique_ptr<WorkerShell> worker;
    };

    void build_hosts();
    void build_clients();
    void start_broker();
    void broker_died();
    void start_worker(std::size_t place);
    void worker_died(std::size_t place);
    // Shorter mostly, long enough for every deadline now and then.
    Duration outage();

    void next_fault();
    void inject(Fault fault);
    void inject_process(Fault fault);
    void inject_machine(Fault fault);
    void inject_network(Fault fault);
    void back_up();
    void restore();
    void power_off(std::size_t host, bool is_wiped);
    void power_on(std::size_t host);
    void freeze_broker();
    void freeze_worker(Place& place);
    Place& some_place() { return places_[world_.below(places_.size())]; }

    void heal();
    bool is_done() const;
    bool has_failed() const { return oracle_.violation().has_value(); }
    std::string unfinished() const;

    World world_;
    std::vector<std::unique_ptr<Host>> hosts_;  // the first one is the broker's
    std::int64_t broker_rate_;
    Oracle oracle_;
    Plans plans_;
    Network network_;
    BrokerStore store_;
    std::size_t backup_ = 0;  // so many records are in the newest one
    bool is_backed_up_ = false;
    bool has_restore_ = false;  // this run
    Book book_;
    std::vector<Place> places_;
    std::unique_ptr<BrokerShell> broker_;
    std::vector<std::unique_ptr<Client>> clients_;
    std::vector<Fault> kinds_;  // that happen in this run
    Duration pause_max_{0};     // between two
    Timestamp calm_at_{};
    std::size_t faults_ = 0;
};

}  // namespace iw::sim
