#!/bin/bash
# Behaves as Example 1: write a task, hand it to one validator, poll, read what it found, archive the session.
# Runs in the project's root; TASKS is a folder for prompts.
task="$TASKS/grafana-validation-task.md"
cat >"$task" <<'EOF'
# Task: Validate Grafana Deployment

**Issue**: TEF-123
**Priority**: HIGH
**Estimated Duration**: 5 minutes

## Objective

Say whether "Grafana" answers at `/grafana`; it's $HOME-grown, and nothing here may be expanded: $(touch pwned) `touch pwned`

```bash
systemctl status grafana-server
```

## Deliverable

`docs/.scratch/sessions/<session-id>/result.json`:

```json
{"task": "validate-grafana-deployment", "status": "success" | "failure"}
```
EOF

session=$(scripts/ops/session-manager.sh create grafana-agent "$task" 2>&1 | grep "Session created:" | awk '{print $3}')
echo "spawned: $session"

while true; do
  status=$(scripts/ops/session-manager.sh status "$session" --json | jq -r '.status')
  if [[ "$status" == "COMPLETED" || "$status" == "FAILED" || "$status" == "KILLED" ]]; then
    break
  fi
  sleep 5
done
echo "ended: $status"

result="docs/.scratch/sessions/$session/result.json"
if [[ -f "$result" ]]; then
  echo "result: $(jq -r '.status' "$result")"
  if [[ "$(jq -r '.status' "$result")" == "success" ]]; then
    echo "service: $(jq -r '.findings.service_status' "$result")"
    echo "dashboard: $(jq -r '.findings.dashboard_accessible' "$result")"
    jq -r '.recommendations[]' "$result" | sed 's/^/advice: /'
  else
    jq -r '.errors[]' "$result" | sed 's/^/error: /'
  fi
else
  echo "no result"
  cat "docs/.scratch/sessions/$session/session.log"
fi

mkdir -p docs/.scratch/archive/sessions/
mv "docs/.scratch/sessions/$session" "docs/.scratch/archive/sessions/" && echo "archived: $session"
