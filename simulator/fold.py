"""Simulated steps folded into the numbers of a result, without a span in memory."""

from __future__ import annotations

from array import array
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simulator.plan import Plan
from simulator.stepcosts import Step
from simulator.worker import Finish, Pace, Rows
from toolkit.trace import PhaseTimes

Array = NDArray[np.float64]


class Jitter:
    """Each worker's compute factor in each step: lognormal with mean 1, one random stream a worker.

    Drawn in chunks of steps, so that memory does not grow with the length of a run.
    """

    CHUNK = 256

    def __init__(self, plan: Plan, seed: int) -> None:
        self.plan = plan
        cv = plan.compute_cv
        self.sigma = float(np.sqrt(np.log1p(cv * cv)))
        workers = plan.topology.workers
        streams = np.random.SeedSequence(seed).spawn(workers) if cv > 0 else []
        self._streams = [np.random.default_rng(stream) for stream in streams]
        self._chunks: dict[int, Array] = {}
        self._even = np.ones(workers)
        calm = not self._streams and plan.scenario.slowness.never
        self._always = Pace(plan.slowdown, self._even) if calm else None

    def pace(self, step: int) -> Pace:
        """All workers' pace in `step`; the same object in every step where it never changes."""
        if self._always is not None:
            return self._always
        cores = self.cores(step)
        return Pace(self.factors(step), self._even if cores is None else cores)

    def factors(self, step: int) -> Array:
        """Factors of all workers in `step`, (workers,); steps are asked for in nearly ascending order."""
        slowness = self.plan.scenario.slowness
        slowdown, slow, cores = self.plan.slowdown, slowness.compute(step), self.cores(step)
        if slow is not None:
            slowdown = slowdown * slow
        if cores is not None and self.plan.on_cores:
            slowdown = slowdown * cores
        if not self._streams:
            return slowdown
        number, row = divmod(step, self.CHUNK)
        if number not in self._chunks:
            normal = np.stack([stream.standard_normal(self.CHUNK) for stream in self._streams], axis=1)
            self._chunks[number] = np.exp(self.sigma * normal - self.sigma**2 / 2)
            self._chunks.pop(number - 2, None)
        return np.asarray(self._chunks[number][row] * slowdown)

    def cores(self, step: int) -> Array | None:
        """How many times as long work on its host's cores takes each worker, (workers,); None for all at pace."""
        return self.plan.scenario.slowness.cpu(step)


SHARED = ("compute", "compress", "communicate", "optimize", "checkpoint")


@dataclass
class Fold:
    """Sums over steps of `rows` workers; a row may stand for several workers that do the same.

    row_of: (workers,) which row a worker is. Sums are seconds, (rows,), `total` those of whole steps; sent: bytes.
    iterations: each step's seconds, mean over the workers: 8 bytes a step are all that grows with the run.
    """

    plan: Plan
    row_of: NDArray[np.int64]
    wire: float = 0.0

    def __post_init__(self) -> None:
        self.count = np.bincount(self.row_of)  # workers that a row stands for
        rows = len(self.count)
        self.compute, self.compress, self.communicate, self.optimize, self.checkpoint = np.zeros((5, rows))
        self.total = np.zeros(rows)
        self.sent = np.zeros(rows, dtype=np.int64)
        self.iterations = array("d")
        self._weight = (self.count / len(self.row_of)).tolist()

    def add(self, outcome: Outcome, rows: Rows, times: int = 1) -> None:
        """Add a step of `rows` that happened `times` times."""
        self.compute[rows] += outcome.compute * times
        self.compress[rows] += outcome.compress * times
        self.communicate[rows] += outcome.communicate * times
        self.optimize[rows] += outcome.optimize * times
        self.sent[rows] += outcome.sent * times

    def lasted(self, number: int, row: int, seconds: float) -> None:
        """Note how long step `number` lasted for a row; rows come in any order, steps in nearly ascending order."""
        while len(self.iterations) <= number:
            self.iterations.append(0.0)
        self.iterations[number] += seconds * self._weight[row]
        self.total[row] += seconds

    def all_lasted(self, seconds: Array) -> None:
        """Note how long the next step lasted for all rows, (rows,)."""
        self.iterations.append(float(self.count @ seconds) / len(self.row_of))
        self.total += seconds

    def mean(self, sums: Array) -> float:
        """Mean over workers of sums over rows."""
        return float(self.count @ sums) / len(self.row_of)

    def slowest(self) -> int:
        """The row that takes longest, checkpoints included."""
        return int(np.argmax(self.total + self.checkpoint))

    def phase(self, name: str) -> PhaseTimes:
        """The times of these steps, as toolkit.trace.synchronous has them of spans; waiting is already split."""
        busy = {share: float(self.count @ getattr(self, share)) for share in SHARED}
        training = float(self.count @ self.total) + busy["checkpoint"]
        busy["idle"] = max(0.0, training - sum(busy.values()))
        row, steps = self.slowest(), len(self.iterations)
        seconds = float(self.total[row] + self.checkpoint[row])
        return PhaseTimes(name, steps, seconds, self.iterations.tolist(), busy, int(self.count @ self.sent))


@dataclass(frozen=True)
class Outcome:
    """What one step adds to a fold, (rows,) each."""

    compute: Array
    compress: Array
    communicate: Array
    optimize: Array
    sent: NDArray[np.int64]


def outcome(plan: Plan, step: Step, rows: Rows, pace: Pace, end: Finish) -> Outcome:
    """The sums of one step of `rows`."""
    costs, load = step.costs, step.load
    batches, busy = load.batches[rows], load.busy[rows]
    compute = pace.compute * ((plan.forward_s + plan.backward_s) * batches)
    return Outcome(
        np.asarray(pace.cores * (plan.data_s * batches) + compute),
        np.asarray(pace.cores * (busy * float(costs.compressed[-1]) + float(costs.merge.sum()))),
        end.blocked,
        np.asarray(pace.cores * costs.optimize),
        costs.sent[rows],
    )
