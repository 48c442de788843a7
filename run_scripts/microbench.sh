#!/usr/bin/env bash
# Time the compressors on saved gradients, each first checked against the NumPy reference; arguments pass through.
#
#   ./run_scripts/microbench.sh
#   grads=my/gradients density=0.001 threads=2 ./run_scripts/microbench.sh --feedback
#
#   grads        files or folders of saved gradients (grads)
#   density      densities (0.1,0.01,0.001)
#   compressor   methods (all that the table of --help names)
#   threads      threads of the kernels and of torch (all cores)
#   out          folder of the CSV, JSON and figure (runs/microbench)
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
[ -x .venv/bin/python ] || ./run_scripts/setup.sh
options=(--densities "${density:-0.1,0.01,0.001}" --threads "${threads:-$(nproc)}" --out "${out:-runs/microbench}")
if [ -n "${compressor:-}" ]; then options+=(--methods "$compressor"); fi
read -ra places <<<"${grads:-grads}"
exec .venv/bin/python -m toolkit microbench --seconds 3 "${options[@]}" "$@" --grads "${places[@]}"
