#pragma once

// The planted bugs by name, and the promise that each breaks.

#include <array>
#include <optional>
#include <ostream>
#include <string_view>

#include "common/base/planted.h"

namespace iw::sim {

struct PlantedBug {
    std::string_view name;
    Plant plant = Plant::none;
    std::string_view promise;  // as the oracle names it first; "P": that differs
};
inline std::ostream& operator<<(std::ostream& out, const PlantedBug& bug) {
    return out << bug.name;
}

inline constexpr std::array kPlants = {
    PlantedBug{"send_before_commit", Plant::send_before_commit, "P1"},
    PlantedBug{"key_forgotten", Plant::key_forgotten, "P2"},
    PlantedBug{"stale_report_counts", Plant::stale_report_counts, "P"},
    PlantedBug{"claim_not_synced", Plant::claim_not_synced, "P3"},
    PlantedBug{"stall_counts_as_silence", Plant::stall_counts_as_silence, "P4"},
    PlantedBug{"lost_when_unreachable", Plant::lost_when_unreachable, "P4"},
    PlantedBug{"adopts_nobody", Plant::adopts_nobody, "P5"},
    PlantedBug{"page_skips", Plant::page_skips, "P6"},
    PlantedBug{"runner_closes", Plant::runner_closes, "P7"},
};

inline std::optional<Plant> find_plant(std::string_view name) {
    for (const PlantedBug& each : kPlants) {
        if (each.name == name) return each.plant;
    }
    return std::nullopt;
}

}  // namespace iw::sim
