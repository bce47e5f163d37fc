#include "broker/core/placement.h"

#include <algorithm>

#include "common/base/check.h"

namespace iw::broker {

PlacementClass* PlacementTable::join(const Submission& submission) {
    Placement placement{.agent = submission.agent,
                        .project = submission.project,
                        .origin = submission.origin,
                        .host = submission.host,
                        .require = submission.require,
                        .agent_in_project = submission.agent_in_project};
    std::unique_ptr<PlacementClass>& slot = classes_[placement];
    if (!slot) {
        slot = std::make_unique<PlacementClass>();
        slot->placement = std::move(placement);
        slot->number = next_number_++;
    }
    ++slot->sessions;
    return slot.get();
}

void PlacementTable::leave(PlacementClass* placement) {
    IW_CHECK(placement != nullptr);
    IW_CHECK(placement->sessions > 0);
    if (--placement->sessions > 0) return;
    const auto found = classes_.find(placement->placement);
    IW_CHECK(found != classes_.end());
    classes_.erase(found);
}

bool is_at(const WorkerRegistered& worker, const Origin& origin) {
    return worker.root == origin.root && worker.host == origin.host;
}

namespace {

bool offers(const WorkerRegistered& worker, const Placement& placement) {
    // The project's own agents are files in its root, which the submitter has seen there. Other
    // roots of the project may be older.
    const bool is_seen = placement.origin.empty() || is_at(worker, placement.origin);
    if (placement.agent_in_project && is_seen && !placement.project.empty() &&
        worker.project == placement.project) {
        return true;
    }
    return std::find(worker.agents.begin(), worker.agents.end(), placement.agent.str()) !=
           worker.agents.end();
}

}  // namespace

bool can_run(const WorkerRegistered& worker, const Placement& placement) {
    if (!offers(worker, placement)) return false;
    if (!placement.project.empty() && placement.project != worker.project) return false;
    // Without a project nothing says that another root would do.
    const bool is_bound = placement.project.empty() && !placement.origin.empty();
    if (is_bound && !is_at(worker, placement.origin)) return false;
    const std::string& host = placement.host;
    if (!host.empty() && host != worker.host && host != worker.name.str()) return false;
    return std::all_of(placement.require.begin(), placement.require.end(), [&](const auto& label) {
        const auto has = worker.labels.find(label.first);
        return has != worker.labels.end() && has->second == label.second;
    });
}

std::string wanted(const Placement& placement) {
    std::string text = "offers " + placement.agent.str();
    if (!placement.project.empty()) text += " for project " + placement.project;
    if (placement.project.empty() && !placement.origin.empty())
        text += " at " + placement.origin.host + ":" + placement.origin.root;
    if (!placement.host.empty()) text += " on " + placement.host;
    for (const auto& [label, value] : placement.require)
        text += ", has " + label + "=" + value;
    return text;
}

}  // namespace iw::broker
