#!/usr/bin/env bash
# The whole check of this house, from a fresh clone: set-up, style, types, the kernels under sanitizers, every test
# (those that need several ranks start mpirun themselves). Arguments go to pytest: ./run_scripts/test.sh -k sidco
# Every stage runs even if an earlier one failed; the summary at the end has each stage's outcome and seconds.
# Exit code: 0 all passed, 1 some stage failed (set-up's own code if set-up failed).
set -uo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$ROOT" || exit 1
"$ROOT/run_scripts/setup.sh" || exit $?
export PATH="$ROOT/.venv/bin:$PATH"
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} # the ranks of a parallel test share these cores

summary=()
failed=0

stage() { # NAME COMMAND…
    local name=$1 began=$SECONDS outcome=ok
    shift
    printf '\n== %s\n' "$name"
    "$@" || outcome="FAILED ($?)"
    [ "$outcome" = ok ] || failed=1
    summary+=("$(printf '%-20s %4d s  %s' "$name" $((SECONDS - began)) "$outcome")")
}

c_format() {
    local sources=()
    while IFS= read -r file; do sources+=("$file"); done < <(find cext/src -name '*.[ch]' | LC_ALL=C sort)
    [ "${#sources[@]}" -gt 0 ] || { echo "no C source below cext/src"; return 1; }
    clang-format --dry-run -Werror "${sources[@]}"
}

types_checked() {
    wait "$types_job"
    local outcome=$?
    cat "$types"
    return "$outcome"
}

sanitize() {
    [ -x run_scripts/sanitize.sh ] || { echo "run_scripts/sanitize.sh is missing"; return 1; }
    run_scripts/sanitize.sh
}

stage "ruff format" ruff format --check .
stage "ruff check" ruff check .
types=$(mktemp)
mypy >"$types" 2>&1 & # beside the sanitizers, which take one core: its seconds below are what was left to wait for
types_job=$!
trap 'kill "$types_job" 2>/dev/null; rm -f "$types"' EXIT
stage "clang-format" c_format
stage "sanitizers" sanitize
stage "mypy" types_checked
stage "pytest" python -m pytest --durations=15 --durations-min=5 "$@"

printf '\n== summary\n'
printf '%s\n' "${summary[@]}"
exit "$failed"
