#pragma once

// The files of sessions on a host where no worker runs: ictl writes what the worker would have
// written, and brings what travelled.

#include <optional>
#include <string>
#include <vector>

#include "common/base/time.h"
#include "common/messages/messages.h"
#include "common/workspace/workspace.h"

namespace iw::ctl {

class Context;

// Brings the workspaces of `views` up to date, for those that stand on this host and whose root no
// worker holds: state.json, session.log and, before an end is written, the files of a session that
// ran elsewhere. What already agrees is left alone and a missing workspace stays missing. A failure
// is a warning; where the files of an ended session are not there (they could not be brought, or
// the root's worker was away and is bringing them), its view goes back to RUNNING (delivering),
// since nothing may show an end before its files are there.
void refresh_workspaces(Context& context, std::vector<SessionView>& views);
void refresh_workspace(Context& context, SessionView& view);
// As refresh_workspace for a session that has ended, but waits for the root's worker to bring its
// files, until `deadline` (nothing: as long as it takes).
void refresh_end(Context& context, SessionView& view, std::optional<Timestamp> deadline);

// The final session that the files of this root show, for one that the broker has forgotten: `id`
// is a full id. Nothing when the files are not there or show no end.
std::optional<SessionView> ended_by_files(const workspace::ProjectPaths& project,
                                          const std::string& id);

}  // namespace iw::ctl
