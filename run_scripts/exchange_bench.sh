#!/usr/bin/env bash
# Bytes and milliseconds a step of every exchange against dense Horovod, end to end, on the quickstart's network.
#   ./run_scripts/exchange_bench.sh                                       4 ranks on this machine
#   ./run_scripts/exchange_bench.sh --rounds 5 --set compression.density=0.001
#   NP=2 ./run_scripts/exchange_bench.sh --ways "gtopk, top-k;oktopk, top-k"
# Leaves runs/exchanges/exchanges.{csv,json,md}.
set -eu
cd "$(dirname "${BASH_SOURCE[0]}")/.."
exec run_scripts/mpirun.sh -np "${NP:-4}" python -m toolkit exchanges exp_configs/quickstart.toml \
    --set "cluster.workers=${NP:-4}" "$@"
