#include "broker/core/key_index.h"

#include "common/base/check.h"

namespace iw::broker {

namespace {

// A principal holds no NUL, so no pair of principal and key reads as another one.
std::string scope(const Principal& principal, const std::string& key) {
    std::string scoped = principal;
    scoped += '\0';
    scoped += key;
    return scoped;
}

}  // namespace

const std::string* KeyIndex::add(const Principal& principal, const std::string& key,
                                 const SessionId& id, const BodyHash& body_hash) {
    IW_CHECK(!key.empty());
    std::string scoped = scope(principal, key);
    finished_keys_.erase(scoped);
    const auto [entry, fresh] = live_.try_emplace(std::move(scoped), Live{&id, body_hash});
    IW_CHECK(fresh);
    return &entry->first;
}

void KeyIndex::finish(const SessionId& id, const std::string* scoped, SessionStatus status) {
    IW_CHECK(is_final(status));
    const bool fresh = finished_ids_.emplace(id, status).second;
    IW_CHECK(fresh);
    Finished finished{.id = id, .scoped = {}};
    if (scoped != nullptr) {
        const auto live = live_.find(*scoped);
        IW_CHECK(live != live_.end());
        IW_CHECK(*live->second.id == id);
        finished.scoped = *scoped;
        finished_keys_[finished.scoped] = KnownKey{.id = id, .body_hash = live->second.body_hash};
        live_.erase(live);
    }
    finished_.push_back(std::move(finished));
    if (finished_.size() > kFinishedMax) forget_oldest();
}

void KeyIndex::forget_oldest() {
    const Finished& oldest = finished_.front();
    finished_ids_.erase(oldest.id);
    // The key may stand for a younger session by now.
    const auto key = finished_keys_.find(oldest.scoped);
    if (key != finished_keys_.end() && key->second.id == oldest.id) finished_keys_.erase(key);
    finished_.pop_front();
    IW_CHECK(finished_.size() == finished_ids_.size());
}

std::optional<SessionStatus> KeyIndex::finished(const SessionId& id) const {
    const auto found = finished_ids_.find(id);
    if (found == finished_ids_.end()) return std::nullopt;
    return found->second;
}

std::optional<KnownKey> KeyIndex::find(const Principal& principal, const std::string& key) const {
    const std::string scoped = scope(principal, key);
    const auto live = live_.find(scoped);
    if (live != live_.end()) {
        return KnownKey{.id = *live->second.id, .body_hash = live->second.body_hash};
    }
    const auto finished = finished_keys_.find(scoped);
    if (finished == finished_keys_.end()) return std::nullopt;
    return finished->second;
}

}  // namespace iw::broker
