#include "broker/core/id_maker.h"

#include <algorithm>
#include <limits>
#include <string_view>

#include "common/base/check.h"
#include "common/base/text.h"

namespace iw::broker {

namespace {

constexpr std::size_t kSecondLength = 15;  // "20251118-153042"

WallTime floor_second(WallTime time) {
    return WallTime(std::chrono::floor<std::chrono::seconds>(time.time_since_epoch()));
}

// 1 for an id without a number behind the agent.
std::uint64_t number_of(const SessionId& id, const AgentName& agent) {
    const std::size_t plain = kSecondLength + 1 + agent.str().size();
    IW_CHECK(id.str().size() >= plain);
    if (id.str().size() == plain) return 1;
    long long number = 1;
    const std::string_view digits = std::string_view(id.str()).substr(plain + 1);
    IW_CHECK(parse_int(digits, 2, std::numeric_limits<long long>::max(), number));
    return static_cast<std::uint64_t>(number);
}

}  // namespace

std::optional<WallTime> second_of(const SessionId& id) {
    const std::string_view text = id.str();
    if (text.size() <= kSecondLength || text[8] != '-') return std::nullopt;
    std::string utc;
    utc.append(text.substr(0, 4)).append("-").append(text.substr(4, 2)).append("-");
    utc.append(text.substr(6, 2)).append("T").append(text.substr(9, 2)).append(":");
    utc.append(text.substr(11, 2)).append(":").append(text.substr(13, 2)).append("Z");
    return parse_utc(utc);
}

// The second never goes back: not with the wall clock, and not over a restart.
WallTime IdMaker::earliest(WallTime wall) const {
    return std::max({floor_second(wall), second_, earliest_});
}

SessionId IdMaker::next(WallTime wall, const AgentName& agent) const {
    const WallTime second = earliest(wall);
    const std::string first = format_id_second(second) + "-" + agent.str();
    // Nothing has been noted in a newer second.
    if (second > second_) return SessionId(first);
    const auto hint = number_hint_.find(agent);
    std::uint64_t number = hint == number_hint_.end() ? 1 : hint->second;
    SessionId id(number == 1 ? first : first + "-" + std::to_string(number));
    while (used_.contains(id)) {
        ++number;
        id = SessionId(first + "-" + std::to_string(number));
    }
    return id;
}

void IdMaker::note(const SessionId& id, const AgentName& agent) {
    const std::optional<WallTime> second = second_of(id);
    IW_CHECK(second.has_value());
    IW_CHECK(*second >= second_);
    if (*second > second_) {
        second_ = *second;
        used_.clear();
        number_hint_.clear();
    }
    const bool fresh = used_.insert(id).second;
    IW_CHECK(fresh);
    number_hint_[agent] = number_of(id, agent) + 1;
}

void IdMaker::restore(WallTime second, const std::vector<SessionId>& ids) {
    IW_CHECK(used_.empty());
    second_ = floor_second(second);
    used_.insert(ids.begin(), ids.end());
    skip_past(second);
}

bool IdMaker::is_unknown(const SessionId& id) const {
    const std::optional<WallTime> second = second_of(id);
    if (!second) return false;
    return *second > second_ || (*second == second_ && !used_.contains(id));
}

void IdMaker::skip_past(WallTime second) {
    earliest_ = std::max(earliest_, floor_second(second) + std::chrono::seconds(1));
}

}  // namespace iw::broker
