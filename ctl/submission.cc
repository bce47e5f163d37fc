#include "ctl/submission.h"

#include <sys/stat.h>

#include <fstream>

#include "common/base/text.h"
#include "common/io/files.h"
#include "common/io/system_clock.h"
#include "common/workspace/workspace.h"
#include "ctl/context.h"

namespace iw::ctl {
namespace {

using workspace::LogWord;
using workspace::ProjectPaths;

constexpr std::string_view kAgentSuffix = "-agent";

bool is_in_project(const std::string& root, const std::string& agent) {
    const std::string folder = root + "/agents/";
    if (io::exists(folder + agent)) return true;
    if (!agent.ends_with(kAgentSuffix)) return false;
    const std::string bare = agent.substr(0, agent.size() - kAgentSuffix.size());
    return !bare.empty() && io::exists(folder + bare);
}

// The end of a stream that may have none: one byte more than is allowed is enough to refuse it.
std::string read_stream(std::istream& in, std::size_t max) {
    std::string text(max + 1, '\0');
    in.read(text.data(), static_cast<std::streamsize>(text.size()));
    text.resize(static_cast<std::size_t>(in.gcount()));
    return text;
}

void note_in_project(Context& context, const std::string& root, LogWord word,
                     const std::string& text) {
    if (root.empty()) return;
    const Status noted = workspace::log_project(ProjectPaths(root), io::wall_now(), word, text);
    if (!noted) context.terminal().say("ictl: warning: " + noted.error().message);
}

Error unknown_outcome(const Error& error, const std::string& repetition) {
    return make_error(ErrorCode::unknown_outcome,
                      error.message + "; outcome unknown; repeat with " + repetition);
}

Result<SubmitOutcome> send(Context& context, const Submission& submission,
                           const std::string& repetition) {
    Result<BrokerClient*> broker = context.broker(Insistence::patient);
    if (!broker) return broker.error();
    Result<SubmitReply> reply =
        (*broker)->call<SubmitReply>(SubmitRequest{.sessions = {submission}});
    if (!reply && reply.error().code == ErrorCode::unknown_outcome) {
        return unknown_outcome(reply.error(), repetition);
    }
    if (!reply) return reply.error();
    if (reply->sessions.size() != 1) {
        return make_error(ErrorCode::internal, "the broker answered about " +
                                                   std::to_string(reply->sessions.size()) +
                                                   " sessions instead of one");
    }
    SubmitOutcome outcome = std::move(reply->sessions.front());
    if (outcome.error) {
        return describe(ErrorReply{.error = *outcome.error, .matches = {}}, submission.agent.str());
    }
    return outcome;
}

// The accepted session as the broker shows it; made from what is known when it does not answer now:
// the files have to be there, and the worker puts right what differs.
SessionView view_of(Context& context, const Submission& submission, const SessionId& id) {
    Result<BrokerClient*> broker = context.broker(Insistence::patient);
    if (broker) {
        Result<StatusReply> status = (*broker)->status(id.str(), true);
        if (status) return std::move(status->session);
    }
    SessionView view;
    view.id = id;
    view.agent = submission.agent;
    view.project = submission.project;
    view.origin = submission.origin;
    view.created_at = io::wall_now();
    view.parent = submission.parent;
    view.tags = submission.tags;
    view.metadata = submission.metadata;
    view.estimate = submission.estimate;
    return view;
}

}  // namespace

Status check_prompt(std::string_view prompt, const std::string& name) {
    const auto bad = [&](const std::string& what) {
        return make_error(ErrorCode::bad_request, "prompt " + name + " " + what);
    };
    if (trim(prompt).empty()) return bad("is empty; write the task into it");
    if (prompt.size() > limits::kPromptMax) {
        return bad("is over 2 MiB; put the bulk into a file of the project and point to it");
    }
    if (!is_utf8(prompt)) return bad("is not UTF-8 text; convert it first");
    return Done{};
}

Result<std::string> read_prompt(Context& context, const std::string& file) {
    const bool is_stdin = file == "-";
    const std::string name = is_stdin ? "on standard input" : file;
    std::string prompt;
    struct stat status {};
    const bool is_pipe = !is_stdin && ::stat(file.c_str(), &status) == 0 &&
                         (S_ISFIFO(status.st_mode) || S_ISCHR(status.st_mode));
    if (is_stdin) {
        prompt = read_stream(context.terminal().in, limits::kPromptMax);
    } else if (is_pipe) {
        // As from a shell's <(...); it can be read once and has no size.
        std::ifstream stream(file, std::ios::binary);
        prompt = read_stream(stream, limits::kPromptMax);
    } else {
        Result<std::string> bytes = io::read_file(file, limits::kPromptMax);
        if (!bytes && bytes.error().code == ErrorCode::not_found) {
            return make_error(ErrorCode::bad_request,
                              "prompt " + file + " does not exist; give a file, or - for stdin");
        }
        if (!bytes && bytes.error().code == ErrorCode::too_large) {
            return check_prompt(std::string(limits::kPromptMax + 1, 'x'), name).error();
        }
        if (!bytes) {
            return make_error(ErrorCode::bad_request, "prompt " + bytes.error().message);
        }
        prompt = std::move(bytes).value();
    }
    const Status checked = check_prompt(prompt, name);
    if (!checked) return checked.error();
    return prompt;
}

Status create_workspace(Context& context, const SessionView& session, std::string_view prompt) {
    if (session.origin.empty() || session.origin.host != context.host()) return Done{};
    if (is_final(session.status)) return Done{};
    return workspace::create(ProjectPaths(session.origin.root), session, prompt);
}

Status place_submission(Context& context, Submission& submission) {
    const Result<std::optional<Project>> found = context.project();
    if (!found) return found.error();
    if (!*found) return Done{};
    submission.project = (*found)->name;
    const std::string& root = (*found)->root;
    if (root.empty()) return Done{};
    submission.origin = Origin{.host = context.host(), .root = root};
    submission.agent_in_project = is_in_project(root, submission.agent.str());
    return Done{};
}

Result<Submitted> submit_session(Context& context, Submission submission,
                                 const std::string& repeat_with) {
    const Status placed = place_submission(context, submission);
    if (!placed) return placed.error();
    if (!submission.origin.empty()) {
        const Status made = workspace::prepare_project(ProjectPaths(submission.origin.root));
        if (!made) return made.error();
    }
    if (submission.key.empty()) submission.key = io::make_uuid7();
    const std::string repetition = repeat_with + submission.key;
    set_interrupt_note("ictl: interrupted; outcome unknown; repeat with " + repetition);
    const Result<SubmitOutcome> outcome = send(context, submission, repetition);
    set_interrupt_note("");
    const std::string& root = submission.origin.root;
    if (!outcome) {
        const std::string why = outcome.error().message;
        note_in_project(context, root, LogWord::warn,
                        "Create refused: " + submission.agent.str() + ": " + why);
        return outcome.error();
    }
    Submitted submitted{
        .id = outcome->id, .duplicate = outcome->duplicate, .key = submission.key, .workspace = ""};
    if (root.empty()) return submitted;
    submitted.workspace = ProjectPaths(root).workspace(outcome->id);
    const SessionView view = view_of(context, submission, outcome->id);
    // A key may have been used from another project: then the workspace stands there.
    if (!view.workspace.empty()) submitted.workspace = view.workspace;
    const Status made = create_workspace(context, view, submission.prompt);
    if (!made) context.terminal().say("ictl: warning: " + made.error().message);
    if (!outcome->duplicate) {
        note_in_project(
            context, root, LogWord::info,
            "Session created: " + outcome->id.str() + " (agent " + submission.agent.str() + ")");
    }
    return submitted;
}

}  // namespace iw::ctl
