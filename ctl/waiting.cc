#include "ctl/waiting.h"

#include <algorithm>
#include <iterator>
#include <map>
#include <set>

#include "common/base/text.h"
#include "common/io/system_clock.h"

namespace iw::ctl {
namespace {

// Below limits::kEventsWaitMax, so that the answer comes before anybody takes the broker for dead.
constexpr Duration kPollMax{25'000};

// The rows of `ids`, into the places of `sessions`.
Status look_again(BrokerClient& broker, const std::set<SessionId>& ids,
                  std::vector<SessionView>& sessions, Seq* seq) {
    std::map<SessionId, SessionView> found;
    ListRequest request;
    const auto ask = [&]() -> Status {
        Result<Listing> page = broker.list(request);
        if (!page) return page.error();
        if (seq != nullptr && (*seq == 0 || page->seq < *seq)) *seq = page->seq;
        for (SessionView& view : page->sessions)
            found[view.id] = std::move(view);
        request.ids.clear();
        return Done{};
    };
    for (const SessionId& id : ids) {
        request.ids.push_back(id);
        if (request.ids.size() < limits::kIdsPerRequestMax) continue;
        if (const Status asked = ask(); !asked) return asked;
    }
    if (!request.ids.empty()) {
        if (const Status asked = ask(); !asked) return asked;
    }
    for (SessionView& session : sessions) {
        if (!ids.contains(session.id)) continue;
        const auto entry = found.find(session.id);
        if (entry == found.end()) {
            return make_error(ErrorCode::not_found,
                              "the broker does not know session " + session.id.str() + " any more");
        }
        session = entry->second;
    }
    return Done{};
}

// Those of `ids` that are full ids the broker knows: one question for 500 instead of one for each.
Result<Listing> list_full(BrokerClient& broker, const std::vector<std::string>& ids) {
    Listing all;
    std::set<std::string> asked;
    ListRequest request;
    const auto ask = [&]() -> Status {
        if (request.ids.empty()) return Done{};
        Result<Listing> page = broker.list(request);
        if (!page) return page.error();
        all.seq = all.seq == 0 ? page->seq : std::min(all.seq, page->seq);
        std::ranges::move(page->sessions, std::back_inserter(all.sessions));
        request.ids.clear();
        return Done{};
    };
    for (const std::string& id : ids) {
        if (!is_session_id(id) || !asked.insert(id).second) continue;
        request.ids.emplace_back(id);
        if (request.ids.size() < limits::kIdsPerRequestMax) continue;
        if (const Status done = ask(); !done) return done.error();
    }
    if (const Status done = ask(); !done) return done.error();
    return all;
}

// One waiting: what it has seen, and the cursor behind it.
class Watch {
  public:
    Watch(BrokerClient& broker, Resolved from, const WatchOptions& options)
        : broker_(broker), now_(std::move(from)), options_(options) {
        if (options.timeout) deadline_ = io::steady_now() + *options.timeout;
    }

    Result<Watched> run() {
        while (!options_.until(now_.sessions)) {
            const Duration left =
                deadline_ ? std::max(*deadline_ - io::steady_now(), Duration(0)) : kPollMax;
            if (left == Duration(0)) return finish(true);
            const Status polled = poll(std::min(left, kPollMax));
            if (!polled) return polled.error();
        }
        return finish(false);
    }

  private:
    Result<Watched> finish(bool timed_out) {
        // What was not told of on the way is looked at now: the caller gets the newest state.
        if (options_.ends_only) {
            if (const Status renewed = renew(unfinished(), nullptr); !renewed)
                return renewed.error();
        }
        return Watched{.sessions = std::move(now_.sessions), .timed_out = timed_out};
    }

    std::set<SessionId> unfinished() const {
        std::set<SessionId> ids;
        for (const SessionView& session : now_.sessions) {
            if (!is_final(session.status)) ids.insert(session.id);
        }
        return ids;
    }

    // Of all that is awaited; empty when there are several.
    std::string common_project() const {
        const std::string& project = now_.sessions.front().project;
        const bool common = std::ranges::all_of(
            now_.sessions, [&](const SessionView& session) { return session.project == project; });
        return common ? project : "";
    }

    bool matters(const Event& event) const {
        if (!options_.ends_only) return true;
        const std::optional<SessionStatus> status = parse_session_status(event.status);
        return !status || is_final(*status);
    }

    Status poll(Duration wait) {
        const std::set<SessionId> awaited = unfinished();
        EventsRequest request{.epoch = now_.epoch, .after = now_.seq, .wait = wait};
        // Beyond what one request may name, other sessions' events come too and are sorted out
        // here.
        if (awaited.size() <= limits::kIdsPerRequestMax) {
            request.ids.assign(awaited.begin(), awaited.end());
        } else {
            request.project = common_project();
        }
        Result<EventsReply> reply = broker_.call<EventsReply>(request);
        if (!reply) return reply.error();
        if (reply->gap || reply->epoch != now_.epoch) {
            now_.epoch = reply->epoch;
            now_.seq = 0;
            return renew(awaited, &now_.seq);
        }
        now_.seq = reply->next;
        std::set<SessionId> changed;
        for (const Event& event : reply->events) {
            if (awaited.contains(event.id) && matters(event)) changed.insert(event.id);
        }
        return changed.empty() ? Status(Done{}) : renew(changed, nullptr);
    }

    Status renew(const std::set<SessionId>& ids, Seq* seq) {
        if (ids.empty()) return Done{};
        const std::vector<SessionView> before = now_.sessions;
        const Status looked = look_again(broker_, ids, now_.sessions, seq);
        if (!looked || !options_.on_change) return looked;
        for (std::size_t i = 0; i < before.size(); ++i) {
            if (now_.sessions[i].revision != before[i].revision) {
                options_.on_change(now_.sessions[i]);
            }
        }
        return Done{};
    }

    BrokerClient& broker_;
    Resolved now_;
    const WatchOptions& options_;
    std::optional<Timestamp> deadline_;
};

}  // namespace

Result<Resolved> resolve(BrokerClient& broker, const std::vector<std::string>& ids, bool exact) {
    for (const std::string& id : ids) {
        if (!trim(id).empty()) continue;
        return make_error(ErrorCode::bad_request,
                          "no session id given; did create fail? see logs/orchestrator.log");
    }
    // First: a cursor of an older epoch is found out, one that the wrong epoch is said of is not.
    const Result<WelcomeReply> welcome = broker.welcome();
    if (!welcome) return welcome.error();
    Listing listed;
    if (ids.size() > 1) {
        Result<Listing> found = list_full(broker, ids);
        if (!found) return found.error();
        listed = std::move(*found);
    }
    std::map<std::string, SessionView> by_id;
    for (SessionView& session : listed.sessions)
        by_id.emplace(session.id.str(), std::move(session));

    // The first answer's cursor: what happened to a session after its own answer comes again as an
    // event, which does no harm.
    Resolved resolved{.sessions = {}, .seq = listed.seq, .epoch = welcome->epoch};
    std::set<SessionId> known;
    for (const std::string& id : ids) {
        const auto entry = by_id.find(id);
        if (entry != by_id.end()) {
            if (known.insert(SessionId(id)).second) resolved.sessions.push_back(entry->second);
            continue;
        }
        Result<StatusReply> reply = broker.status(id, exact);
        if (!reply) return reply.error();
        if (resolved.seq == 0) resolved.seq = reply->seq;
        if (!known.insert(reply->session.id).second) continue;
        resolved.sessions.push_back(std::move(reply->session));
    }
    return resolved;
}

Result<Watched> watch(BrokerClient& broker, Resolved from, const WatchOptions& options) {
    return Watch(broker, std::move(from), options).run();
}

int end_code(const SessionView& session, bool by_result) {
    if (session.detail == Detail::lost || session.detail == Detail::expired) return 3;
    if (session.status == SessionStatus::killed) return 2;
    if (session.status != SessionStatus::completed) return 1;
    return by_result && session.result_status != "success" ? 1 : 0;
}

int worst_end_code(const std::vector<SessionView>& sessions, bool by_result) {
    int worst = 0;
    for (const SessionView& session : sessions) {
        if (is_final(session.status)) worst = std::max(worst, end_code(session, by_result));
    }
    return worst;
}

std::size_t count_final(const std::vector<SessionView>& sessions) {
    return static_cast<std::size_t>(std::ranges::count_if(
        sessions, [](const SessionView& session) { return is_final(session.status); }));
}

}  // namespace iw::ctl
