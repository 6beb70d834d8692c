# shellcheck shell=bash
# Sourced by tools/setup, tools/try and tools/check: long steps that show where they are.

# Seconds as "m:ss".
clock() {
  printf '%d:%02d' $(($1 / 60)) $(($1 % 60))
}

# step LABEL COMMAND...: runs the command with its output in a log and shows one moving line: label, time, last line of
# the log. Without a terminal a line every 20 s. On failure prints the end of the log and returns the command's status.
step() {
  local label=$1 log began last_shown=0 status=0 now tail_line job
  shift
  log=$(mktemp "${TMPDIR:-/tmp}/troupe-step.XXXXXX")
  began=$SECONDS
  set -m # a process group of its own, so that an interrupt ends the compilers too
  "$@" >"$log" 2>&1 </dev/null &
  job=$!
  set +m
  # shellcheck disable=SC2064 # the job of now
  trap "kill -TERM -- -$job 2>/dev/null; exit 130" INT TERM
  while kill -0 "$job" 2>/dev/null; do
    now=$((SECONDS - began))
    if [[ -t 1 ]] || ((now - last_shown >= 20)); then
      tail_line=$(tail -c 400 "$log" | tr '\r' '\n' | tr -cd '[:print:]\n' | sed '/^[[:space:]]*$/d' | tail -n 1)
      if [[ -t 1 ]]; then
        printf '\r\033[K%s  %s  %.60s' "$label" "$(clock "$now")" "$tail_line"
      else
        printf '%s  %s  %.90s\n' "$label" "$(clock "$now")" "$tail_line"
        last_shown=$now
      fi
    fi
    sleep 0.2
  done
  wait "$job" || status=$?
  trap - INT TERM
  now=$(clock $((SECONDS - began)))
  [[ -t 1 ]] && printf '\r\033[K'
  if ((status == 0)); then
    printf '%s  done in %s\n' "$label" "$now"
    rm -f "$log"
  else
    printf '%s  FAILED after %s (exit %d); the end of %s:\n' "$label" "$now" "$status" "$log"
    tail -n 60 "$log"
  fi
  return "$status"
}
