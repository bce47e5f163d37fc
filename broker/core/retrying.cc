#include "broker/core/retrying.h"

#include <algorithm>
#include <array>
#include <utility>

#include "broker/core/state.h"
#include "common/base/check.h"
#include "common/base/random.h"

namespace iw::broker {

namespace {

constexpr std::array kFailuresOfItsOwn = {Detail::exited, Detail::signal, Detail::disk_limit,
                                          Detail::result_missing, Detail::result_invalid};

// FNV-1a, 64 bits: spreads ids that differ in their last character alone.
std::uint64_t hash_of(const SessionId& id) {
    std::uint64_t hash = 0xcbf29ce484222325ULL;
    for (const char c : id.str()) {
        hash ^= static_cast<unsigned char>(c);
        hash *= 0x100000001b3ULL;
    }
    return hash;
}

// A killed session that failed by itself has an outcome; it would only be given out to be stopped.
bool is_to_be_retried(const Session& session, const SessionEnded& ended) {
    const std::optional<RetryPolicy>& policy = session.particular().retry;
    if (!policy || session.is_kill_wished()) return false;
    if (session.attempts_used + 1u >= policy->attempts_max) return false;
    return is_retry_cause(*policy, ended.detail);
}

}  // namespace

bool is_retry_cause(const RetryPolicy& policy, Detail cause) {
    const auto contains = [cause](const auto& causes) {
        return std::find(causes.begin(), causes.end(), cause) != causes.end();
    };
    if (!policy.causes.empty() && !contains(policy.causes)) return false;
    // A run that took all its time once takes it again as a rule: only who names it wants that.
    if (cause == Detail::timeout) return !policy.causes.empty();
    return contains(kFailuresOfItsOwn);
}

Duration retry_delay(const RetryPolicy& policy, const SessionId& id, std::uint32_t attempt,
                     std::uint32_t used) {
    IW_CHECK(used >= 1);
    Duration delay = std::min(policy.backoff, policy.backoff_max);
    for (std::uint32_t i = 1; i < used && delay < policy.backoff_max; ++i) {
        delay = std::min(delay * 2, policy.backoff_max);
    }
    // Sessions that failed together (a service that they all need was away) do not come back
    // together.
    Random random(hash_of(id) + attempt);
    const Duration half = delay / 2;
    const auto spread = static_cast<std::uint64_t>((delay - half).count()) + 1;
    const auto chance = static_cast<std::int64_t>(random.below(spread));
    return std::max(Duration(1), half + Duration(chance));
}

Duration retry_delay_max(const Session& session) {
    const Duration of_platform = kRetryDelay * limits::kPlatformFaultsMax;
    const std::optional<RetryPolicy>& policy = session.particular().retry;
    return policy ? std::max(of_platform, policy->backoff_max) : of_platform;
}

bool BrokerCore::State::retry_attempt(const Session& session, SessionEnded& ended) {
    IW_CHECK(session.is_held());
    if (!is_to_be_retried(session, ended)) return false;
    AttemptReturned returned;
    returned.id = *session.id;
    returned.fence = session.fence;
    returned.cause = ended.detail;
    returned.platform_fault = false;
    returned.reason = std::move(ended.reason);
    // Of a timeout; the kill's reason is what its worker said.
    if (returned.reason.empty()) returned.reason = std::move(ended.kill_reason);
    if (returned.reason.empty()) returned.reason = name(ended.detail);
    returned.evidence = std::move(ended.evidence);
    returned.exit_code = ended.exit_code;
    give_back(session,
              retry_delay(*session.particular().retry, *session.id, session.fence.attempt,
                          session.attempts_used + 1u),
              std::move(returned));
    return true;
}

void BrokerCore::State::give_back(const Session& session, Duration delay,
                                  AttemptReturned returned) {
    IW_CHECK(session.is_held());
    // Set before the record, which puts the session back into the queue.
    durable_.session(*session.id)->set_due_at(time_.steady + delay);
    returned.retry_at = time_.wall + delay;
    emit(std::move(returned));
}

}  // namespace iw::broker
