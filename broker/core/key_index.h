#pragma once

// Idempotency keys that the core answers for itself: of live sessions, and of the latest ones that
// became final since the start. The database may lag behind the journal by less than that; it knows
// the others.

#include <cstddef>
#include <deque>
#include <map>
#include <optional>
#include <string>

#include "broker/core/event.h"
#include "broker/core/record.h"
#include "common/base/ids.h"
#include "common/base/statuses.h"

namespace iw::broker {

class KeyIndex {
  public:
    // How many final sessions are remembered, with or without a key.
    static constexpr std::size_t kFinishedMax = 100'000;

    // Takes the key of a live session; `id` must live until finish. The result stays valid until
    // then. A key that another session has already (an older one, past its retention in the
    // database) moves over.
    const std::string* add(const Principal& principal, const std::string& key, const SessionId& id,
                           const BodyHash& body_hash);
    // The session is final and leaves memory; `scoped` is what add returned, or null.
    void finish(const SessionId& id, const std::string* scoped, SessionStatus status);

    std::optional<KnownKey> find(const Principal& principal, const std::string& key) const;
    // Whether the session became final lately, in this run of the broker.
    bool is_finished(const SessionId& id) const { return finished_ids_.contains(id); }
    // How it ended, if it did so lately.
    std::optional<SessionStatus> finished(const SessionId& id) const;
    std::size_t live_size() const { return live_.size(); }

  private:
    struct Live {
        const SessionId* id = nullptr;
        BodyHash body_hash{};
    };
    struct Finished {
        SessionId id;
        std::string scoped;  // empty: had no key
    };
    void forget_oldest();

    std::map<std::string, Live> live_;  // by principal and key
    std::map<std::string, KnownKey> finished_keys_;
    std::map<SessionId, SessionStatus> finished_ids_;
    std::deque<Finished> finished_;  // oldest first
};

}  // namespace iw::broker
