#!/usr/bin/env bash
# BSP, ASP, SSP and the switch between them on real data: accuracy and time, with and without a straggler, over several seeds,
# with 95 % intervals. Leaves runs/syncswitch/syncswitch.{csv,md} and a figure a task; what is there already is not run again.
#   ./run_scripts/syncswitch_experiment.sh                                all of it (minutes on 2 cores)
#   ./run_scripts/syncswitch_experiment.sh --seconds 50                   some of it; call again to go on
#   ./run_scripts/syncswitch_experiment.sh --settings "bsp;10@0.1;asp" --factors 1,2,8 --seeds 1:11:1
set -eu
cd "$(dirname "${BASH_SOURCE[0]}")/.."
exec run_scripts/mpirun.sh -np "${NP:-4}" python -m toolkit syncswitch exp_configs/syncswitch/digits.toml \
    --set "cluster.workers=${NP:-4}" "$@"
