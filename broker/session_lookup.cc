#include "broker/session_lookup.h"

#include <utility>

#include "common/base/text.h"
#include "common/io/logging.h"

namespace iw::broker {
namespace {

constexpr Duration kRetry{1'000};

}  // namespace

Result<FoundSession> find_session(Database& database, const std::string& id, bool exact) {
    FoundSession found{.session = {}, .matches = {}, .seq = database.applied()};
    Result<std::optional<SessionView>> whole = database.session(SessionId(id));
    if (!whole.ok()) return whole.error();
    found.session = std::move(whole).value();
    if (found.session || exact) return found;

    Result<std::vector<SessionId>> matches = database.match(id, kMatchesMax);
    if (!matches.ok()) return matches.error();
    found.matches = std::move(matches).value();
    if (found.matches.size() != 1) return found;
    Result<std::optional<SessionView>> only = database.session(found.matches.front());
    if (!only.ok()) return only.error();
    found.session = std::move(only).value();
    return found;
}

ErrorReply no_single_session(const std::string& id, const FoundSession& found) {
    const std::string shown = "\"" + printable(id, true) + "\"";
    if (found.matches.size() < 2) {
        return refuse(ErrorCode::not_found,
                      "no session " + shown + "; `ictl list` shows those there are");
    }
    const bool more = found.matches.size() == kMatchesMax;
    ErrorReply answer =
        refuse(ErrorCode::ambiguous,
               shown + " is the beginning of " + std::to_string(found.matches.size()) +
                   (more ? " or more" : "") + " sessions; give more of the id");
    for (const SessionId& match : found.matches) {
        answer.matches.push_back(match.str());
    }
    return answer;
}

ErrorReply question_failed(const Error& error) {
    // What is wrong with the broker's own files is its operator's to know, and has no name on the
    // wire.
    if (error.code == ErrorCode::io || error.code == ErrorCode::config ||
        error.code == ErrorCode::conflict) {
        io::log(io::LogLevel::error, "the database could not answer", {{"error", error.message}});
        return refuse(ErrorCode::internal,
                      "the broker's database could not answer; its log says why");
    }
    return ErrorReply{
        .error = error, .retry = is_retryable(error.code) ? kRetry : Duration(0), .matches = {}};
}

}  // namespace iw::broker
