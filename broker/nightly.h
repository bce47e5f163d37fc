#pragma once

// When the nightly backup is due. The wall clock says so, and a wall clock jumps, sleeps and is set
// back: a time that was missed is made up for once, at the next chance.

#include <optional>
#include <string_view>

#include "common/base/time.h"

namespace iw::broker {

// "03:00" as minutes after midnight; nothing for what is no time of the day.
std::optional<int> parse_time_of_day(std::string_view text);

// The latest moment at or before `now` at which the local clock showed `minutes` after midnight.
WallTime last_occurrence(WallTime now, int minutes);

class Nightly {
  public:
    // `at`: minutes after local midnight, none: never. `last`: of the newest backup; none: nothing
    // is known to be saved, so the first one is due soon after the start.
    Nightly(std::optional<int> at, std::optional<WallTime> last, Now started);

    bool is_due(Now now);
    // A backup has begun, for whatever reason.
    void began(Now now) { last_ = now.wall; }
    // It came to nothing: another one is due in an hour.
    void failed(Now now);
    // When to ask is_due again.
    std::optional<Timestamp> next_look(Now now) const;

  private:
    std::optional<int> at_;
    std::optional<WallTime> last_;
    Timestamp not_before_;
};

}  // namespace iw::broker
