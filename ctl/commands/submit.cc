#include <CLI/CLI.hpp>
#include <memory>

#include "common/base/text.h"
#include "ctl/attachment.h"
#include "ctl/command.h"
#include "ctl/context.h"
#include "ctl/exit_code.h"
#include "ctl/json.h"
#include "ctl/reporting.h"
#include "ctl/submission.h"

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

Exit codes: 0 accepted; 64 wrong arguments or unknown agent; 66 the prompt cannot be used;
69 no broker; 75 outcome unknown (repeat with the --key it names) or not now; 77 denied.
With --wait: those of `wait`.
)";

struct Options {
    std::string agent;
    std::string file;
    std::string key;
    std::string priority;
    std::string timeout;
    std::string host;
    std::vector<std::string> require;
    std::vector<std::string> tags;
    std::string delay;
    std::string expires;
    std::string on_lost;
    std::string metadata;
    bool queue_anyway = false;
    bool wait = false;
    bool attach = false;
    bool json = false;
    bool given_key = false;
};

Error usage(const std::string& text) {
    return make_error(ErrorCode::bad_request, text);
}

Result<int> parse_priority(const std::string& text) {
    if (text.empty() || text == "normal") return 0;
    if (text == "low") return -10;
    if (text == "high") return 10;
    long long value = 0;
    if (!parse_int(text, limits::kPriorityMin, limits::kPriorityMax, value)) {
        return usage("bad --priority \"" + text + "\"; give low, normal, high or -100 to 100");
    }
    return static_cast<int>(value);
}

Result<std::optional<Duration>> parse_time(const std::string& option, const std::string& text) {
    if (text.empty()) return std::optional<Duration>();
    const Result<Duration> time = parse_duration(text);
    if (!time) return usage(option + ": " + time.error().message);
    return std::optional(*time);
}

Status parse_times(const Options& options, Submission& submission) {
    const Result<std::optional<Duration>> timeout = parse_time("--timeout", options.timeout);
    if (!timeout) return timeout.error();
    const Result<std::optional<Duration>> delay = parse_time("--delay", options.delay);
    if (!delay) return delay.error();
    const Result<std::optional<Duration>> expires = parse_time("--expires", options.expires);
    if (!expires) return expires.error();
    submission.timeout = timeout->value_or(limits::kRunTimeoutDefault);
    submission.delay = delay->value_or(Duration(0));
    submission.expires = *expires;
    if (*expires && **expires <= submission.delay) {
        return usage("--expires " + options.expires + " is not after --delay " + options.delay +
                     "; it would never start");
    }
    return Done{};
}

Status parse_labels(const Options& options, Submission& submission) {
    for (const std::string& text : options.require) {
        const std::size_t sign = text.find('=');
        if (sign == std::string::npos || sign == 0) {
            return usage("bad --require \"" + text + "\"; give a label as name=value");
        }
        submission.require[text.substr(0, sign)] = text.substr(sign + 1);
    }
    if (options.tags.size() > limits::kTagsMax) {
        return usage("too many --tag: " + std::to_string(options.tags.size()) + "; at most " +
                     std::to_string(limits::kTagsMax));
    }
    for (const std::string& tag : options.tags) {
        if (tag.empty() || tag.size() > limits::kTagBytesMax || !is_utf8(tag)) {
            return usage("bad --tag \"" + tag + "\"; 1 to 128 bytes of text");
        }
    }
    submission.tags = options.tags;
    return Done{};
}

Status parse_names(const Options& options, Submission& submission) {
    if (!is_agent_name(options.agent)) {
        return usage(
            "\"" + options.agent +
            "\" is no agent's name; names are a-z, 0-9, - and _, at most 64, and begin with "
            "a letter or digit");
    }
    if (options.given_key && (options.key.empty() || options.key.size() > limits::kKeyMax)) {
        return usage("bad --key; 1 to 128 bytes");
    }
    if (!options.host.empty() && !is_plain_name(options.host)) {
        return usage("\"" + options.host + "\" is no host's name");
    }
    const std::string on_lost = options.on_lost.empty() ? "wait" : options.on_lost;
    const std::optional<OnLost> policy = parse_on_lost(on_lost);
    if (!policy) {
        return usage("bad --on-lost \"" + on_lost + "\"; give wait, requeue or fail");
    }
    submission.agent = AgentName(options.agent);
    submission.key = options.key;
    submission.host = options.host;
    submission.on_lost = *policy;
    submission.queue_anyway = options.queue_anyway;
    return Done{};
}

Result<Submission> to_submission(const Options& options) {
    Submission submission;
    const Result<int> priority = parse_priority(options.priority);
    if (!priority) return priority.error();
    submission.priority = *priority;
    for (const auto& parse : {parse_names, parse_times, parse_labels}) {
        const Status parsed = parse(options, submission);
        if (!parsed) return parsed.error();
    }
    if (!options.metadata.empty()) {
        const Status checked = check_metadata(options.metadata);
        if (!checked) return checked.error();
        submission.metadata = options.metadata;
    }
    return submission;
}

void tell(const Terminal& terminal, const Submitted& submitted) {
    if (!terminal.out_is_terminal) return;
    if (submitted.duplicate) terminal.say("Known key: this session exists already.");
    if (!submitted.workspace.empty()) terminal.say("Workspace: " + submitted.workspace);
    terminal.say("Attach:    ictl attach " + submitted.id.str());
    terminal.say("Wait:      ictl wait " + submitted.id.str());
}

int run(Context& context, const Options& options) {
    const Terminal& terminal = context.terminal();
    if (options.wait && options.attach) {
        return terminal.fail(kExitUsage, "--wait and --attach exclude each other; give one");
    }
    Result<Submission> submission = to_submission(options);
    if (!submission) return terminal.fail(kExitUsage, submission.error().message);
    Result<std::string> prompt = read_prompt(context, options.file);
    if (!prompt) return terminal.fail(kExitNoInput, prompt.error().message);
    submission->prompt = std::move(*prompt);
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
    app.add_option("agent", options->agent, "the agent that does it")->required();
    app.add_option("prompt-file", options->file, "the task; - reads standard input")->required();
    app.add_flag("--wait", options->wait, "wait for the end");
    app.add_flag("--attach", options->attach, "enter its terminal once it runs");
    CLI::Option* key = app.add_option("--key", options->key,
                                      "idempotency key: the same key gives the same session");
    key->type_name("K");
    app.add_option("--priority", options->priority, "low, normal, high or -100 to 100")
        ->type_name("P");
    app.add_option("--timeout", options->timeout, "run time, then KILLED (24h)")->type_name("D");
    app.add_option("--delay", options->delay, "start no earlier than this from now")
        ->type_name("D");
    app.add_option("--expires", options->expires, "give up if not started within this")
        ->type_name("D");
    app.add_option("--host", options->host, "run on this host only")->type_name("H");
    app.add_option("--require", options->require, "a label the worker must have")
        ->type_name("NAME=VALUE")
        ->allow_extra_args(false);
    app.add_option("--tag", options->tags, "a tag, may be repeated")
        ->type_name("T")
        ->allow_extra_args(false);
    app.add_option("--on-lost", options->on_lost,
                   "when its host is lost: wait (default), requeue or fail")
        ->type_name("P");
    app.add_option("--metadata", options->metadata, "a JSON object kept with the session")
        ->type_name("JSON");
    app.add_flag("--queue-anyway", options->queue_anyway, "queue although nobody offers the agent");
    app.add_flag("--json", options->json, "print JSON");
    return [options, key](Context& context) {
        options->given_key = key->count() > 0;
        return run(context, *options);
    };
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
