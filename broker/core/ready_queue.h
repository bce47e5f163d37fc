#pragma once

// Sessions that could run now, in order within each placement class. Handing out looks at the heads
// of classes only, and only at classes for which something changed: a class that found no room
// stays as it is until a session is added to it or a worker that it may run at gains room.

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <vector>

#include "broker/core/durable_state.h"
#include "broker/core/session.h"

namespace iw::broker {

class ReadyQueue {
  public:
    // Older and more important first; equal ones in the order of acceptance.
    struct Entry {
        std::int64_t order = 0;
        std::uint64_t ordinal = 0;
        Session* session = nullptr;

        bool operator<(const Entry& other) const {
            if (order != other.order) return order < other.order;
            return ordinal < other.ordinal;
        }
    };
    struct Class {
        const PlacementClass* placement = nullptr;
        std::vector<const Worker*> eligible;  // by what they registered, sorted by name
        std::set<Entry> entries;              // never empty
    };

    void add(Session& session, const std::map<WorkerName, Worker>& workers);
    void remove(const Session& session);
    bool contains(const Session& session) const;

    // The worker may have gained room or come into reach.
    void touch(const Worker& worker);
    // The class, which must have something ready, was not looked through to its end.
    void touch(std::uint32_t number);
    bool is_touched(std::uint32_t number) const { return touched_.contains(number); }
    bool is_any_touched() const { return !touched_.empty(); }
    // What workers offer has changed.
    void reconsider(const std::map<WorkerName, Worker>& workers);
    // Classes that may find room now, by number; they are not touched any more after this.
    std::set<std::uint32_t> take_touched();

    // Null when nothing of the class is ready.
    const Class* find(std::uint32_t number) const;
    const std::map<std::uint32_t, Class>& classes() const { return classes_; }
    std::size_t size() const { return size_; }

  private:
    std::map<std::uint32_t, Class> classes_;  // by the number of the placement class
    std::set<std::uint32_t> touched_;
    std::size_t size_ = 0;
};

}  // namespace iw::broker
