#include <CLI/CLI.hpp>
#include <memory>

#include "common/base/text.h"
#include "common/io/files.h"
#include "common/workspace/workspace.h"
#include "ctl/command.h"
#include "ctl/context.h"
#include "ctl/exit_code.h"
#include "ctl/json.h"
#include "ctl/submission.h"
#include "ctl/waiting.h"

namespace iw::ctl {
namespace {

constexpr const char* kDetails =
    R"(Makes a new session with the same prompt and settings as one that has ended, and prints its
id, one a line.

Examples:
  ictl retry $ID
  NEW=$(ictl retry $ID) && ictl wait $NEW

Exit codes: 0; 1 it has not ended yet; 4 no such session; 64 wrong arguments; 69 no broker;
75 outcome unknown (repeat with the --key it names); 77 denied.
)";

struct Options {
    std::vector<std::string> ids;
    std::string key;
    bool json = false;
};

// The files of the new session, from the prompt that the old one left. Without it the worker makes
// them.
void copy_prompt(Context& context, BrokerClient& broker, const SessionId& from,
                 const SessionId& made) {
    const Result<StatusReply> status = broker.status(made.str(), true);
    if (!status || status->session.origin.host != context.host()) return;
    const workspace::ProjectPaths project(status->session.origin.root);
    for (const std::string& folder : {project.workspace(from), project.archived(from)}) {
        const Result<std::string> prompt = io::read_file(folder + "/prompt.md", limits::kPromptMax);
        if (!prompt) continue;
        const Status created = create_workspace(context, status->session, *prompt);
        if (!created) context.terminal().say("ictl: warning: " + created.error().message);
        return;
    }
}

Result<Retried> retry_one(Context& context, BrokerClient& broker, const SessionId& id,
                          const std::string& key) {
    set_interrupt_note("ictl: interrupted; outcome unknown; repeat with --key " + key);
    const Result<RetryReply> reply =
        broker.call<RetryReply>(RetryRequest{.id = id.str(), .key = key});
    set_interrupt_note("");
    if (!reply && reply.error().code == ErrorCode::unknown_outcome) {
        return make_error(
            ErrorCode::unknown_outcome,
            reply.error().message + "; repeat `ictl retry " + id.str() + "` with --key " + key);
    }
    if (!reply) return reply.error();
    copy_prompt(context, broker, id, reply->id);
    return Retried{.id = reply->id, .of = id, .key = key};
}

int run(Context& context, const Options& options) {
    const Terminal& terminal = context.terminal();
    if (!options.key.empty() && options.ids.size() > 1) {
        return terminal.fail(kExitUsage, "--key goes with one session; repeat them one by one");
    }
    if (options.key.size() > limits::kKeyMax) {
        return terminal.fail(kExitUsage, "bad --key; 1 to 128 bytes");
    }
    Result<BrokerClient*> broker = context.broker(Insistence::patient);
    if (!broker) return terminal.fail(broker.error());
    // All are looked up before anything is made: a mistyped id changes nothing.
    const Result<Resolved> resolved = resolve(**broker, options.ids, false);
    if (!resolved) return terminal.fail(resolved.error());
    std::vector<Retried> retries;
    int code = kExitOk;
    for (const SessionView& session : resolved->sessions) {
        const std::string key = options.key.empty() ? io::make_uuid7() : options.key;
        Result<Retried> retried = retry_one(context, **broker, session.id, key);
        if (!retried) {
            code = terminal.fail(retried.error());
            continue;
        }
        if (!options.json) terminal.print(retried->id.str() + "\n");
        retries.push_back(std::move(*retried));
    }
    if (options.json) terminal.print(retries_json(retries));
    return code;
}

Runner declare(CLI::App& app) {
    auto options = std::make_shared<Options>();
    app.add_option("id", options->ids, "the sessions")->required();
    app.add_option("--key", options->key, "idempotency key of the new session")->type_name("K");
    app.add_flag("--json", options->json, "print JSON");
    return [options](Context& context) { return run(context, *options); };
}

}  // namespace

Command retry_command() {
    return {.name = "retry",
            .group = kGroupSessions,
            .summary = "Run sessions that ended once more, as new ones",
            .details = kDetails,
            .declare = declare};
}

}  // namespace iw::ctl
