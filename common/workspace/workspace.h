#pragma once

// The session's folder in its project, `docs/.scratch/sessions/<id>/`, as the session contract has
// it: which file is whose, and how each is written so that scripts that read, edit or move it at
// any moment lose nothing. Used by the worker that owns the root, and by ictl where no worker runs.
// Not thread safe.

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/result.h"
#include "common/messages/messages.h"

namespace iw::workspace {

inline constexpr std::string_view kSessionsFolder = "docs/.scratch/sessions";
inline constexpr std::string_view kArchiveFolder = "docs/.scratch/archive/sessions";
inline constexpr std::string_view kGlobalLog = "logs/orchestrator.log";

// Paths under one project root (absolute).
struct ProjectPaths {
    explicit ProjectPaths(std::string project_root);
    std::string root;
    std::string sessions;
    std::string archive;
    std::string global_log;

    std::string workspace(const SessionId& id) const;
    std::string archived(const SessionId& id) const;
};

// Where a session's workspace stands: below its origin, wherever it runs; of one without an origin
// as reported, and empty when nothing was.
std::string workspace_of(const SessionView& session);

// Makes what is missing of sessions/, archive/sessions/, logs/, logs/orchestrator.log and touches
// the archive folder (the user's `find -mtime +30` would match it otherwise). A file `sessions` in
// the archive keeps a `mv` with an empty id from moving all workspaces there. Overwrites nothing.
Status prepare_project(const ProjectPaths& project);

// The upper folder of `start` (itself included) that holds scripts/ops/; empty when there is none.
std::string find_project(const std::string& start);

// In all of them: an entry of the wrong kind under one of our names (a folder, link or FIFO in
// place of session.log) is renamed to `<name>.odd-<random>`, never followed, and the file is made
// anew.
//
// Creates workspace, prompt.md (byte for byte), state.json and session.log ("Session created:
// <id>"), each only where it is missing: whoever comes first, worker or ictl, wins and the other
// leaves it alone.
Status create(const ProjectPaths& project, const SessionView& session, std::string_view prompt);

// Rewrites state.json from the view (atomically, temporary `.state.json.<random>`).
// `parent_session`, `tags`, `metadata` and fields that we do not know are kept as the file has
// them. A workspace that is missing stays missing and is no error.
Status write_state(const ProjectPaths& project, const SessionView& session, bool tmux_active,
                   WallTime now);

// The name of the project at `root`: the first line of <root>/scripts/ops/project-name (written by
// `ictl init`), else made from the root's own name.
std::string project_name(const std::string& root);
// `text` as a plain name: what a name may not hold becomes '-'; "project" when nothing is left.
std::string plain_project_name(const std::string& text);

enum class LogWord { info, warn, error };
// "[2025-11-18T15:10:00Z] [INFO] text", one line; to session.log (missing workspace: nothing is
// written).
Status log_session(const ProjectPaths& project, const SessionId& id, WallTime time, LogWord word,
                   std::string_view text);
// The same into logs/orchestrator.log.
Status log_project(const ProjectPaths& project, WallTime time, LogWord word, std::string_view text);

// The lines session.log gets at the start of an attempt and at the end, then state.json: one call
// each, so that worker and ictl write the same. write_end is idempotent: it writes nothing twice
// for one outcome. Of a timeout that no other process has told it writes the line of session.log
// and of logs/orchestrator.log, too.
Status write_started(const ProjectPaths& project, const SessionView& session, WallTime now);
Status write_end(const ProjectPaths& project, const SessionView& outcome, SessionStatus before,
                 WallTime now);

// An attempt is over and another one follows: `session` shows CREATED. What the attempt left stays
// until the next one begins. Idempotent.
Status write_returned(const ProjectPaths& project, const SessionView& session, SessionStatus before,
                      WallTime now);

// A session that runs elsewhere, or waits, as the broker shows it now: state.json, the lines of
// session.log at a start and a return, and room for the next attempt's files (begin_attempt). A
// final state.json, and a workspace that is missing, stay as they are.
Status write_live(const ProjectPaths& project, const SessionView& session, WallTime now);
// How a session shows that has ended while its files are being brought: RUNNING (delivering).
SessionView delivering_view(const SessionView& outcome);
// write_live for what is known of a run by its end only, before its files are brought.
Status write_run(const ProjectPaths& project, const SessionView& outcome, WallTime now);

// state.json as it stands in sessions/ or the archive (folder or `<id>.tar.gz`).
Result<std::string> read_state(const ProjectPaths& project, const SessionId& id);
// What the workspace in sessions/ shows; nothing when there is none. A state.json that cannot be
// read shows nothing but the id, CREATED.
std::optional<SessionView> standing_view(const ProjectPaths& project, const SessionId& id);
// A view made from a state.json, for sessions that no broker knows any more.
Result<SessionView> view_from_state(std::string_view json);
// The JSON of state.json for a view: what `status --json` prints. elapsed is computed at `now`.
std::string state_json(const SessionView& session, bool tmux_active, WallTime now);

// The text of a state.json with `"stale": true` added: what was last known while no broker answers.
std::string mark_stale(std::string_view json);

// result.json of a workspace: size, SHA-256, its `.status` if it is a JSON object with one, and the
// bytes when they fit limits::kResultInlineMax. Over 64 MiB the SHA-256 stays empty: reading it all
// would hold up the caller. Nothing when there is no regular file of that name
// (links are not followed).
struct ResultFile {
    std::uint64_t size = 0;
    std::string sha256;
    std::string status;
    bool inlined = false;
    std::string bytes;
};
Result<std::optional<ResultFile>> read_result(const std::string& workspace);

// Before attempt n > 1: what is left of earlier ones moves to attempts/<n-1>/ (prompt.md,
// state.json, session.log and attempts/ stay), so that each attempt starts without a result.json.
// By renames only, synced; may be repeated after a crash at any point. Nothing is overwritten: a
// name that is taken there gets ".2", ".3" ... Links are moved, never followed. conflict: the
// workspace is missing, or was moved away meanwhile (with everything in it); create() it and begin
// again. What attempts/ holds goes on counting for the session's disk limit.
Status begin_attempt(const ProjectPaths& project, const SessionId& id, std::uint32_t attempt);

// Ids of the folders in sessions/, sorted.
std::vector<SessionId> list_workspaces(const ProjectPaths& project);

}  // namespace iw::workspace
