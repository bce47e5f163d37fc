#pragma once

// Edits of state.json on a host where no worker keeps it: told to the broker when ictl looks.

#include "common/base/result.h"
#include "common/messages/messages.h"
#include "common/workspace/workspace.h"

namespace iw::ctl {

class Context;

// Tells the broker what a script has changed in parent_session, tags and metadata of the workspace
// in sessions/, and makes the file show `view` again: what was not taken is put right with a WARN
// in session.log, as is every other field. `view` then has what was taken. While the broker cannot
// take it, or not from this caller, the file stays as it is, for the next look. A workspace that is
// missing stays missing.
Status settle_edits(Context& context, const workspace::ProjectPaths& project, SessionView& view);

}  // namespace iw::ctl
