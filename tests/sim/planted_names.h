#pragma once

// The planted bugs by name.

#include <array>
#include <optional>
#include <string_view>
#include <utility>

#include "common/base/planted.h"

namespace iw::sim {

inline constexpr std::array<std::pair<std::string_view, Plant>, 8> kPlants = {{
    {"send_before_commit", Plant::send_before_commit},
    {"key_forgotten", Plant::key_forgotten},
    {"stale_report_counts", Plant::stale_report_counts},
    {"claim_not_synced", Plant::claim_not_synced},
    {"stall_counts_as_silence", Plant::stall_counts_as_silence},
    {"lost_when_unreachable", Plant::lost_when_unreachable},
    {"adopts_nobody", Plant::adopts_nobody},
    {"page_skips", Plant::page_skips},
}};

inline std::optional<Plant> find_plant(std::string_view name) {
    for (const auto& [known, plant] : kPlants) {
        if (known == name) return plant;
    }
    return std::nullopt;
}

}  // namespace iw::sim
