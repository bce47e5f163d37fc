# shellcheck shell=bash
# Functions for bash scripts that work with sessions. Sourcing this file defines them and does nothing else; they
# work from any directory and mean the project that this file stands in.
#
#   id=$(create_session AGENT PROMPT-FILE)   make a session; prints its id
#   wait_for_completion ID...                wait for the end of all; 0: all COMPLETED
#   wait_all ID...                           the same
#   wait_any ID...                           wait for the first end; prints the id
#   read_result ID                           print result.json
#   aggregate_results ID...                  print one JSON object: {"ID": {"status", "result_status", "result", ...}}
#   result_failed ID                         wait, then 0: it failed, or its result is not "success"; 1: it is;
#                                            2: that cannot be told (why is on stderr)
#   diagnose_error ID                        print status, log, errors of the result, end of the output
#   attach_and_inspect ID                    enter its terminal; without one, print status and end of the output
#   list_sessions [--status=STATUS] [--all]  print ids, the oldest first
#   kill_all [ID...]                         end sessions; without arguments the ids come from stdin
#   archive_all [ID...]                      move ended sessions to the archive; likewise
#
# The exit codes of wait_* are those of `ictl wait`. What is no result goes to stderr.

_session_lib_ops=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
_session_lib_root=$(cd "$_session_lib_ops/../.." && pwd)

# Where ictl is: said by the caller, on the PATH, or where `ictl init` was run from.
find_ictl() {
  local found=${IW_CFG_ICTL:-}
  [[ -n $found ]] || found=$(command -v ictl || true)
  if [[ -z $found && -r $_session_lib_ops/.ictl-path ]]; then
    read -r found <"$_session_lib_ops/.ictl-path"
  fi
  if [[ -z $found || ! -x $found ]]; then
    echo "session-lib.sh: ictl not found${found:+ at $found}; put it on the PATH, or set IW_CFG_ICTL" >&2
    return 1
  fi
  printf '%s\n' "$found"
}

_session_ictl() {
  local ictl
  ictl=$(find_ictl) || return 69
  # A broker that is being restarted is waited for, as session-manager.sh does.
  "$ictl" --project "$_session_lib_root" --patience 60s "$@"
}

_session_manager() {
  "$_session_lib_ops/session-manager.sh" "$@"
}

# The arguments, or the lines of standard input, into the array `ids` of the caller.
_session_ids() {
  if (($# > 0)); then
    ids=("$@")
    return 0
  fi
  if [[ -t 0 ]]; then
    echo "session-lib.sh: no session ids given; name them, or pipe them in as from list_sessions" >&2
    return 64
  fi
  local line
  ids=()
  while read -r line _ || [[ -n $line ]]; do
    [[ -z $line ]] || ids+=("$line")
  done
}

_session_needs_ids() {
  (($# > 0)) && return 0
  echo "session-lib.sh: no session id given; did create_session fail? see logs/orchestrator.log" >&2
  return 64
}

create_session() {
  local output code
  output=$(_session_manager create "$@") || {
    code=$?
    [[ -z $output ]] || printf '%s\n' "$output" >&2
    return "$code"
  }
  # The third word of the line that says so.
  output=${output#*"Session created: "}
  output=${output%%$'\n'*}
  printf '%s\n' "${output%% *}"
}

wait_for_completion() {
  _session_needs_ids "$@" || return
  _session_ictl wait "$@" >&2
}

wait_all() {
  _session_needs_ids "$@" || return
  _session_ictl wait --all "$@" >&2
}

wait_any() {
  _session_needs_ids "$@" || return
  local lines code=0
  lines=$(_session_ictl wait --any "$@") || code=$?
  [[ -z $lines ]] || printf '%s\n' "${lines%% *}"
  return "$code"
}

read_result() {
  _session_needs_ids "$@" || return
  _session_ictl result "$1"
}

aggregate_results() {
  _session_needs_ids "$@" || return
  _session_ictl result --by-id "$@"
}

result_failed() {
  _session_needs_ids "$@" || return 2
  local code=0
  _session_ictl wait --by-result "$1" >&2 || code=$?
  case $code in
    0) return 1 ;;
    1 | 2 | 3) return 0 ;;
    *) return 2 ;;
  esac
}

_session_folder() {
  local folder
  for folder in "$_session_lib_root/docs/.scratch/sessions/$1" "$_session_lib_root/docs/.scratch/archive/sessions/$1"; do
    [[ -d $folder ]] || continue
    printf '%s\n' "$folder"
    return 0
  done
  return 1
}

diagnose_error() {
  _session_needs_ids "$@" || return
  local folder
  _session_manager status "$1" || return
  echo "--- session.log"
  if folder=$(_session_folder "$1") && [[ -f $folder/session.log ]]; then
    cat "$folder/session.log"
  fi
  echo "--- result.json"
  # Why there is none is worth reading, too.
  _session_ictl result "$1" 2>&1 || true
  echo "--- the last lines of its terminal"
  _session_ictl logs "$1" -n 50 2>&1 || true
}

attach_and_inspect() {
  _session_needs_ids "$@" || return
  if [[ -t 0 && -t 1 ]]; then
    _session_manager attach "$1"
    return
  fi
  _session_manager status "$1" || return
  _session_ictl logs "$1" -n 50 2>&1 || true
}

list_sessions() {
  local table
  table=$(_session_manager list "$@") || return
  local line is_header=yes
  while read -r line _; do
    [[ -n $is_header || -z $line ]] || printf '%s\n' "$line"
    is_header=
  done <<<"$table"
}

kill_all() {
  local ids code=0 id
  _session_ids "$@" || return
  # All are told first, so that they stop side by side; then each is waited for.
  ((${#ids[@]} < 2)) || _session_ictl kill --force --no-wait "${ids[@]}" >/dev/null 2>&1 || true
  for id in ${ids[@]+"${ids[@]}"}; do
    _session_manager kill "$id" --force || code=$?
  done
  return "$code"
}

archive_all() {
  local ids
  _session_ids "$@" || return
  ((${#ids[@]} == 0)) || _session_ictl archive "${ids[@]}"
}
