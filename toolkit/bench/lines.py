"""What no sparse step can avoid: the cache lines that its places lie on are fetched and written back."""

from __future__ import annotations

import numpy as np
from rich.table import Table

import cext
from toolkit.bench.optimizers import DENSE_ADAM, Call, OptimizerSides
from toolkit.compression.base import wanted_count
from toolkit.compression.rooms import standing_zeros
from toolkit.gradients.timing import Times

ADAM, BARE = "sparse Adam", "its lines alone"
LINE = 16  # float32 numbers


def line_rates(n: int, density: float, threads: int, rounds: int, seed: int) -> dict[str, float]:
    """ms of a sparse Adam step, of touching as many lines as it must, and of torch's dense step, timed in turn; and how
    many times as fast as the dense step each of the two is.
    """
    sides = OptimizerSides(n, density, threads, seed)
    touch, lines = _touching(sides, threads)
    times = {DENSE_ADAM: Times(), ADAM: Times(), BARE: Times()}
    for turn in range(rounds + 1):
        for name, time in times.items():
            sides.prepare(DENSE_ADAM if name == BARE else name)
            time.measure(touch if name == BARE else sides.call(name))
            if turn == 0:  # it warms up
                time.seconds.clear()
    dense, adam, bare = times.values()
    return {
        "elements": n,
        "density": density,
        "lines": lines,
        "dense_ms": 1e3 * dense.median,
        "adam_ms": 1e3 * adam.median,
        "lines_ms": 1e3 * bare.median,
        "adam_faster": dense.relative(adam),
        "lines_faster": dense.relative(bare),
    }


def _touching(sides: OptimizerSides, threads: int) -> tuple[Call, int]:
    """A call that clears one number a place among parameters and one among pairs of moments; and how many lines these
    are. Memory lies as the optimizer's does, on huge pages.
    """
    n = sides.x.size
    listed = sides.generator.choice(n, wanted_count(n, sides.density), replace=False)
    places = np.sort(listed).astype(np.int32)
    touched = np.concatenate((places, n + 2 * places))
    memory = standing_zeros(3 * n).numpy()
    cext.huge_pages(memory)
    return lambda: cext.zero_at(memory, touched, threads), len(np.unique(touched // LINE))


def line_table(rates: list[dict[str, float]]) -> Table:
    rows = Table(
        title="sparse Adam and the bare touching of its cache lines: ms, and times as fast as torch's dense step"
    )
    for name in ("elements", "density", "lines", "dense ms", "Adam ms", "lines ms", "Adam", "lines"):
        rows.add_column(name, justify="right")
    for rate in rates:
        numbers = [f"{rate[key]:.2f}" for key in ("dense_ms", "adam_ms", "lines_ms", "adam_faster", "lines_faster")]
        rows.add_row(f"{rate['elements'] / 1e6:g} M", f"{rate['density']:g}", f"{rate['lines']:,.0f}", *numbers)
    return rows
