#pragma once

// Moving the workspaces of ended sessions to the archive, by rename, so that nothing is ever in
// both places or in none.

#include <string>
#include <vector>

#include "common/base/result.h"
#include "common/messages/messages.h"

namespace iw::ctl {

class Context;

// What became of one session.
struct ArchiveOutcome {
    enum class Kind {
        moved,          // to `folder`; of a dry run: would be
        there_already,  // in `folder`, since before
        refused,        // why: not ended, elsewhere, its files are missing or not complete
    };
    SessionId id;
    Kind kind = Kind::refused;
    std::string folder;  // in the archive; empty when refused
    std::string why;     // when refused, for people
};

// Brings the workspace up to date where no worker does (ctl/refresh.h), then moves it. Each outcome
// in the order of `sessions`; with `dry_run` nothing is changed. Moves are noted in
// logs/orchestrator.log.
std::vector<ArchiveOutcome> archive_sessions(Context& context, std::vector<SessionView> sessions,
                                             bool dry_run);

}  // namespace iw::ctl
