"""One worker's step as arithmetic on arrays, shared by both engines so that their times agree to the last bit.

A step: data and forward of each micro-batch, backward in reverse order of the layers. The last backward completes the
buckets; each is compressed on the worker's own thread and its exchange launched. Then the worker waits for its buckets
in turn, merges each, and optimizes (toolkit/reducer.py does the same for real).
Rows are workers, (rows,); buckets are columns, (rows, buckets). Times are absolute, in seconds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simulator.plan import Plan
from simulator.stepcosts import Step

Array = NDArray[np.float64]
Rows = slice | NDArray[np.int64]


@dataclass(frozen=True)
class Pace:
    """How many times as long each row takes for forward and backward, and for all else it does on cores; (rows,)."""

    compute: Array
    cores: Array

    def of(self, rows: Rows) -> Pace:
        return Pace(self.compute[rows], self.cores[rows])


@dataclass(frozen=True)
class Launches:
    """When the last backward began, (rows,), and when each bucket's exchange was launched, (rows, buckets)."""

    backward: Array
    launched: Array


@dataclass(frozen=True)
class Finish:
    """What waiting for the exchanges made of a step.

    ready: when each row had launched everything, (rows,). latest: completion of each bucket and those before it,
    without the merges between, (buckets,). end: the step's end, (rows,). blocked: seconds of waiting for an exchange
    that everybody had launched, (rows,). before: seconds of the merges before each bucket's, (buckets,). latest and
    before are those of the last row, where rows differ.
    """

    ready: Array
    latest: Array
    end: Array
    blocked: Array
    before: Array


def launch(plan: Plan, step: Step, rows: Rows, start: Array, pace: Pace) -> Launches:
    """The part of a step before its exchanges."""
    load, factor, cores = step.load, pace.compute, pace.cores
    batches, last, busy = load.batches[rows], load.last[rows], load.busy[rows]
    compute = plan.forward_s * batches + plan.backward_s * (batches - last)
    backward = start + cores * (plan.step_s + plan.data_s * batches) + factor * compute
    after = plan.ready_after if plan.experiment.pipeline.overlap else np.full(len(plan.ready_after), plan.backward_s)
    launched = np.multiply.outer(factor * last, after)
    launched += backward[:, None]
    even = busy.all() and cores.min() == 1.0 == cores.max()
    launched += step.costs.compressed if even else np.multiply.outer(busy * cores, step.costs.compressed)
    return Launches(backward, launched)


def finish(step: Step, launches: Launches, ready: Array, done: Array, cores: Array) -> Finish:
    """The part of a step after its exchanges; ready, done: last launch and completion of each, (buckets,)."""
    own, paces = launches.launched[:, -1], np.unique(cores)
    if len(paces) == 1:
        return _finish(step, own, ready, done, float(paces[0]))
    end, blocked = np.zeros(len(own)), np.zeros(len(own))
    for pace in paces.tolist():  # workers of one pace merge in step
        rows = np.flatnonzero(cores == pace)
        part = _finish(step, own[rows], ready, done, pace)
        end[rows], blocked[rows] = part.end, part.blocked
    return Finish(own, part.latest, end, blocked, part.before)


def _finish(step: Step, own: Array, ready: Array, done: Array, pace: float) -> Finish:
    """Without waiting, bucket b would be taken up at own + before[b], where own is the row's last launch; every wait
    shifts all that follows. So bucket b is met at max(own, latest[b]) + before[b].
    """
    costs = step.costs
    before = costs.merged_before * pace
    latest = np.maximum.accumulate(done - before)
    end = np.maximum(own, latest[-1]) + (before[-1] + pace * (float(costs.merge[-1]) + costs.optimize))
    return Finish(own, latest, end, _blocked(before, own, latest, ready), before)


def begin_in_wait(own: Array, cores: Array, merged_before: Array) -> Waits:
    """The course of the waits of all workers; own: when each had launched everything, (workers,)."""
    paces = np.unique(cores).tolist()
    return Waits([(pace, float(own[cores == pace].max())) for pace in paces], merged_before)


@dataclass
class Waits:
    """When the last worker comes to each bucket in its waits, for exchanges that begin there."""

    groups: list[tuple[float, float]]  # pace of merging, and when the last worker of that pace is free
    merged_before: Array

    def reach(self, bucket: int) -> float:
        """When all workers are waiting for this bucket, those before it being merged."""
        return max(free + pace * float(self.merged_before[bucket]) for pace, free in self.groups)

    def met(self, bucket: int, done: float) -> None:
        """Note that a bucket's exchange was complete at `done`."""
        before = float(self.merged_before[bucket])
        self.groups = [(pace, max(free, done - pace * before)) for pace, free in self.groups]


def waiting(end: Finish, row: int) -> tuple[Array, Array]:
    """From when to when a row waits for each bucket, (buckets,) each."""
    met = np.maximum(end.ready[row], end.latest)
    before = np.concatenate([end.ready[row : row + 1], met[:-1]])
    return before + end.before, met + end.before


def _blocked(merged_before: Array, own: Array, latest: Array, ready: Array) -> Array:
    """Seconds of waiting after the last worker's launch, summed over buckets, (rows,).

    A row waits for no bucket with latest <= own. For the first one after that it waits from `own` on, for each later
    one from its predecessor's `latest` on, like every other row: those are summed once for all rows.
    """
    met = latest + merged_before
    before = np.concatenate([latest[:1], latest[:-1]]) + merged_before
    common = met - np.minimum(np.maximum(ready, before), met)
    behind = np.concatenate([np.cumsum(common[::-1])[::-1][1:], [0.0, 0.0]])  # of all buckets after b
    first = np.searchsorted(latest, own, side="right")
    some = first < len(latest)
    at = np.where(some, first, 0)
    alone = met[at] - np.minimum(np.maximum(ready[at], own + merged_before[at]), met[at])
    return np.where(some, alone + behind[at], 0.0)
