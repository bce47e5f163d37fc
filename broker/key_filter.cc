#include "broker/key_filter.h"

#include <utility>

namespace iw::broker {
namespace {

constexpr std::size_t kSlotsFirst = 1024;
constexpr std::uint64_t kFree = 0;

// Zero marks a free slot; the digest zero shares its neighbour, which only costs a look-up.
std::uint64_t stored(std::uint64_t digest) {
    return digest == kFree ? 1 : digest;
}

}  // namespace

KeyFilter::KeyFilter() : slots_(kSlotsFirst, kFree) {}

// Linear probing: the slot that holds the digest, or the free one where it belongs.
std::size_t KeyFilter::slot_of(std::uint64_t digest) const {
    const std::size_t mask = slots_.size() - 1;
    std::size_t slot = static_cast<std::size_t>(digest) & mask;
    while (slots_[slot] != kFree && slots_[slot] != digest) {
        slot = (slot + 1) & mask;
    }
    return slot;
}

void KeyFilter::insert(std::uint64_t digest) {
    const std::uint64_t value = stored(digest);
    const std::size_t slot = slot_of(value);
    if (slots_[slot] == value) return;
    slots_[slot] = value;
    ++size_;
    // Half full keeps the runs short.
    if (size_ * 2 > slots_.size()) grow();
}

bool KeyFilter::contains(std::uint64_t digest) const {
    return slots_[slot_of(stored(digest))] != kFree;
}

void KeyFilter::grow() {
    const std::vector<std::uint64_t> before =
        std::exchange(slots_, std::vector<std::uint64_t>(slots_.size() * 2, kFree));
    for (const std::uint64_t digest : before) {
        if (digest != kFree) slots_[slot_of(digest)] = digest;
    }
}

}  // namespace iw::broker
