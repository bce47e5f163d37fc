#pragma once

// Waiting for sessions and saying how they ended: what `wait` and `submit --wait` share.

#include <optional>
#include <string>
#include <vector>

#include "common/base/time.h"

namespace iw::ctl {

class Context;

struct WaitRequest {
    std::vector<std::string> ids;
    std::optional<std::size_t> count;  // this many ends are enough; nothing: all
    std::optional<Duration> timeout;
    bool by_result = false;
    bool json = false;
    bool quiet = false;  // no line per end on standard output: the id alone stands there already
};

// The exit code: worst_end_code, 124 after the timeout, or an error's.
int wait_and_report(Context& context, const WaitRequest& request);

}  // namespace iw::ctl
