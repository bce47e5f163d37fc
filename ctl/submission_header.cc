#include "ctl/submission_header.h"

#include <algorithm>

#include "common/base/text.h"

namespace iw::ctl {
namespace {

std::string line_words(int line) {
    return "prompt line " + std::to_string(line);
}

void apply_tags(PromptHeader& header, Submission& submission) {
    if (!header.tags) return;
    for (const std::string& tag : header.tags->value) {
        if (std::ranges::find(submission.tags, tag) != submission.tags.end()) continue;
        if (submission.tags.size() >= limits::kTagsMax) {
            header.warnings.push_back(line_words(header.tags->line) + ": issue " + tag +
                                      " is left out; there are " +
                                      std::to_string(limits::kTagsMax) + " tags already");
            continue;
        }
        submission.tags.push_back(tag);
    }
}

// Where a value came from that an option or the prompt's head may say.
template <typename T>
std::string origin_of(const GivenOptions& given, const char* option,
                      const std::optional<HeaderField<T>>& field) {
    if (given.has(option)) return option;
    return field ? line_words(field->line) : "default";
}

std::string retry_words(const std::optional<RetryPolicy>& retry) {
    if (!retry) return "0";
    std::vector<std::string> causes;
    for (const Detail cause : retry->causes)
        causes.emplace_back(name(cause));
    return std::to_string(retry->attempts_max - 1) + ", after " + format_duration(retry->backoff) +
           " to " + format_duration(retry->backoff_max) + ", on " +
           (causes.empty() ? "all but timeout" : join(causes, ", "));
}

std::string after_words(const std::vector<Dependency>& after) {
    std::vector<std::string> words;
    for (const Dependency& dependency : after)
        words.push_back(dependency.id.str() + ":" + std::string(name(dependency.on)));
    return join(words, ", ");
}

std::string label_words(const std::map<std::string, std::string>& labels) {
    std::vector<std::string> words;
    for (const auto& [label, value] : labels)
        words.push_back(label + "=" + value);
    return join(words, ", ");
}

// The rows, left out where there is nothing to say.
class Rows {
  public:
    explicit Rows(const GivenOptions& given) : given_(given) {}
    void add(const char* what, const std::string& value, const std::string& origin) {
        if (!value.empty()) rows_.push_back({.name = what, .value = value, .origin = origin});
    }
    void add_option(const char* what, const std::string& value, const char* option) {
        add(what, value, given_.has(option) ? option : "default");
    }
    std::vector<SubmissionValue> take() { return std::move(rows_); }

  private:
    const GivenOptions& given_;
    std::vector<SubmissionValue> rows_;
};

}  // namespace

bool GivenOptions::has(std::string_view name) const {
    return std::ranges::find(names, name) != names.end();
}

void apply_header(PromptHeader& header, const HeaderRules& rules, Submission& submission) {
    if (header.priority && !rules.keep_priority) submission.priority = header.priority->value;
    if (header.estimate && !rules.keep_estimate) submission.estimate = header.estimate->value;
    apply_tags(header, submission);
    if (!header.timeout || rules.keep_timeout) return;
    if (rules.timeout_max && header.timeout->value > *rules.timeout_max) {
        header.warnings.push_back(line_words(header.timeout->line) + ": max duration \"" +
                                  header.timeout->text + "\" is over the limit of " +
                                  format_duration(*rules.timeout_max) +
                                  " in scripts/ops/config.sh, which counts");
        return;
    }
    submission.timeout = header.timeout->value;
}

std::vector<SubmissionValue> submission_values(const Submission& submission,
                                               const PromptHeader& header,
                                               const GivenOptions& given) {
    Rows rows(given);
    rows.add("agent", submission.agent.str(),
             submission.agent_in_project ? "agents/ of the project" : "argument");
    rows.add("prompt", std::to_string(submission.prompt.size()) + " bytes", "argument");
    rows.add("project", submission.project, "project");
    if (!submission.origin.empty()) {
        rows.add("workspace on", submission.origin.host + ":" + submission.origin.root, "project");
    }
    rows.add("priority", std::to_string(submission.priority),
             origin_of(given, "--priority", header.priority));
    rows.add("timeout", format_duration(submission.timeout),
             origin_of(given, "--timeout", header.timeout));
    rows.add("estimate", submission.estimate ? format_duration(*submission.estimate) : "",
             origin_of(given, "--estimate", header.estimate));
    std::vector<std::string> origins;
    if (given.has("--tag")) origins.emplace_back("--tag");
    if (header.tags) origins.push_back(line_words(header.tags->line));
    rows.add("tags", join(submission.tags, ", "), join(origins, ", "));
    if (submission.delay > Duration(0))
        rows.add("delay", format_duration(submission.delay), "--delay");
    rows.add("expires", submission.expires ? format_duration(*submission.expires) : "",
             "--expires");
    rows.add("after", after_words(submission.after), "--after");
    rows.add_option("retries", retry_words(submission.retry), "--retries");
    rows.add_option("on lost", std::string(name(submission.on_lost)), "--on-lost");
    rows.add("host", submission.host, "--host");
    rows.add("require", label_words(submission.require), "--require");
    rows.add("result schema",
             submission.result_schema.empty()
                 ? ""
                 : std::to_string(submission.result_schema.size()) + " bytes",
             "--result-schema");
    rows.add("metadata", submission.metadata, "--metadata");
    rows.add("key", submission.key, "--key");
    rows.add("keep children", submission.keep_children ? "yes" : "", "--keep-children");
    rows.add("queue anyway", submission.queue_anyway ? "yes" : "", "--queue-anyway");
    return rows.take();
}

}  // namespace iw::ctl
