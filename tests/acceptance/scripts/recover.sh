#!/bin/bash
# Behaves as Example 3: a validator finds its service stopped, another agent starts it, a second validation is asked for.
printf '# Task: Validate Grafana\n' >"$TASKS/grafana-task.md"

spawn() { # agent prompt-file
  scripts/ops/session-manager.sh create "$1" "$2" 2>&1 | grep "Session created:" | awk '{print $3}'
}
wait_for() { # session
  while true; do
    status=$(scripts/ops/session-manager.sh status "$1" --json | jq -r '.status')
    [[ "$status" != "RUNNING" ]] && [[ "$status" != "CREATED" ]] && break
    sleep 5
  done
}

session=$(spawn grafana-agent "$TASKS/grafana-task.md")
wait_for "$session"
result="docs/.scratch/sessions/$session/result.json"
if [[ ! -f "$result" ]]; then
  echo "crashed"
  cat "docs/.scratch/sessions/$session/session.log"
  exit 1
fi
echo "first: $status $(jq -r '.status' "$result") $(jq -r '.findings.service_status' "$result")"
[[ "$(jq -r '.status' "$result")" == "failure" ]] || exit 0
[[ "$(jq -r '.findings.service_status' "$result")" == "stopped" ]] || exit 1

printf '# Task: Restart Grafana Service\n' >"$TASKS/restart-grafana-task.md"
devops=$(spawn devops-agent "$TASKS/restart-grafana-task.md")
wait_for "$devops"
recovery=$(jq -r '.status' "docs/.scratch/sessions/$devops/result.json")
echo "recovery: $status $recovery"
[[ "$recovery" == "success" ]] || exit 1

retry=$(spawn grafana-agent "$TASKS/grafana-task.md")
wait_for "$retry"
echo "second: $status $(jq -r '.status' "docs/.scratch/sessions/$retry/result.json")"
