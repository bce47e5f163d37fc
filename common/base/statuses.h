#pragma once

// The five words that a person or a script reads as a session's status, and what is in each
// (`detail`). Source: the session contract, "Status".

#include <optional>
#include <string_view>

namespace iw {

enum class SessionStatus { created = 1, running = 2, completed = 3, failed = 4, killed = 5 };

enum class Detail {
    // CREATED
    queued = 1,
    delayed = 2,
    blocked = 3,
    assigned = 4,
    retrying = 5,
    no_worker = 6,
    paused = 7,
    // RUNNING
    starting = 20,
    working = 21,
    waiting_on_children = 22,
    needs_input = 23,
    unreachable = 24,
    stopping = 25,
    delivering = 26,  // ended; its result and files are on their way to where they are read
    // COMPLETED
    done = 40,
    // FAILED
    exited = 60,
    signal = 61,
    start_failed = 62,
    lost = 63,
    disk_limit = 64,
    dependency_failed = 65,
    result_missing = 66,
    result_invalid = 67,
    // KILLED
    killed = 80,
    parent_killed = 81,
    timeout = 82,
    expired = 83,
};

// "CREATED", "RUNNING", "COMPLETED", "FAILED", "KILLED".
std::string_view name(SessionStatus status);
// "queued", "no-worker", ...
std::string_view name(Detail detail);
std::optional<SessionStatus> parse_session_status(std::string_view text);  // any case
std::optional<Detail> parse_detail(std::string_view text);

inline bool is_final(SessionStatus status) {
    return status == SessionStatus::completed || status == SessionStatus::failed ||
           status == SessionStatus::killed;
}

// What happens to a session whose worker has been silent for the lost time.
enum class OnLost { wait = 1, requeue = 2, fail = 3 };
std::string_view name(OnLost policy);
std::optional<OnLost> parse_on_lost(std::string_view text);

// What a session that comes after another one asks of that one's end.
enum class AfterCondition { success = 1, failure = 2, any_end = 3 };
// "success", "failure", "end".
std::string_view name(AfterCondition condition);
std::optional<AfterCondition> parse_after_condition(std::string_view text);

// What a hold is laid on. On a worker it is called a drain, on the others a pause.
enum class HoldScope { fleet = 1, project = 2, agent = 3, worker = 4 };
std::string_view name(HoldScope scope);
std::optional<HoldScope> parse_hold_scope(std::string_view text);

}  // namespace iw
