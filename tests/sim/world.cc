#include "tests/sim/world.h"

#include <algorithm>
#include <cstdio>
#include <utility>

#include "common/base/check.h"

namespace iw::sim {

bool World::is_later(const Item& a, const Item& b) {
    return a.when != b.when ? a.when > b.when : a.number > b.number;
}

void World::at(Timestamp when, std::function<void()> what) {
    items_.push_back({std::max(when, now_), ++planned_, std::move(what)});
    std::push_heap(items_.begin(), items_.end(), is_later);
}

bool World::step() {
    if (items_.empty()) return false;
    std::pop_heap(items_.begin(), items_.end(), is_later);
    const Item item = std::move(items_.back());
    items_.pop_back();
    IW_CHECK(item.when >= now_);
    now_ = item.when;
    ++steps_;
    item.what();
    return true;
}

Duration World::between(Duration low, Duration high) {
    IW_CHECK(low <= high);
    const auto span = static_cast<std::uint64_t>((high - low).count()) + 1;
    return low + Duration(static_cast<std::int64_t>(random_.below(span)));
}

void World::note(std::string_view who, std::string_view what) {
    const auto add = [this](std::string_view text) {
        for (const char each : text) {
            hash_ ^= static_cast<unsigned char>(each);
            hash_ *= 0x100000001b3ULL;
        }
    };
    hash_ ^= static_cast<std::uint64_t>(now_.time_since_epoch().count());
    add(who);
    add(what);
    explain(who, what);
}

void World::explain(std::string_view who, std::string_view what) const {
    if (!is_traced_) return;
    const auto ms = static_cast<long long>(now_.time_since_epoch().count());
    std::printf("%6lld.%03lld  %-10.*s %.*s\n", ms / 1000, ms % 1000, static_cast<int>(who.size()),
                who.data(), static_cast<int>(what.size()), what.data());
}

Duration HostClock::since() const {
    return Duration((world_.now() - begun_).count() * rate_ / kMillion);
}

Now HostClock::read() const {
    return Now{.steady = steady_ + since(), .wall = wall_ + since()};
}

Timestamp HostClock::when(Timestamp steady) const {
    const std::int64_t left = (steady - steady_).count();
    if (left <= 0) return world_.now();
    return std::max(world_.now(), begun_ + Duration((left * kMillion + rate_ - 1) / rate_));
}

void HostClock::boot() {
    wall_ = read().wall;
    steady_ = Timestamp(Duration(5'000));
    begun_ = world_.now();
}

void HostClock::set_rate(std::int64_t parts_per_million) {
    IW_CHECK(parts_per_million > 0);
    const Now present = read();
    steady_ = present.steady;
    wall_ = present.wall;
    begun_ = world_.now();
    rate_ = parts_per_million;
}

}  // namespace iw::sim
