"""Simulated steps folded into the numbers of a result, without a span in memory."""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray

from simulator.plan import Plan
from simulator.stepcosts import Step
from simulator.worker import Finish, Pace, Rows
from toolkit.trace import RankSteps

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


@dataclass
class Fold:
    """Sums over steps and the step times of `rows` workers; a row may stand for several workers that do the same.

    row_of: (workers,) which row a worker is. Sums are seconds, (rows,); sent: bytes.
    """

    plan: Plan
    row_of: NDArray[np.int64]
    wire: float = 0.0

    def __post_init__(self) -> None:
        rows = int(self.row_of.max()) + 1
        self.compute, self.compress, self.communicate, self.optimize, self.checkpoint = np.zeros((5, rows))
        self.sent = np.zeros(rows, dtype=np.int64)
        self.seconds = [array("d") for _ in range(rows)]  # 8 bytes a step and row are all that grows

    def add(self, outcome: Outcome, rows: Rows, times: int = 1) -> None:
        """Add a step of `rows` that happened `times` times."""
        self.compute[rows] += outcome.compute * times
        self.compress[rows] += outcome.compress * times
        self.communicate[rows] += outcome.communicate * times
        self.optimize[rows] += outcome.optimize * times
        self.sent[rows] += outcome.sent * times

    def mean(self, sums: Array) -> float:
        """Mean over workers of sums over rows."""
        return float(sums[self.row_of].mean())

    def ranks(self) -> list[RankSteps]:
        """One RankSteps a worker for toolkit.trace.summarize; waiting is already split, and steps begin at 0."""
        ends = [np.array(seconds) for seconds in self.seconds]
        zeros, ranks = np.zeros(len(ends[0])), []
        shares = ("compute", "compress", "communicate", "optimize", "checkpoint")
        sums = {share: getattr(self, share).tolist() for share in shares}
        for row in self.row_of.tolist():
            # summarize only takes differences; arrays save it the conversion of a million numbers
            steps = RankSteps(
                bytes_sent=int(self.sent[row]),
                step_start=cast("list[float]", zeros),
                step_end=cast("list[float]", ends[row]),
            )
            for share in shares:
                steps.seconds[share] = sums[share][row]
            ranks.append(steps)
        return ranks


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
