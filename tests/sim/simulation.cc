#include "tests/sim/simulation.h"

#include <algorithm>
#include <utility>

#include "common/base/check.h"

namespace iw::sim {

namespace {

constexpr std::int64_t kWallMs = 1'763'480'000'000;  // 2025-11-18 15:33:20 UTC
// Everything has its end within this much calm, whatever has happened before.
constexpr Duration kCalmMax = 8 * 3'600_s;
constexpr Duration kLookEvery = 10_s;

}  // namespace

Simulation::Simulation(std::uint64_t seed, bool is_traced)
    : world_(seed, is_traced),
      broker_rate_(950'000 + static_cast<std::int64_t>(world_.below(100'001))),
      oracle_(broker_rate_),
      plans_(world_),
      network_(world_) {
    build_hosts();
    build_clients();
    // Only some kinds of faults a run, so that each gets its turn to be frequent.
    for (std::uint64_t kind = 0; kind < kFaults; ++kind) {
        if (world_.one_in(2)) kinds_.push_back(static_cast<Fault>(kind));
    }
    pause_max_ = world_.between(5_s, 120_s);
    calm_at_ = world_.now() + world_.between(120_s, 1'800_s);
    has_restore_ = world_.one_in(5);
    if (has_restore_) {
        const Duration until = calm_at_ - world_.now();
        const Duration first = world_.between(1_s, until - 60_s);
        world_.in(first, [this] { back_up(); });
        world_.in(world_.between(first, until), [this] { restore(); });
    }
}

void Simulation::build_hosts() {
    const std::uint64_t count = 1 + world_.below(3);
    for (std::uint64_t i = 0; i < count; ++i) {
        const Duration skew = world_.between(Duration(0), 240_s) - 120_s;
        hosts_.push_back(
            std::make_unique<Host>(Host{.name = "host-" + std::to_string(i),
                                        .clock = HostClock(world_, wall_from_ms(kWallMs) + skew)}));
        const std::int64_t rate = 950'000 + static_cast<std::int64_t>(world_.below(100'001));
        hosts_.back()->clock.set_rate(i == 0 ? broker_rate_ : rate);
        for (std::uint64_t sites = 1 + world_.below(2); sites > 0; --sites) {
            const WorkerName name("w" + std::to_string(places_.size()));
            Place place;
            place.site =
                std::make_unique<Site>(Site::Parts{world_, oracle_, plans_, *hosts_.back()}, name,
                                       1 + static_cast<std::uint32_t>(world_.below(3)));
            book_.roots.push_back({hosts_.back()->name, place.site->root()});
            book_.workers.push_back(name);
            places_.push_back(std::move(place));
        }
    }
    network_.set_broker_host(hosts_[0]->name);
}

void Simulation::build_clients() {
    const Client::Parts parts{world_, network_, oracle_, plans_, book_};
    for (int i = 0; i < 2; ++i) {
        const int count = 2 + static_cast<int>(world_.below(5));
        clients_.push_back(std::make_unique<Submitter>(parts, "submit" + std::to_string(i), count));
    }
    clients_.push_back(
        std::make_unique<Meddler>(parts, "meddler", static_cast<int>(world_.below(12))));
    clients_.push_back(std::make_unique<Admin>(parts, "admin", static_cast<int>(world_.below(8))));
    clients_.push_back(std::make_unique<Releaser>(parts, "releaser"));
    clients_.push_back(std::make_unique<Watcher>(parts, "watcher", false));
    clients_.push_back(std::make_unique<Watcher>(parts, "picky", true));
}

// ---- Processes ---------------------------------------------------------------------------------

void Simulation::start_broker() {
    if (!hosts_[0]->is_on || (broker_ && !broker_->is_dead())) return;
    broker_ = std::make_unique<BrokerShell>(BrokerShell::Parts{
        world_, network_, hosts_[0]->clock, oracle_, store_, [this] { broker_died(); }});
    broker_->start();
}

void Simulation::broker_died() {
    const Duration pause = world_.is_faulty() ? outage() : Duration(100);
    world_.in(std::min(pause, 300_s), [this] { start_broker(); });
}

void Simulation::start_worker(std::size_t index) {
    Place& place = places_[index];
    if (!place.site->host().is_on || (place.worker && !place.worker->is_dead())) return;
    place.worker = std::make_unique<WorkerShell>(
        WorkerShell::Parts{world_, network_, *place.site, [this, index] { worker_died(index); }});
    place.worker->start();
}

void Simulation::worker_died(std::size_t index) {
    const Duration pause = world_.is_faulty() ? outage() : Duration(100);
    world_.in(pause, [this, index] { start_worker(index); });
}

Duration Simulation::outage() {
    if (world_.one_in(8)) return world_.between(60_s, 900_s);
    return world_.one_in(3) ? world_.between(1_s, 60_s)
                            : world_.between(Duration(50), Duration(3'000));
}

// ---- Faults ------------------------------------------------------------------------------------

void Simulation::next_fault() {
    if (kinds_.empty() || !world_.is_faulty()) return;
    world_.in(world_.between(Duration(1), pause_max_), [this] {
        if (!world_.is_faulty()) return;
        ++faults_;
        inject(kinds_[world_.below(kinds_.size())]);
        next_fault();
    });
}

void Simulation::inject(Fault fault) {
    switch (fault) {
        case Fault::broker_killed:
        case Fault::worker_killed:
        case Fault::both_killed:
        case Fault::broker_frozen:
        case Fault::worker_frozen:
        case Fault::worker_restarted:
        case Fault::slots_changed:
            return inject_process(fault);
        case Fault::power_cut:
        case Fault::disk_replaced:
        case Fault::wall_jump:
        case Fault::launcher_killed:
        case Fault::tmux_killed:
            return inject_machine(fault);
        case Fault::partition:
        case Fault::cut:
            return inject_network(fault);
    }
}

void Simulation::inject_process(Fault fault) {
    Place& place = some_place();
    const bool is_up = place.worker && !place.worker->is_dead();
    const bool hits_broker = fault == Fault::broker_killed || fault == Fault::both_killed;
    const bool hits_worker = fault == Fault::worker_killed || fault == Fault::both_killed;
    if (hits_broker && broker_ && !broker_->is_dead()) broker_->kill("kill -9");
    if (hits_worker && is_up) place.worker->kill("kill -9");
    if (fault == Fault::broker_frozen) freeze_broker();
    if (fault == Fault::worker_frozen && is_up) freeze_worker(place);
    const bool is_asked = fault == Fault::worker_restarted && is_up && !place.worker->is_frozen();
    if (is_asked) place.worker->shut_down();
    if (fault == Fault::slots_changed)
        place.site->set_slots(1 + static_cast<std::uint32_t>(world_.below(4)));
}

void Simulation::freeze_broker() {
    if (!broker_ || broker_->is_dead() || broker_->is_frozen()) return;
    broker_->freeze();
    BrokerShell* const frozen = broker_.get();
    world_.in(outage(), [this, frozen] {
        // Another process may live there by now.
        if (broker_.get() == frozen && !frozen->is_dead() && frozen->is_frozen()) frozen->thaw();
    });
}

void Simulation::freeze_worker(Place& place) {
    if (place.worker->is_frozen()) return;
    place.worker->freeze();
    WorkerShell* const frozen = place.worker.get();
    world_.in(outage(), [&place, frozen] {
        if (place.worker.get() == frozen && !frozen->is_dead() && frozen->is_frozen())
            frozen->thaw();
    });
}

void Simulation::inject_machine(Fault fault) {
    const std::size_t host = world_.below(hosts_.size());
    Site& site = *some_place().site;
    if (fault == Fault::power_cut) return power_off(host, false);
    if (fault == Fault::disk_replaced) return power_off(host, world_.one_in(3));
    if (fault == Fault::tmux_killed) return site.kill_tmux_server();
    if (fault == Fault::launcher_killed) return site.kill_some_launcher();
    // Ids follow a clock that was set back only until the next one comes to them: a restored broker
    // under such a clock would use some again that it cannot know of, which nobody promises.
    if (host == 0 && has_restore_) return;
    const Duration by = world_.between(Duration(0), 2 * 86'400_s) - 86'400_s;
    world_.note(hosts_[host]->name, "wall clock set");
    const Duration step = world_.one_in(2) ? by : by / 24;
    hosts_[host]->clock.set_wall(step);
    if (host == 0) oracle_.broker_clock_set(step);
}

void Simulation::inject_network(Fault fault) {
    // The machine from which clients come can be cut off as well.
    const std::uint64_t which = world_.below(hosts_.size() + 1);
    const std::string host = which < hosts_.size() ? hosts_[which]->name : "desk";
    if (fault == Fault::cut) return network_.cut(host);
    const Duration how_long = outage();
    world_.note(host, "is cut off");
    const std::uint64_t way = world_.below(4);
    if (way != 0) network_.block(host, Way::to_broker, how_long);
    if (way != 1) network_.block(host, Way::from_broker, how_long);
}

void Simulation::back_up() {
    if (!broker_ || broker_->is_dead() || broker_->is_frozen()) return;
    world_.note("world", "backup at " + std::to_string(store_.journal.size()));
    backup_ = store_.journal.size();
    is_backed_up_ = true;
}

// The broker's disk is gone, and all that is newer than the backup with it.
void Simulation::restore() {
    if (!is_backed_up_) return;
    if (broker_ && !broker_->is_dead()) broker_->kill("its disk is gone");
    world_.note("world", "restore to " + std::to_string(backup_));
    store_.journal.resize(backup_);
    store_.applied = std::min<Seq>(store_.applied, backup_);
    store_.checkpointed = std::min<Seq>(store_.checkpointed, backup_);
    store_.is_restored = true;
    oracle_.restored(backup_);
    book_.is_restored = true;
    std::erase_if(book_.acknowledged, [this](const SessionId& id) { return !oracle_.knows(id); });
}

void Simulation::power_off(std::size_t index, bool is_wiped) {
    Host& host = *hosts_[index];
    if (!host.is_on) return;
    world_.note(host.name, is_wiped ? "power cut, and another disk" : "power cut");
    host.is_on = false;
    if (index == 0 && broker_ && !broker_->is_dead()) {
        broker_->kill("power cut");
        store_.applied =
            store_.checkpointed + world_.below(store_.applied - store_.checkpointed + 1);
    }
    for (Place& place : places_) {
        if (&place.site->host() != &host) continue;
        if (place.worker && !place.worker->is_dead()) place.worker->kill("power cut");
        place.site->power_off();
        if (is_wiped) place.site->wipe();
    }
    world_.in(outage(), [this, index] { power_on(index); });
}

void Simulation::power_on(std::size_t index) {
    Host& host = *hosts_[index];
    if (host.is_on) return;
    host.is_on = true;
    ++host.boots;
    host.clock.boot();
    world_.note(host.name, "boots");
    if (index == 0) start_broker();
    for (std::size_t i = 0; i < places_.size(); ++i) {
        if (&places_[i].site->host() == &host) start_worker(i);
    }
}

// ---- The run -----------------------------------------------------------------------------------

void Simulation::heal() {
    world_.heal();
    world_.note("world", "heals");
    network_.unblock_all();
    for (std::size_t i = 0; i < hosts_.size(); ++i)
        power_on(i);
    if (broker_ && !broker_->is_dead() && broker_->is_frozen()) broker_->thaw();
    start_broker();
    for (std::size_t i = 0; i < places_.size(); ++i) {
        WorkerShell* worker = places_[i].worker.get();
        if (worker != nullptr && !worker->is_dead() && worker->is_frozen()) worker->thaw();
        start_worker(i);
    }
}

bool Simulation::is_done() const {
    if (!broker_ || broker_->is_dead() || !broker_->core().match("", 1).empty()) return false;
    if (!broker_->is_database_level()) return false;
    const Seq head = broker_->core().head();
    const bool are_clients = std::all_of(clients_.begin(), clients_.end(),
                                         [&](const auto& each) { return each->is_done(head); });
    return are_clients && std::all_of(places_.begin(), places_.end(), [](const Place& place) {
               return place.worker && place.worker->is_idle() && place.site->alive() == 0;
           });
}

std::string Simulation::unfinished() const {
    std::string text = "liveness: not everything has ended:";
    for (const SessionId& id : broker_->core().match("", 5)) {
        const std::optional<SessionView> view = broker_->core().view(id, hosts_[0]->clock.read());
        text += " " + id.str() + "=" + std::string(name(view->detail)) + " (" + view->reason + ")";
    }
    for (const Place& place : places_) {
        if (place.worker->is_idle() && place.site->alive() == 0) continue;
        text += " " + place.site->name().str() + ": " + place.worker->describe() +
                " agents:" + place.site->describe();
    }
    for (const auto& client : clients_) {
        if (!client->is_done(broker_->core().head())) text += " " + client->name() + " waits";
    }
    return text;
}

Verdict Simulation::run() {
    start_broker();
    for (std::size_t i = 0; i < places_.size(); ++i)
        start_worker(i);
    for (const auto& client : clients_)
        client->start();
    next_fault();
    while (world_.now() < calm_at_ && !has_failed())
        IW_CHECK(world_.step());
    if (!has_failed()) heal();
    const Timestamp end_by = world_.now() + kCalmMax;
    Timestamp look_at = world_.now();
    bool is_over = false;
    while (!is_over && world_.now() < end_by && !has_failed()) {
        IW_CHECK(world_.step());
        if (world_.now() < look_at) continue;
        look_at = world_.now() + kLookEvery;
        is_over = is_done();
    }
    Verdict verdict;
    verdict.violation = oracle_.violation();
    if (!verdict.violation && !is_over) verdict.violation = unfinished();
    if (!verdict.violation) {
        oracle_.finished();
        verdict.violation = oracle_.violation();
    }
    verdict.hash = world_.hash();
    verdict.steps = world_.steps();
    verdict.records = store_.journal.size();
    verdict.faults = faults_;
    verdict.lasted = world_.now().time_since_epoch();
    return verdict;
}

}  // namespace iw::sim
