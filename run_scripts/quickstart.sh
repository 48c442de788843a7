#!/usr/bin/env bash
# The main job, on real input: train with four Horovod workers, dense and compressed; calibrate the simulator from the
# traces; say where compression pays on clusters you don't have, and how far the simulation is from what was measured.
# Under four minutes on 2 cores after set-up. Everything is written below runs/quickstart (or $OUT).
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
"$ROOT/run_scripts/setup.sh"
export PATH="$ROOT/.venv/bin:$PATH"
cd "$ROOT"
EXPERIMENT=exp_configs/quickstart.toml
OUT=${OUT:-runs/quickstart}
mkdir -p "$OUT"

train() { # NAME [--set section.key=value ...]
    local name=$1
    shift
    echo "== train: $name"
    run_scripts/mpirun.sh -np 4 python -m toolkit train "$EXPERIMENT" --out "$OUT/$name" --quiet "$@"
}

train dense
train topk --set compression.name=topk
train sidco-e --set compression.name=sidco-e
train held-out --set compression.name=topk --set compression.density=0.1

echo "== real runs: four workers, the same seed"
python -m toolkit compare "$OUT"/{dense,topk,sidco-e,held-out}

echo "== calibrate the simulator on three of them"
python -m simulator calibrate "$OUT"/{dense,topk,sidco-e} --profile "$OUT/profile.json"

echo "== how far is the simulation from the measurement?"
python -m simulator validate "$OUT"/{dense,topk,sidco-e,held-out} --profile "$OUT/profile.json" \
    --json "$OUT/validation.json" --plot "$OUT/validation.png"

echo "== the same experiment on clusters you don't have: where does compression pay?"
python -m simulator map "$EXPERIMENT" --profile "$OUT/profile.json" --workers 4,8,16,32,64 \
    --bandwidths "100 Mbit/s,1 Gbit/s,10 Gbit/s" --compressors none,topk,sidco-e \
    --validation "$OUT/validation.json" --csv "$OUT/map.csv" --plot "$OUT/map.png"
echo "figures and tables: $OUT/{map.png,map.csv,validation.png,validation.json,profile.json}"
