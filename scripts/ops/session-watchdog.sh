#!/usr/bin/env bash
# Brings edits of config.sh to the sessions that run: a changed MAX_SESSION_LIFETIME_SECONDS holds for them at
# once. The lifetime itself is enforced by the worker, whether this script runs or not.
# usage: scripts/ops/session-watchdog.sh      runs until it is ended, as with: pkill -f session-watchdog.sh
set -u

here=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
# shellcheck source-path=SCRIPTDIR source=session-lib.sh
. "$here/session-lib.sh" || exit 1

ictl=$(find_ictl) || exit 1
root=$(cd "$here/../.." && pwd)
# One process, which carries this script's name: what ends it by that name ends all of it.
exec -a "$here/session-watchdog.sh" "$ictl" --project "$root" limits --watch
