#!/bin/bash
# Behaves as Example 2: three validators side by side, one loop that polls them all, one verdict as the exit code.
for name in grafana prometheus traefik; do
  printf '# Task: Validate %s\n\n## Deliverable\nresult.json with status and findings\n' "$name" >"$TASKS/$name-task.md"
done

grafana=$(scripts/ops/session-manager.sh create grafana-agent "$TASKS/grafana-task.md" 2>&1 | grep "Session created:" | awk '{print $3}')
prometheus=$(scripts/ops/session-manager.sh create prometheus-agent "$TASKS/prometheus-task.md" 2>&1 | grep "Session created:" | awk '{print $3}')
traefik=$(scripts/ops/session-manager.sh create traefik-agent "$TASKS/traefik-task.md" 2>&1 | grep "Session created:" | awk '{print $3}')
echo "spawned: $grafana $prometheus $traefik"

while true; do
  all_done=true
  for session in "$grafana" "$prometheus" "$traefik"; do
    status=$(scripts/ops/session-manager.sh status "$session" --json | jq -r '.status')
    if [[ "$status" == "RUNNING" || "$status" == "CREATED" ]]; then
      all_done=false
      break
    fi
  done
  [[ "$all_done" == "true" ]] && break
  sleep 5
done

good=0
for session in "$grafana" "$prometheus" "$traefik"; do
  result=$(jq -r '.status' "docs/.scratch/sessions/$session/result.json")
  echo "result: $session $result"
  [[ "$result" == "success" ]] && good=$((good + 1))
done
echo "good: $good of 3"
[[ "$good" == 3 ]]
