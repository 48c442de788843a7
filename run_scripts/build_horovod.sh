#!/usr/bin/env bash
# Build Horovod 0.28.1 from its PyPI source and install it into .venv; the wheel is kept in a cache for next time.
#
# Called by setup.sh, which has put torch, the build tools and an MPI in place. Usage: build_horovod.sh MPICXX MPI_KEY
#   MPICXX   the MPI's C++ compiler wrapper      MPI_KEY  a name of that MPI, a part of the cached wheel's key
# Needs no patch of Horovod: a compiler wrapper raises the C++ standard to the one torch's headers want (CXXFLAGS cannot,
# Horovod's CMake sets 14), and swaps the build machine's library paths for paths relative to the installed file, so that
# the cached wheel still finds its libraries when this clone is gone.
set -euo pipefail

VERSION=0.28.1
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
VENV=$ROOT/.venv
PY=$VENV/bin/python
MPICXX=$1
MPI_KEY=$2
read -ra PIP_ARGS <<<"${SANDTABLE_PIP_ARGS:-}"

key=$("$PY" - "$VERSION" "$MPI_KEY" <<'PYTHON'
import platform, re, sys, sysconfig
from importlib.metadata import version
horovod, mpi = sys.argv[1:]
libc = "".join(platform.libc_ver())
parts = [f"horovod{horovod}", f"torch{version('torch')}", sys.implementation.cache_tag, mpi, sysconfig.get_platform(), libc]
print(re.sub(r"[^A-Za-z0-9_.+-]", "_", "-".join(parts)))
PYTHON
)
CACHE=${SANDTABLE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/sandtable}/wheels/$key

# A wheel counts as good once it is installed and its library loads beside the installed torch and MPI.
install_wheel() {
    "$PY" -m pip install --no-index --no-deps --force-reinstall "$1" && "$PY" -c "import horovod.torch"
}

for wheel in "$CACHE"/horovod-"$VERSION"-*.whl; do
    [ -f "$wheel" ] || continue
    echo "using the cached wheel $wheel"
    if install_wheel "$wheel"; then exit 0; fi
    echo "the cached wheel does not install or load: building anew"
    rm -f "$wheel"
done

# A fresh folder for every build: Horovod's CMake cache remembers the MPI it saw first.
work=$(mktemp -d "${TMPDIR:-/tmp}/sandtable-horovod.XXXXXX")
trap 'rm -rf "$work"' EXIT

libdir=$("$MPICXX" --showme:libdirs 2>/dev/null | awk '{print $1}') || true
[ -n "$libdir" ] || libdir=$(cd "$(dirname "$MPICXX")/.." && pwd)/lib
case $libdir in
    "$VENV"/*) mpi_rpath='$ORIGIN/../../../..' ;; # .venv/lib, seen from site-packages/horovod/torch
    *) mpi_rpath=$libdir ;;
esac
cat >"$work/cxx" <<WRAPPER
#!/usr/bin/env bash
args=() value=0
for a in "\$@"; do
    if [ "\$value" = 1 ]; then value=0; continue; fi
    case \$a in
        -Wl,-rpath,* | -Wl,-rpath=*) ;;
        -Wl,-rpath) value=1 ;;
        *) args+=("\$a") ;;
    esac
done
exec ${CXX:-g++} "\${args[@]}" -std=c++17 -Wl,-rpath,'$mpi_rpath' -Wl,-rpath,'\$ORIGIN/../../torch/lib'
WRAPPER
chmod +x "$work/cxx"

export PATH="$(dirname "$MPICXX"):$VENV/bin:$PATH" # mpicxx for FindMPI, cmake from the requirements
export CXX="$work/cxx" TMPDIR="$work" MAKEFLAGS="${MAKEFLAGS:--j$("$PY" -c 'import os; print(os.cpu_count() or 2)')}"
export HOROVOD_WITH_PYTORCH=1 HOROVOD_WITH_MPI=1 HOROVOD_WITHOUT_GLOO=1 HOROVOD_WITHOUT_TENSORFLOW=1 HOROVOD_WITHOUT_MXNET=1
export CMAKE_POLICY_VERSION_MINIMUM=3.5 # CMake 4 refuses Horovod's minimum otherwise

# No pip cache: pip would hand out a wheel built for another torch or MPI.
"$PY" -m pip wheel --no-cache-dir --no-build-isolation --no-deps --no-binary horovod --wheel-dir "$work/out" \
    ${PIP_ARGS[@]+"${PIP_ARGS[@]}"} "horovod==$VERSION"
wheel=$(ls "$work"/out/horovod-"$VERSION"-*.whl)
install_wheel "$wheel"

# Kept only after it worked, and moved in whole: a reader never sees half a wheel. A read-only cache is no failure.
if mkdir -p "$CACHE" && cp "$wheel" "$CACHE/.new.$$"; then
    mv "$CACHE/.new.$$" "$CACHE/$(basename "$wheel")"
else
    echo "note: cannot write $CACHE; the next set-up will build Horovod again"
fi
