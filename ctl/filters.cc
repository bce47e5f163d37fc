#include "ctl/filters.h"

#include <CLI/CLI.hpp>
#include <algorithm>

#include "common/base/text.h"
#include "ctl/context.h"

namespace iw::ctl {
namespace {

Result<std::vector<SessionStatus>> parse_statuses(const std::vector<std::string>& texts) {
    std::vector<SessionStatus> statuses;
    for (const std::string& text : texts) {
        for (const std::string& word : split(text, ',')) {
            const std::optional<SessionStatus> status = parse_session_status(trim(word));
            if (!status) {
                return make_error(ErrorCode::bad_request,
                                  "no status is called \"" + word +
                                      "\"; --status takes CREATED, RUNNING, COMPLETED, FAILED, "
                                      "KILLED");
            }
            if (std::ranges::find(statuses, *status) == statuses.end()) {
                statuses.push_back(*status);
            }
        }
    }
    return statuses;
}

}  // namespace

void declare_filter(CLI::App& app, SessionFilter& filter, const std::string& all_help) {
    app.add_option("--status", filter.status, "only these, e.g. CREATED,RUNNING")
        ->type_name("S,..")
        ->allow_extra_args(false);
    app.add_option("--agent", filter.agent, "only of this agent")->type_name("NAME");
    app.add_option("--tag", filter.tag, "only with this tag")->type_name("T");
    app.add_flag("--all", filter.all, all_help);
}

Result<ListRequest> to_request(Context& context, const SessionFilter& filter) {
    ListRequest request;
    Result<std::vector<SessionStatus>> statuses = parse_statuses(filter.status);
    if (!statuses) return statuses.error();
    request.status = std::move(*statuses);
    if (!filter.agent.empty() && !is_agent_name(filter.agent)) {
        return make_error(ErrorCode::bad_request,
                          "--agent \"" + filter.agent + "\" is no agent's name");
    }
    request.agent = filter.agent;
    request.tag = filter.tag;
    const Result<std::optional<Project>> project = context.project();
    if (!project) return project.error();
    if (!*project) return request;
    // Two projects of one name on different roots are different projects.
    if ((*project)->root.empty()) request.project = (*project)->name;
    request.root = (*project)->root;
    return request;
}

}  // namespace iw::ctl
