#include "ctl/pausing.h"

#include "ctl/context.h"

namespace iw::ctl {

Result<HoldRequest> pause_target(Context& context, const std::string& agent) {
    const bool names_project = !context.options().project.empty();
    if (names_project && !agent.empty()) {
        return make_error(ErrorCode::bad_request,
                          "--project and --agent exclude each other; give one of them");
    }
    if (!agent.empty()) {
        if (is_agent_name(agent)) return HoldRequest{.scope = HoldScope::agent, .name = agent};
        return make_error(ErrorCode::bad_request, "--agent \"" + agent + "\" is no agent's name");
    }
    if (!names_project) return HoldRequest{.scope = HoldScope::fleet};
    const Result<std::optional<Project>> project = context.project();
    if (!project) return project.error();
    return HoldRequest{.scope = HoldScope::project, .name = (*project)->name};
}

}  // namespace iw::ctl
