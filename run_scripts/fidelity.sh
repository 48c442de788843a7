#!/usr/bin/env bash
# How far is the simulator from real runs on a cluster? Trains the runs of exp_configs/fidelity/runs.toml on emulated
# clusters, calibrates from those marked `fit`, predicts all others, and writes table and figure into docs/.
#
#   run_scripts/fidelity.sh [--out DIR] [--docs DIR] [--max-error E] [--max-busy SHARE]
#
# Runs that are there already are kept: after an interruption, start it again. Remove DIR (runs/fidelity) to measure anew.
# About ten minutes on two cores that have nothing else to do; needs root and iproute2, otherwise it exits with 3.
# --max-busy .05: runs during which others used more than 5 % of the processors are done again.
# Exit code 1: the mean error of the fitted or of the held-out runs is above E, a fraction.
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$ROOT"
OUT=runs/fidelity DOCS=docs LIMIT=() BUSY=() LIST=exp_configs/fidelity/runs.toml
while [ $# -gt 0 ]; do
    case "$1" in
        --out) OUT=${2:?--out wants a folder}; shift 2 ;;
        --docs) DOCS=${2:?--docs wants a folder}; shift 2 ;;
        --list) LIST=${2:?--list wants a file}; shift 2 ;;
        --max-error) LIMIT=(--max-error "${2:?--max-error wants a fraction}"); shift 2 ;;
        --max-busy) BUSY=(--max-busy "${2:?--max-busy wants a share}"); shift 2 ;;
        *) echo "fidelity.sh: $1: allowed are --out DIR, --docs DIR, --list FILE, --max-error E, --max-busy SHARE" >&2; exit 2 ;;
    esac
done
if [ "$(id -u)" != 0 ]; then echo "fidelity.sh: network namespaces need root" >&2; exit 3; fi
if [ -x .venv/bin/python ]; then export PATH="$ROOT/.venv/bin:$PATH"; fi

mkdir -p "$OUT" "$DOCS"
python -m toolkit testbed-runs "$LIST" --out "$OUT" "${BUSY[@]}"
mapfile -t fitted < <(python -m toolkit testbed-runs "$LIST" --out "$OUT" --fitted)
mapfile -t held_out < <(python -m toolkit testbed-runs "$LIST" --out "$OUT" --held-out)

python -m simulator calibrate "${fitted[@]}" --profile "$OUT/profile.json"
status=0
python -m simulator validate "${fitted[@]}" "${held_out[@]}" --profile "$OUT/profile.json" --json "$OUT/validation.json" \
    --csv "$DOCS/fidelity.csv" --markdown "$OUT/table.md" --plot "$DOCS/fidelity.png" "${LIMIT[@]}" || status=$?
if [ "$status" -le 1 ]; then
    {
        echo "# Predicted against measured: what \`run_scripts/fidelity.sh\` found"
        echo
        echo "On $(nproc) cores ($(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -1)), $(date -u +%F), commit" \
            "$(git rev-parse --short HEAD 2>/dev/null || echo unknown). [What this is](fidelity.md)."
        echo
        echo "![Predicted against measured iteration time](fidelity.png)"
        echo
        cat "$OUT/table.md"
    } >"$DOCS/fidelity-table.md"
fi
exit "$status"
