#include "common/workspace/workspace.h"

namespace iw::workspace {

Status write_live(const ProjectPaths& project, const SessionView& session, WallTime now) {
    const std::optional<SessionView> shown = standing_view(project, session.id);
    if (!shown || is_final(shown->status) || is_final(session.status)) return Done{};
    SessionView view = session;
    view.workspace = project.workspace(view.id);
    const bool running = view.status == SessionStatus::running;
    const bool next = view.attempt > 1 && view.attempt > shown->attempt;
    if (next) {
        if (Status begun = begin_attempt(project, view.id, view.attempt); !begun) return begun;
    }
    if (running && (next || shown->status == SessionStatus::created))
        return write_started(project, view, now);
    if (!running && shown->status == SessionStatus::running)
        return write_returned(project, view, shown->status, now);
    const bool active = running && view.detail != Detail::delivering;
    return write_state(project, view, active, now);
}

SessionView delivering_view(const SessionView& outcome) {
    SessionView running = outcome;
    running.status = SessionStatus::running;
    running.detail = Detail::delivering;
    running.completed_at.reset();
    running.exit_code.reset();
    running.reason.clear();
    running.kill_reason.clear();
    return running;
}

Status write_run(const ProjectPaths& project, const SessionView& outcome, WallTime now) {
    if (!outcome.started_at) return Done{};
    return write_live(project, delivering_view(outcome), now);
}

}  // namespace iw::workspace
