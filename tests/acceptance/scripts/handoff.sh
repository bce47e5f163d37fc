#!/bin/bash
# Behaves as the inner part of Example 8: run by a backend agent inside its session, with BACKEND set to its own id or,
# as in the example itself, not at all. Hands the component to a frontend agent, polls, reads what came back.
printf '# Task: Create React Component for User List\n' >"$TASKS/frontend-task.md"
frontend=$(scripts/ops/session-manager.sh create frontend-agent "$TASKS/frontend-task.md" 2>&1 | grep "Session created:" | awk '{print $3}')
jq '.parent_session = "'"$BACKEND"'"' "docs/.scratch/sessions/$frontend/state.json" >"$TASKS/temp.json"
mv "$TASKS/temp.json" "docs/.scratch/sessions/$frontend/state.json"
while true; do
  status=$(scripts/ops/session-manager.sh status "$frontend" --json | jq -r '.status')
  [[ "$status" == "COMPLETED" ]] && break
  sleep 5
done
echo "component: $(jq -r '.component_code' "docs/.scratch/sessions/$frontend/result.json")"
