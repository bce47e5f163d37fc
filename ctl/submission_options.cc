#include "ctl/submission_options.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>

#include "common/base/text.h"
#include "common/io/files.h"
#include "common/schema/result_schema.h"
#include "ctl/context.h"
#include "ctl/json.h"

namespace iw::ctl {
namespace {

constexpr std::array<Detail, 6> kRetryCauses = {Detail::exited,         Detail::signal,
                                                Detail::disk_limit,     Detail::result_missing,
                                                Detail::result_invalid, Detail::timeout};

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

Status parse_times(const SubmissionOptions& options, Submission& submission) {
    const Result<std::optional<Duration>> timeout = parse_time("--timeout", options.timeout);
    if (!timeout) return timeout.error();
    const Result<std::optional<Duration>> delay = parse_time("--delay", options.delay);
    if (!delay) return delay.error();
    const Result<std::optional<Duration>> estimate = parse_time("--estimate", options.estimate);
    if (!estimate) return estimate.error();
    const Result<std::optional<Duration>> expires = parse_time("--expires", options.expires);
    if (!expires) return expires.error();
    submission.timeout = timeout->value_or(limits::kRunTimeoutDefault);
    submission.delay = delay->value_or(Duration(0));
    submission.estimate = *estimate;
    submission.expires = *expires;
    if (*expires && **expires <= submission.delay) {
        return usage("--expires " + options.expires + " is not after --delay " + options.delay +
                     "; it would never start");
    }
    return Done{};
}

Status parse_labels(const SubmissionOptions& options, Submission& submission) {
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

Status parse_names(const SubmissionOptions& options, Submission& submission) {
    if (!is_agent_name(options.agent)) {
        return usage(
            "\"" + options.agent +
            "\" is no agent's name; names are a-z, 0-9, - and _, at most 64, and begin with "
            "a letter or digit");
    }
    if (options.key && (options.key->empty() || options.key->size() > limits::kKeyMax)) {
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
    submission.key = options.key.value_or("");
    submission.host = options.host;
    submission.on_lost = *policy;
    submission.queue_anyway = options.queue_anyway;
    submission.keep_children = options.keep_children;
    return Done{};
}

Result<std::vector<Detail>> parse_causes(const std::string& text) {
    std::vector<std::string> words;
    for (const Detail cause : kRetryCauses)
        words.emplace_back(name(cause));
    std::vector<Detail> causes;
    for (const std::string& part : split(text, ',')) {
        const std::string word(trim(part));
        const auto found = std::ranges::find(words, word);
        if (found == words.end()) {
            const std::string near = nearest(word, words);
            return usage("--retry-on: no cause is called \"" + word + "\"" +
                         (near.empty() ? "" : "; did you mean " + near + "?") + " There are " +
                         join(words, ", "));
        }
        const Detail cause = kRetryCauses[static_cast<std::size_t>(found - words.begin())];
        if (std::ranges::find(causes, cause) == causes.end()) causes.push_back(cause);
    }
    return causes;
}

Status parse_retries(const SubmissionOptions& options, Submission& submission) {
    const int retries = options.retries.value_or(0);
    if (retries < 0 || retries >= static_cast<int>(limits::kAttemptsMax)) {
        return usage("bad --retries " + std::to_string(retries) + "; give 0 to " +
                     std::to_string(limits::kAttemptsMax - 1));
    }
    const bool says_how =
        !options.backoff.empty() || !options.backoff_max.empty() || !options.retry_on.empty();
    if (retries == 0) {
        if (!says_how) return Done{};
        return usage("--backoff, --backoff-max and --retry-on need --retries N");
    }
    RetryPolicy policy;
    policy.attempts_max = static_cast<std::uint32_t>(retries) + 1;
    const Result<std::optional<Duration>> first = parse_time("--backoff", options.backoff);
    if (!first) return first.error();
    const Result<std::optional<Duration>> longest =
        parse_time("--backoff-max", options.backoff_max);
    if (!longest) return longest.error();
    policy.backoff = first->value_or(policy.backoff);
    policy.backoff_max = longest->value_or(std::max(policy.backoff, policy.backoff_max));
    if (policy.backoff_max < policy.backoff) {
        return usage("--backoff-max " + options.backoff_max + " is less than --backoff " +
                     format_duration(policy.backoff));
    }
    if (!options.retry_on.empty()) {
        Result<std::vector<Detail>> causes = parse_causes(options.retry_on);
        if (!causes) return causes.error();
        policy.causes = std::move(*causes);
    }
    submission.retry = policy;
    return Done{};
}

Result<std::string> read_schema(const std::string& file) {
    Result<std::string> text = io::read_file(file, schema::kSchemaMax);
    if (!text && text.error().code == ErrorCode::not_found)
        return usage("--result-schema " + file + " does not exist; give a file with a JSON Schema");
    if (!text && text.error().code == ErrorCode::too_large)
        return usage("--result-schema " + file + " is over 64 KiB");
    if (!text) return usage("--result-schema: " + text.error().message);
    const Status checked = schema::check_schema(*text);
    if (!checked) {
        return usage("--result-schema " + file + " is no JSON Schema: " + checked.error().message);
    }
    return text;
}

Result<Dependency> find_dependency(BrokerClient& broker, const std::string& text) {
    const std::size_t colon = text.find(':');
    Dependency dependency;
    if (colon != std::string::npos) {
        const std::optional<AfterCondition> condition =
            parse_after_condition(text.substr(colon + 1));
        if (!condition) {
            return usage("bad --after \"" + text +
                         "\"; write ID, ID:success, ID:failure or ID:end");
        }
        dependency.on = *condition;
    }
    const std::string id = text.substr(0, colon);
    if (trim(id).empty()) {
        return usage("--after names no session; did create fail? see logs/orchestrator.log");
    }
    Result<StatusReply> status = broker.status(id, false);
    if (!status) return make_error(status.error().code, "--after: " + status.error().message);
    dependency.id = std::move(status->session.id);
    return dependency;
}

}  // namespace

void declare_submission(CLI::App& app, SubmissionOptions& options) {
    const auto text = [&app](const char* flag, std::string& value, const char* help,
                             const char* type) {
        app.add_option(flag, value, help)->type_name(type);
    };
    const auto texts = [&app](const char* flag, std::vector<std::string>& values, const char* help,
                              const char* type) {
        app.add_option(flag, values, help)->type_name(type)->allow_extra_args(false);
    };
    app.add_option("agent", options.agent, "the agent that does it")->required();
    app.add_option("--key", options.key, "idempotency key: the same key gives the same session")
        ->type_name("K");
    text("--priority", options.priority, "low, normal, high or -100 to 100", "P");
    text("--timeout", options.timeout, "run time of an attempt, then KILLED (24h)", "D");
    text("--estimate", options.estimate, "how long it should run: past it, it shows as overdue",
         "D");
    text("--result-schema", options.result_schema,
         "JSON Schema that result.json must fit, else FAILED (result-missing, result-invalid)",
         "FILE");
    text("--delay", options.delay, "start no earlier than this from now", "D");
    text("--expires", options.expires, "give up if not started within this", "D");
    texts("--after", options.after, "start once that session has ended so; may be repeated",
          "ID[:success|failure|end]");
    app.add_option("--retries", options.retries, "run it again this often when it fails (0)")
        ->type_name("N");
    text("--backoff", options.backoff, "before the first retry (10s); doubles", "D");
    text("--backoff-max", options.backoff_max, "and grows no further than this (10m)", "D");
    text("--retry-on", options.retry_on,
         "only for these causes: exited, signal, disk-limit, result-missing, result-invalid, "
         "timeout (all but timeout)",
         "CAUSES");
    text("--on-lost", options.on_lost, "when its host is lost: wait (default), requeue or fail",
         "P");
    app.add_flag("--keep-children", options.keep_children,
                 "its unfinished children live on when it is run again");
    text("--host", options.host, "run on this host only", "H");
    texts("--require", options.require, "a label the worker must have", "NAME=VALUE");
    texts("--tag", options.tags, "a tag, may be repeated", "T");
    text("--metadata", options.metadata, "a JSON object kept with the session", "JSON");
    app.add_flag("--queue-anyway", options.queue_anyway, "queue although nobody offers the agent");
}

GivenOptions given_options(const CLI::App& app) {
    GivenOptions given;
    for (const CLI::Option* option : app.get_options()) {
        if (option->count() == 0) continue;
        for (const std::string& word : option->get_lnames())
            given.names.push_back("--" + word);
    }
    return given;
}

HeaderRules header_rules(const GivenOptions& given) {
    return {.keep_priority = given.has("--priority"),
            .keep_timeout = given.has("--timeout"),
            .keep_estimate = given.has("--estimate"),
            .timeout_max = std::nullopt};
}

Result<Submission> to_submission(const SubmissionOptions& options) {
    Submission submission;
    const Result<int> priority = parse_priority(options.priority);
    if (!priority) return priority.error();
    submission.priority = *priority;
    for (const auto& parse : {parse_names, parse_times, parse_labels, parse_retries}) {
        const Status parsed = parse(options, submission);
        if (!parsed) return parsed.error();
    }
    if (!options.result_schema.empty()) {
        Result<std::string> schema = read_schema(options.result_schema);
        if (!schema) return schema.error();
        submission.result_schema = std::move(*schema);
    }
    if (!options.metadata.empty()) {
        const Status checked = check_metadata(options.metadata);
        if (!checked) return checked.error();
        submission.metadata = options.metadata;
    }
    return submission;
}

Status find_dependencies(Context& context, const SubmissionOptions& options,
                         Submission& submission) {
    if (options.after.empty()) return Done{};
    if (options.after.size() > limits::kDependenciesMax) {
        return usage("too many --after: " + std::to_string(options.after.size()) + "; at most " +
                     std::to_string(limits::kDependenciesMax));
    }
    Result<BrokerClient*> broker = context.broker(Insistence::patient);
    if (!broker) return broker.error();
    for (const std::string& text : options.after) {
        Result<Dependency> dependency = find_dependency(**broker, text);
        if (!dependency) return dependency.error();
        submission.after.push_back(std::move(*dependency));
    }
    return Done{};
}

}  // namespace iw::ctl
