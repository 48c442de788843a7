#!/usr/bin/env bash
# mpirun with the options that a small machine needs; arguments and exit code pass through.
#
#   run_scripts/mpirun.sh -np 4 python -m toolkit train exp_configs/quickstart.toml
#
# More ranks than cores is allowed; waiting ranks give up their core (without it an allreduce of 4 ranks on 2 cores takes
# 30 times longer); no binding, since all ranks would be bound to the same cores. For Open MPI 4 and 5. An option that the
# caller gives is not given again. On a real cluster call mpirun or srun yourself: these options are wrong there.
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
VENV=$ROOT/.venv

mpirun=${MPIRUN:-$(cat "$VENV/.sandtable/mpirun" 2>/dev/null || command -v "$VENV/bin/mpirun" || command -v mpirun || true)}
if [ -z "$mpirun" ] || ! [ -x "$mpirun" ]; then
    echo "mpirun.sh: MPI absent: no mpirun${mpirun:+ at $mpirun}; run ./run_scripts/setup.sh, or name one: MPIRUN=/path/to/mpirun" >&2
    exit 2
fi
if [ -x "$VENV/bin/python" ]; then export PATH="$VENV/bin:$PATH"; fi

options=()
case " $* " in *" --bind-to "*) ;; *) options+=(--bind-to none) ;; esac
case " $* " in *" --map-by "* | *" --oversubscribe "*) ;; *) options+=(--oversubscribe) ;; esac
case " $* " in *" mpi_yield_when_idle "*) ;; *) options+=(--mca mpi_yield_when_idle 1) ;; esac

export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
if [ "$(id -u)" = 0 ]; then export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1; fi
# Open MPI puts sockets below its temporary folder, and a socket's path is limited to 107 characters.
tmp=${TMPDIR:-}
if [ "${#tmp}" -gt 48 ] && [ -w /tmp ]; then
    export PRTE_MCA_prte_tmpdir_base=/tmp OMPI_MCA_orte_tmpdir_base=/tmp PMIX_SERVER_TMPDIR=/tmp
fi

exec "$mpirun" ${options[@]+"${options[@]}"} "$@"
