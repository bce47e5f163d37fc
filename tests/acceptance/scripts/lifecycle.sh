#!/bin/bash
# Behaves as Example 4, on a terminal: start something long, list it, look into it, leave it, come back, archive it.
printf '# Task: Research Prometheus Alerting Best Practices\n\n## Deliverable\nresearch-findings.md in session workspace\n' \
  >"$TASKS/research-task.md"
session=$(scripts/ops/session-manager.sh create researcher-agent "$TASKS/research-task.md" 2>&1 | grep "Session created:" | awk '{print $3}')
echo "started: $session"
scripts/ops/session-manager.sh list
scripts/ops/session-manager.sh attach "$session"
echo "attach returned: $?"
sleep 600
scripts/ops/session-manager.sh status "$session"
cat "docs/.scratch/sessions/$session/research-findings.md"
mv "docs/.scratch/sessions/$session" "docs/.scratch/archive/sessions/" && echo "archived: $session"
