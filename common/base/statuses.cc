#include "common/base/statuses.h"

#include <array>

#include "common/base/text.h"

namespace iw {
namespace {

constexpr std::array kStatuses = {SessionStatus::created, SessionStatus::running,
                                  SessionStatus::completed, SessionStatus::failed,
                                  SessionStatus::killed};
constexpr std::array kDetails = {Detail::queued,
                                 Detail::delayed,
                                 Detail::blocked,
                                 Detail::assigned,
                                 Detail::retrying,
                                 Detail::no_worker,
                                 Detail::paused,
                                 Detail::starting,
                                 Detail::working,
                                 Detail::waiting_on_children,
                                 Detail::needs_input,
                                 Detail::unreachable,
                                 Detail::stopping,
                                 Detail::delivering,
                                 Detail::done,
                                 Detail::exited,
                                 Detail::signal,
                                 Detail::start_failed,
                                 Detail::lost,
                                 Detail::disk_limit,
                                 Detail::dependency_failed,
                                 Detail::result_missing,
                                 Detail::result_invalid,
                                 Detail::killed,
                                 Detail::parent_killed,
                                 Detail::timeout,
                                 Detail::expired};
constexpr std::array kPolicies = {OnLost::wait, OnLost::requeue, OnLost::fail};
constexpr std::array kConditions = {AfterCondition::success, AfterCondition::failure,
                                    AfterCondition::any_end};
constexpr std::array kScopes = {HoldScope::fleet, HoldScope::project, HoldScope::agent,
                                HoldScope::worker};

template <typename Values>
auto find_by_name(const Values& values, std::string_view text)
    -> std::optional<typename Values::value_type> {
    for (const auto value : values) {
        if (name(value) == text) return value;
    }
    return std::nullopt;
}

}  // namespace

std::string_view name(SessionStatus status) {
    switch (status) {
        case SessionStatus::created:
            return "CREATED";
        case SessionStatus::running:
            return "RUNNING";
        case SessionStatus::completed:
            return "COMPLETED";
        case SessionStatus::failed:
            return "FAILED";
        case SessionStatus::killed:
            return "KILLED";
    }
    return "?";
}

std::string_view name(Detail detail) {
    switch (detail) {
        case Detail::queued:
            return "queued";
        case Detail::delayed:
            return "delayed";
        case Detail::blocked:
            return "blocked";
        case Detail::assigned:
            return "assigned";
        case Detail::retrying:
            return "retrying";
        case Detail::no_worker:
            return "no-worker";
        case Detail::paused:
            return "paused";
        case Detail::starting:
            return "starting";
        case Detail::working:
            return "working";
        case Detail::waiting_on_children:
            return "waiting-on-children";
        case Detail::needs_input:
            return "needs-input";
        case Detail::unreachable:
            return "unreachable";
        case Detail::stopping:
            return "stopping";
        case Detail::delivering:
            return "delivering";
        case Detail::done:
            return "done";
        case Detail::exited:
            return "exited";
        case Detail::signal:
            return "signal";
        case Detail::start_failed:
            return "start-failed";
        case Detail::lost:
            return "lost";
        case Detail::disk_limit:
            return "disk-limit";
        case Detail::dependency_failed:
            return "dependency-failed";
        case Detail::result_missing:
            return "result-missing";
        case Detail::result_invalid:
            return "result-invalid";
        case Detail::killed:
            return "killed";
        case Detail::parent_killed:
            return "parent-killed";
        case Detail::timeout:
            return "timeout";
        case Detail::expired:
            return "expired";
    }
    return "?";
}

std::string_view name(OnLost policy) {
    switch (policy) {
        case OnLost::wait:
            return "wait";
        case OnLost::requeue:
            return "requeue";
        case OnLost::fail:
            return "fail";
    }
    return "?";
}

std::string_view name(AfterCondition condition) {
    switch (condition) {
        case AfterCondition::success:
            return "success";
        case AfterCondition::failure:
            return "failure";
        case AfterCondition::any_end:
            return "end";
    }
    return "?";
}

std::string_view name(HoldScope scope) {
    switch (scope) {
        case HoldScope::fleet:
            return "fleet";
        case HoldScope::project:
            return "project";
        case HoldScope::agent:
            return "agent";
        case HoldScope::worker:
            return "worker";
    }
    return "?";
}

std::optional<SessionStatus> parse_session_status(std::string_view text) {
    for (const SessionStatus status : kStatuses) {
        if (to_lower(name(status)) == to_lower(text)) return status;
    }
    return std::nullopt;
}

std::optional<Detail> parse_detail(std::string_view text) {
    return find_by_name(kDetails, text);
}
std::optional<OnLost> parse_on_lost(std::string_view text) {
    return find_by_name(kPolicies, text);
}
std::optional<AfterCondition> parse_after_condition(std::string_view text) {
    return find_by_name(kConditions, text);
}
std::optional<HoldScope> parse_hold_scope(std::string_view text) {
    return find_by_name(kScopes, text);
}

}  // namespace iw
