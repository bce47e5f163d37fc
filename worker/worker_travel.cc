#include <utility>

#include "common/io/logging.h"
#include "common/io/system_clock.h"
#include "common/workspace/incoming.h"
#include "worker/worker_server.h"

// Sessions whose project stands under another root than where they run: as the runner, their files
// go to the broker before their end is reported; as the owner, they come from there before it is
// written.

namespace iw::worker {
namespace {

// The answer to one kind of question; another kind would be the broker's mistake.
template <typename R>
Result<R> only(Result<Reply> reply) {
    if (!reply) return reply.error();
    if (R* answer = std::get_if<R>(&*reply)) return std::move(*answer);
    return make_error(ErrorCode::bad_request, "the broker answered something else");
}

// In the second that a state.json can tell. The status alone may be a script's.
bool shows_end(const SessionView& shown, const SessionView& outcome) {
    return is_final(shown.status) && shown.completed_at && outcome.completed_at &&
           format_utc(*shown.completed_at) == format_utc(*outcome.completed_at);
}

}  // namespace

// ---- As the runner -----------------------------------------------------------------------------

Uploader::Handlers WorkerServer::uploader_handlers() {
    return {.send =
                [this](std::uint64_t ticket, PutRequest request) {
                    return link_.ask(std::move(request), [this, ticket](Result<Reply> reply) {
                        uploader_.answer(ticket, only<PutReply>(std::move(reply)));
                    });
                },
            .on_done =
                [this](JudgedEvent event) {
                    runner_.record(event);
                    dispatch(std::move(event));
                },
            .on_warning = [this](const AttemptRef& attempt,
                                 const std::string& text) { warn_of(attempt.session, text); }};
}

void WorkerServer::act(Judge& action) {
    const std::string name = attempt_name(action.attempt);
    // Asked again after a second look at its records: the answer is on its way.
    if (checks_.is_busy_with(name) || uploader_.is_busy_with(action.attempt)) return;
    JudgedEvent event = runner_.judge(action);
    std::optional<SessionRunner::ResultCheck> check = runner_.result_check(event);
    if (!check) return judged(action, std::move(event));
    checks_.start(name, std::move(check->schema), std::move(check->file),
                  [this, action, event](const Result<CheckedResult>& checked) {
                      JudgedEvent verdict = event;
                      SessionRunner::take_check(checked, verdict.deliverables);
                      judged(action, std::move(verdict));
                  });
}

void WorkerServer::judged(const Judge& action, JudgedEvent event) {
    if (std::optional<Uploader::Job> job = runner_.delivery(action, event))
        return uploader_.start(std::move(*job));
    runner_.record(event);
    dispatch(std::move(event));
}

// ---- As the owner ------------------------------------------------------------------------------

Fetcher::Handlers WorkerServer::fetcher_handlers() {
    return {.send =
                [this](std::uint64_t ticket, GetRequest request) {
                    return link_.ask(std::move(request), [this, ticket](Result<Reply> reply) {
                        fetcher_.answer(ticket, only<GetReply>(std::move(reply)));
                    });
                },
            .on_done =
                [this](const WriteFinal& action, const Result<std::vector<std::string>>& lines) {
                    fetched(action, lines);
                }};
}

void WorkerServer::act(WriteFinal& action) {
    if (!runner_.is_delivered(action)) return write_final(action);
    const SessionId& id = action.outcome.id;
    // An ictl that began while no worker was here goes on with it, and writes the end itself: it
    // has shown the run before it began.
    const auto shown = workspace::standing_view(project_, id);
    if (shown && shows_end(*shown, action.outcome)) return write_final(action);
    const Status free = workspace::Incoming::free(project_.workspace(id));
    const bool elsewhere = !free && !fetcher_.is_busy_with(id);
    if (!elsewhere || (shown && shown->status == SessionStatus::created)) {
        // Files of an earlier attempt that ran here make room first.
        runner_.prepare_delivery(action.outcome, broker_now());
        // It may never have been shown as running before: nothing must take that back.
        if (action.outcome.started_at) keep(workspace::delivering_view(action.outcome));
    }
    if (elsewhere) return fetched(action, free.error());
    const std::string workspace = project_.workspace(id);
    fetcher_.start(std::move(action), workspace);
}

void WorkerServer::write_final(const WriteFinal& action) {
    warned_.erase(action.outcome.id);
    result(runner_.write_final(action, broker_now()));
    keep(action.outcome);
}

// Its workspace is watched as long as it stands in sessions/.
void WorkerServer::keep(const SessionView& session) {
    if (!runner_.is_ours(session)) return keeper_.leave(session.id);
    keeper_.keep(session);
}

void WorkerServer::fetched(const WriteFinal& action,
                           const Result<std::vector<std::string>>& lines) {
    const SessionId& id = action.outcome.id;
    if (lines) {
        for (const std::string& line : *lines)
            warn_of(id, id.str() + ": " + line);
        write_final(action);
        return dispatch(TickEvent{});
    }
    // Tried again by the core, at most once a minute; it stays RUNNING (delivering) until then.
    // Not once a minute for every other number of bytes that are free.
    const auto [warned, is_new] = warned_.try_emplace(id, lines.error().code);
    if (is_new || std::exchange(warned->second, lines.error().code) != lines.error().code)
        warn_of(id, "The files of " + id.str() +
                        " cannot be brought here yet: " + lines.error().message);
    dispatch(WrittenEvent{action.attempt, WrittenFile::final_files, lines.error()});
}

void WorkerServer::follow(FollowPush push) {
    for (const SessionView& view : push.sessions)
        told(view);
}

// How a session of this root stands that does not run here.
void WorkerServer::told(const SessionView& view) {
    const AttemptRef attempt{view.id, {view.generation, view.attempt}};
    // What runs here is known better here; what is coming in shows its end when it is whole.
    if (!runner_.is_ours(view) || core_.view(attempt, core_now())) return;
    if (fetcher_.is_busy_with(view.id)) return;
    if (is_final(view.status)) return told_end(view);
    runner_.write_followed(view, broker_now());
    keep(view);
}

// Ended while this worker was not there to be told. From here on it is as if it had been: what
// cannot be written or brought now is tried again.
void WorkerServer::told_end(const SessionView& view) {
    const auto shown = workspace::standing_view(project_, view.id);
    // A script may have written a final status of its own into a session that was running.
    if (!shown || shows_end(*shown, view)) return keep(view);
    CloseEvent close;
    close.outcomes.push_back(Outcome{.session = view});
    dispatch(std::move(close));
}

WorkspaceKeeper::Parts WorkerServer::keeper_parts() {
    return {.watch = parts_.watch,
            .project = project_,
            .view = [this](const AttemptRef& attempt) { return core_.view(attempt, core_now()); },
            .prompt =
                [this](const AttemptRef& attempt) {
                    const Result<std::string> prompt = io::read_file(
                        parts_.store.folder(attempt) + "/prompt.md", limits::kPromptMax);
                    return prompt ? *prompt : runner_.kept_prompt(attempt.session);
                },
            .now = [this] { return broker_now(); },
            .ask =
                [this](Request request, BrokerLink::OnAnswer on_answer) {
                    return core_.linked() && link_.ask(std::move(request), std::move(on_answer));
                },
            .on_listed = [this](const SessionView& session) { told(session); },
            .is_ours = [this](const SessionView& session) { return runner_.is_ours(session); }};
}

// ---- Both --------------------------------------------------------------------------------------

void WorkerServer::relink() {
    linked_ = core_.linked();
    if (!linked_) {
        uploader_.disconnected();
        fetcher_.disconnected();
        return;
    }
    sockets_.resend();
    keeper_.connected();
    uploader_.connected();
    fetcher_.connected();
}

void WorkerServer::warn_of(const SessionId& id, const std::string& text) {
    io::log(io::LogLevel::warn, "files", {{"session", id.str()}, {"what", text}});
    runner_.note(NoteSession{id, NoteLevel::warn, text}, broker_now());
}

}  // namespace iw::worker
