#include <CLI/CLI.hpp>
#include <memory>

#include "ctl/attachment.h"
#include "ctl/command.h"
#include "ctl/context.h"
#include "ctl/dry_run.h"
#include "ctl/exit_code.h"
#include "ctl/json.h"
#include "ctl/reporting.h"
#include "ctl/submission.h"
#include "ctl/submission_options.h"

namespace iw::ctl {
namespace {

constexpr const char* kDetails =
    R"(The session's id is all that goes to standard output, so that ID=$(ictl submit ...) works.
When it returns, the session is on the broker's disk and its files stand in
docs/.scratch/sessions/<id>/.

Examples:
  ictl submit grafana-agent task.md
  echo "Say hello" | ictl submit claude - --wait
  ictl submit claude task.md --priority high --timeout 2h --tag nightly --key build-17
  ictl submit claude task.md --attach
  ictl submit claude task.md --dry-run
  ictl submit claude check.md --result-schema check.schema.json --retries 1
  ictl submit claude fix.md --retries 2 --backoff 1m --retry-on exited,result-missing
  ictl submit claude report.md --after $BUILD --after $TESTS:end

The head of the prompt, before its first "## ", may say **Priority**: HIGH (or LOW, NORMAL,
a number), **Issue**: TEF-123 (a tag), **Estimated Duration**: 5 minutes (--estimate) and
**Max Duration**: 1 hour (--timeout); options count more. --dry-run shows what was read and
where each value comes from.

--after waits for another session to end: with success (default), failure, or end for any
end. One that ends otherwise ends this one FAILED (dependency-failed). --retries counts runs
that failed by themselves; a lost host is ruled by --on-lost.

Exit codes: 0 accepted; 4 no such session to come after; 64 wrong arguments or unknown
agent; 66 the prompt cannot be used; 69 no broker; 75 outcome unknown (repeat with the --key
it names) or not now; 77 denied.
With --wait: those of `wait`.
)";

struct Options {
    SubmissionOptions submission;
    std::string file;
    bool wait = false;
    bool attach = false;
    bool dry_run = false;
    bool json = false;
};

void tell(const Terminal& terminal, const Submitted& submitted) {
    if (!terminal.out_is_terminal) return;
    if (submitted.duplicate) terminal.say("Known key: this session exists already.");
    if (!submitted.workspace.empty()) terminal.say("Workspace: " + submitted.workspace);
    terminal.say("Attach:    ictl attach " + submitted.id.str());
    terminal.say("Wait:      ictl wait " + submitted.id.str());
}

int run(Context& context, const Options& options, const GivenOptions& given) {
    const Terminal& terminal = context.terminal();
    if (options.dry_run && (options.wait || options.attach)) {
        return terminal.fail(kExitUsage, "--dry-run makes nothing to wait for or attach to");
    }
    if (options.wait && options.attach) {
        return terminal.fail(kExitUsage, "--wait and --attach exclude each other; give one");
    }
    Result<Submission> submission = to_submission(options.submission);
    if (!submission) return terminal.fail(kExitUsage, submission.error().message);
    Result<std::string> prompt = read_prompt(context, options.file);
    if (!prompt) return terminal.fail(kExitNoInput, prompt.error().message);
    submission->prompt = std::move(*prompt);
    PromptHeader header = parse_prompt_header(submission->prompt);
    apply_header(header, header_rules(given), *submission);
    for (const std::string& warning : header.warnings)
        terminal.say("ictl: warning: " + warning);
    if (const Status found = find_dependencies(context, options.submission, *submission); !found)
        return terminal.fail(found.error());
    if (options.dry_run)
        return dry_run(context, std::move(*submission), header, given, options.json);
    const Result<Submitted> submitted = submit_session(context, std::move(*submission), "--key ");
    if (!submitted && submitted.error().code == ErrorCode::unknown_agent) {
        return terminal.fail(
            exit_code(ErrorCode::unknown_agent),
            submitted.error().message + "; --queue-anyway queues it for a worker to come");
    }
    if (!submitted) return terminal.fail(submitted.error());
    const bool quiet = options.json && options.wait;  // one document is enough
    if (!quiet) {
        terminal.print(options.json ? submitted_json(*submitted) : submitted->id.str() + "\n");
    }
    if (!options.json) tell(terminal, *submitted);
    if (options.attach) return attach_session(context, submitted->id.str(), "");
    if (!options.wait) return kExitOk;
    set_interrupt_note("ictl: no longer waiting; " + submitted->id.str() + " goes on");
    const WaitRequest wait{.ids = {submitted->id.str()}, .json = options.json, .quiet = true};
    return wait_and_report(context, wait);
}

Runner declare(CLI::App& app) {
    auto options = std::make_shared<Options>();
    declare_submission(app, options->submission);
    app.add_option("prompt-file", options->file, "the task; - reads standard input")->required();
    app.add_flag("--wait", options->wait, "wait for the end");
    app.add_flag("--attach", options->attach, "enter its terminal once it runs");
    app.add_flag("--dry-run", options->dry_run,
                 "only print how it was read and where it could run now");
    app.add_flag("--json", options->json, "print JSON");
    return [options, &app](Context& context) { return run(context, *options, given_options(app)); };
}

}  // namespace

Command submit_command() {
    return {.name = "submit",
            .group = kGroupSessions,
            .summary = "Hand a prompt to an agent",
            .details = kDetails,
            .declare = declare};
}

}  // namespace iw::ctl
