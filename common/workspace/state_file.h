#pragma once

// state.json as text: only this part of the workspace knows its fields.

#include <string>
#include <string_view>

#include "common/base/result.h"
#include "common/messages/messages.h"

namespace iw::workspace {

// `kept`: the text of an older state.json. Its parent_session, tags and metadata (where they are of
// the right kind) and every field that is not ours go into the result, so that an edit by a script
// survives. Empty or broken text keeps nothing.
std::string merge_state_json(const SessionView& session, bool tmux_active, WallTime now,
                             std::string_view kept);

// Whether the text is a JSON object.
bool is_state_object(std::string_view json);

// Whether a state.json already shows this outcome: nothing is left to write then.
bool shows_outcome(std::string_view json, const SessionView& outcome);

}  // namespace iw::workspace
