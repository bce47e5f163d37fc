// A worker's hello: who may have the name, what became of what the name held, and what it runs now.

#include <algorithm>
#include <set>
#include <utility>

#include "broker/core/state.h"
#include "common/base/check.h"
#include "common/base/text.h"

namespace iw::broker {

namespace {

Error bad(std::string message) {
    return make_error(ErrorCode::bad_request, std::move(message));
}

std::optional<Error> form_refusal(const WorkerHello& hello) {
    if (!is_plain_name(hello.name.str())) {
        return bad("worker.name: \"" + printable(hello.name.str(), true) + "\" is not a name");
    }
    if (hello.host.empty() || hello.root.empty()) return bad("worker: host and root are required");
    if (hello.state_id.empty()) return bad("worker.state_id: is required");
    if (hello.slots > static_cast<std::uint32_t>(limits::kSlotsMax)) {
        return bad("worker.slots: " + std::to_string(hello.slots) + " is more than 1000");
    }
    if (hello.agents.size() > limits::kAgentsPerWorkerMax) {
        return bad("worker.agents: more than 500");
    }
    if (hello.inventory.size() > limits::kInventoryMax) {
        return bad("worker.inventory: more than 10000");
    }
    return std::nullopt;
}

WorkerRegistered registration_of(const HelloEvent& event) {
    const WorkerHello& hello = event.worker;
    WorkerRegistered registered{.name = hello.name,
                                .host = hello.host,
                                .root = hello.root,
                                .project = hello.project,
                                .state_id = hello.state_id,
                                .boot_id = hello.boot_id,
                                .start_count = hello.start_count,
                                .slots = hello.slots,
                                .agents = hello.agents,
                                .labels = hello.labels,
                                .software = event.software};
    return registered;
}

// Starts of a state directory are counted, so of two names that it had the one of the later start
// is its name now.
std::optional<Error> rename_refusal(const WorkerHello& hello, const Worker& other) {
    const WorkerRegistered& before = other.registration;
    if (before.state_id != hello.state_id) return std::nullopt;
    if (other.is_up()) {
        return make_error(ErrorCode::name_taken,
                          "worker " + hello.name.str() + " has the state directory of worker " +
                              before.name.str() + ", which lives; stop that one first");
    }
    if (hello.start_count > before.start_count) return std::nullopt;
    return make_error(ErrorCode::conflict, "worker " + hello.name.str() + ": start " +
                                               std::to_string(hello.start_count) +
                                               " is not after start " +
                                               std::to_string(before.start_count) +
                                               " of its state directory as " + before.name.str());
}

bool is_same(const WorkerRegistered& a, const WorkerRegistered& b) {
    return a.name == b.name && a.host == b.host && a.root == b.root && a.project == b.project &&
           a.state_id == b.state_id && a.boot_id == b.boot_id && a.start_count == b.start_count &&
           a.slots == b.slots && a.agents == b.agents && a.labels == b.labels &&
           a.software == b.software;
}

}  // namespace

std::optional<Error> BrokerCore::State::hello_refusal(const WorkerHello& hello) const {
    if (std::optional<Error> error = form_refusal(hello)) return error;
    const auto taken = [](std::string message) {
        return make_error(ErrorCode::name_taken, std::move(message));
    };
    if (const Worker* known = durable_.worker(hello.name)) {
        const WorkerRegistered& before = known->registration;
        const bool is_same_state = before.state_id == hello.state_id;
        if (is_same_state && hello.start_count < before.start_count) {
            return make_error(ErrorCode::conflict,
                              "worker " + hello.name.str() + ": start " +
                                  std::to_string(hello.start_count) + " is older than start " +
                                  std::to_string(before.start_count) + ", which is registered");
        }
        const bool is_same_place = before.host == hello.host && before.root == hello.root;
        const bool is_same_boot =
            before.boot_id.empty() || hello.boot_id.empty() || before.boot_id == hello.boot_id;
        // A copied state directory looks like the same worker until both live.
        if (known->is_up() && !(is_same_state && is_same_place && is_same_boot)) {
            const Duration silence = time_.steady - presence_.at(hello.name).heard_at;
            return taken("worker " + hello.name.str() + " on " + before.host + " in " +
                         before.root + " was heard " + format_elapsed(silence) +
                         " ago; take another name, or wait until it is unreachable (" +
                         format_duration(config_.unreachable_after) + ")");
        }
    }
    for (const auto& [name, other] : durable_.workers()) {
        if (name == hello.name) continue;
        if (std::optional<Error> error = rename_refusal(hello, other)) return error;
        if (!other.is_up()) continue;
        if (other.registration.host != hello.host || other.registration.root != hello.root)
            continue;
        return taken("worker " + name.str() + " has " + hello.root + " on " + hello.host +
                     " already; stop it first");
    }
    return std::nullopt;
}

void BrokerCore::State::on(HelloEvent event) {
    if (std::optional<Error> error = hello_refusal(event.worker)) {
        const auto named = presence_.find(event.worker.name);
        const bool is_silent = named != presence_.end() && !named->second.peer;
        if (is_silent && error->code == ErrorCode::name_taken) named->second.is_awaited = true;
        return refuse(event.caller, error->code, std::move(error->message));
    }
    const Worker* before = durable_.worker(event.worker.name);
    const bool is_new_start = before == nullptr ||
                              before->registration.state_id != event.worker.state_id ||
                              before->registration.start_count != event.worker.start_count;
    const std::optional<WorkerRegistered> replaced = register_worker(event);
    const Worker& worker = *durable_.worker(event.worker.name);
    Presence& presence = presence_.at(event.worker.name);
    const Timestamp heard_at = presence.heard_at;
    presence.peer = event.caller.peer;
    // Nothing that was sent on an earlier connection counts as sent.
    presence.sent.clear();
    heard(event.worker.name, presence);
    begin_listing(event.worker, presence);
    // The shell fills in the rest: software, epoch, time, limits, capabilities.
    WelcomeReply welcome;
    welcome.generation = durable_.generation();
    welcome.seq = durable_.head();
    welcome.heartbeat = config_.heartbeat;
    welcome.unreachable = config_.unreachable_after;
    welcome.lost = config_.lost_after;
    welcome.restored = presence.is_listing;
    reply(event.caller, std::move(welcome));
    // Now that it is heard: what ends by this waits for the files that it writes.
    if (replaced) settle_previous(worker, *replaced, heard_at);
    // What it runs, what it must stop, what it has not got, what it must write: in this order.
    merge(worker, presence, event.worker.inventory);
    take_inventory(worker, presence, event.worker.inventory);
    std::vector<StopOrder> orders = stops(worker, event.worker.inventory);
    // A stop goes before the assignment it is about: a worker that knows of it will not start the
    // attempt.
    if (!orders.empty()) push(presence, StopPush{.stops = std::move(orders)});
    // One that still lists may have closed what it does not list here.
    if (!presence.is_listing) lose_forgotten(worker, event.worker.inventory, is_new_start);
    send_missing(worker, presence, event.worker.inventory);
    push_outcomes(worker, presence);
    tell_from_first(worker, presence);
    close_abandoned();
    ready_.touch(worker);
}

std::optional<WorkerRegistered> BrokerCore::State::register_worker(const HelloEvent& event) {
    WorkerRegistered registered = registration_of(event);
    const WorkerName name = registered.name;
    const Worker* known = durable_.worker(name);
    if (known == nullptr) {
        presence_[name].heard_at = time_.steady;
        transition("worker=" + name.str(), "", std::string(worker_state::kUp), "registered");
        change_registration(std::move(registered));
        leave_other_names(*durable_.worker(name));
        return std::nullopt;
    }
    const WorkerRegistered before = known->registration;
    if (is_same(before, registered)) return std::nullopt;
    transition("worker=" + name.str(), known->state, known->state,
               "start " + std::to_string(registered.start_count));
    change_registration(std::move(registered));
    leave_other_names(*known);
    if (before.state_id == event.worker.state_id) return std::nullopt;
    return before;
}

void BrokerCore::State::leave_other_names(const Worker& worker) {
    for (auto& [name, presence] : presence_) {
        if (name == worker.registration.name) continue;
        const Worker& other = *durable_.worker(name);
        // What has moved is nothing to wait for under the name that it left.
        expect_orphans(other, presence.heard_at);
        if (other.registration.state_id != worker.registration.state_id) continue;
        presence.peer.reset();
        presence.sent.clear();
        presence.foreign.clear();
        // Whatever there is to be listed comes under the new name.
        presence.is_listing = false;
        presence.owed.clear();
    }
}

void BrokerCore::State::change_registration(WorkerRegistered registered) {
    emit(std::move(registered));
    ready_.reconsider(durable_.workers());
}

void BrokerCore::State::settle_previous(const Worker& worker, const WorkerRegistered& before,
                                        Timestamp heard_at) {
    expect_orphans(worker, heard_at);
    const WorkerRegistered& after = worker.registration;
    const bool is_rebooted = before.host == after.host && !before.boot_id.empty() &&
                             !after.boot_id.empty() && before.boot_id != after.boot_id;
    if (!is_rebooted) return;
    // No process lives through a boot.
    std::vector<const Session*> gone;
    for (const auto& [ordinal, session] : worker.held) {
        if (is_orphan(*session, worker)) gone.push_back(session);
    }
    for (const Session* session : gone) {
        lose(*session, "host " + after.host + " was started anew (boot " + before.boot_id +
                           " then " + after.boot_id + ") and the worker's state is another one");
    }
}

// A state directory lists at its hello all that it has not been told is over, so a started attempt
// that it leaves out is one whose record it has lost. Nobody will ever report that one's end.
// Within one start of the worker nothing is forgotten: such a list is older than the attempt, on
// its way since over a connection that was given up. After a restore ours may be the older one.
void BrokerCore::State::lose_forgotten(const Worker& worker,
                                       const std::vector<AttemptState>& inventory,
                                       bool is_new_start) {
    std::set<AttemptRef> listed;
    for (const AttemptState& attempt : inventory) {
        listed.insert(AttemptRef{.session = attempt.session, .fence = attempt.fence});
    }
    std::vector<const Session*> forgotten;
    for (const auto& [ordinal, session] : worker.held) {
        if (session->phase != Phase::running || is_orphan(*session, worker)) continue;
        if (!is_new_start && session->fence.generation == durable_.generation()) continue;
        if (listed.contains(AttemptRef{.session = *session->id, .fence = session->fence})) continue;
        // It has said that this one is over, and is about to say how.
        if (presence_.at(worker.registration.name).owed.contains(ordinal)) continue;
        forgotten.push_back(session);
    }
    for (const Session* session : forgotten) {
        lose(*session, "worker " + worker.registration.name.str() + " has started over (start " +
                           std::to_string(worker.registration.start_count) +
                           ") and its state directory does not know the attempt");
    }
}

void BrokerCore::State::expect_orphans(const Worker& worker, Timestamp heard_at) {
    Presence& presence = presence_.at(worker.registration.name);
    std::map<std::uint64_t, Timestamp> orphans;
    for (const auto& [ordinal, session] : worker.held) {
        if (!is_orphan(*session, worker)) continue;
        const auto expected = presence.orphans.find(ordinal);
        const bool is_new = expected == presence.orphans.end();
        orphans[ordinal] = is_new ? heard_at + config_.lost_after : expected->second;
    }
    presence.orphans = std::move(orphans);
}

}  // namespace iw::broker
