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
    if (const std::string* prompt = prompts_.find(assignment.session)) {
        assignment.prompt = *prompt;
        return true;
    }
    database_.ask<std::optional<std::string>>(
        [id = assignment.session](Database& database) { return database.prompt(id); },
        [this, peer, assignment](Result<std::optional<std::string>> prompt) {
            fetched(peer, assignment, std::move(prompt));
        });
    return false;
}

void Assignments::fetched(PeerId peer, Assignment assignment,
                          Result<std::optional<std::string>> prompt) {
    if (!core_.is_current(AttemptRef{.session = assignment.session, .fence = assignment.fence}))
        return;
    if (!prompt.ok() || !*prompt) {
        // The core sends the assignment again when the worker's next heartbeat does not list it.
        const std::string why = prompt.ok() ? "it is not in the database" : prompt.error().message;
        io::log(io::LogLevel::error, "no prompt for an assignment",
                {{"session", assignment.session.str()}, {"why", why}});
        return;
    }
    assignment.prompt = std::move(**prompt);
    turn_.push(peer, AssignPush{.assignments = {std::move(assignment)}});
}

}  // namespace iw::broker
