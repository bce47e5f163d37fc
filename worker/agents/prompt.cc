#include "worker/agents/prompt.h"

namespace iw::worker {
namespace {

constexpr std::string_view kRule = "\n\n---\n\n";

}  // namespace

std::string with_persona(std::string_view persona, std::string_view prompt) {
    if (persona.empty()) return std::string(prompt);
    return std::string(persona) + std::string(kRule) + std::string(prompt);
}

// Plain words, because every agent CLI reads them; no key and no path that the agent could not see
// anyway.
std::string prompt_tail(const RunRequest& request) {
    const Assignment& assignment = request.assignment;
    const std::string& id = assignment.session.str();
    std::string text(kRule);
    text += "## Where you are\n\n";
    text += "You run unattended as session " + id + "; nobody answers questions.\n\n";
    text += "- Session id: " + id + ". Wherever the task says <session-id>, it means this id.\n";
    text += "- Workspace: " + request.workspace +
            ". Further files that you want to deliver go there.\n";
    text += "- Result: write it as a JSON object to " + request.result_file +
            ". A bare result.json in the task means this file. Its field \"status\" is \"success\" "
            "or \"failure\".\n";
    if (!assignment.parent.empty()) {
        text += "- Parent: session " + assignment.parent.str() +
                " handed this task to you and reads your result.\n";
    }
    text += "- Progress: what you print is kept in " + request.workspace +
            "/output.log and can be followed there.\n";
    text +=
        "- Handing on work: `ictl submit <agent> <prompt-file>` prints the id of a new session, "
        "which becomes your "
        "child; where the project has it, `scripts/ops/session-manager.sh create <agent> "
        "<prompt-file>` does the "
        "same.\n"
        "- Waiting: `ictl wait <id>` returns when that session has ended, `ictl result <id>` "
        "prints its result. "
        "Waiting takes no slot from your children.\n";
    return text;
}

}  // namespace iw::worker
