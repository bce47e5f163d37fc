#pragma once

// Sessions that could run now, in order within each placement class, and once more within each
// family: below each live ancestor. Handing out looks at heads only, and only at classes and
// families for which something changed: one that found no room stays as it is until a session is
// added to it or a worker that it may run at gains room. So a full fleet costs nothing per turn,
// however much is queued.

#include <cstdint>
#include <functional>
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
    static bool is_before(const Session& a, const Session& b) {
        return a.order != b.order ? a.order < b.order : a.ordinal < b.ordinal;
    }
    // What the order needs is read where it stands: a copy would be paid for each queued session.
    struct Entry {
        Session* session = nullptr;

        bool operator<(const Entry& other) const { return is_before(*session, *other.session); }
        friend bool operator<(const Entry& a, const Session& b) { return is_before(*a.session, b); }
        friend bool operator<(const Session& a, const Entry& b) { return is_before(a, *b.session); }
    };
    using Entries = std::set<Entry, std::less<>>;
    struct Class {
        const PlacementClass* placement = nullptr;
        std::vector<const Worker*> eligible;  // by what they registered, sorted by name
        Entries entries;                      // never empty
        // Those of them below each live ancestor, by its ordinal; none is empty.
        std::map<std::uint64_t, Entries> families;
    };
    // What is ready below one live session.
    struct Family {
        const Session* ancestor = nullptr;
        std::set<std::uint32_t> classes;  // in which something is
    };

    void add(Session& session, const DurableState& durable);
    void remove(const Session& session, const DurableState& durable);
    bool contains(const Session& session) const;
    // The session leaves memory: nobody descends from it any more.
    void forget_family(const Session& ancestor);

    // The worker may have gained room or come into reach.
    void touch(const Worker& worker);
    // The class, which must have something ready, was not looked through to its end.
    void touch(std::uint32_t number);
    // Something has changed for what is ready below the session.
    void touch_family(const Session& ancestor);
    void touch_all();
    bool is_touched(std::uint32_t number) const { return touched_.contains(number); }
    bool is_family_touched(std::uint64_t ordinal) const {
        return touched_families_.contains(ordinal);
    }
    bool is_any_touched() const { return !touched_.empty() || !touched_families_.empty(); }
    // What workers offer has changed.
    void reconsider(const std::map<WorkerName, Worker>& workers);
    // Classes that may find room now, by number; they are not touched any more after this.
    std::set<std::uint32_t> take_touched();
    // The same of families, by the ordinal of the ancestor.
    std::set<std::uint64_t> take_touched_families();

    // Null when nothing of the class is ready.
    const Class* find(std::uint32_t number) const;
    // Null when nothing below the session with that ordinal is ready.
    const Family* find_family(std::uint64_t ordinal) const;
    // Null when nothing of the class is ready there.
    const Entries* find(std::uint32_t number, std::uint64_t ancestor) const;
    const std::map<std::uint32_t, Class>& classes() const { return classes_; }
    const std::map<std::uint64_t, Family>& families() const { return families_; }
    std::size_t size() const { return size_; }

  private:
    void add_to_family(const Session& ancestor, const Entry& entry, Class& placement_class);
    void remove_from_family(const Session& ancestor, const Entry& entry, Class& placement_class);
    void drop_class_of_family(std::uint64_t ancestor, std::uint32_t number);

    std::map<std::uint32_t, Class> classes_;  // by the number of the placement class
    std::map<std::uint64_t, Family> families_;
    std::set<std::uint32_t> touched_;
    std::set<std::uint64_t> touched_families_;
    std::size_t size_ = 0;
};

}  // namespace iw::broker
