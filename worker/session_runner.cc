#include "worker/session_runner.h"

#include <algorithm>
#include <utility>

#include "common/base/text.h"
#include "common/io/disk_usage.h"
#include "common/io/files.h"
#include "common/io/logging.h"
#include "common/io/machine.h"

namespace iw::worker {
namespace {

// The last event of an agent's stream stands near the end of its output.
constexpr std::size_t kTailBytes = 256 << 10;
constexpr int kWorkspaceTriesMax = 3;
constexpr std::uint64_t kRoomMin = 64u << 10;      // less is a full disk
constexpr std::uint64_t kDiskLimit = 500'000'000;  // of what travels, where the session has none
constexpr std::string_view kWorkerVariables = "IW_CFG_";

LaunchedEvent failed(const AttemptRef& attempt, LaunchOutcome outcome, const Error& error) {
    return LaunchedEvent{.attempt = attempt, .outcome = outcome, .reason = error.message};
}

void log_failure(const Status& status, const SessionId& id) {
    if (status) return;
    io::log(io::LogLevel::warn, "workspace not brought up to date",
            {{"session", id.str()}, {"error", status.error().message}});
}

}  // namespace

// ---- Launch ------------------------------------------------------------------------------------

LaunchedEvent SessionRunner::launch(const Launch& action) {
    const AttemptRef attempt{action.assignment.session, action.assignment.fence};
    const std::string folder = parts_.store.folder(attempt);
    const Result<std::string> prompt = io::read_file(folder + "/prompt.md", limits::kPromptMax);
    if (!prompt) return failed(attempt, LaunchOutcome::platform_fault, prompt.error());
    if (const Status stands = check_root(); !stands) {
        return failed(attempt, LaunchOutcome::platform_fault, stands.error());
    }
    if (const Status made = prepare_workspace(action, *prompt); !made) {
        return failed(attempt, LaunchOutcome::platform_fault, made.error());
    }
    const std::string workspace = parts_.project.workspace(attempt.session);
    RunRequest request{.assignment = action.assignment,
                       .workspace = workspace,
                       .result_file = workspace + "/result.json",
                       .prompt_file = folder + "/input.md"};
    request.assignment.prompt = *prompt;
    const Result<AgentRun> run = parts_.agents.prepare(request);
    if (!run) {
        const bool platform = run.error().code == ErrorCode::io;
        return failed(attempt,
                      platform ? LaunchOutcome::platform_fault : LaunchOutcome::agent_fault,
                      run.error());
    }
    const Result<LaunchPlan> made = plan(action, *run, request);
    if (!made) return failed(attempt, LaunchOutcome::platform_fault, made.error());
    if (!parts_.may_start())
        return LaunchedEvent{.attempt = attempt, .outcome = LaunchOutcome::withheld, .reason = ""};
    if (const Status started = start_tmux(attempt); !started) {
        return failed(attempt, LaunchOutcome::platform_fault, started.error());
    }
    return LaunchedEvent{.attempt = attempt, .outcome = LaunchOutcome::launched, .reason = ""};
}

// A root that somebody moved, or a disk that is not mounted any more: nothing is made in its place,
// and another worker of the project may do better.
Status SessionRunner::check_root() const {
    if (!io::real_path(parts_.options.root).empty()) return Done{};
    return make_error(ErrorCode::io, "the project's root " + parts_.options.root +
                                         " is missing on " + parts_.options.host);
}

Status SessionRunner::prepare_workspace(const Launch& action, const std::string& prompt) {
    if (const Status made = workspace::prepare_project(parts_.project); !made) return made;
    mark_away(action.assignment);
    Status begun = Done{};
    for (int tries = 0; tries < kWorkspaceTriesMax; ++tries) {
        if (const Status made = workspace::create(parts_.project, action.view, prompt); !made)
            return made;
        begun = workspace::begin_attempt(parts_.project, action.assignment.session,
                                         action.assignment.fence.attempt);
        // Moved away by somebody at that moment: it is made again.
        if (begun || begun.error().code != ErrorCode::conflict) return begun;
    }
    return begun;
}

Result<LaunchPlan> SessionRunner::plan(const Launch& action, const AgentRun& run,
                                       const RunRequest& request) {
    const AttemptRef attempt{action.assignment.session, action.assignment.fence};
    // The agent reads a file of the attempt: an edit of the workspace cannot change what it was
    // asked.
    if (const Status wrote =
            io::write_file(request.prompt_file, run.composed_prompt, 0600, io::Sync::none);
        !wrote) {
        return wrote.error();
    }
    if (const Status opened = parts_.sockets.open(attempt); !opened) return opened.error();
    LaunchPlan plan{.attempt = attempt,
                    .folder = parts_.options.root,
                    .workspace = request.workspace,
                    .argv = run.argv,
                    .environment = run.environment,
                    .stdin_file = run.prompt_on_stdin ? request.prompt_file : "",
                    .success = std::string(name(run.success)),
                    .log_bytes_max = parts_.options.log_bytes,
                    .stop_grace = parts_.options.stop_grace,
                    .start_by = action.start_by};
    add_variables(action, plan);
    if (const Status wrote = parts_.store.write_plan(plan); !wrote) return wrote.error();
    return plan;
}

void SessionRunner::add_variables(const Launch& action, LaunchPlan& plan) const {
    std::map<std::string, std::string>& variables = plan.environment;
    // How a program inside the session finds this installation's settings.
    for (const std::string& variable : io::environment_variables()) {
        const auto equals = variable.find('=');
        if (!variable.starts_with(kWorkerVariables) || equals == std::string::npos) continue;
        variables.insert_or_assign(variable.substr(0, equals), variable.substr(equals + 1));
    }
    variables["IW_SESSION_ID"] = plan.attempt.session.str();
    variables["IW_ATTEMPT"] = std::to_string(plan.attempt.fence.attempt);
    variables["IW_GENERATION"] = std::to_string(plan.attempt.fence.generation);
    variables["IW_WORKSPACE"] = plan.workspace;
    variables["IW_PROMPT_FILE"] = plan.workspace + "/prompt.md";
    variables["IW_RESULT_FILE"] = plan.workspace + "/result.json";
    variables["IW_PARENT_SESSION"] = action.assignment.parent.str();
    variables["IW_PROJECT_ROOT"] = parts_.options.root;
    variables["IW_SOCKET"] = parts_.sockets.path(plan.attempt);
}

Status SessionRunner::start_tmux(const AttemptRef& attempt) {
    Status started = parts_.tmux.start_session(attempt);
    // A session of that name is this attempt's, from before a crash: the core lets no other attempt
    // of the session start while one holds the name.
    if (started || started.error().code == ErrorCode::conflict) return Done{};
    if (const Status server = parts_.tmux.start_server(); !server) return server;
    started = parts_.tmux.start_session(attempt);
    if (!started && started.error().code == ErrorCode::conflict) return Done{};
    return started;
}

SessionCheckedEvent SessionRunner::check(const AttemptRef& attempt) const {
    const Result<std::vector<Tmux::Session>> sessions = parts_.tmux.list_sessions();
    if (!sessions) {
        const bool no_server = sessions.error().code == ErrorCode::not_found;
        return {attempt, no_server ? Presence::absent : Presence::unknown};
    }
    const bool there = std::ranges::any_of(
        *sessions, [&](const Tmux::Session& session) { return session.id == attempt.session; });
    return {attempt, there ? Presence::present : Presence::absent};
}

// ---- End ---------------------------------------------------------------------------------------

// As it was when the attempt was launched, whatever has become of its profile since, and whichever
// worker process launched it.
SuccessRule SessionRunner::rule_of(const AttemptRef& attempt) const {
    const Result<LaunchPlan> plan = parts_.store.read_plan(attempt);
    return plan ? parse_success_rule(plan->success).value_or(SuccessRule::exit_code)
                : SuccessRule::exit_code;
}

// Where the files of this attempt are by now: in its workspace, below attempts/ once a later one
// has begun there, or in the archive.
std::string SessionRunner::deliverables_folder(const AttemptRef& attempt) const {
    const std::string standing = parts_.project.workspace(attempt.session);
    const std::string archived = parts_.project.archived(attempt.session);
    const bool is_archived = !io::exists(standing) && io::exists(archived);
    const std::string& workspace = is_archived ? archived : standing;
    const Result<std::string> text = workspace::read_state(parts_.project, attempt.session);
    const Result<SessionView> state =
        text ? workspace::view_from_state(*text) : Result<SessionView>(text.error());
    if (!state || state->attempt <= attempt.fence.attempt) return workspace;
    const std::string moved = workspace + "/attempts/" + std::to_string(attempt.fence.attempt);
    return io::exists(moved) ? moved : workspace;
}

Deliverables SessionRunner::read_deliverables(const Judge& action) const {
    Deliverables deliverables;
    const std::string folder = deliverables_folder(action.attempt);
    // Nothing of the agent's can be there before its process was.
    const bool ran = action.end.started_at.has_value() || action.end.cause == EndCause::exited;
    Result<std::optional<workspace::ResultFile>> result = std::optional<workspace::ResultFile>();
    if (ran) result = workspace::read_result(folder);
    if (!result) {
        io::log(io::LogLevel::warn, "cannot read the result", {{"error", result.error().message}});
        deliverables.reason = result.error().message;
    } else if (*result) {
        workspace::ResultFile& file = **result;
        deliverables.result_status = file.status;
        deliverables.result_size = file.size;
        deliverables.result_sha256 = file.sha256;
        deliverables.result_inline = file.inlined;
        deliverables.result = std::move(file.bytes);
    }
    if (action.end.cause != EndCause::exited || !action.end.exit_code) return deliverables;
    const Judgement judgement =
        iw::worker::judge(rule_of(action.attempt), *action.end.exit_code,
                          deliverables.result_size.has_value(), output_tail(folder, kTailBytes));
    deliverables.success = judgement.success;
    if (!judgement.reason.empty()) deliverables.reason = judgement.reason;
    return deliverables;
}

// An agent that says that all went well must also have left what was asked for.
std::optional<SessionRunner::ResultCheck> SessionRunner::result_check(
    const JudgedEvent& event) const {
    if (!event.deliverables.success) return std::nullopt;
    const Result<AttemptFacts> facts = parts_.store.examine(event.attempt);
    if (!facts || !facts->assignment || facts->assignment->result_schema.empty())
        return std::nullopt;
    // Only once: the same was said before, whatever became of the file since.
    if (parts_.store.read_judged(event.attempt)) return std::nullopt;
    return ResultCheck{.schema = facts->assignment->result_schema,
                       .file = deliverables_folder(event.attempt) + "/result.json"};
}

void SessionRunner::take_check(const Result<CheckedResult>& checked, Deliverables& deliverables) {
    if (checked && checked->verdict == ResultVerdict::fits) return;
    const bool missing = checked && checked->verdict == ResultVerdict::missing;
    deliverables.success = false;
    deliverables.fault = missing ? EndCause::result_missing : EndCause::result_invalid;
    deliverables.reason =
        checked ? checked->reason
                : "result.json could not be checked against its schema: " + checked.error().message;
}

// Once for all: what was reported is reported again in the same words, wherever the files are by
// then.
JudgedEvent SessionRunner::judge(const Judge& action) const {
    if (std::optional<JudgedRecord> known = parts_.store.read_judged(action.attempt)) {
        return JudgedEvent{
            .attempt = action.attempt,
            .deliverables = Deliverables{.success = known->success,
                                         .reason = std::move(known->reason),
                                         .result_status = std::move(known->result_status),
                                         .result_size = known->result_size,
                                         .result_sha256 = std::move(known->result_sha256),
                                         .result_inline = known->result_inline,
                                         .result = std::move(known->result),
                                         .fault = known->fault,
                                         .delivered = std::move(known->delivered)}};
    }
    return JudgedEvent{.attempt = action.attempt, .deliverables = read_deliverables(action)};
}

void SessionRunner::record(const JudgedEvent& event) {
    const Deliverables& judged = event.deliverables;
    const JudgedRecord record{.success = judged.success,
                              .reason = judged.reason,
                              .result_status = judged.result_status,
                              .result_size = judged.result_size,
                              .result_sha256 = judged.result_sha256,
                              .result_inline = judged.result_inline,
                              .result = judged.result,
                              .fault = judged.fault,
                              .delivered = judged.delivered};
    // A full disk: it is read again if it is asked for again.
    static_cast<void>(parts_.store.write_judged(event.attempt, record));
}

std::optional<Uploader::Job> SessionRunner::delivery(const Judge& action,
                                                     const JudgedEvent& event) const {
    const Result<AttemptFacts> facts = parts_.store.examine(action.attempt);
    if (!facts || !facts->assignment || !is_away(facts->assignment->origin)) return std::nullopt;
    // Nothing of the agent's can be there before its process was.
    const bool ran = action.end.started_at || action.end.cause == EndCause::exited;
    // Judged before: then what travelled is known, and a broker that was restored may have lost it.
    const bool judged = parts_.store.read_judged(action.attempt).has_value();
    if (!ran || (judged && !event.deliverables.delivered)) return std::nullopt;
    return Uploader::Job{.event = event,
                         .folder = deliverables_folder(action.attempt),
                         .bytes_max = facts->assignment->disk_limit.value_or(kDiskLimit)};
}

DiskEvent SessionRunner::measure(const AttemptRef& attempt) const {
    return {attempt, io::disk_usage(parts_.project.workspace(attempt.session))};
}

// ---- Files -------------------------------------------------------------------------------------

bool SessionRunner::is_away(const Origin& origin) const {
    return !origin.empty() && origin != Origin{parts_.options.host, parts_.options.root};
}

bool SessionRunner::is_ours(const SessionView& session) const {
    return !is_away(session.origin);
}

WrittenEvent SessionRunner::write_started(const WriteStarted& action, WallTime now) {
    WrittenEvent event{
        .attempt = action.attempt, .file = WrittenFile::started, .error = std::nullopt};
    const Status wrote = workspace::write_started(parts_.project, action.view, now);
    if (!wrote) event.error = wrote.error();
    static_cast<void>(workspace::log_project(parts_.project, now, workspace::LogWord::info,
                                             "Session started: " + action.view.id.str()));
    return event;
}

WrittenEvent SessionRunner::write_final(const WriteFinal& action, WallTime now) {
    WrittenEvent event{
        .attempt = action.attempt, .file = WrittenFile::final_files, .error = std::nullopt};
    if (action.outcome.status == SessionStatus::created) return write_return(action, now);
    SessionView outcome = action.outcome;
    outcome.workspace = parts_.project.workspace(outcome.id);
    if (!parts_.store.has(action.attempt)) prepare_delivery(outcome, now);
    const Status wrote = workspace::write_end(parts_.project, outcome, action.before, now);
    if (!wrote && io::free_bytes(parts_.project.root) < kRoomMin) {
        // A full disk passes; the end is written then.
        event.error = wrote.error();
        return event;
    }
    if (!wrote) {
        // Whatever an agent made of its workspace must not keep its session from being closed.
        io::log(io::LogLevel::warn, "the end could not be written into the workspace",
                {{"session", outcome.id.str()}, {"error", wrote.error().message}});
    }
    static_cast<void>(io::remove_file(prompt_copy(outcome.id)));
    const bool good = outcome.status == SessionStatus::completed;
    const std::string& reason = outcome.kill_reason.empty() ? outcome.reason : outcome.kill_reason;
    std::string line =
        "Session ended: " + outcome.id.str() + " " + std::string(name(outcome.status));
    if (!reason.empty()) line += " (" + printable(reason, true) + ")";
    static_cast<void>(workspace::log_project(
        parts_.project, now, good ? workspace::LogWord::info : workspace::LogWord::warn, line));
    return event;
}

// Another attempt follows. What this one left is moved only when that begins, so that it can be
// looked at where it was.
WrittenEvent SessionRunner::write_return(const WriteFinal& action, WallTime now) {
    WrittenEvent event{
        .attempt = action.attempt, .file = WrittenFile::final_files, .error = std::nullopt};
    SessionView view = action.outcome;
    view.workspace = parts_.project.workspace(view.id);
    const Status wrote = workspace::write_returned(parts_.project, view, action.before, now);
    if (!wrote && io::free_bytes(parts_.project.root) < kRoomMin) {
        event.error = wrote.error();
        return event;
    }
    if (!wrote) {
        io::log(io::LogLevel::warn, "the return could not be written into the workspace",
                {{"session", view.id.str()}, {"error", wrote.error().message}});
    }
    std::string line = "Session returned: " + view.id.str() + " attempt " +
                       std::to_string(action.attempt.fence.attempt);
    if (!view.reason.empty()) line += " (" + printable(view.reason, true) + ")";
    static_cast<void>(workspace::log_project(parts_.project, now, workspace::LogWord::warn, line));
    return event;
}

void SessionRunner::note(const NoteSession& action, WallTime now) {
    const auto word =
        action.level == NoteLevel::warn ? workspace::LogWord::warn : workspace::LogWord::info;
    static_cast<void>(
        workspace::log_session(parts_.project, action.session, now, word, action.text));
    static_cast<void>(workspace::log_project(parts_.project, now, word, action.text));
}

// ---- Sessions that run elsewhere ---------------------------------------------------------------

void SessionRunner::write_followed(const SessionView& view, WallTime now) {
    if (view.status == SessionStatus::running) keep_prompt(view.id);
    log_failure(workspace::write_live(parts_.project, view, now), view.id);
}

void SessionRunner::prepare_delivery(const SessionView& outcome, WallTime now) {
    log_failure(workspace::write_run(parts_.project, outcome, now), outcome.id);
}

bool SessionRunner::is_delivered(const WriteFinal& action) const {
    return action.outcome.deliverables && is_final(action.outcome.status) &&
           is_ours(action.outcome) && !parts_.store.has(action.attempt);
}

std::string SessionRunner::prompt_copy(const SessionId& id) const {
    return parts_.options.state_dir + "/prompts/" + id.str();
}

// The broker does not tell it again.
void SessionRunner::keep_prompt(const SessionId& id) const {
    const std::string copy = prompt_copy(id);
    if (io::exists(copy)) return;
    const Result<std::string> prompt =
        io::read_file(parts_.project.workspace(id) + "/prompt.md", limits::kPromptMax);
    if (!prompt || !io::make_folders(io::parent_folder(copy), 0700)) return;
    static_cast<void>(io::write_file(copy, *prompt, 0600, io::Sync::none));
}

std::string SessionRunner::kept_prompt(const SessionId& id) const {
    const Result<std::string> prompt = io::read_file(prompt_copy(id), limits::kPromptMax);
    return prompt ? *prompt : std::string();
}

std::string SessionRunner::away_mark(const SessionId& id) const {
    return parts_.options.state_dir + "/away/" + id.str();
}

// Without a mark the workspace stays for good, which is better than the other way round. So there
// is none where it may be the project's own after all: what stood here before this worker made it
// (the root may be shared by hosts), and what ictl has submitted from this root by the system's
// name for the host, which the worker may have been told to call otherwise.
void SessionRunner::mark_away(const Assignment& assignment) const {
    const SessionId& id = assignment.session;
    const Origin here{io::host_name(), parts_.options.root};
    const bool stands = io::exists(parts_.project.workspace(id));
    if (!is_away(assignment.origin) || assignment.origin == here || stands) return;
    const std::string mark = away_mark(id);
    if (!io::make_folders(io::parent_folder(mark), 0700)) return;
    static_cast<void>(io::write_file(mark, "", 0600, io::Sync::none));
}

// Kept as long as the attempt, so that whoever looks for something there still finds it. What it
// was when it was launched counts: a host that is called otherwise since makes this project's own
// sessions look like somebody else's.
void SessionRunner::remove_away(const AttemptRef& attempt) {
    const std::string mark = away_mark(attempt.session);
    if (!io::exists(mark) || parts_.store.has_siblings(attempt)) return;
    const Status removed = io::remove_tree(parts_.project.workspace(attempt.session));
    if (removed) return static_cast<void>(io::remove_file(mark));
    io::log(io::LogLevel::warn, "workspace not removed",
            {{"session", attempt.session.str()}, {"error", removed.error().message}});
}

}  // namespace iw::worker
