#include "broker/core/ready_queue.h"

#include <algorithm>
#include <utility>

#include "common/base/check.h"

namespace iw::broker {

namespace {

std::vector<const Worker*> eligible_workers(const std::map<WorkerName, Worker>& workers,
                                            const Placement& placement) {
    std::vector<const Worker*> eligible;
    for (const auto& [name, worker] : workers) {
        if (can_run(worker.registration, placement)) eligible.push_back(&worker);
    }
    return eligible;
}

ReadyQueue::Entry entry_of(const Session& session) {
    return {.order = session.schedule.order, .ordinal = session.ordinal, .session = nullptr};
}

}  // namespace

void ReadyQueue::add(Session& session, const std::map<WorkerName, Worker>& workers) {
    IW_CHECK(session.phase == Phase::queued);
    const std::uint32_t number = session.placement->number;
    // A class comes and goes with what is ready of it; who may run it is looked up once each time.
    Class& placement_class = classes_[number];
    if (placement_class.placement == nullptr) {
        placement_class.placement = session.placement;
        placement_class.eligible = eligible_workers(workers, session.placement->placement);
    }
    Entry entry = entry_of(session);
    entry.session = &session;
    const bool fresh = placement_class.entries.insert(entry).second;
    IW_CHECK(fresh);
    ++size_;
    touched_.insert(number);
}

void ReadyQueue::remove(const Session& session) {
    const auto found = classes_.find(session.placement->number);
    IW_CHECK(found != classes_.end());
    const std::size_t erased = found->second.entries.erase(entry_of(session));
    IW_CHECK(erased == 1);
    --size_;
    if (!found->second.entries.empty()) return;
    touched_.erase(found->first);
    classes_.erase(found);
}

bool ReadyQueue::contains(const Session& session) const {
    const Class* placement_class = find(session.placement->number);
    return placement_class != nullptr && placement_class->entries.contains(entry_of(session));
}

void ReadyQueue::touch(const Worker& worker) {
    for (const auto& [number, placement_class] : classes_) {
        const std::vector<const Worker*>& eligible = placement_class.eligible;
        if (std::find(eligible.begin(), eligible.end(), &worker) != eligible.end()) {
            touched_.insert(number);
        }
    }
}

void ReadyQueue::touch(std::uint32_t number) {
    IW_CHECK(classes_.contains(number));
    touched_.insert(number);
}

void ReadyQueue::reconsider(const std::map<WorkerName, Worker>& workers) {
    for (auto& [number, placement_class] : classes_) {
        placement_class.eligible = eligible_workers(workers, placement_class.placement->placement);
        touched_.insert(number);
    }
}

std::set<std::uint32_t> ReadyQueue::take_touched() {
    return std::exchange(touched_, {});
}

const ReadyQueue::Class* ReadyQueue::find(std::uint32_t number) const {
    const auto found = classes_.find(number);
    return found == classes_.end() ? nullptr : &found->second;
}

}  // namespace iw::broker
