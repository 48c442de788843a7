#!/usr/bin/env bash
# Convergence of every compressor on two small networks, five seeds, four workers: runs/convergence/convergence.{csv,md,png}.
#   ./run_scripts/convergence.sh                  all of it (200 trainings, about 10 minutes on 2 cores)
#   ./run_scripts/convergence.sh --seconds 50     some of it; call again to go on
#   ./run_scripts/convergence.sh --methods "none;topk" --seeds 1,2
set -eu
cd "$(dirname "${BASH_SOURCE[0]}")/.."
studies=(exp_configs/convergence/digits.toml exp_configs/convergence/charlm.toml)
exec run_scripts/mpirun.sh -np "${NP:-4}" python -m toolkit convergence "${studies[@]}" --set "cluster.workers=${NP:-4}" "$@"
