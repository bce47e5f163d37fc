// Handing out: the earliest session of all that find a worker with room, and again, until none
// does.

#include <algorithm>
#include <set>
#include <utility>

#include "broker/core/state.h"
#include "common/base/check.h"

namespace iw::broker {

namespace {

// The queue of a connection is bounded; what does not fit into it is lost until a list shows so.
constexpr std::size_t kAssignmentsPerStep = 64;

// The head of a class: the class with the smallest head is served first.
struct Head {
    ReadyQueue::Entry entry;
    std::uint32_t number = 0;

    bool operator<(const Head& other) const { return entry < other.entry; }
};

}  // namespace

std::size_t BrokerCore::State::used(const Worker& worker) const {
    return worker.held.size() + presence_.at(worker.registration.name).foreign.size();
}

// Computed from what it holds every time, never counted by messages, so that no slot can leak.
bool BrokerCore::State::has_room(const Worker& worker) const {
    return used(worker) < worker.registration.slots;
}

bool BrokerCore::State::could_take(const Worker& worker) const {
    return is_reachable(worker) && has_room(worker);
}

bool BrokerCore::State::is_sated(const Presence& presence) const {
    IW_CHECK(presence.peer.has_value());
    const auto sent = assignments_.find(*presence.peer);
    return sent != assignments_.end() && sent->second >= kAssignmentsPerStep;
}

// The least loaded in proportion to its slots; of equal ones the first by name.
const Worker* BrokerCore::State::pick(const ReadyQueue::Class& placement_class) const {
    const Worker* best = nullptr;
    for (const Worker* worker : placement_class.eligible) {
        if (!could_take(*worker) || is_sated(presence_.at(worker->registration.name))) continue;
        if (best == nullptr ||
            used(*worker) * best->registration.slots < used(*best) * worker->registration.slots) {
            best = worker;
        }
    }
    return best;
}

bool BrokerCore::State::is_reachable(const Worker& worker) const {
    return worker.is_up() && presence_.at(worker.registration.name).peer.has_value();
}

void BrokerCore::State::dispatch() {
    // Only classes for which something changed since they last found no room.
    std::set<Head> heads;
    for (const std::uint32_t number : ready_.take_touched()) {
        const ReadyQueue::Class* placement_class = ready_.find(number);
        if (placement_class == nullptr) continue;
        heads.insert(Head{*placement_class->entries.begin(), number});
    }
    while (!heads.empty()) {
        const Head head = heads.extract(heads.begin()).value();
        const ReadyQueue::Class* placement_class = ready_.find(head.number);
        IW_CHECK(placement_class != nullptr);
        const Worker* worker = pick(*placement_class);
        // Room only shrinks from here on, so the class need not be looked at again in this step.
        if (worker == nullptr) {
            const std::vector<const Worker*>& eligible = placement_class->eligible;
            // Room is left that the next step may fill: it comes at once, see next_deadline.
            if (std::any_of(eligible.begin(), eligible.end(),
                            [this](const Worker* each) { return could_take(*each); })) {
                ready_.touch(head.number);
            }
            continue;
        }
        assign(*head.entry.session, *worker);
        placement_class = ready_.find(head.number);
        if (placement_class == nullptr) continue;
        heads.insert(Head{*placement_class->entries.begin(), head.number});
    }
}

void BrokerCore::State::assign(Session& session, const Worker& worker) {
    IW_CHECK(session.phase == Phase::queued);
    IW_CHECK(has_room(worker));
    IW_CHECK(can_run(worker.registration, session.placement->placement));
    emit(AttemptAssigned{.id = *session.id,
                         .fence = {durable_.generation(), session.fence.attempt + 1},
                         .worker = worker.registration.name,
                         .host = worker.registration.host});
    IW_CHECK(used(worker) <= worker.registration.slots);
    send_assignment(presence_.at(worker.registration.name), session);
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
    if (session.disk_limit != Session::kNoDiskLimit) assignment.disk_limit = session.disk_limit;
    presence.sent[session.ordinal] = presence.beat;
    ++assignments_[presence.peer.value()];
    AssignPush message;
    message.assignments.push_back(std::move(assignment));
    push(presence, std::move(message));
}

}  // namespace iw::broker
