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
// The same and what only the broker knows: attempts_used, attempts_max, timeout_seconds, on_lost,
// not_before, expires_at, after.
std::string details_json(const SeenSession& session, WallTime now);
// {"sessions": [...]}
std::string sessions_json(const std::vector<SeenSession>& sessions, WallTime now);
// {"sessions": [...], "seq": N}
std::string list_json(const std::vector<SeenSession>& sessions, Seq seq, WallTime now);
// {"sessions": [...], "timed_out": false, "exit_code": N}
struct WaitSummary {
    bool timed_out = false;
    int exit_code = 0;
};
std::string wait_json(const std::vector<SeenSession>& sessions, WaitSummary summary, WallTime now);
std::string workers_json(const std::vector<WorkerView>& workers);
// {"session_id", "duplicate", "key", "workspace", "tmux_session"}
std::string submitted_json(const Submitted& submitted);
// {"key": {"value": ..., "origin": ...}}, or without origins {"key": ...}
std::string config_json(const std::map<std::string, io::ConfigValue>& values, bool origins);
// A flat object of texts, in the order given.
std::string fields_json(const std::vector<std::pair<std::string, std::string>>& fields);
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
