#pragma once

// Asks `ischema` about a result, from inside the worker.

#include <string>

#include "common/base/result.h"

namespace iw::worker {

enum class ResultVerdict { fits, missing, invalid };

struct CheckedResult {
    ResultVerdict verdict = ResultVerdict::fits;
    std::string reason;  // for people; empty: it fits
};

// `program`: path of ischema. `file`: the result.json. Waits for at most 20 seconds; what takes
// more time or memory than ischema has is invalid. io: the program could not be run.
Result<CheckedResult> check_result(const std::string& program, const std::string& schema,
                                   const std::string& file);

}  // namespace iw::worker
