#!/usr/bin/env bash
# Builds the kernels under the address and undefined-behaviour sanitizers in a temporary folder and runs tests/cext there.
# Usage: run_scripts/sanitize.sh [pytest arguments]
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
python=${PYTHON:-$root/.venv/bin/python}
compiler=${CC:-gcc}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

mkdir -p "$folder/tests"
cp -r "$root/cext" "$root/setup.py" "$folder"
cp -r "$root/tests/cext" "$folder/tests"
rm -f "$folder"/cext/*.so

cd "$folder"
echo "sanitize: building cext with -fsanitize=address,undefined"
SANDTABLE_SANITIZE=1 CC=$compiler "$python" setup.py -q build_ext --inplace

asan=$($compiler -print-file-name=libasan.so)
if [ ! -e "$asan" ]; then
  echo "sanitize: $compiler has no libasan.so: install the sanitizer runtime of your compiler, or name one with CC" >&2
  exit 2
fi
# Python itself is not built for leak checking; everything else stays on. The torch comparisons are no memory test.
export LD_PRELOAD=$asan ASAN_OPTIONS=detect_leaks=0:abort_on_error=1 UBSAN_OPTIONS=print_stacktrace=1 PYTHONPATH=$folder
export OMP_NUM_THREADS=1
"$python" - <<'CHECK'
import cext
import pathlib
assert pathlib.Path(cext.__file__).is_relative_to(pathlib.Path.cwd()), f"the tests would run {cext.__file__}"
CHECK
"$python" -m pytest tests/cext -q -ra --import-mode=importlib -p no:cacheprovider --timeout 150 \
  -k "not torch and not gil" "$@"
