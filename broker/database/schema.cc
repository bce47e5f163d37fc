#include "broker/database/schema.h"

#include <fcntl.h>
#include <unistd.h>

#include <iterator>
#include <string>

namespace iw::broker {
namespace {

// The order matters: with exclusive locking set before the first look into the file there is no
// shared memory and no second opener; one connection is also what keeps SQLite 3.40 clear of its
// WAL-reset defect.
constexpr const char* kBeforeLook = R"sql(
PRAGMA locking_mode = EXCLUSIVE;
PRAGMA trusted_schema = OFF;
PRAGMA cell_size_check = ON;
PRAGMA mmap_size = 0;
)sql";

// NORMAL: a commit is not synced, a checkpoint is. The journal is the truth until then.
constexpr const char* kBeforeUse = R"sql(
PRAGMA journal_mode = WAL;
PRAGMA synchronous = NORMAL;
PRAGMA foreign_keys = ON;
PRAGMA journal_size_limit = 67108864;
PRAGMA wal_autocheckpoint = 0;
PRAGMA cache_size = -32768;
PRAGMA temp_store = MEMORY;
)sql";

// The tables of version 1. They never change: what came later stands in the steps below, which a
// new file takes as well, so that both are the same to the last column.
constexpr const char* kTablesOf1 = R"sql(
CREATE TABLE meta(
  one INTEGER PRIMARY KEY CHECK (one = 1),
  epoch TEXT NOT NULL,
  generation INTEGER NOT NULL,
  applied INTEGER NOT NULL,
  id_second INTEGER NOT NULL,
  events_after INTEGER NOT NULL
) STRICT;

CREATE TABLE sessions(
  number INTEGER PRIMARY KEY,
  id TEXT NOT NULL UNIQUE,
  principal TEXT NOT NULL,
  created_at INTEGER NOT NULL,
  not_before INTEGER,
  expires_at INTEGER,
  agent TEXT NOT NULL,
  project TEXT NOT NULL,
  origin_host TEXT NOT NULL,
  origin_root TEXT NOT NULL,
  agent_in_project INTEGER NOT NULL,
  queue_anyway INTEGER NOT NULL,
  priority INTEGER NOT NULL,
  delay INTEGER NOT NULL,
  expires INTEGER,
  timeout INTEGER NOT NULL,
  disk_limit INTEGER,
  on_lost INTEGER NOT NULL,
  parent TEXT NOT NULL,
  retry_of TEXT NOT NULL,
  wanted_host TEXT NOT NULL,
  require TEXT NOT NULL,
  tags TEXT NOT NULL,
  key TEXT NOT NULL,
  revision INTEGER NOT NULL DEFAULT 1,
  status INTEGER NOT NULL,
  detail INTEGER NOT NULL,
  generation INTEGER NOT NULL DEFAULT 0,
  attempt INTEGER NOT NULL DEFAULT 0,
  assigned INTEGER NOT NULL DEFAULT 0,
  worker TEXT NOT NULL DEFAULT '',
  host TEXT NOT NULL DEFAULT '',
  worker_state_id TEXT NOT NULL DEFAULT '',
  started_at INTEGER,
  workspace TEXT NOT NULL DEFAULT '',
  platform_faults INTEGER NOT NULL DEFAULT 0,
  last_reason TEXT NOT NULL DEFAULT '',
  kill_cause INTEGER,
  kill_principal TEXT NOT NULL DEFAULT '',
  kill_reason TEXT NOT NULL DEFAULT '',
  outcome INTEGER,
  outcome_detail INTEGER,
  ended_generation INTEGER,
  ended_attempt INTEGER,
  reason TEXT NOT NULL DEFAULT '',
  outcome_kill_reason TEXT NOT NULL DEFAULT '',
  exit_code INTEGER,
  ended_started_at INTEGER,
  completed_at INTEGER,
  ended_workspace TEXT NOT NULL DEFAULT '',
  result_status TEXT NOT NULL DEFAULT '',
  result_size INTEGER,
  result_sha256 TEXT NOT NULL DEFAULT '',
  result_inline INTEGER NOT NULL DEFAULT 0,
  evidence TEXT NOT NULL DEFAULT '',
  closed_at INTEGER,
  closed_by TEXT NOT NULL DEFAULT '',
  metadata TEXT NOT NULL
) STRICT;
CREATE INDEX sessions_live ON sessions(number) WHERE closed_at IS NULL;
CREATE INDEX sessions_closed ON sessions(closed_at) WHERE closed_at IS NOT NULL;
CREATE INDEX sessions_parent ON sessions(parent) WHERE parent <> '';

CREATE TABLE prompts(
  session INTEGER PRIMARY KEY REFERENCES sessions(number) ON DELETE CASCADE,
  prompt TEXT NOT NULL
) STRICT;
CREATE TABLE results(
  session INTEGER PRIMARY KEY REFERENCES sessions(number) ON DELETE CASCADE,
  result BLOB NOT NULL
) STRICT;

CREATE TABLE attempts(
  session INTEGER NOT NULL REFERENCES sessions(number) ON DELETE CASCADE,
  generation INTEGER NOT NULL,
  attempt INTEGER NOT NULL,
  worker TEXT NOT NULL,
  host TEXT NOT NULL,
  assigned_at INTEGER NOT NULL,
  started_at INTEGER,
  workspace TEXT NOT NULL DEFAULT '',
  over_at INTEGER,
  cause INTEGER,
  platform_fault INTEGER,
  reason TEXT NOT NULL DEFAULT '',
  evidence TEXT NOT NULL DEFAULT '',
  PRIMARY KEY (session, generation, attempt)
) STRICT, WITHOUT ROWID;

CREATE TABLE keys(
  principal TEXT NOT NULL,
  key TEXT NOT NULL,
  session INTEGER NOT NULL,
  body_hash BLOB NOT NULL,
  PRIMARY KEY (principal, key)
) STRICT, WITHOUT ROWID;

CREATE TABLE workers(
  name TEXT PRIMARY KEY,
  host TEXT NOT NULL,
  root TEXT NOT NULL,
  project TEXT NOT NULL,
  state_id TEXT NOT NULL,
  boot_id TEXT NOT NULL,
  start_count INTEGER NOT NULL,
  slots INTEGER NOT NULL,
  agents TEXT NOT NULL,
  labels TEXT NOT NULL,
  software TEXT NOT NULL,
  registered_at INTEGER NOT NULL,
  state TEXT NOT NULL,
  state_at INTEGER NOT NULL,
  evidence TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE events(
  seq INTEGER PRIMARY KEY,
  time INTEGER NOT NULL,
  session INTEGER REFERENCES sessions(number),
  worker TEXT NOT NULL,
  revision INTEGER NOT NULL,
  status INTEGER,
  detail INTEGER,
  state TEXT NOT NULL,
  attempt INTEGER NOT NULL,
  host TEXT NOT NULL,
  reason TEXT NOT NULL,
  result_status TEXT NOT NULL
) STRICT;
CREATE INDEX events_session ON events(session) WHERE session IS NOT NULL;

CREATE TABLE audit(
  seq INTEGER PRIMARY KEY,
  time INTEGER NOT NULL,
  principal TEXT NOT NULL,
  action TEXT NOT NULL,
  session TEXT NOT NULL,
  remark TEXT NOT NULL
) STRICT;
)sql";

// Retries, dependencies, families, holds, epochs and superseded reports with what they held.
constexpr const char* kStepTo2 = R"sql(
ALTER TABLE meta ADD COLUMN restored INTEGER NOT NULL DEFAULT 0;
ALTER TABLE meta ADD COLUMN restored_why TEXT NOT NULL DEFAULT '';
ALTER TABLE sessions ADD COLUMN attempts_used INTEGER NOT NULL DEFAULT 0;
ALTER TABLE sessions ADD COLUMN retry_at INTEGER;
ALTER TABLE sessions ADD COLUMN failed_by_itself INTEGER NOT NULL DEFAULT 0;
ALTER TABLE sessions ADD COLUMN retry TEXT NOT NULL DEFAULT '';
ALTER TABLE sessions ADD COLUMN dependencies TEXT NOT NULL DEFAULT '';
ALTER TABLE sessions ADD COLUMN keep_children INTEGER NOT NULL DEFAULT 0;
ALTER TABLE sessions ADD COLUMN parent_generation INTEGER;
ALTER TABLE sessions ADD COLUMN parent_attempt INTEGER;
ALTER TABLE sessions ADD COLUMN ancestors TEXT NOT NULL DEFAULT '';
ALTER TABLE sessions ADD COLUMN is_plain INTEGER NOT NULL DEFAULT 0;
CREATE INDEX sessions_notable ON sessions(number) WHERE closed_at IS NULL
  AND (is_plain = 0 OR attempt > 0 OR outcome IS NOT NULL OR kill_cause IS NOT NULL);
ALTER TABLE prompts ADD COLUMN digest INTEGER;
ALTER TABLE results ADD COLUMN digest INTEGER;
ALTER TABLE attempts ADD COLUMN exit_code INTEGER;
ALTER TABLE events ADD COLUMN scope INTEGER;

CREATE TABLE superseded(
  seq INTEGER PRIMARY KEY,
  session INTEGER NOT NULL REFERENCES sessions(number) ON DELETE CASCADE,
  time INTEGER NOT NULL,
  generation INTEGER NOT NULL,
  attempt INTEGER NOT NULL,
  report INTEGER NOT NULL,
  worker TEXT NOT NULL,
  what TEXT NOT NULL,
  cause TEXT NOT NULL,
  exit_code INTEGER,
  result BLOB NOT NULL
) STRICT;
CREATE INDEX superseded_session ON superseded(session);

CREATE TABLE holds(
  scope INTEGER NOT NULL,
  name TEXT NOT NULL,
  principal TEXT NOT NULL,
  reason TEXT NOT NULL,
  since INTEGER NOT NULL,
  until INTEGER,
  PRIMARY KEY (scope, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE kept_keys(
  principal TEXT NOT NULL,
  key TEXT NOT NULL,
  id TEXT NOT NULL,
  body_hash BLOB NOT NULL,
  closed_at INTEGER NOT NULL,
  PRIMARY KEY (principal, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX kept_keys_closed ON kept_keys(closed_at);

CREATE TABLE epochs(
  seq INTEGER PRIMARY KEY,
  time INTEGER NOT NULL,
  epoch TEXT NOT NULL,
  generation INTEGER NOT NULL,
  reason TEXT NOT NULL,
  principal TEXT NOT NULL
) STRICT;
)sql";

// Files that travel, estimates, result schemas.
constexpr const char* kStepTo3 = R"sql(
ALTER TABLE sessions ADD COLUMN estimate INTEGER;
ALTER TABLE sessions ADD COLUMN manifest TEXT NOT NULL DEFAULT '';
ALTER TABLE sessions ADD COLUMN delivered_files INTEGER NOT NULL DEFAULT 0;
ALTER TABLE sessions ADD COLUMN delivered_bytes INTEGER NOT NULL DEFAULT 0;
ALTER TABLE prompts ADD COLUMN result_schema TEXT NOT NULL DEFAULT '';
)sql";

// Step i leads from version i + 1 to the next.
constexpr const char* kSteps[] = {kStepTo2, kStepTo3};
static_assert(std::size(kSteps) + 1 == kSchemaVersion);

Error refused(const std::string& path, const std::string& why) {
    return make_error(ErrorCode::config, "database " + path + " " + why);
}

// The version of the file's tables; 0: it is new.
Result<std::int64_t> look(sqlite::Connection& connection) {
    // The first access takes the lock; a second broker fails here.
    const Result<std::int64_t> application = connection.number("PRAGMA application_id");
    if (!application) return application.error();
    const Result<std::int64_t> tables = connection.number("SELECT count(*) FROM sqlite_schema");
    if (!tables) return tables.error();
    if (*application == 0 && *tables == 0) return std::int64_t{0};
    if (*application != kApplicationId) {
        return refused(connection.path(),
                       "belongs to another program: move it aside or name another file");
    }
    const Result<std::int64_t> version = connection.number("PRAGMA user_version");
    if (!version) return version.error();
    if (*version < 1)
        return refused(connection.path(),
                       "is damaged: restore a backup with `ictl restore FOLDER`");
    if (*version > kSchemaVersion) {
        return refused(connection.path(),
                       "has format " + std::to_string(*version) + ", this version reads up to " +
                           std::to_string(kSchemaVersion) + ": install the newer version");
    }
    return *version;
}

// One transaction: a crash leaves the file as it was, or whole in today's version.
Status bring_up(sqlite::Connection& connection, std::int64_t version) {
    std::string sql = "BEGIN IMMEDIATE;\n";
    if (version == 0) {
        sql += kTablesOf1;
        sql += "INSERT INTO meta VALUES(1, '" + sqlite::random_hex(16) +
               "', 1, 0, 0, 0);\nPRAGMA application_id = " + std::to_string(kApplicationId) + ";\n";
        version = 1;
    }
    for (; version < kSchemaVersion; ++version)
        sql += kSteps[version - 1];
    sql += "PRAGMA user_version = " + std::to_string(kSchemaVersion) + ";\nCOMMIT;\n";
    const Status done = connection.execute(sql);
    if (!done) connection.roll_back();
    return done;
}

// SQLite does not sync the folder for a new database in WAL mode, so a power cut could lose the
// file.
Status sync_folder_of(const std::string& path) {
    const std::size_t slash = path.rfind('/');
    const std::string folder = slash == std::string::npos ? "." : path.substr(0, slash + 1);
    const int fd = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    const bool synced = fd >= 0 && ::fsync(fd) == 0;
    if (fd >= 0) ::close(fd);
    if (synced) return Done{};
    return make_error(ErrorCode::io, "cannot sync the folder of database " + path);
}

}  // namespace

Status check_schema(sqlite::Connection& connection) {
    const Result<std::int64_t> version = look(connection);
    if (!version) return version.error();
    if (*version == 0) return refused(connection.path(), "is empty");
    return Done{};
}

Status open_schema(sqlite::Connection& connection) {
    const Status first = connection.execute(kBeforeLook);
    if (!first) return first;
    const Result<std::int64_t> version = look(connection);
    if (!version) return version.error();
    const Status second = connection.execute(kBeforeUse);
    if (!second) return second;
    if (*version == kSchemaVersion) return Done{};
    const Status made = bring_up(connection, *version);
    if (!made || *version != 0) return made;
    return sync_folder_of(connection.path());
}

}  // namespace iw::broker
