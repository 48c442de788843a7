"""How slow each worker is in each step: what [faults] slow_worker, slow_cpu and straggler mean, for both worlds.

All of it is a function of the experiment and the step's number, so that a resumed run, every rank of a job and the
simulator agree without a word.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from toolkit.experiment import Experiment
from toolkit.sections.faults import FaultsSection, Straggler

CHUNK = 256  # steps that are drawn together
Array = NDArray[np.float64]


@dataclass
class Slowness:
    """Factors of all workers; ask for steps in any order. `per_host`: workers of a host, which is filled in order."""

    faults: FaultsSection
    workers: int
    per_host: int
    seed: int
    _spells: dict[tuple[int, int], Array] = field(default_factory=dict)

    @classmethod
    def of(cls, experiment: Experiment) -> Slowness:
        cluster = experiment.cluster
        return cls(
            experiment.faults, cluster.workers, min(cluster.workers, cluster.workers_per_host), experiment.run.seed
        )

    @property
    def by_chance(self) -> bool:
        """Whether any straggler is drawn."""
        return any(row.rate > 0 for row in self.faults.straggler)

    @property
    def never(self) -> bool:
        """Whether nobody is ever slow."""
        return not (self.faults.slow_worker or self.faults.slow_cpu or self.by_chance)

    def compute(self, step: int) -> Array | None:
        """How many times as long each worker's forward and backward take, (workers,); None where all take their time.

        Slow cores are not counted in: whether a worker computes on them is for the caller to know.
        """
        rows = [row for row in self.faults.slow_worker if _in(row.from_step, row.to_step, step)]
        if not rows and not self.by_chance:
            return None
        factors = np.ones(self.workers)
        for row in rows:
            factors[row.worker] *= row.factor
        for number in range(len(self.faults.straggler)):
            factors *= self._drawn(number, step)
        return factors

    def cpu(self, step: int) -> Array | None:
        """How many times as long work on the host's cores takes, (workers,); None where it takes its time."""
        rows = [row for row in self.faults.slow_cpu if _in(row.from_step, row.to_step, step)]
        if not rows:
            return None
        factors = np.ones(self.workers)
        for row in rows:
            factors[row.host * self.per_host : (row.host + 1) * self.per_host] *= row.factor
        return factors

    def _drawn(self, number: int, step: int) -> Array:
        """Factors of the straggler row `number` in a step: the largest of the spells that are under way."""
        row = self.faults.straggler[number]
        chunk, place = divmod(step, CHUNK)
        if (number, chunk) not in self._spells:
            before = math.ceil((row.steps - 1) / CHUNK)
            drawn = [self._draw(row, number, c) for c in range(max(0, chunk - before), chunk + 1)]
            self._spells[number, chunk] = _running_max(np.concatenate(drawn), row.steps)[-CHUNK:]
            self._spells.pop((number, chunk - 2), None)
        return np.asarray(self._spells[number, chunk][place])

    def _draw(self, row: Straggler, number: int, chunk: int) -> Array:
        """The factor of the spell that begins in each step of a chunk, 1 where none does, (CHUNK, workers)."""
        factors = np.ones((CHUNK, self.workers))
        for worker in range(self.workers) if row.worker < 0 else (row.worker,):
            chance = np.random.default_rng([row.seed or self.seed, number, worker, chunk])
            begins = chance.random(CHUNK) < row.rate
            extra = (row.factor - 1.0) * excess(row, chance, CHUNK)
            factors[:, worker] = np.where(begins, 1.0 + extra, 1.0)
        return factors


def excess(row: Straggler, chance: np.random.Generator, count: int) -> Array:
    """Draws with mean 1 of a straggler's distribution, (count,)."""
    if row.distribution == "uniform":
        return chance.uniform(0.0, 2.0, count)
    if row.distribution == "exponential":
        return chance.exponential(1.0, count)
    if row.distribution == "lognormal":
        return chance.lognormal(-(row.spread**2) / 2, row.spread, count)
    if row.distribution == "pareto":
        tail = 1.0 + 1.0 / row.spread
        return (tail - 1.0) / tail * (1.0 + chance.pareto(tail, count))
    return np.ones(count)


def _in(first: int, last: int, step: int) -> bool:
    return first <= step and (not last or step < last)


def _running_max(values: Array, length: int) -> Array:
    """The largest of the last `length` rows, (rows, columns), by doubling."""
    result, covered = values.copy(), 1
    while covered < length:
        shift = min(covered, length - covered)
        shifted = result[:-shift] if shift < len(result) else result[:0]
        result = result.copy()
        result[shift:] = np.maximum(result[shift:], shifted)
        covered += shift
    return result
