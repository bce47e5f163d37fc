#!/usr/bin/env bash
# Sessions of this project: create, status, list, attach, kill. Hands over to ictl.
# usage: scripts/ops/session-manager.sh COMMAND ...      (COMMAND help tells the rest)
set -u

here=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
root=$(cd "$here/../.." && pwd)

# Where ictl is: said by the caller, on the PATH, or where `ictl init` was run from.
ictl=${IW_CFG_ICTL:-}
[[ -n $ictl ]] || ictl=$(command -v ictl || true)
if [[ -z $ictl && -r $here/.ictl-path ]]; then
  read -r ictl <"$here/.ictl-path"
fi
if [[ -z $ictl || ! -x $ictl ]]; then
  echo "session-manager.sh: ictl not found${ictl:+ at $ictl}; put it on the PATH, or set IW_CFG_ICTL" >&2
  exit 1
fi
# A broker that is being restarted is waited for: a script that gets no answer would take a living agent for dead.
exec "$ictl" --project "$root" --patience 60s manager "$@"
