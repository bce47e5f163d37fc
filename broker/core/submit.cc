// Submissions: each is decided by itself, in order, so that two under one key in one request are
// one session.

#include <algorithm>
#include <utility>

#include "broker/core/retrying.h"
#include "broker/core/state.h"
#include "common/base/check.h"
#include "common/base/planted.h"
#include "common/base/text.h"

namespace iw::broker {

namespace {

constexpr std::size_t kNamesShown = 10;
constexpr Duration kDelayMax{10LL * 366 * 24 * 3600 * 1000};

bool is_between(Duration value, Duration low, Duration high) {
    return value >= low && value <= high;
}

std::optional<Error> retry_refusal(const RetryPolicy& policy) {
    const auto bad = [](std::string message) {
        return make_error(ErrorCode::bad_request, "retry." + std::move(message));
    };
    if (policy.attempts_max < 1 || policy.attempts_max > limits::kAttemptsMax) {
        return bad("attempts_max: is not between 1 and 100");
    }
    if (!is_between(policy.backoff, Duration(1), kDelayMax) ||
        !is_between(policy.backoff_max, policy.backoff, kDelayMax)) {
        return bad("backoff: is not between 1 ms and backoff_max, which is at most 10 years");
    }
    for (const Detail cause : policy.causes) {
        if (is_retry_cause(policy, cause)) continue;
        return bad("causes: \"" + std::string(name(cause)) +
                   "\" is not one of exited, signal, "
                   "disk-limit, result-missing, result-invalid, timeout");
    }
    return std::nullopt;
}

// The codec has checked the wire's limits; what ids, orders and times are made of is checked here
// again.
std::optional<Error> form_refusal(const Submission& submission) {
    const auto bad = [](std::string message) {
        return make_error(ErrorCode::bad_request, std::move(message));
    };
    if (!is_agent_name(submission.agent.str())) {
        return bad("agent \"" + printable(submission.agent.str(), true) +
                   "\" is not a name: use a-z, 0-9, _ and -, at most 64");
    }
    if (submission.prompt.empty()) return bad("prompt: is empty");
    if (submission.origin.host.empty() && !submission.origin.root.empty()) {
        return bad("origin.host: is required with origin.root");
    }
    if (submission.priority < limits::kPriorityMin || submission.priority > limits::kPriorityMax) {
        return bad("priority: " + std::to_string(submission.priority) +
                   " is not between -100 and 100");
    }
    if (!is_between(submission.delay, Duration(0), kDelayMax)) {
        return bad("delay: is not between 0 and 10 years");
    }
    if (submission.expires && !is_between(*submission.expires, Duration(1), kDelayMax)) {
        return bad("expires: is not between 1 ms and 10 years");
    }
    if (!is_between(submission.timeout, Duration(1), kDelayMax)) {
        return bad("timeout: is not between 1 ms and 10 years");
    }
    return submission.retry ? retry_refusal(*submission.retry) : std::nullopt;
}

SubmitOutcome refused(Error error) {
    return SubmitOutcome{.id = {}, .duplicate = false, .error = std::move(error)};
}

}  // namespace

void BrokerCore::State::on(SubmitEvent event) {
    const Caller& caller = event.caller;
    if (!may_speak(caller)) {
        return refuse(caller, ErrorCode::stale_fence,
                      "attempt " + attempt_name(*caller.inside) +
                          " is not the current one of its session; nothing was submitted");
    }
    if (event.items.empty() || event.items.size() > limits::kSubmitBatchMax) {
        return refuse(caller, ErrorCode::bad_request,
                      "sessions: 1 to 500 may be submitted at once");
    }
    SubmitReply answer;
    answer.sessions.reserve(event.items.size());
    for (SubmitEvent::Item& item : event.items)
        answer.sessions.push_back(submit(caller, item));
    reply(caller, std::move(answer));
}

SubmitOutcome BrokerCore::State::submit(const Caller& caller, SubmitEvent::Item& item) {
    if (std::optional<SubmitOutcome> known = known_key(caller, item)) return *std::move(known);
    Submission& submission = item.submission;
    // The local socket vouches for the parent; what the process inside claims does not count.
    if (caller.inside) submission.parent = caller.inside->session;
    if (std::optional<Error> error = refusal(caller, submission)) return refused(*std::move(error));
    if (std::optional<Error> error = dependency_refusal(item)) return refused(*std::move(error));

    SessionCreated created;
    // The id is taken by applying the record, so the next item of the request gets another one.
    created.id = durable_.ids().next(time_.wall, submission.agent);
    created.principal = caller.principal;
    created.body_hash = item.body_hash;
    if (submission.delay > Duration(0)) created.not_before = time_.wall + submission.delay;
    if (submission.expires) created.expires_at = time_.wall + *submission.expires;
    if (caller.inside) created.parent_fence = caller.inside->fence;
    if (const Session* parent = durable_.session(submission.parent)) {
        created.ancestors = parent->particular().ancestors;
        created.ancestors.push_back(submission.parent);
    }
    std::string unmet = unmet_at_submission(item);
    created.submission = std::move(submission);
    SubmitOutcome outcome{.id = created.id, .duplicate = false, .error = std::nullopt};
    emit(std::move(created));
    if (unmet.empty()) return outcome;
    // Accepted all the same: whoever waits for its end sees what becomes of a dependency that is
    // not met, whenever that was.
    to_close_.push_back(outcome.id);
    fail_queued(*durable_.session(outcome.id), Detail::dependency_failed, std::move(unmet));
    return outcome;
}

std::optional<SubmitOutcome> BrokerCore::State::known_key(const Caller& caller,
                                                          const SubmitEvent::Item& item) const {
    const std::string& key = item.submission.key;
    if (key.empty()) return std::nullopt;
    std::optional<KnownKey> known = durable_.keys().find(caller.principal, key);
    // What the shell found was looked up before this step; what is in memory is newer.
    if (!known && !IW_PLANT(key_forgotten)) known = item.known;
    if (!known) return std::nullopt;
    if (known->body_hash == item.body_hash) {
        return SubmitOutcome{.id = known->id, .duplicate = true, .error = std::nullopt};
    }
    return refused(make_error(ErrorCode::idem_mismatch, "key \"" + printable(key, true) +
                                                            "\" made session " + known->id.str() +
                                                            " from another body; use a new key"));
}

std::optional<Error> BrokerCore::State::refusal(const Caller& caller,
                                                const Submission& submission) const {
    if (std::optional<Error> error = form_refusal(submission)) return error;
    if (!submission.parent.empty()) {
        if (std::optional<Error> error = parent_refusal(submission.parent)) return error;
    }
    IW_CHECK(!caller.inside || submission.parent == caller.inside->session);
    return agent_refusal(submission);
}

std::optional<Error> BrokerCore::State::parent_refusal(const SessionId& parent) const {
    const Session* session = durable_.session(parent);
    if (session == nullptr) {
        return make_error(ErrorCode::not_found,
                          "parent " + printable(parent.str(), true) + " is not a live session");
    }
    // It would be killed as soon as it is there.
    if (is_being_killed(*session)) {
        return make_error(ErrorCode::conflict, "parent " + parent.str() +
                                                   " is being killed; it may submit nothing more");
    }
    const std::size_t depth = session->particular().ancestors.size() + 1;
    if (depth <= static_cast<std::size_t>(limits::kSessionDepthMax)) return std::nullopt;
    return make_error(ErrorCode::conflict, "parent " + parent.str() + " has " +
                                               std::to_string(depth - 1) +
                                               " sessions above it, which is the most");
}

std::optional<Error> BrokerCore::State::agent_refusal(const Submission& submission) const {
    if (submission.agent_in_project || submission.queue_anyway) return std::nullopt;
    if (durable_.workers().empty()) return std::nullopt;
    std::vector<std::string> known = known_agents(submission.project);
    const std::string& agent = submission.agent.str();
    if (std::binary_search(known.begin(), known.end(), agent)) return std::nullopt;
    std::string message = "no worker";
    if (!submission.project.empty()) message += " of project " + submission.project;
    message += " offers agent \"" + agent + "\"";
    const std::string near = nearest(agent, known);
    if (!near.empty()) message += "; did you mean \"" + near + "\"?";
    if (known.empty()) {
        message += "; none offers any agent";
    } else {
        const std::size_t total = known.size();
        known.resize(std::min(total, kNamesShown));
        message += " Known: " + join(known, ", ") + (total > kNamesShown ? ", ..." : "");
    }
    return make_error(ErrorCode::unknown_agent, message + " (queue_anyway queues it all the same)");
}

}  // namespace iw::broker
