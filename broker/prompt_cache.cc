#include "broker/prompt_cache.h"

#include <utility>

namespace iw::broker {
namespace {

// What an entry takes beside its prompt: nodes, the id twice, and their heads.
constexpr std::size_t kEntryBytes = 256;

std::size_t bytes_of(const KeptPrompt& kept) {
    return kept.prompt.size() + kept.result_schema.size() + kEntryBytes;
}

}  // namespace

void PromptCache::put(const SessionId& id, KeptPrompt prompt) {
    const std::size_t bytes = bytes_of(prompt);
    if (bytes > bytes_max_ || by_id_.contains(id)) return;
    entries_.push_front(Entry{.id = id, .prompt = std::move(prompt)});
    by_id_.emplace(id, entries_.begin());
    bytes_ += bytes;
    while (bytes_ > bytes_max_) {
        bytes_ -= bytes_of(entries_.back().prompt);
        by_id_.erase(entries_.back().id);
        entries_.pop_back();
    }
}

const KeptPrompt* PromptCache::find(const SessionId& id) {
    const auto found = by_id_.find(id);
    if (found == by_id_.end()) return nullptr;
    entries_.splice(entries_.begin(), entries_, found->second);
    return &found->second->prompt;
}

}  // namespace iw::broker
