#include "ctl/pausing.h"

#include "ctl/context.h"

namespace iw::ctl {

Result<HoldRequest> pause_target(Context& context, const std::string& agent) {
    if (!agent.empty()) {
        if (is_agent_name(agent)) return HoldRequest{.scope = HoldScope::agent, .name = agent};
        return make_error(ErrorCode::bad_request, "--agent \"" + agent + "\" is no agent's name");
    }
    if (context.options().project.empty()) return HoldRequest{.scope = HoldScope::fleet};
    const Result<std::optional<Project>> project = context.project();
    if (!project) return project.error();
    return HoldRequest{.scope = HoldScope::project, .name = (*project)->name};
}

}  // namespace iw::ctl
