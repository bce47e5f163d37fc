#include "common/base/ids.h"

#include <algorithm>

namespace iw {
namespace {

bool is_digit(char c) {
    return c >= '0' && c <= '9';
}
bool is_agent_char(char c) {
    return (c >= 'a' && c <= 'z') || is_digit(c) || c == '_' || c == '-';
}
bool is_plain_char(char c) {
    return is_agent_char(c) || (c >= 'A' && c <= 'Z') || c == '.' || c == ':' || c == '@';
}

constexpr std::size_t kAgentNameMax = 64;
constexpr std::size_t kPlainNameMax = 128;
constexpr std::size_t kIdFront = 16;  // "YYYYMMDD-HHMMSS-"
// A suffix such as "-2" follows the agent when two sessions share a second.
constexpr std::size_t kSessionIdMax = kIdFront + kAgentNameMax + 8;

}  // namespace

std::string attempt_name(const AttemptRef& attempt) {
    return attempt.session.str() + "-" + std::to_string(attempt.fence.generation) + "-" +
           std::to_string(attempt.fence.attempt);
}

bool is_agent_name(std::string_view text) {
    if (text.empty() || text.size() > kAgentNameMax) return false;
    if (text.front() == '_' || text.front() == '-') return false;
    return std::ranges::all_of(text, is_agent_char);
}

bool is_session_id(std::string_view text) {
    if (text.size() <= kIdFront || text.size() > kSessionIdMax) return false;
    for (std::size_t i = 0; i < kIdFront; ++i) {
        const bool dash = i == 8 || i == 15;
        if (dash ? text[i] != '-' : !is_digit(text[i])) return false;
    }
    const std::string_view rest = text.substr(kIdFront);
    return rest.front() != '-' && rest.front() != '_' && std::ranges::all_of(rest, is_agent_char);
}

bool is_plain_name(std::string_view text) {
    if (text.empty() || text.size() > kPlainNameMax) return false;
    if (text.front() == '-' || text.front() == '.') return false;
    return std::ranges::all_of(text, is_plain_char);
}

}  // namespace iw
