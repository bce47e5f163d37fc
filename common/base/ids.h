#pragma once

// Identities as types of their own, so that a swapped argument does not compile.

#include <compare>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <utility>

namespace iw {

template <typename Tag>
class StrongString {
  public:
    StrongString() = default;
    explicit StrongString(std::string value) : value_(std::move(value)) {}

    const std::string& str() const { return value_; }
    bool empty() const { return value_.empty(); }
    auto operator<=>(const StrongString&) const = default;
    bool operator==(const StrongString&) const = default;

  private:
    std::string value_;
};

// `20251118-153042-grafana-agent`, made by the broker, unique over the fleet, never reused.
using SessionId = StrongString<struct SessionIdTag>;
// `[a-z0-9][a-z0-9_-]{0,63}`; read from the record, never parsed from a session id.
using AgentName = StrongString<struct AgentNameTag>;
// One worker of a fleet; a second process under the name is refused while the first lives.
using WorkerName = StrongString<struct WorkerNameTag>;

// How often an attempt has been given out under a broker's generation. Ordered: a report with a
// fence below the session's current one is stale and changes nothing.
struct Fence {
    std::uint32_t generation = 0;  // raised only by a restore; first is 1
    std::uint32_t attempt = 0;  // raised only by the record that assigns; first is 1, 0 = none yet

    auto operator<=>(const Fence&) const = default;
};

// One run of one session: the unit a worker starts at most once.
struct AttemptRef {
    SessionId session;
    Fence fence;

    auto operator<=>(const AttemptRef&) const = default;
    bool operator==(const AttemptRef&) const = default;
};

// `<session>-<generation>-<attempt>`: the folder of an attempt in a worker's state directory.
std::string attempt_name(const AttemptRef& attempt);

// The number of a record in a broker's journal: first is 1, 0 = before all.
using Seq = std::uint64_t;

bool is_agent_name(std::string_view text);
// Whether a text has the form of a session id (`YYYYMMDD-HHMMSS-` and an agent's characters).
bool is_session_id(std::string_view text);
// Names of projects, workers and hosts: 1-128 of `[A-Za-z0-9._:@-]`, not beginning with '-' or '.'.
bool is_plain_name(std::string_view text);

inline constexpr std::string_view kTmuxPrefix = "iw-";
inline std::string tmux_session_name(const SessionId& id) {
    return std::string(kTmuxPrefix) + id.str();
}

}  // namespace iw

template <typename Tag>
struct std::hash<iw::StrongString<Tag>> {
    std::size_t operator()(const iw::StrongString<Tag>& id) const noexcept {
        return std::hash<std::string>{}(id.str());
    }
};
