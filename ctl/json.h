#pragma once

// JSON that commands print: one document, two spaces indented, a newline at the end. Sessions have
// exactly the fields of state.json (workspace::state_json). Text that is not UTF-8 becomes U+FFFD.

#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/base/result.h"
#include "common/io/config_file.h"
#include "common/messages/messages.h"
#include "ctl/archive_upkeep.h"
#include "ctl/archiving.h"
#include "ctl/killing.h"
#include "ctl/submission.h"

namespace iw::ctl {

// A session and whether its tmux session is there.
struct SeenSession {
    SessionView view;
    bool tmux_active = false;
};

// The text of a JSON document with what a terminal would act on (DEL, U+0080 to U+009F) as \u00XX.
std::string safe_json(std::string_view json);

std::string session_json(const SeenSession& session, WallTime now);
// The same and what only the broker knows: attempts_used, attempts_max, timeout_seconds,
// estimate_seconds, overdue, on_lost, not_before, expires_at, after.
std::string details_json(const SeenSession& session, WallTime now);
// {"sessions": [...]}
std::string sessions_json(const std::vector<SeenSession>& sessions, WallTime now);
// {"sessions": [...], "overdue": [ids], "seq": N}
std::string list_json(const std::vector<SeenSession>& sessions, Seq seq, WallTime now);
// {"sessions": [...], "ended": [ids], "timed_out": false, "exit_code": N}
struct WaitSummary {
    bool timed_out = false;
    int exit_code = 0;
    std::vector<SessionId> ended;  // in the order in which their ends were seen
};
std::string wait_json(const std::vector<SeenSession>& sessions, const WaitSummary& summary,
                      WallTime now);
std::string workers_json(const std::vector<WorkerView>& workers);
// {"session_id", "duplicate", "key", "workspace", "tmux_session"}
std::string submitted_json(const Submitted& submitted);
// {"key": {"value": ..., "origin": ...}}, or without origins {"key": ...}
std::string config_json(const std::map<std::string, io::ConfigValue>& values, bool origins);
// A flat object of texts, in the order given.
std::string fields_json(const std::vector<std::pair<std::string, std::string>>& fields);
// Of several sessions: {"<id>": {"status", "result_status", "result", "file", "problem"}}; the
// result byte for byte (no number loses a digit), null where there is a problem; `problem` only
// there.
struct ResultRow {
    SessionView session;
    std::string result;   // JSON text, or not looked at where there is a problem
    std::string problem;  // why there is no result; for people
    std::string file;     // on this host; empty: not here
};
std::string results_json(const std::vector<ResultRow>& rows);
bool is_json(std::string_view text);

// {"changes": [{"session_id", "timeout_before_seconds", "timeout_seconds"}]}
struct TimeoutChange {
    SessionId id;
    Duration before;
    Duration after;
};
std::string timeouts_json(const std::vector<TimeoutChange>& changes);
// {"sessions": [{"session_id", "outcome": moved|would-move|there-already|refused, "folder",
// "reason"}], "archive": [{"session_id", "done": compressed|pruned, "bytes", "problem"}],
// "dry_run"}
std::string archive_json(const std::vector<ArchiveOutcome>& outcomes,
                         const std::vector<UpkeepOutcome>& upkeep, bool dry_run);
// {"sessions": [{"session_id", "outcome": ended|already-terminated|wished, "status", "detail",
// "reason", "kill_reason", "descendants"}]}
std::string kills_json(const std::vector<KillOutcome>& outcomes);
// {"sessions": [{"session_id", "retry_of", "key"}]}
struct Retried {
    SessionId id;
    SessionId of;
    std::string key;
};
std::string retries_json(const std::vector<Retried>& retries);
// {"root": ..., "made": [paths]}
std::string made_json(const std::string& root, const std::vector<std::string>& files);
// {"checks": [{"name", "state", "text", "next_step"}], "ok": bool}
struct CheckLine {
    std::string name;
    std::string state;  // ok, warn, fail
    std::string text;
    std::string next_step;  // empty when there is nothing to do
};
std::string checks_json(const std::vector<CheckLine>& checks);

// The text of a JSON object of at most limits::kMetadataMax bytes, else bad_request.
Status check_metadata(std::string_view text);

}  // namespace iw::ctl
