"""What one step costs: its buckets' ways and seconds, and the share of the work that each worker has in it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from simulator.exchanges import Way


@dataclass(frozen=True)
class StepCosts:
    """What a step costs at one density. Arrays are a bucket each, (buckets,).

    ways: how each bucket travels. payload: bytes of a worker's compressed bucket. compress, merge: seconds; compressed,
    merged_before: their running sums, with and without the bucket's own. optimize: seconds. exact: whether what Horovod
    carries has the same size in every step. sent: bytes of each worker, (workers,).
    """

    density: float
    ways: tuple[Way, ...]
    compress: NDArray[np.float64]
    merge: NDArray[np.float64]
    optimize: float
    exact: bool = field(init=False)
    payload: tuple[int, ...] = field(init=False)
    compressed: NDArray[np.float64] = field(init=False)
    merged_before: NDArray[np.float64] = field(init=False)
    sent: NDArray[np.int64] = field(init=False)
    in_wait: NDArray[np.bool_] = field(init=False)

    def __post_init__(self) -> None:
        in_wait = np.array([way.in_wait for way in self.ways])
        values = {
            "exact": all(way.exact for way in self.ways if not way.in_wait),
            "payload": tuple(way.payload for way in self.ways),
            "compressed": np.cumsum(self.compress),
            "merged_before": np.concatenate([[0.0], np.cumsum(self.merge)[:-1]]),
            "sent": np.sum([way.sent for way in self.ways], axis=0),
            "in_wait": in_wait,
        }
        for name, value in values.items():
            object.__setattr__(self, name, value)

    @property
    def simple(self) -> bool:
        """Whether Horovod's thread carries everything at once, or the workers carry everything in their waits."""
        return not self.crossing and not any(way.again for way in self.ways)

    @property
    def crossing(self) -> bool:
        """Whether what the workers carry can meet what Horovod's thread carries on the links."""
        return bool(self.in_wait.any() and not self.in_wait.all())


@dataclass(frozen=True)
class Load:
    """A step's work, (workers,): micro-batches' worth of compute time, and the part of one in the last micro-batch."""

    batches: NDArray[np.float64]
    last: NDArray[np.float64]
    busy: NDArray[np.bool_]
    empty_workers: int


@dataclass(frozen=True)
class Step:
    """Costs and load of a step; seconds of its exchanges, (buckets,), and whether Horovod knows their sizes already.

    again: seconds of the buckets' second rounds. wire: bytes that a worker puts on the wire, mean over workers.
    """

    costs: StepCosts
    load: Load
    seconds: tuple[float, ...]
    again: tuple[float, ...]
    cached: bool
    wire: float
