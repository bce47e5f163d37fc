#include "ctl/explaining.h"

#include <algorithm>
#include <iterator>

#include "common/base/text.h"
#include "ctl/fleet_text.h"
#include "ctl/render.h"

namespace iw::ctl {
namespace {

bool concerns(const HoldView& hold, const Wanted& wanted) {
    switch (hold.scope) {
        case HoldScope::fleet:
            return true;
        case HoldScope::project:
            return hold.name == wanted.project;
        case HoldScope::agent:
            return hold.name == wanted.agent.str();
        case HoldScope::worker:
            return false;
    }
    return false;
}

std::string dependency_note(const Dependency& dependency, const ExplainInput& input) {
    const std::string what =
        "comes after " + dependency.id.str() + " (" + std::string(name(dependency.on)) + ")";
    const auto found = input.dependencies.find(dependency.id);
    if (found == input.dependencies.end()) return what + ", which is no longer kept";
    return what + ", which is " + status_words(found->second);
}

Wanted wanted_by(const SessionView& session) {
    return {.agent = session.agent,
            .project = session.project,
            .origin = session.origin,
            .host = "",
            .require = {}};
}

std::vector<std::string> waiting_notes(const ExplainInput& input, WallTime now) {
    const SessionView& session = input.session;
    std::vector<std::string> notes;
    for (const Dependency& dependency : session.after)
        notes.push_back(dependency_note(dependency, input));
    if (session.not_before && *session.not_before > now) {
        notes.push_back("starts no earlier than " + format_utc(*session.not_before) + ", in " +
                        format_elapsed(*session.not_before - now));
    }
    if (session.expires_at && session.attempt == 0) {
        notes.push_back("is given up when not started by " + format_utc(*session.expires_at));
    }
    std::vector<std::string> of_fleet = fleet_notes(input.fleet, wanted_by(session));
    std::ranges::move(of_fleet, std::back_inserter(notes));
    return notes;
}

std::string attempts_note(const SessionView& session) {
    return std::to_string(session.attempts_used) + " of " + std::to_string(session.attempts_max) +
           " attempts are used up";
}

}  // namespace

std::vector<std::string> fleet_notes(const FleetReply& fleet, const Wanted& wanted) {
    std::vector<std::string> notes;
    if (!fleet.read_only.empty()) notes.push_back("the broker is read-only: " + fleet.read_only);
    if (fleet.restored)
        notes.push_back("nothing is assigned until `ictl resume --after-restore`: " +
                        fleet.restored_why);
    for (const HoldView& hold : fleet.holds) {
        if (concerns(hold, wanted)) notes.push_back(hold_line(hold));
    }
    return notes;
}

WorkerChance chance_of(const WorkerView& worker, const Wanted& wanted) {
    const auto no = [&](std::string why) {
        return WorkerChance{.name = worker.name.str(), .can_run = false, .why = std::move(why)};
    };
    if (std::ranges::find(worker.agents, wanted.agent.str()) == worker.agents.end())
        return no("does not offer " + wanted.agent.str());
    if (!wanted.project.empty() && worker.project != wanted.project)
        return no("is of project " + worker.project);
    // Files travel to a project's workspace; without a project there is nobody who would fetch
    // them.
    if (wanted.project.empty() && !wanted.origin.empty() &&
        (worker.host != wanted.origin.host || worker.root != wanted.origin.root))
        return no("is of another root");
    if (!wanted.host.empty() && worker.host != wanted.host) return no("is on host " + worker.host);
    for (const auto& [label, value] : wanted.require) {
        const auto found = worker.labels.find(label);
        if (found == worker.labels.end() || found->second != value)
            return no("has no label " + label + "=" + value);
    }
    if (worker.state != "up") return no("is " + worker.state);
    if (worker.drain) {
        const std::string why = worker.drain->reason.empty() ? "" : ": " + worker.drain->reason;
        return no("is drained by " + worker.drain->principal + why);
    }
    const std::string use =
        std::to_string(worker.used) + " of " + std::to_string(worker.slots) + " slots in use";
    if (worker.used >= worker.slots) return no("is full: " + use);
    return {.name = worker.name.str(), .can_run = true, .why = use};
}

std::string chance_line(const WorkerChance& chance) {
    return "  worker " + printable(chance.name, true) +
           (chance.can_run ? " could run it: " : " cannot: ") + printable(chance.why, true);
}

Explanation explain(const ExplainInput& input, WallTime now) {
    Explanation result{.session = input.session, .notes = {}, .workers = {}};
    const SessionView& session = input.session;
    if (!session.reason.empty()) result.notes.push_back(session.reason);
    if (session.status == SessionStatus::created) {
        for (std::string& note : waiting_notes(input, now)) {
            if (note != session.reason) result.notes.push_back(std::move(note));
        }
        for (const WorkerView& worker : input.workers)
            result.workers.push_back(chance_of(worker, wanted_by(session)));
    }
    if (is_overdue(session, now)) {
        result.notes.push_back("is overdue: estimated at " + format_duration(*session.estimate) +
                               ", runs for " + format_elapsed(now - *session.started_at));
    }
    if (session.attempts_max > 1) result.notes.push_back(attempts_note(session));
    if (session.detail == Detail::dependency_failed) {
        for (const Dependency& dependency : session.after)
            result.notes.push_back(dependency_note(dependency, input));
    }
    return result;
}

}  // namespace iw::ctl
