#pragma once

// The world's clock, its chance and what happens next: one seed is one run. Everything random is
// drawn here, and everything that happens is noted here, so that two runs of a seed can be
// compared.

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/random.h"
#include "common/base/time.h"

namespace iw::sim {

inline constexpr Duration operator""_s(unsigned long long seconds) {
    return Duration(static_cast<std::int64_t>(seconds) * 1000);
}

class World {
  public:
    World(std::uint64_t seed, bool is_traced) : random_(seed), is_traced_(is_traced) {}
    World(const World&) = delete;
    World& operator=(const World&) = delete;

    // True time: no process can see it.
    Timestamp now() const { return now_; }
    void at(Timestamp when, std::function<void()> what);
    void in(Duration delay, std::function<void()> what) { at(now_ + delay, std::move(what)); }
    // Lets the next thing happen; false: nothing is left.
    bool step();

    std::uint64_t below(std::uint64_t bound) { return random_.below(bound); }
    bool one_in(std::uint64_t count) { return random_.below(count) == 0; }
    // Both included.
    Duration between(Duration low, Duration high);

    // While true, what is allowed to go wrong does.
    bool is_faulty() const { return is_faulty_; }
    void heal() { is_faulty_ = false; }
    bool fault_one_in(std::uint64_t count) { return is_faulty_ && one_in(count); }

    void note(std::string_view who, std::string_view what);
    // For whoever reads the trace only.
    void explain(std::string_view who, std::string_view what) const;
    std::uint64_t hash() const { return hash_; }
    std::uint64_t steps() const { return steps_; }

  private:
    struct Item {
        Timestamp when;
        std::uint64_t number = 0;  // of two at one moment the one that was planned first
        std::function<void()> what;
    };
    static bool is_later(const Item& a, const Item& b);

    Random random_;
    bool is_traced_;
    bool is_faulty_ = true;
    Timestamp now_{};
    std::uint64_t planned_ = 0;
    std::uint64_t steps_ = 0;
    std::uint64_t hash_ = 0xcbf29ce484222325ULL;
    std::vector<Item> items_;  // a heap
};

// The clocks of one host. The rate is how fast they run; setting the wall clock moves no other.
class HostClock {
  public:
    HostClock(World& world, WallTime wall) : world_(world), wall_(wall) {}

    Now read() const;
    // When, in true time, the steady clock shows `steady`; a moment that has passed: now.
    Timestamp when(Timestamp steady) const;
    // CLOCK_BOOTTIME begins anew.
    void boot();
    void set_rate(std::int64_t parts_per_million);
    void set_wall(Duration by) { wall_ += by; }
    std::int64_t rate() const { return rate_; }

  private:
    static constexpr std::int64_t kMillion = 1'000'000;
    Duration since() const;

    World& world_;
    Timestamp steady_{};  // at begun_
    WallTime wall_;       // at begun_
    Timestamp begun_{};
    std::int64_t rate_ = kMillion;
};

}  // namespace iw::sim
