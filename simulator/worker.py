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
Rows = slice


@dataclass(frozen=True)
class Launches:
    """When the last backward began, (rows,), and when each bucket's exchange was launched, (rows, buckets)."""

    backward: Array
    launched: Array


@dataclass(frozen=True)
class Finish:
    """Waiting for each bucket from `waits` to `met`, (rows, buckets); the step's end, (rows,)."""

    waits: Array
    met: Array
    end: Array


def launch(plan: Plan, step: Step, rows: Rows, start: Array, factor: Array) -> Launches:
    """The part of a step before its exchanges; `factor` multiplies each row's compute time."""
    load = step.load
    batches, last, busy = load.batches[rows], load.last[rows], load.busy[rows]
    compute = plan.forward_s * batches + plan.backward_s * (batches - last)
    backward = start + plan.step_s + plan.data_s * batches + factor * compute
    after = plan.ready_after if plan.experiment.pipeline.overlap else np.full(len(plan.ready_after), plan.backward_s)
    compressed = np.cumsum(step.costs.compress)
    launched = backward[:, None] + (factor * last)[:, None] * after + busy[:, None] * compressed
    return Launches(backward, launched)


def finish(step: Step, launches: Launches, done: Array) -> Finish:
    """The part of a step after its exchanges; done: when each bucket's exchange was complete, (buckets,)."""
    merge = step.costs.merge
    merged_before = np.cumsum(merge) - merge
    ready = launches.launched[:, -1:]
    # without waiting, bucket b would begin at ready + merged_before[b]; every wait shifts all that follows
    shift = np.maximum(ready, np.maximum.accumulate(done - merged_before))
    waits = np.concatenate([ready, shift[:, :-1]], axis=1) + merged_before
    met = shift + merged_before
    end = shift[:, -1] + float(merge.sum()) + step.costs.optimize
    return Finish(waits, met, end)
