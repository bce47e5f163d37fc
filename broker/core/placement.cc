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

namespace {

bool offers(const WorkerRegistered& worker, const Placement& placement) {
    // The project's own agents are files in its root, which every worker of the project has.
    if (placement.agent_in_project && !placement.project.empty() &&
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
    // Files do not travel yet: a session whose workspace stands somewhere runs there and nowhere
    // else.
    const Origin& origin = placement.origin;
    if (!origin.empty() && (origin.host != worker.host || origin.root != worker.root)) return false;
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
    if (!placement.origin.empty())
        text += " at " + placement.origin.host + ":" + placement.origin.root;
    if (!placement.host.empty()) text += " on " + placement.host;
    for (const auto& [label, value] : placement.require)
        text += ", has " + label + "=" + value;
    return text;
}

}  // namespace iw::broker
