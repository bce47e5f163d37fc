#pragma once

// The options of `submit` that say what is submitted, and how they become a submission.

#include <optional>
#include <string>
#include <vector>

#include "common/base/result.h"
#include "common/messages/messages.h"
#include "ctl/submission_header.h"

namespace CLI {
class App;
}

namespace iw::ctl {

class Context;

struct SubmissionOptions {
    std::string agent;
    std::optional<std::string> key;
    std::string priority;
    std::string timeout;
    std::string estimate;
    std::string result_schema;  // a file
    std::string host;
    std::vector<std::string> require;
    std::vector<std::string> tags;
    std::string delay;
    std::string expires;
    std::string on_lost;
    std::optional<int> retries;
    std::string backoff;
    std::string backoff_max;
    std::string retry_on;
    std::vector<std::string> after;
    bool keep_children = false;
    std::string metadata;
    bool queue_anyway = false;
};

// Adds the agent and the options to the command's parser.
void declare_submission(CLI::App& app, SubmissionOptions& options);

// The options that were given, by their long names.
GivenOptions given_options(const CLI::App& app);
// Which values of a prompt's head the options leave.
HeaderRules header_rules(const GivenOptions& given);

// Reads the schema's file. Without prompt, place and dependencies. bad_request names the option and
// what it takes.
Result<Submission> to_submission(const SubmissionOptions& options);

// Puts in what --after names, by full id or unique beginning. bad_request for a condition that is
// none; errors of the broker pass.
Status find_dependencies(Context& context, const SubmissionOptions& options,
                         Submission& submission);

}  // namespace iw::ctl
