#include "worker/session_runner.h"

#include <algorithm>
#include <utility>

#include "common/base/text.h"
#include "common/io/files.h"
#include "common/io/logging.h"
#include "worker/disk_usage.h"

namespace iw::worker {
namespace {

// The last event of an agent's stream stands near the end of its output.
constexpr std::size_t kTailBytes = 256 << 10;
constexpr std::uint64_t kRoomMin = 64u << 10;  // less is a full disk
constexpr std::string_view kWorkerVariables = "IW_CFG_";

LaunchedEvent failed(const AttemptRef& attempt, LaunchOutcome outcome, const Error& error) {
    return LaunchedEvent{.attempt = attempt, .outcome = outcome, .reason = error.message};
}

}  // namespace

// ---- Launch ------------------------------------------------------------------------------------

LaunchedEvent SessionRunner::launch(const Launch& action) {
    const AttemptRef attempt{action.assignment.session, action.assignment.fence};
    const std::string folder = parts_.store.folder(attempt);
    const Result<std::string> prompt = io::read_file(folder + "/prompt.md", limits::kPromptMax);
    if (!prompt) return failed(attempt, LaunchOutcome::platform_fault, prompt.error());
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
    if (const Status started = start_tmux(attempt); !started) {
        return failed(attempt, LaunchOutcome::platform_fault, started.error());
    }
    return LaunchedEvent{.attempt = attempt, .outcome = LaunchOutcome::launched, .reason = ""};
}

Status SessionRunner::prepare_workspace(const Launch& action, const std::string& prompt) {
    if (const Status made = workspace::prepare_project(parts_.project); !made) return made;
    if (const Status made = workspace::create(parts_.project, action.view, prompt); !made)
        return made;
    const std::uint32_t number = action.assignment.fence.attempt;
    if (number <= 1) return Done{};
    return workspace::begin_attempt(parts_.project, action.assignment.session, number);
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
                    .stop_grace = parts_.options.stop_grace};
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

JudgedEvent SessionRunner::judge(const Judge& action) {
    JudgedEvent event{.attempt = action.attempt, .deliverables = {}};
    Deliverables& deliverables = event.deliverables;
    const std::string workspace = parts_.project.workspace(action.attempt.session);
    // Nothing of the agent's can be there before its process was.
    const bool ran = action.end.started_at.has_value() || action.end.cause == EndCause::exited;
    Result<std::optional<workspace::ResultFile>> result = std::optional<workspace::ResultFile>();
    if (ran) result = workspace::read_result(workspace);
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
    const SuccessRule rule = rule_of(action.attempt);
    if (action.end.cause != EndCause::exited || !action.end.exit_code) return event;
    const Judgement judgement =
        iw::worker::judge(rule, *action.end.exit_code, deliverables.result_size.has_value(),
                          output_tail(workspace, kTailBytes));
    deliverables.success = judgement.success;
    if (!judgement.reason.empty()) deliverables.reason = judgement.reason;
    return event;
}

DiskEvent SessionRunner::measure(const AttemptRef& attempt) const {
    return {attempt, disk_usage(parts_.project.workspace(attempt.session))};
}

// ---- Files -------------------------------------------------------------------------------------

bool SessionRunner::is_ours(const SessionView& session) const {
    return session.origin.empty() ||
           session.origin == Origin{parts_.options.host, parts_.options.root};
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
    // Files of another root are not ours to write; that counts as written.
    if (!is_ours(action.outcome)) return event;
    SessionView outcome = action.outcome;
    if (outcome.workspace.empty()) outcome.workspace = parts_.project.workspace(outcome.id);
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
    const bool good = outcome.status == SessionStatus::completed;
    const std::string& reason = outcome.kill_reason.empty() ? outcome.reason : outcome.kill_reason;
    std::string line =
        "Session ended: " + outcome.id.str() + " " + std::string(name(outcome.status));
    if (!reason.empty()) line += " (" + printable(reason, true) + ")";
    static_cast<void>(workspace::log_project(
        parts_.project, now, good ? workspace::LogWord::info : workspace::LogWord::warn, line));
    return event;
}

void SessionRunner::note(const NoteSession& action, WallTime now) {
    const auto word =
        action.level == NoteLevel::warn ? workspace::LogWord::warn : workspace::LogWord::info;
    static_cast<void>(
        workspace::log_session(parts_.project, action.session, now, word, action.text));
    static_cast<void>(workspace::log_project(parts_.project, now, word, action.text));
}

}  // namespace iw::worker
