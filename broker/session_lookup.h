#pragma once

// Finding one session by a full id or a unique prefix in the database, on the database's thread.

#include <optional>
#include <string>
#include <vector>

#include "broker/database/database.h"
#include "broker/turn.h"
#include "common/base/ids.h"
#include "common/base/result.h"

namespace iw::broker {

struct FoundSession {
    std::optional<SessionView> session;
    std::vector<SessionId> matches;  // of an ambiguous prefix, at most kMatchesMax
    Seq seq = 0;                     // what the database had applied when it looked
};

inline constexpr std::size_t kMatchesMax = 20;

// A full id wins over longer ones that begin with it; `exact`: full ids only.
Result<FoundSession> find_session(Database& database, const std::string& id, bool exact);

// Why `found` names no session: AMBIGUOUS with the matches, or NOT_FOUND.
ErrorReply no_single_session(const std::string& id, const FoundSession& found);
// The answer to a failed question.
ErrorReply question_failed(const Error& error);

}  // namespace iw::broker
