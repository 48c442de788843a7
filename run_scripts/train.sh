#!/usr/bin/env bash
# Train with the variables that SIDCo's users know; further arguments go to `python -m toolkit train`.
#
#   dnn=resnet20 nworkers=4 compressor=topk density=0.001 ./run_scripts/train.sh
#
# dnn, nworkers, compressor, density, stages, iratio, optimizer, ecgradw, ecmemw,
# threshold (-1 whole model, 0 per layer, N merged up to N elements), dataset, data_dir, batch_size, lr,
# max_epochs, max_steps, nstepsupdate, seed; out names the run folder. nworkers defaults to 4.
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
"$ROOT/run_scripts/setup.sh"
export PATH="$ROOT/.venv/bin:$PATH" nworkers=${nworkers:-4}
out=${out:-runs/${dnn:-resnet20}-${compressor:-topk}-${density:-default}}

arguments=$(python -m toolkit.sidco_env) || exit $?
mapfile -t arguments <<<"$arguments"
exec "$ROOT/run_scripts/mpirun.sh" -np "$nworkers" python -m toolkit train "${arguments[@]}" --out "$out" "$@"
