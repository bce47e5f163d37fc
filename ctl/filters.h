#pragma once

// The filters that list and kill share.

#include <string>
#include <vector>

#include "common/base/result.h"
#include "common/messages/messages.h"
#include "ctl/broker_client.h"

namespace CLI {
class App;
}

namespace iw::ctl {

class Context;

struct SessionFilter {
    std::vector<std::string> status;  // words, also joined by commas
    std::string agent;
    std::string tag;
    bool all = false;

    bool empty() const { return status.empty() && agent.empty() && tag.empty() && !all; }
};

// --status, --agent, --tag, --all.
void declare_filter(CLI::App& app, SessionFilter& filter, const std::string& all_help);

// What to ask the broker: this project's sessions (without a project: everybody's). bad_request
// names a status or an agent that is none.
Result<ListRequest> to_request(Context& context, const SessionFilter& filter);

}  // namespace iw::ctl
