#pragma once

// How the head of a prompt and the options of a command become one submission, and how that is
// told: each value with where it came from. Pure.

#include <optional>
#include <string>
#include <vector>

#include "common/messages/messages.h"
#include "ctl/prompt_header.h"

namespace iw::ctl {

// What counts more than the prompt's head.
struct HeaderRules {
    bool keep_priority = false;           // an option says it
    bool keep_timeout = false;            // an option says it
    bool keep_estimate = false;           // an option says it
    std::optional<Duration> timeout_max;  // config.sh's lifetime; **Max Duration** may say less
};

// Puts the head's priority, tags (besides those that are there), estimate and run timeout into
// `submission` as far as the rules leave them. What of it does not count is added to the warnings.
void apply_header(PromptHeader& header, const HeaderRules& rules, Submission& submission);

// One value of a submission, for people.
struct SubmissionValue {
    std::string name;    // "priority"
    std::string value;   // "10 (HIGH)"
    std::string origin;  // "prompt line 4", "--priority", "default"
};

// Options by their long name ("--priority"), as far as they were given.
struct GivenOptions {
    std::vector<std::string> names;
    bool has(std::string_view name) const;
};

// All values of a submission to which apply_header was done with rules made from `given`.
std::vector<SubmissionValue> submission_values(const Submission& submission,
                                               const PromptHeader& header,
                                               const GivenOptions& given);

}  // namespace iw::ctl
