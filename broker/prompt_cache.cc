#include "broker/prompt_cache.h"

namespace iw::broker {
namespace {

// What an entry takes beside its prompt: nodes, the id twice, and their heads.
constexpr std::size_t kEntryBytes = 256;

}  // namespace

void PromptCache::put(const SessionId& id, const std::string& prompt) {
    if (prompt.size() + kEntryBytes > bytes_max_ || by_id_.contains(id)) return;
    entries_.push_front(Entry{.id = id, .prompt = prompt});
    by_id_.emplace(id, entries_.begin());
    bytes_ += prompt.size() + kEntryBytes;
    while (bytes_ > bytes_max_) {
        bytes_ -= entries_.back().prompt.size() + kEntryBytes;
        by_id_.erase(entries_.back().id);
        entries_.pop_back();
    }
}

const std::string* PromptCache::find(const SessionId& id) {
    const auto found = by_id_.find(id);
    if (found == by_id_.end()) return nullptr;
    entries_.splice(entries_.begin(), entries_, found->second);
    return &found->second->prompt;
}

}  // namespace iw::broker
