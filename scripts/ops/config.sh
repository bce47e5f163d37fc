# shellcheck shell=bash disable=SC2034
# Settings of this project's sessions. Plain NAME=value, harmless to source from anywhere; edit what you like.
# docs/config.md of the product says what each one does.

# Limits of sessions that session-manager.sh creates; sent with each of them.
MAX_SESSION_LIFETIME_SECONDS=1800
MAX_CONCURRENT_SESSIONS=5
MAX_DISK_PER_SESSION_MB=100
TOTAL_DISK_WARNING_MB=1000

STATUS_POLL_INTERVAL_SECONDS=5

# Where things are. Absolute, and derived from this file's own place.
PROJECT_ROOT="$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/../.." && pwd)"
AGENTS_DIR="$PROJECT_ROOT/agents"
SESSIONS_DIR="$PROJECT_ROOT/docs/.scratch/sessions"
ARCHIVE_DIR="$PROJECT_ROOT/docs/.scratch/archive/sessions"
GLOBAL_LOG="$PROJECT_ROOT/logs/orchestrator.log"

TMUX_SESSION_PREFIX=iw
LOG_RETENTION_DAYS=30
LOG_LEVEL=INFO
