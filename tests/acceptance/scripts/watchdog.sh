#!/bin/bash
# Behaves as the watchdog that Example 7 shows: reads every state.json, kills what runs for too long, and writes the
# status itself, with the same jq and mv. Stands in scripts/ops/ of the project.
# shellcheck source=scripts/ops/config.sh
source "$(dirname "$0")/config.sh"
while true; do
  for folder in "$SESSIONS_DIR"/*; do
    [[ -f "$folder/state.json" ]] || continue
    state="$folder/state.json"
    [[ "$(jq -r '.status' "$state")" == "RUNNING" ]] || continue
    started=$(jq -r '.started_at' "$state")
    elapsed=$(($(date +%s) - $(date -d "$started" +%s)))
    if [[ $elapsed -gt $MAX_SESSION_LIFETIME_SECONDS ]]; then
      session=$(basename "$folder")
      echo "[$(date -Iseconds)] [WARN] Session timeout: $session (${elapsed}s > ${MAX_SESSION_LIFETIME_SECONDS}s)" | tee -a "$GLOBAL_LOG"
      scripts/ops/session-manager.sh kill "$session" --force --reason="Timeout (${elapsed}s)"
      jq '.status = "KILLED" | .kill_reason = "Timeout (${elapsed}s)"' "$state" >"$state.tmp"
      mv "$state.tmp" "$state"
    fi
  done
  sleep 60
done
