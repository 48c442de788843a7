#!/usr/bin/env bash
# Train on an emulated cluster: hosts are network namespaces with shaped links, mpirun is the real one and talks TCP.
#
#   run_scripts/testbed.sh [--hosts N] [--workers-per-host W] [--rate R] [--latency L] [--timeout T] \
#       -- EXPERIMENT [train arguments]
#   run_scripts/testbed.sh --hosts 3 --rate "200 Mbit/s" -- exp_configs/quickstart.toml --out runs/three-hosts
#
# Whatever is not given is taken from the experiment's own [cluster]; [faults] slow_link makes a host's link slower, and
# [cluster] allreduce and allgather pin MPI's algorithms ("auto": its own choice).
# Needs root and iproute2: otherwise it says so and exits with 3. Everything it makes is removed again, also after
# Ctrl-C. Ranks share this machine's cores: let compute be paced ([run] compute = "paced") where times matter.
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
if [ "$(id -u)" != 0 ]; then
    echo "testbed.sh: network namespaces need root" >&2
    exit 3
fi
for tool in ip tc unshare; do
    command -v "$tool" >/dev/null || { echo "testbed.sh: $tool not found: iproute2 and util-linux are wanted" >&2; exit 3; }
done
if [ -x "$ROOT/.venv/bin/python" ]; then export PATH="$ROOT/.venv/bin:$PATH"; fi
export PYTHONPATH="$ROOT${PYTHONPATH:+:$PYTHONPATH}"
exec python -m toolkit testbed "$@"
