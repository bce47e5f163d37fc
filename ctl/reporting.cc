#include "ctl/reporting.h"

#include <algorithm>

#include "common/io/system_clock.h"
#include "ctl/context.h"
#include "ctl/exit_code.h"
#include "ctl/json.h"
#include "ctl/refresh.h"
#include "ctl/render.h"
#include "ctl/tmux_sessions.h"
#include "ctl/waiting.h"

namespace iw::ctl {
namespace {

// Who waits for the session it runs in, or one above that, waits for itself.
Status check_no_ancestor(Context& context, BrokerClient& broker, const Resolved& awaited) {
    SessionId above = context.inside_session();
    for (int depth = 0; !above.empty() && depth <= limits::kSessionDepthMax; ++depth) {
        for (const SessionView& session : awaited.sessions) {
            if (session.id != above) continue;
            return make_error(ErrorCode::bad_request,
                              "cannot wait for " + above.str() +
                                  ": this command runs inside it and would never end");
        }
        Result<StatusReply> status = broker.status(above.str(), true);
        // A session may not be allowed to look above itself; then it cannot name what is there
        // either.
        if (!status) return Done{};
        above = status->session.parent;
    }
    return Done{};
}

std::vector<SeenSession> seen(Context& context, const std::vector<SessionView>& views) {
    TmuxSessions tmux(context);
    std::vector<SeenSession> sessions;
    for (const SessionView& view : views) {
        sessions.push_back({.view = view, .tmux_active = tmux.active(view)});
    }
    return sessions;
}

// Lines of what happens: results for what ended, and on a terminal what else changed.
class Progress {
  public:
    Progress(Context& context, const WaitRequest& request) : context_(context), request_(request) {
        if (request.timeout) deadline_ = io::steady_now() + *request.timeout;
    }

    void show(SessionView session) {
        const Terminal& terminal = context_.terminal();
        // Before anything here shows the end, its files do.
        if (is_final(session.status)) refresh_end(context_, session, deadline_);
        if (is_final(session.status)) {
            ended_.push_back(session.id);
            if (request_.quiet || request_.json) {
                if (terminal.err_is_terminal) terminal.say(session_line(session));
            } else {
                terminal.print(session_line(session) + "\n");
            }
            return;
        }
        if (terminal.err_is_terminal) terminal.say(session_line(session));
    }

    // How the sessions are to be told of: one whose files are not here has not ended here.
    void settle(std::vector<SessionView>& sessions) const {
        for (SessionView& session : sessions) {
            if (std::ranges::find(ended_, session.id) != ended_.end()) continue;
            if (is_final(session.status)) refresh_workspace(context_, session);
        }
    }

    bool is_late() const { return deadline_ && io::steady_now() >= *deadline_; }
    const std::vector<SessionId>& ended() const { return ended_; }

  private:
    Context& context_;
    const WaitRequest& request_;
    std::optional<Timestamp> deadline_;
    std::vector<SessionId> ended_;
};

// An error that would look like the end of a session is none: who waited may try again.
int cannot_tell(const Terminal& terminal, const Error& error) {
    const int code = exit_code(error.code);
    const bool looks_like_end = code >= kExitFailure && code <= kExitLost;
    return terminal.fail(looks_like_end ? kExitTryAgain : code, error.message);
}

}  // namespace

int wait_and_report(Context& context, const WaitRequest& request) {
    const Terminal& terminal = context.terminal();
    Result<BrokerClient*> broker = context.broker(Insistence::patient);
    if (!broker) return cannot_tell(terminal, broker.error());
    Result<Resolved> from = resolve(**broker, request.ids, false);
    if (!from) return cannot_tell(terminal, from.error());
    const Status allowed = check_no_ancestor(context, **broker, *from);
    if (!allowed) return terminal.fail(allowed.error());
    const std::size_t enough = request.count.value_or(from->sessions.size());
    if (enough > from->sessions.size()) {
        return terminal.fail(kExitUsage, "--count " + std::to_string(enough) + " of " +
                                             std::to_string(from->sessions.size()) +
                                             " sessions; give at most as many as sessions");
    }
    Progress progress(context, request);
    for (const SessionView& session : from->sessions)
        progress.show(session);
    Result<Watched> watched =
        watch(**broker, std::move(*from),
              WatchOptions{.timeout = request.timeout,
                           .until =
                               [enough](const std::vector<SessionView>& sessions) {
                                   return count_final(sessions) >= enough;
                               },
                           .on_change = [&](const SessionView& view) { progress.show(view); },
                           .ends_only = !terminal.err_is_terminal});
    if (!watched) return cannot_tell(terminal, watched.error());
    progress.settle(watched->sessions);
    const bool is_enough = count_final(watched->sessions) >= enough;
    if (!is_enough && progress.is_late()) watched->timed_out = true;
    const int ended_code =
        is_enough ? worst_end_code(watched->sessions, request.by_result) : kExitTryAgain;
    const int code = watched->timed_out ? kExitTimeout : ended_code;
    if (request.json) {
        const WaitSummary summary{
            .timed_out = watched->timed_out, .exit_code = code, .ended = progress.ended()};
        terminal.print(wait_json(seen(context, watched->sessions), summary, io::wall_now()));
    }
    if (watched->timed_out) {
        return terminal.fail(code, std::to_string(count_final(watched->sessions)) + " of " +
                                       std::to_string(watched->sessions.size()) +
                                       " sessions ended within the timeout; they go on");
    }
    if (!is_enough) {
        return terminal.fail(code,
                             "the files of ended sessions could not be brought here; wait "
                             "again once that is mended");
    }
    return code;
}

}  // namespace iw::ctl
