#include "ctl/lifetimes.h"

#include <algorithm>
#include <nlohmann/json.hpp>

namespace iw::ctl {
namespace {

using Json = nlohmann::ordered_json;

constexpr const char* kFrom = "scripts/ops/config.sh";
constexpr std::int64_t kSecondsMax = 10LL * 366 * 86'400;

std::optional<Duration> seconds(const Json& object, const char* field) {
    const auto found = object.find(field);
    if (found == object.end() || !found->is_number_integer()) return std::nullopt;
    const auto value = found->get<std::int64_t>();
    if (value < 1 || value > kSecondsMax) return std::nullopt;
    return Duration(value * 1000);
}

}  // namespace

std::string limits_metadata(const LimitsNote& note) {
    Json limits{{"from", kFrom}, {"lifetime_seconds", note.lifetime.count() / 1000}};
    if (note.max) limits["max_duration_seconds"] = note.max->count() / 1000;
    return Json{{"limits", std::move(limits)}}.dump();
}

std::optional<LimitsNote> read_limits_metadata(std::string_view metadata) {
    const Json json = Json::parse(metadata, nullptr, false);
    if (!json.is_object()) return std::nullopt;
    const auto limits = json.find("limits");
    if (limits == json.end() || !limits->is_object()) return std::nullopt;
    const auto from = limits->find("from");
    if (from == limits->end() || *from != kFrom) return std::nullopt;
    const std::optional<Duration> lifetime = seconds(*limits, "lifetime_seconds");
    if (!lifetime) return std::nullopt;
    return LimitsNote{.lifetime = *lifetime, .max = seconds(*limits, "max_duration_seconds")};
}

Duration timeout_under(const LimitsNote& note, Duration lifetime) {
    return note.max ? std::min(*note.max, lifetime) : lifetime;
}

std::optional<Duration> timeout_to_set(const SessionView& session, Duration lifetime,
                                       const std::vector<Duration>& applied) {
    if (is_final(session.status)) return std::nullopt;
    const std::optional<LimitsNote> note = read_limits_metadata(session.metadata);
    if (!note) return std::nullopt;
    const Duration wanted = timeout_under(*note, lifetime);
    if (session.timeout == wanted) return std::nullopt;
    const auto is_ours = [&](Duration earlier) {
        return session.timeout == timeout_under(*note, earlier);
    };
    if (is_ours(note->lifetime) || std::ranges::any_of(applied, is_ours)) return wanted;
    return std::nullopt;
}

}  // namespace iw::ctl
