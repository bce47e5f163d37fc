#include "broker/assignments.h"

#include <utility>

#include "common/io/logging.h"

namespace iw::broker {
namespace {

AssignPush* assignments_of(Outbound& outbound) {
    Push* push = std::get_if<Push>(&outbound.what);
    return push == nullptr ? nullptr : std::get_if<AssignPush>(push);
}

}  // namespace

void Assignments::fill() {
    for (Outbound& outbound : turn_.outgoing) {
        AssignPush* push = assignments_of(outbound);
        if (push == nullptr) continue;
        std::erase_if(push->assignments,
                      [&](Assignment& assignment) { return !fill_one(outbound.peer, assignment); });
    }
    std::erase_if(turn_.outgoing, [](Outbound& outbound) {
        const AssignPush* push = assignments_of(outbound);
        return push != nullptr && push->assignments.empty();
    });
}

bool Assignments::fill_one(PeerId peer, Assignment& assignment) {
    // One that came back from the database has it.
    if (!assignment.prompt.empty()) return true;
    if (const KeptPrompt* kept = prompts_.find(assignment.session)) {
        assignment.prompt = kept->prompt;
        assignment.result_schema = kept->result_schema;
        return true;
    }
    database_.ask<std::optional<KeptPrompt>>(
        [id = assignment.session](Database& database) { return database.prompt(id); },
        [this, peer, assignment](Result<std::optional<KeptPrompt>> kept) {
            fetched(peer, assignment, std::move(kept));
        });
    return false;
}

void Assignments::fetched(PeerId peer, Assignment assignment,
                          Result<std::optional<KeptPrompt>> kept) {
    if (!core_.is_current(AttemptRef{.session = assignment.session, .fence = assignment.fence}))
        return;
    if (!kept.ok() || !*kept) {
        // The core sends the assignment again when the worker's next heartbeat does not list it.
        const std::string why = kept.ok() ? "it is not in the database" : kept.error().message;
        io::log(io::LogLevel::error, "no prompt for an assignment",
                {{"session", assignment.session.str()}, {"why", why}});
        return;
    }
    assignment.prompt = std::move((*kept)->prompt);
    assignment.result_schema = std::move((*kept)->result_schema);
    turn_.push(peer, AssignPush{.assignments = {std::move(assignment)}});
}

}  // namespace iw::broker
