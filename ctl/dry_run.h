#pragma once

// What would become of a submission, without making it.

#include <optional>
#include <string>
#include <vector>

#include "common/base/result.h"
#include "common/messages/messages.h"
#include "ctl/explaining.h"
#include "ctl/submission_header.h"

namespace iw::ctl {

class Context;

struct DryRun {
    std::vector<SubmissionValue> values;
    std::vector<std::string> warnings;  // about the prompt's head
    std::vector<std::string> notes;     // what holds the fleet back
    std::vector<WorkerChance> workers;  // that could run it now, or why not
    std::optional<Error> refusal;       // what submit would answer; none: it would be accepted
};

// The refusal and the workers, from what the broker shows. Pure.
void judge_submission(const Submission& submission, const std::vector<WorkerView>& workers,
                      const FleetReply& fleet, DryRun& run);

// Asks the broker (reads only), prints, and returns the exit code that submit would have: 0, 64 for
// an unknown agent, 75 while nothing is accepted; without a broker the values and 69.
int dry_run(Context& context, Submission submission, const PromptHeader& header,
            const GivenOptions& given, bool json);

}  // namespace iw::ctl
