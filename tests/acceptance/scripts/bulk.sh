#!/bin/bash
# Behaves as Example 5: kill what has failed, archive what is complete, compress what has been in the archive for long.
scripts/ops/session-manager.sh list
for session in $(scripts/ops/session-manager.sh list --status=FAILED | tail -n +2 | awk '{print $1}'); do
  scripts/ops/session-manager.sh kill "$session" --force
done
for session in $(scripts/ops/session-manager.sh list --status=COMPLETED | tail -n +2 | awk '{print $1}'); do
  echo "archiving: $session"
  mv "docs/.scratch/sessions/$session" "docs/.scratch/archive/sessions/"
done
du -sh docs/.scratch/sessions/ docs/.scratch/archive/sessions/
find docs/.scratch/archive/sessions/ -type d -mtime +30 -exec tar czf {}.tar.gz {} \; -exec rm -rf {} \;
