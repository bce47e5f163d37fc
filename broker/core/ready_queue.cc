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

}  // namespace

void ReadyQueue::add(Session& session, const DurableState& durable) {
    IW_CHECK(session.phase == Phase::queued);
    const std::uint32_t number = session.placement->number;
    // A class comes and goes with what is ready of it; who may run it is looked up once each time.
    Class& placement_class = classes_[number];
    if (placement_class.placement == nullptr) {
        placement_class.placement = session.placement;
        placement_class.eligible =
            eligible_workers(durable.workers(), session.placement->placement);
    }
    const Entry entry{&session};
    const bool fresh = placement_class.entries.insert(entry).second;
    IW_CHECK(fresh);
    ++size_;
    touched_.insert(number);
    for (const SessionId& id : session.particular().ancestors) {
        const Session* ancestor = durable.session(id);
        if (ancestor != nullptr) add_to_family(*ancestor, entry, placement_class);
    }
}

void ReadyQueue::add_to_family(const Session& ancestor, const Entry& entry,
                               Class& placement_class) {
    const bool fresh = placement_class.families[ancestor.ordinal].insert(entry).second;
    IW_CHECK(fresh);
    Family& family = families_[ancestor.ordinal];
    family.ancestor = &ancestor;
    family.classes.insert(placement_class.placement->number);
    touched_families_.insert(ancestor.ordinal);
}

void ReadyQueue::remove(const Session& session, const DurableState& durable) {
    const auto found = classes_.find(session.placement->number);
    IW_CHECK(found != classes_.end());
    Class& placement_class = found->second;
    const auto place = placement_class.entries.find(session);
    IW_CHECK(place != placement_class.entries.end());
    const Entry entry = *place;
    placement_class.entries.erase(place);
    --size_;
    // An ancestor that is gone took its family along when it went.
    for (const SessionId& id : session.particular().ancestors) {
        const Session* ancestor = durable.session(id);
        if (ancestor != nullptr) remove_from_family(*ancestor, entry, placement_class);
    }
    if (!placement_class.entries.empty()) return;
    IW_CHECK(placement_class.families.empty());
    touched_.erase(found->first);
    classes_.erase(found);
}

void ReadyQueue::remove_from_family(const Session& ancestor, const Entry& entry,
                                    Class& placement_class) {
    const auto family = placement_class.families.find(ancestor.ordinal);
    IW_CHECK(family != placement_class.families.end());
    const std::size_t erased = family->second.erase(entry);
    IW_CHECK(erased == 1);
    if (!family->second.empty()) return;
    placement_class.families.erase(family);
    drop_class_of_family(ancestor.ordinal, placement_class.placement->number);
}

void ReadyQueue::drop_class_of_family(std::uint64_t ancestor, std::uint32_t number) {
    const auto family = families_.find(ancestor);
    IW_CHECK(family != families_.end());
    family->second.classes.erase(number);
    if (!family->second.classes.empty()) return;
    families_.erase(family);
    touched_families_.erase(ancestor);
}

bool ReadyQueue::contains(const Session& session) const {
    const Class* placement_class = find(session.placement->number);
    return placement_class != nullptr && placement_class->entries.contains(session);
}

void ReadyQueue::forget_family(const Session& ancestor) {
    const auto family = families_.find(ancestor.ordinal);
    if (family == families_.end()) return;
    for (const std::uint32_t number : family->second.classes) {
        const std::size_t erased = classes_.at(number).families.erase(ancestor.ordinal);
        IW_CHECK(erased == 1);
    }
    families_.erase(family);
    touched_families_.erase(ancestor.ordinal);
}

void ReadyQueue::touch(const Worker& worker) {
    for (const auto& [number, placement_class] : classes_) {
        const std::vector<const Worker*>& eligible = placement_class.eligible;
        if (std::find(eligible.begin(), eligible.end(), &worker) != eligible.end()) {
            touched_.insert(number);
        }
    }
    // Whichever are fewer: what it holds, or what has anything ready below it.
    if (worker.held.size() < families_.size()) {
        for (const auto& [ordinal, session] : worker.held) {
            if (families_.contains(ordinal)) touched_families_.insert(ordinal);
        }
        return;
    }
    for (const auto& [ordinal, family] : families_) {
        if (worker.held.contains(ordinal)) touched_families_.insert(ordinal);
    }
}

void ReadyQueue::touch(std::uint32_t number) {
    IW_CHECK(classes_.contains(number));
    touched_.insert(number);
}

void ReadyQueue::touch_family(const Session& ancestor) {
    if (families_.contains(ancestor.ordinal)) touched_families_.insert(ancestor.ordinal);
}

void ReadyQueue::touch_all() {
    for (const auto& [number, placement_class] : classes_)
        touched_.insert(number);
    for (const auto& [ordinal, family] : families_)
        touched_families_.insert(ordinal);
}

void ReadyQueue::reconsider(const std::map<WorkerName, Worker>& workers) {
    for (auto& [number, placement_class] : classes_) {
        placement_class.eligible = eligible_workers(workers, placement_class.placement->placement);
    }
    touch_all();
}

std::set<std::uint32_t> ReadyQueue::take_touched() {
    return std::exchange(touched_, {});
}

std::set<std::uint64_t> ReadyQueue::take_touched_families() {
    return std::exchange(touched_families_, {});
}

const ReadyQueue::Class* ReadyQueue::find(std::uint32_t number) const {
    const auto found = classes_.find(number);
    return found == classes_.end() ? nullptr : &found->second;
}

const ReadyQueue::Family* ReadyQueue::find_family(std::uint64_t ordinal) const {
    const auto found = families_.find(ordinal);
    return found == families_.end() ? nullptr : &found->second;
}

const ReadyQueue::Entries* ReadyQueue::find(std::uint32_t number, std::uint64_t ancestor) const {
    const Class* placement_class = find(number);
    if (placement_class == nullptr) return nullptr;
    const auto family = placement_class->families.find(ancestor);
    return family == placement_class->families.end() ? nullptr : &family->second;
}

}  // namespace iw::broker
