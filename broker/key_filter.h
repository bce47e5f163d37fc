#pragma once

// A set of 64-bit digests of idempotency keys: tells keys that are surely new from those that may
// be known. Flat and open-addressed, because it holds every kept key of the broker; digests are
// never taken out, and a restart begins with those that are still kept.

#include <cstddef>
#include <cstdint>
#include <vector>

namespace iw::broker {

class KeyFilter {
  public:
    KeyFilter();

    void insert(std::uint64_t digest);
    // False: surely not inserted. True: this digest was, which a different key may share.
    bool contains(std::uint64_t digest) const;
    std::size_t size() const { return size_; }

  private:
    std::size_t slot_of(std::uint64_t digest) const;
    void grow();

    std::vector<std::uint64_t> slots_;  // a power of two; 0 = free
    std::size_t size_ = 0;
};

}  // namespace iw::broker
