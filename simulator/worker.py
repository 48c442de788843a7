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

from simulator.plan import Plan, Step

Array = NDArray[np.float64]
Rows = slice | NDArray[np.int64]


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
    that everybody had launched, (rows,).
    """

    ready: Array
    latest: Array
    end: Array
    blocked: Array


def launch(plan: Plan, step: Step, rows: Rows, start: Array, factor: Array) -> Launches:
    """The part of a step before its exchanges; `factor` multiplies each row's compute time."""
    load = step.load
    batches, last, busy = load.batches[rows], load.last[rows], load.busy[rows]
    compute = plan.forward_s * batches + plan.backward_s * (batches - last)
    backward = start + plan.step_s + plan.data_s * batches + factor * compute
    after = plan.ready_after if plan.experiment.pipeline.overlap else np.full(len(plan.ready_after), plan.backward_s)
    launched = np.multiply.outer(factor * last, after)
    launched += backward[:, None]
    launched += step.costs.compressed if busy.all() else np.multiply.outer(busy, step.costs.compressed)
    return Launches(backward, launched)


def finish(step: Step, launches: Launches, ready: Array, done: Array) -> Finish:
    """The part of a step after its exchanges; ready, done: last launch and completion of each, (buckets,).

    Without waiting, bucket b would be taken up at own + merged_before[b], where own is the row's last launch; every
    wait shifts all that follows. So bucket b is met at max(own, latest[b]) + merged_before[b].
    """
    costs = step.costs
    own = launches.launched[:, -1]
    latest = np.maximum.accumulate(done - costs.merged_before)
    end = np.maximum(own, latest[-1]) + (costs.merged_before[-1] + float(costs.merge[-1]) + costs.optimize)
    return Finish(own, latest, end, _blocked(costs.merged_before, own, latest, ready))


def waiting(step: Step, end: Finish, row: int) -> tuple[Array, Array]:
    """From when to when a row waits for each bucket, (buckets,) each."""
    met = np.maximum(end.ready[row], end.latest)
    before = np.concatenate([end.ready[row : row + 1], met[:-1]])
    return before + step.costs.merged_before, met + step.costs.merged_before


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
