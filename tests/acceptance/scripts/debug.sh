#!/bin/bash
# Behaves as Example 6, on a terminal: what a failed session left, and the same task once more to watch it fail.
session=$1
scripts/ops/session-manager.sh status "$session" --json
cat "docs/.scratch/sessions/$session/session.log"
if [[ -f "docs/.scratch/sessions/$session/result.json" ]]; then
  jq '.' "docs/.scratch/sessions/$session/result.json"
else
  echo "no result"
fi
if [[ -f "docs/.scratch/sessions/$session/output.log" ]]; then
  tail -50 "docs/.scratch/sessions/$session/output.log"
fi
new=$(scripts/ops/session-manager.sh create prometheus-agent "docs/.scratch/sessions/$session/prompt.md" 2>&1 | grep "Session created:" | awk '{print $3}')
echo "again: $new"
scripts/ops/session-manager.sh attach "$new"
echo "attach returned: $?"
