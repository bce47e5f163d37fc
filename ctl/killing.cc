#include "ctl/killing.h"

#include <map>

#include "common/base/text.h"
#include "common/io/system_clock.h"
#include "ctl/context.h"
#include "ctl/refresh.h"
#include "ctl/waiting.h"

namespace iw::ctl {
namespace {

bool all_final(const std::vector<SessionView>& sessions) {
    return count_final(sessions) == sessions.size();
}

}  // namespace

Result<std::vector<KillOutcome>> kill_sessions(Context& context,
                                               const std::vector<std::string>& ids,
                                               const KillOptions& options) {
    Result<BrokerClient*> broker = context.broker(Insistence::patient);
    if (!broker) return broker.error();
    std::vector<KillOutcome> outcomes;
    for (const std::string& id : ids) {
        if (trim(id).empty()) {
            return make_error(ErrorCode::bad_request,
                              "no session id given; did create fail? see logs/orchestrator.log");
        }
        Result<KillReply> reply =
            (*broker)->call<KillReply>(KillRequest{.id = id,
                                                   .reason = options.reason,
                                                   .exact = options.exact,
                                                   .keep_children = options.keep_children});
        if (!reply && reply.error().code == ErrorCode::unknown_outcome) {
            return make_error(ErrorCode::unknown_outcome,
                              reply.error().message + "; repeat the command, it does no harm");
        }
        if (!reply) return reply.error();
        const bool is_done = is_final(reply->session.status);
        outcomes.push_back({.session = std::move(reply->session),
                            .already_final = reply->already_final,
                            .confirmed = is_done,
                            .descendants = reply->descendants});
    }
    if (!options.wait) return outcomes;

    std::vector<std::string> full_ids;
    for (const KillOutcome& outcome : outcomes)
        full_ids.push_back(outcome.session.id.str());
    Result<Resolved> from = resolve(**broker, full_ids, true);
    if (!from) return from.error();
    Result<Watched> watched =
        watch(**broker, std::move(*from),
              WatchOptions{.timeout = options.wait_max, .until = all_final, .on_change = nullptr});
    if (!watched) return watched.error();
    const Timestamp deadline = io::steady_now() + options.wait_max;
    for (SessionView& session : watched->sessions) {
        if (is_final(session.status)) refresh_end(context, session, deadline);
    }
    std::map<SessionId, const SessionView*> newest;
    for (const SessionView& session : watched->sessions)
        newest[session.id] = &session;
    for (KillOutcome& outcome : outcomes) {
        outcome.session = *newest.at(outcome.session.id);
        outcome.confirmed = is_final(outcome.session.status);
    }
    return outcomes;
}

}  // namespace iw::ctl
