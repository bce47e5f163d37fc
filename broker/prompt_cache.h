#pragma once

// Prompts of recent submissions, with their result schemas, so that an assignment soon after needs
// no look into the database. The one used longest ago goes first when the bound is reached; a miss
// is never wrong, only slower.

#include <cstddef>
#include <list>
#include <string>
#include <unordered_map>

#include "broker/database/database.h"
#include "common/base/ids.h"

namespace iw::broker {

class PromptCache {
  public:
    explicit PromptCache(std::size_t bytes_max) : bytes_max_(bytes_max) {}

    void put(const SessionId& id, KeptPrompt prompt);
    // Valid until the next put; null when it is not here.
    const KeptPrompt* find(const SessionId& id);
    std::size_t bytes() const { return bytes_; }

  private:
    struct Entry {
        SessionId id;
        KeptPrompt prompt;
    };

    std::list<Entry> entries_;  // most recently used first
    std::unordered_map<SessionId, std::list<Entry>::iterator> by_id_;
    std::size_t bytes_ = 0;
    std::size_t bytes_max_;
};

}  // namespace iw::broker
