"""Times the kernels as multiples of the pass that nobody can avoid: reading the vector, or adding the gradient.

python -m cext.bench [--elements 25.6M] [--densities 0.1,0.01,0.001] [--threads 2] [--rounds 21]
    [--check-goals]

Every method is first held against the NumPy reference. Then method and floor run in turn; the ratio is taken round by
round and its median printed, with the quartiles: a busy machine or a slow memory regime strikes both sides alike.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable

import numpy as np

import cext
from cext import bench_methods as methods

CHECKED_ELEMENTS = 1_000_000


def elements_of(text: str) -> int:
    scale = {"K": 1e3, "M": 1e6}.get(text[-1:].upper(), 1.0)
    number = float(text[:-1] if scale != 1 else text) * scale
    if not 16 <= number <= 2**31 - 1:
        raise argparse.ArgumentTypeError(f"{text}: allowed are 16 to 2147483647 elements, such as 25.6M")
    return int(number)


def densities_of(text: str) -> list[float]:
    densities = [float(part) for part in text.split(",")]
    if not all(0 < density <= 0.3 for density in densities):
        raise argparse.ArgumentTypeError(f"{text}: allowed are densities above 0 and up to 0.3")
    return densities


def timed(run: Callable[[], int]) -> tuple[float, int]:
    start = time.perf_counter()
    count = run()
    return time.perf_counter() - start, count


def paired_rounds(bench: methods.Bench, method: methods.Method, rounds: int) -> tuple[np.ndarray, np.ndarray]:
    """Seconds of floor and method, round by round, after two rounds of warming up."""
    times = np.empty((rounds + 2, 2))
    for row in times:
        row[0], _ = timed(lambda: method.floor(bench))
        row[1], _ = timed(lambda: method.run(bench))
        if method.floor is methods.add:
            bench.residual[:] = bench.x  # every round selects from the same residual
    return times[2:, 0], times[2:, 1]


def show(bench: methods.Bench, method: methods.Method, rounds: int) -> bool:
    floor, took = paired_rounds(bench, method, rounds)
    low, middle, high = np.quantile(took / floor, [0.25, 0.5, 0.75])
    goal = method.goals.get(bench.density)
    kept = goal is None or middle <= goal
    beside = f"goal {goal:4.2f} {'kept' if kept else 'MISSED'}" if goal else ""
    unit = "read" if method.floor is methods.read else "add"
    print(
        f"{method.name:30} {bench.density:<7g} {middle:5.2f} x {unit:4} ({low:.2f} to {high:.2f})"
        f"  {np.median(took) * 1e3:9.3f} ms  {beside}",
        flush=True,
    )
    return kept


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m cext.bench", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--elements", type=elements_of, default=25_600_000)
    parser.add_argument("--densities", type=densities_of, default="0.1,0.01,0.001", help="comma-separated")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--check-goals", action="store_true", help="end with 1 if a goal is missed")
    options = parser.parse_args(arguments)
    for density in options.densities:
        for method in methods.METHODS:
            methods.check(method, CHECKED_ELEMENTS, density, options.threads)
    print(f"{cext.simd()}, {options.threads} threads, {options.elements} elements; all equal to the reference")
    rng = np.random.default_rng(0)
    x = rng.standard_normal(options.elements, dtype=np.float32)
    gradient = np.float32(1e-3) * rng.standard_normal(options.elements, dtype=np.float32)
    kept = True
    for density in options.densities:
        bench = methods.Bench(x, gradient, density, options.threads)
        for method in methods.METHODS:
            kept &= show(bench, method, options.rounds)
    return 0 if kept or not options.check_goals else 1


if __name__ == "__main__":
    sys.exit(main())
