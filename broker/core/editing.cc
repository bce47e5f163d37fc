// What scripts edit in a session's state.json. Each part is taken or refused by itself: the file
// shows what was taken, and what was refused is put right there.

#include <algorithm>
#include <utility>

#include "broker/core/state.h"
#include "common/base/check.h"
#include "common/base/text.h"

namespace iw::broker {

namespace {

// Those that move along stand in one record, and one step puts them in their place again.
constexpr std::size_t kMovedMax = 4000;

Error conflict(std::string message) {
    return make_error(ErrorCode::conflict, std::move(message));
}

}  // namespace

void BrokerCore::State::on(EditEvent event) {
    const Caller& caller = event.caller;
    if (!may_speak(caller)) {
        return refuse(caller, ErrorCode::stale_fence,
                      "attempt " + attempt_name(*caller.inside) +
                          " is not the current one of its session; nothing was changed");
    }
    const SessionId id(event.request.id);
    const Session* session = durable_.session(id);
    if (session == nullptr) return edit_final(std::move(event));
    if (caller.inside && !is_own(*session, caller.inside->session)) {
        return refuse(caller, ErrorCode::forbidden,
                      "session " + id.str() + " was not submitted inside " +
                          caller.inside->session.str() +
                          ", which may edit itself and its own only");
    }
    EditRequest& request = event.request;
    const Particulars& particulars = session->particular();
    EditReply answer;
    SessionEdited edited{.id = id,
                         .principal = caller.principal,
                         .parent = std::nullopt,
                         .ancestors = {},
                         .below = {},
                         .tags = std::nullopt,
                         .metadata = std::nullopt};
    if (request.tags && *request.tags != particulars.tags) edited.tags = std::move(request.tags);
    if (request.metadata && *request.metadata != particulars.metadata)
        edited.metadata = std::move(request.metadata);
    if (request.parent && *request.parent != particulars.parent) {
        std::optional<Error> error = parent_refusal(*session, *request.parent);
        if (!error && caller.inside) error = stranger_refusal(*caller.inside, *request.parent);
        if (error) answer.refused.push_back("parent: " + error->message);
        if (!error) edited.parent = std::move(request.parent);
    }
    if (edited.parent) {
        move_family(*session, std::move(edited));
    } else if (edited.tags || edited.metadata) {
        emit(std::move(edited));
    }
    answer.session = view_of(*session);
    reply(caller, std::move(answer));
}

void BrokerCore::State::edit_final(EditEvent event) {
    const Caller& caller = event.caller;
    EditRequest& request = event.request;
    if (!event.kept) {
        return refuse(caller, ErrorCode::not_found, "no session " + printable(request.id, true));
    }
    if (caller.inside && event.kept->parent != caller.inside->session) {
        return refuse(caller, ErrorCode::forbidden,
                      "session " + request.id + " is not below " + caller.inside->session.str());
    }
    EditReply answer{.session = *std::move(event.kept), .refused = {}};
    SessionView& view = answer.session;
    SessionEdited edited{.id = view.id,
                         .principal = caller.principal,
                         .parent = std::nullopt,
                         .ancestors = {},
                         .below = {},
                         .tags = std::nullopt,
                         .metadata = std::nullopt};
    if (request.parent && *request.parent != view.parent) {
        answer.refused.push_back("parent: session " + view.id.str() +
                                 " is final; its parent stays as it is");
    }
    if (request.tags && *request.tags != view.tags)
        edited.tags = view.tags = *std::move(request.tags);
    if (request.metadata && *request.metadata != view.metadata)
        edited.metadata = view.metadata = *std::move(request.metadata);
    if (edited.tags || edited.metadata) {
        ++view.revision;
        emit(std::move(edited));
    }
    reply(caller, std::move(answer));
}

std::optional<Error> BrokerCore::State::parent_refusal(const Session& session,
                                                       const SessionId& parent) const {
    const std::string named = "session " + session.id->str();
    if (session.phase == Phase::closing) return conflict(named + " has ended; it stays as it is");
    // The worker's local socket has vouched for it.
    if (session.particular().parent_fence) {
        return conflict(named + " was submitted inside " + session.particular().parent.str() +
                        ", which stays its parent");
    }
    if (parent.empty()) return std::nullopt;
    const Session* found = durable_.session(parent);
    if (found != nullptr && is_at_or_below(*found, *session.id)) {
        return conflict(parent.str() + " is " +
                        (found == &session ? "the session itself" : "below " + named) +
                        "; that would close a circle");
    }
    if (std::optional<Error> error = parent_refusal(parent)) return error;
    return family_refusal(session, *found);
}

// A family lends its slots and runs on under holds; nobody joins one by its own word.
std::optional<Error> BrokerCore::State::stranger_refusal(const AttemptRef& inside,
                                                         const SessionId& parent) const {
    if (parent.empty() || is_own(*durable_.session(parent), inside.session)) return std::nullopt;
    return conflict("session " + parent.str() + " was not submitted inside " +
                    inside.session.str());
}

std::optional<Error> BrokerCore::State::family_refusal(const Session& session,
                                                       const Session& parent) const {
    const Descendants::Group& below = durable_.descendants().below(*session.id);
    if (below.size() > kMovedMax) {
        return conflict("more than " + std::to_string(kMovedMax) + " sessions are below session " +
                        session.id->str());
    }
    std::vector<const Session*> moved = {&session};
    for (const auto& [ordinal, each] : below)
        moved.push_back(each);
    const std::size_t before = session.particular().ancestors.size();
    const std::size_t after = parent.particular().ancestors.size() + 1;
    for (const Session* each : moved) {
        const std::size_t depth = each->particular().ancestors.size() - before + after;
        if (depth > static_cast<std::size_t>(limits::kSessionDepthMax)) {
            return conflict("session " + each->id->str() + " would have " + std::to_string(depth) +
                            " sessions above it; " + std::to_string(limits::kSessionDepthMax) +
                            " are the most");
        }
        // As at a submission: it must not wait for what may be waiting for it.
        Submission submission;
        submission.parent = *parent.id;
        submission.after = each->particular().after;
        if (std::optional<Error> error = cycle_refusal(submission)) return error;
    }
    return std::nullopt;
}

void BrokerCore::State::move_family(const Session& session, SessionEdited edited) {
    std::vector<SessionId> others = session.particular().ancestors;
    if (!edited.parent->empty()) {
        const Session* parent = durable_.session(*edited.parent);
        IW_CHECK(parent != nullptr);
        edited.ancestors = parent->particular().ancestors;
        edited.ancestors.push_back(*edited.parent);
    }
    for (const auto& [ordinal, each] : durable_.descendants().below(*session.id))
        edited.below.push_back(*each->id);
    others.insert(others.end(), edited.ancestors.begin(), edited.ancestors.end());
    others.insert(others.end(), edited.below.begin(), edited.below.end());
    std::sort(others.begin(), others.end());
    others.erase(std::unique(others.begin(), others.end()), others.end());
    std::vector<Session*> queued;
    for (const SessionId& id : others) {
        Session* each = durable_.session(id);
        if (each != nullptr && each->phase == Phase::queued) queued.push_back(each);
    }
    // Orders and families go by who is above whom, so nobody may stand in them meanwhile.
    for (Session* each : queued)
        unschedule(*each);
    emit(std::move(edited));
    for (Session* each : queued) {
        refresh_schedule(*each);
        if (waits_for_children(*each)) returned_.push_back(*each->id);
    }
    // Slots may be lent now that were not, and the other way round.
    ready_.touch_all();
}

}  // namespace iw::broker
