#pragma once

// Making a session from a prompt: the checks, the submission, and the workspace that exists when it
// returns. Used by submit, retry and the session manager.

#include <string>
#include <string_view>

#include "common/base/result.h"
#include "common/messages/messages.h"

namespace iw::ctl {

class Context;

struct Submitted {
    SessionId id;
    bool duplicate = false;  // the key was known
    std::string key;
    std::string workspace;  // absolute; empty without a project on this host
};

// The prompt's bytes; "-" is standard input. Error: bad_request with one line (missing, unreadable,
// a folder, empty, over limits::kPromptMax, not UTF-8).
Result<std::string> read_prompt(Context& context, const std::string& file);
Status check_prompt(std::string_view prompt, const std::string& name);

// Fills project, origin and agent_in_project as seen from here; makes nothing.
Status place_submission(Context& context, Submission& submission);

// Does that, sends (under submission.key, or a
// new key when that is empty), and creates the workspace. Makes the project's folders first: where
// that fails nothing is sent. Notes success and refusal in logs/orchestrator.log. unknown_outcome
// says `repeat_with`, what to type again, with the key behind it.
Result<Submitted> submit_session(Context& context, Submission submission,
                                 const std::string& repeat_with);

// The files of a session that was just accepted, each only where it is missing. A session that is
// final is left alone: who saw its end may have moved it away.
Status create_workspace(Context& context, const SessionView& session, std::string_view prompt);

}  // namespace iw::ctl
