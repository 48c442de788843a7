#!/usr/bin/env bash
# Train with the options that Sync-Switch's users know; further ones go to `python -m toolkit train`.
#
#   run_scripts/syncswitch.sh --switch-order 10 --train-steps 500,3500 --ckpt-frequency 250,2000 --num-workers 4
#
# The switch happens inside the running job. With --restart as the first option every phase is a job of its own, started
# from the checkpoint of the one before, as published; the seconds of either are in the events of result.json, and
# --measure-switch runs both and prints them side by side. --help tells the options.
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
"$ROOT/run_scripts/setup.sh"
export PATH="$ROOT/.venv/bin:$PATH"
mode=in-job
case "${1:-}" in --restart | --measure-switch) mode=${1#--} && shift ;; esac
out=runs/syncswitch
plain=()
while [ $# -gt 0 ]; do
    case $1 in --out) out=$2 && shift 2 ;; *) plain+=("$1") && shift ;; esac
done

arguments=$(cd "$ROOT" && python -m toolkit.syncswitch_args ${plain[@]+"${plain[@]}"}) || exit $?
mapfile -t arguments <<<"$arguments"
case "${arguments[0]}" in usage*) printf '%s\n' "${arguments[@]}" && exit 0 ;; esac

job() { # OUT FLAGS…
    "$ROOT/run_scripts/mpirun.sh" -np "${arguments[0]}" python -m toolkit train "${arguments[@]:1}" --out "$@"
}

restarts() { # OUT: a job a phase
    job "$1" --until-switch
    while [ ! -e "$1/result.json" ]; do job "$1" --resume --until-switch; done
}

switches() { # NAME RESULT
    python - "$@" <<'PY'
import json, sys
name, path = sys.argv[1:]
for event in json.load(open(path))["events"]:
    if event["kind"] == "switch":
        print(f"{name}: {event['from']} -> {event['to']} at step {event['step']}: {event['seconds']:.3f} s")
PY
}

case $mode in
in-job) job "$out" ;;
restart) restarts "$out" ;;
measure-switch)
    job "$out/in-job"
    restarts "$out/restart"
    for how in in-job restart; do switches "$how" "$out/$how/result.json"; done
    ;;
esac
