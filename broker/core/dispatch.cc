// Handing out: the earliest session of all that find a worker with room, and again, until none
// does. After that, families: a session lends its slot to one descendant at its own worker, and
// descendants of what is held go on where a hold lets nobody else begin.

#include <algorithm>
#include <set>
#include <utility>

#include "broker/core/state.h"
#include "common/base/check.h"

namespace iw::broker {

namespace {

// The queue of a connection is bounded; what does not fit into it is lost until a list shows so.
constexpr std::size_t kAssignmentsPerStep = 64;

// The first of a class, or of what is ready of a class below one ancestor. The smallest is served
// first.
struct Head {
    ReadyQueue::Entry entry;
    std::uint32_t number = 0;
    std::uint64_t ancestor = 0;

    bool operator<(const Head& other) const {
        if (entry < other.entry) return true;
        if (other.entry < entry) return false;
        return ancestor < other.ancestor;
    }
};

bool is_eligible(const ReadyQueue::Class& placement_class, const Worker& worker) {
    const std::vector<const Worker*>& eligible = placement_class.eligible;
    return std::find(eligible.begin(), eligible.end(), &worker) != eligible.end();
}

}  // namespace

// Each lender has its own borrower here, so only one of the two takes room.
std::size_t BrokerCore::State::used(const Worker& worker) const {
    IW_CHECK(worker.lending.lenders() <= worker.held.size());
    return worker.held.size() - worker.lending.lenders() +
           presence_.at(worker.registration.name).foreign.size();
}

// Computed from what it holds every time, never counted by messages, so that no slot can leak.
bool BrokerCore::State::has_room(const Worker& worker) const {
    return used(worker) < worker.registration.slots;
}

bool BrokerCore::State::is_open(const Worker& worker) const {
    return is_reachable(worker) && !presence_.at(worker.registration.name).is_listing;
}

bool BrokerCore::State::could_take(const Worker& worker) const {
    return is_open(worker) && has_room(worker) && drain_of(worker) == nullptr;
}

bool BrokerCore::State::could_take_below(const Worker& worker, const Session& ancestor) const {
    if (!is_open(worker)) return false;
    // Over capacity it gets nothing, though the use would stay as it is.
    if (used(worker) <= worker.registration.slots && worker.lending.can_lend(ancestor)) return true;
    return drain_of(worker) != nullptr && has_room(worker);
}

bool BrokerCore::State::is_sated(const Presence& presence) const {
    IW_CHECK(presence.peer.has_value());
    const auto sent = assignments_.find(*presence.peer);
    return sent != assignments_.end() && sent->second >= kAssignmentsPerStep;
}

// The owner, since from there no files need to travel. Else the least loaded in proportion to its
// slots; of equal ones the first by name.
const Worker* BrokerCore::State::pick(const ReadyQueue::Class& placement_class) const {
    const Origin& origin = placement_class.placement->placement.origin;
    const Worker* best = nullptr;
    for (const Worker* worker : placement_class.eligible) {
        if (!could_take(*worker)) continue;
        const bool is_full = is_sated(presence_.at(worker->registration.name));
        // The next step, which comes at once, gives it more.
        if (!origin.empty() && is_at(worker->registration, origin))
            return is_full ? nullptr : worker;
        if (is_full) continue;
        if (best == nullptr ||
            used(*worker) * best->registration.slots < used(*best) * worker->registration.slots) {
            best = worker;
        }
    }
    return best;
}

const Worker* BrokerCore::State::pick_below(const ReadyQueue::Class& placement_class,
                                            const Session& ancestor) const {
    const Worker& home = *durable_.worker(ancestor.progressed().worker);
    if (is_eligible(placement_class, home) && could_take_below(home, ancestor) &&
        !is_sated(presence_.at(home.registration.name))) {
        return &home;
    }
    if (pause_of(placement_class.placement->placement) == nullptr) return nullptr;
    return pick(placement_class);
}

bool BrokerCore::State::is_reachable(const Worker& worker) const {
    return worker.is_up() && presence_.at(worker.registration.name).peer.has_value();
}

void BrokerCore::State::dispatch() {
    // What has changed stays noted until then.
    if (durable_.restored()) return;
    hand_out_by_class();
    std::set<std::uint64_t> unfinished;
    // Who has just been given out may have something ready below itself.
    for (auto touched = ready_.take_touched_families(); !touched.empty();
         touched = ready_.take_touched_families()) {
        hand_out_in_families(touched, unfinished);
    }
    for (const std::uint64_t ordinal : unfinished) {
        const ReadyQueue::Family* family = ready_.find_family(ordinal);
        if (family != nullptr) ready_.touch_family(*family->ancestor);
    }
}

void BrokerCore::State::hand_out_by_class() {
    // Only classes for which something changed since they last found no room.
    std::set<Head> heads;
    for (const std::uint32_t number : ready_.take_touched()) {
        const ReadyQueue::Class* placement_class = ready_.find(number);
        if (placement_class == nullptr) continue;
        if (pause_of(placement_class->placement->placement) == nullptr) {
            heads.insert(Head{*placement_class->entries.begin(), number});
            continue;
        }
        for (const auto& [ordinal, entries] : placement_class->families)
            ready_.touch_family(*ready_.find_family(ordinal)->ancestor);
    }
    while (!heads.empty()) {
        const Head head = heads.extract(heads.begin()).value();
        const ReadyQueue::Class* placement_class = ready_.find(head.number);
        IW_CHECK(placement_class != nullptr);
        const Worker* worker = pick(*placement_class);
        // Room only shrinks from here on, so the class need not be looked at again in this step.
        if (worker == nullptr) {
            // Room is left that the next step may fill: it comes at once, see next_deadline.
            if (is_room_left(*placement_class)) ready_.touch(head.number);
            continue;
        }
        assign(*head.entry.session, *worker);
        placement_class = ready_.find(head.number);
        if (placement_class == nullptr) continue;
        heads.insert(Head{*placement_class->entries.begin(), head.number});
    }
}

bool BrokerCore::State::is_room_left(const ReadyQueue::Class& placement_class) const {
    const std::vector<const Worker*>& eligible = placement_class.eligible;
    return std::any_of(eligible.begin(), eligible.end(),
                       [this](const Worker* each) { return could_take(*each); });
}

void BrokerCore::State::hand_out_in_families(const std::set<std::uint64_t>& touched,
                                             std::set<std::uint64_t>& unfinished) {
    std::set<Head> heads;
    for (const std::uint64_t ordinal : touched) {
        const ReadyQueue::Family* family = ready_.find_family(ordinal);
        if (family == nullptr || !family->ancestor->is_held()) continue;
        for (const std::uint32_t number : family->classes)
            heads.insert(Head{*ready_.find(number, ordinal)->begin(), number, ordinal});
    }
    while (!heads.empty()) {
        const Head head = heads.extract(heads.begin()).value();
        const ReadyQueue::Entries* entries = ready_.find(head.number, head.ancestor);
        if (entries == nullptr) continue;
        // Given out meanwhile, below another one of its ancestors.
        if (head.entry < *entries->begin()) {
            heads.insert(Head{*entries->begin(), head.number, head.ancestor});
            continue;
        }
        const Session& ancestor = *ready_.find_family(head.ancestor)->ancestor;
        const ReadyQueue::Class& placement_class = *ready_.find(head.number);
        const Worker* worker = pick_below(placement_class, ancestor);
        if (worker == nullptr) {
            if (is_room_left_below(placement_class, ancestor)) unfinished.insert(head.ancestor);
            continue;
        }
        assign(*head.entry.session, *worker);
        entries = ready_.find(head.number, head.ancestor);
        if (entries == nullptr) continue;
        heads.insert(Head{*entries->begin(), head.number, head.ancestor});
    }
}

bool BrokerCore::State::is_room_left_below(const ReadyQueue::Class& placement_class,
                                           const Session& ancestor) const {
    const Worker& home = *durable_.worker(ancestor.progressed().worker);
    if (is_eligible(placement_class, home) && could_take_below(home, ancestor)) return true;
    return pause_of(placement_class.placement->placement) != nullptr &&
           is_room_left(placement_class);
}

void BrokerCore::State::assign(Session& session, const Worker& worker) {
    IW_CHECK(session.phase == Phase::queued);
    IW_CHECK(can_run(worker.registration, session.placement->placement));
    IW_CHECK(!durable_.restored());
    emit(AttemptAssigned{.id = *session.id,
                         .fence = next_fence(session),
                         .worker = worker.registration.name,
                         .host = worker.registration.host});
    IW_CHECK(used(worker) <= worker.registration.slots);
    send_assignment(presence_.at(worker.registration.name), session);
}

// An attempt that was adopted may be of a later generation than ours, from a restore that this
// store knows nothing of. What was given out in that one is not known either, so the next is of one
// above.
Fence BrokerCore::State::next_fence(const Session& session) const {
    const std::uint32_t generation = durable_.generation();
    const std::uint32_t known = session.fence.generation;
    return {known > generation ? known + 1 : generation, session.fence.attempt + 1};
}

// One a message: with a prompt of the largest size, two of them would not fit into one.
void BrokerCore::State::send_assignment(Presence& presence, const Session& session) {
    IW_CHECK(session.is_held());
    const Particulars& particulars = session.particular();
    const Placement& placement = session.placement->placement;
    Assignment assignment{.session = *session.id,
                          .fence = session.fence,
                          .agent = placement.agent,
                          .project = placement.project,
                          .origin = placement.origin,
                          .prompt = {},
                          .created_at = session.created_at,
                          .timeout = session.timeout,
                          .disk_limit = std::nullopt,
                          .parent = particulars.parent,
                          .retry_of = particulars.retry_of,
                          .priority = session.priority,
                          .tags = particulars.tags,
                          .metadata = particulars.metadata};
    if (particulars.disk_limit != kNoDiskLimit) assignment.disk_limit = particulars.disk_limit;
    presence.sent[session.ordinal] = presence.beat;
    ++assignments_[presence.peer.value()];
    AssignPush message;
    message.assignments.push_back(std::move(assignment));
    push(presence, std::move(message));
}

}  // namespace iw::broker
