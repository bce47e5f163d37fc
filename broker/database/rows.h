#pragma once

// A row of `sessions` as the core's own words, and lists in a column.

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "broker/core/record.h"
#include "broker/database/sqlite.h"
#include "common/messages/messages.h"

namespace iw::broker {

struct SessionRow {
    Seq number = 0;  // of the record that created it: the order of creation
    LiveSession session;
    SessionStatus status = SessionStatus::created;
    Detail detail = Detail::queued;
    std::optional<WallTime> closed_at;
};

// The columns that read_session reads, of the table `sessions` under the name `s`.
extern const char* const kSessionColumns;
SessionRow read_session(const sqlite::Statement& row, int first_column);
// The columns of a session of which nothing else is to be said (`is_plain`, and never handed out),
// and the session they make.
extern const char* const kPlainColumns;
LiveSession read_plain(const sqlite::Statement& row);
// What outsiders see: the outcome stays hidden until the session is closed.
SessionView make_view(const SessionRow& row);

// FNV-1a, 64 bits, gone on from `hash`; begin with kFnvStart.
inline constexpr std::uint64_t kFnvStart = 0xcbf29ce484222325ULL;
std::uint64_t fnv1a(std::uint64_t hash, std::string_view text);
// What stands beside a prompt or a result, so that one which has changed on the disk is noticed.
std::int64_t content_digest(std::string_view text);
// Of both together; without a schema it is that of the prompt alone.
std::int64_t content_digest(std::string_view prompt, std::string_view result_schema);

// JSON text; empty for an empty list.
std::string pack_list(const std::vector<std::string>& list);
std::vector<std::string> unpack_list(std::string_view text);
std::string pack_map(const std::map<std::string, std::string>& map);
std::map<std::string, std::string> unpack_map(std::string_view text);
std::string pack_ids(const std::vector<SessionId>& ids);
std::vector<SessionId> unpack_ids(std::string_view text);
// JSON too; empty for none. Words are the numbers of common/base/statuses.h, as in all columns.
std::string pack_retry(const std::optional<RetryPolicy>& policy);
std::optional<RetryPolicy> unpack_retry(std::string_view text);
std::string pack_dependencies(const std::vector<Dependency>& dependencies);
std::vector<Dependency> unpack_dependencies(std::string_view text);

}  // namespace iw::broker
