"""What a cluster has to tell about its workers before any synchronisation can be simulated on it."""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class BarrierStep:
    """A BSP step: when it ended for the last worker, s, and each worker's own seconds without waiting, (workers,).

    own: NaN for a worker that took no part. seconds: from the step's start to its end, mean over the workers.
    """

    end: float
    own: Array
    seconds: float


class Cluster(Protocol):
    """Times are absolute, in seconds; `iteration` counts a worker's own gradients from the start of the run.

    The engine asks in the order of simulated time, so that a cluster may keep queues: links and servers are served in
    the order in which they are asked for.
    """

    workers: int

    def enter(self, protocol: str, now: float) -> float:
        """A phase begins: when its workers may start, all together."""

    def together(self, now: float) -> None:
        """All workers go on at `now`, within a BSP phase, after a checkpoint."""

    def barrier(self, number: int, examples: Sequence[int], removed: Set[int]) -> BarrierStep:
        """BSP step `number` from the end of the one before, each worker with its `examples`."""

    def pull(self, worker: int, since: float) -> float:
        """When a worker has all parameters, if the servers may answer it from `since` on."""

    def gradient(self, worker: int, iteration: int, now: float) -> float:
        """When a gradient that is begun now is ready to be pushed."""

    def push(self, worker: int, now: float) -> float:
        """When a gradient that is pushed now is applied on all shards; its worker does not wait for that."""

    def applied(self, worker: int, now: float) -> None:
        """The push of a worker is in the parameters from now on: whoever pulls later gets it."""

    def save(self, protocol: str, worker: int) -> float:
        """Seconds for which a worker stops for a checkpoint."""
