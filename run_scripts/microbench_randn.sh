#!/usr/bin/env bash
# Time the compressors on standard normal vectors, each first checked against the NumPy reference; arguments pass through.
#
#   ./run_scripts/microbench_randn.sh
#   size=0.27M,25.6M,66M,140M density=0.001 threads=2 ./run_scripts/microbench_randn.sh --feedback
#
#   size         numbers of elements (0.27M,1M,25.6M; 140M needs about 6 GB of memory)
#   density      densities (0.1,0.01,0.001)
#   compressor   methods (all that the table of --help names)
#   threads      threads of the kernels and of torch (all cores)
#   out          folder of the CSV, JSON and figure (runs/microbench_randn)
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
[ -x .venv/bin/python ] || ./run_scripts/setup.sh
options=(--densities "${density:-0.1,0.01,0.001}" --threads "${threads:-$(nproc)}" --out "${out:-runs/microbench_randn}")
if [ -n "${compressor:-}" ]; then options+=(--methods "$compressor"); fi
exec .venv/bin/python -m toolkit microbench --sizes "${size:-0.27M,1M,25.6M}" "${options[@]}" "$@"
