#pragma once

// The files of sessions on a host where no worker runs: ictl writes what the worker would have
// written.

#include <optional>
#include <string>
#include <vector>

#include "common/messages/messages.h"
#include "common/workspace/workspace.h"

namespace iw::ctl {

class Context;

// Brings state.json and session.log up to date with `views`, for those whose workspace stands on
// this host and whose root no worker holds (its lock is free). What already agrees is left alone, a
// missing workspace stays missing, and a failure is a warning: the answer of the broker is the
// truth.
void refresh_workspaces(Context& context, const std::vector<SessionView>& views);

// The final session that the files of this root show, for one that the broker has forgotten: `id`
// is a full id. Nothing when the files are not there or show no end.
std::optional<SessionView> ended_by_files(const workspace::ProjectPaths& project,
                                          const std::string& id);

}  // namespace iw::ctl
