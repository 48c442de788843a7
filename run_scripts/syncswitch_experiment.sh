#!/usr/bin/env bash
# BSP, ASP, SSP and the switch between them on real data: accuracy and time, with and without a straggler, over several seeds,
# with 95 % intervals. Leaves runs/syncswitch/syncswitch.{csv,md} and a figure a task; what is there already is not run again.
#   ./run_scripts/syncswitch_experiment.sh                  all of it: ResNet-8 on digits (about 10 minutes on 2 cores)
#   ./run_scripts/syncswitch_experiment.sh --seconds 50     some of it; call again to go on
#   ./run_scripts/syncswitch_experiment.sh --settings "bsp;10@0.1;asp" --factors 1,2,8 --seeds 1:11:1
# Other experiment files, each with settings of its own if it has any:
#   ./run_scripts/syncswitch_experiment.sh "exp_configs/syncswitch/charlstm.toml=bsp;asp;ssp@3;10@0.5;01@0.5"
set -eu
cd "$(dirname "${BASH_SOURCE[0]}")/.."
files=()
while [[ "${1:-}" == *.toml || "${1:-}" == *.toml=* ]]; do
    files+=("$1")
    shift
done
[ ${#files[@]} -gt 0 ] || files=(exp_configs/syncswitch/digits.toml)
exec run_scripts/mpirun.sh -np "${NP:-4}" python -m toolkit syncswitch "${files[@]}" \
    --set "cluster.workers=${NP:-4}" "$@"
