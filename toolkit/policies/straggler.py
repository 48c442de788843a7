"""Who is a straggler: Sync-Switch's detector (ICDCS 2021, section on online policies) on measured throughputs."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass
class StragglerDetector:
    """Flags workers whose throughput lies below the cluster's mean - `deviations` x standard deviation.

    window: observations that are averaged; it slides by one an observation. persistence: windows in a row in which a
    worker must lie below before it is flagged; it is clear again after one in which it does not. margin: a worker
    within this share of the mean is never a straggler, because in any cluster, however even, somebody lies one
    deviation below. With one or two workers nobody can be flagged: the slower of two lies exactly one deviation below.
    """

    window: int = 10
    deviations: float = 1.0
    persistence: int = 3
    margin: float = 0.05
    _seen: list[deque[float]] = field(default_factory=list, repr=False)
    _below: list[int] = field(default_factory=list, repr=False)
    _observed: int = field(default=0, repr=False)

    def observe(self, throughputs: Sequence[float]) -> set[int]:
        """Take one observation of every worker and say who is flagged now.

        throughputs: (workers,) samples/s (any unit, the same for all); NaN for a worker that took no part: it keeps
        its flag or its innocence, and does not count in mean and deviation. Returns ranks. Raises ValueError where the
        number of workers changes or a throughput is negative.
        """
        if not self._seen:
            self._seen = [deque(maxlen=self.window) for _ in throughputs]
            self._below = [0] * len(throughputs)
        if len(throughputs) != len(self._seen):
            raise ValueError(f"{len(throughputs)} throughputs: {len(self._seen)} workers were observed before")
        if any(value < 0 for value in throughputs):
            raise ValueError(f"throughputs {list(throughputs)}: none may be negative")
        for rank, value in enumerate(throughputs):
            if not math.isnan(value):
                self._seen[rank].append(value)
        self._observed += 1
        if self._observed >= self.window:
            self._count([rank for rank, value in enumerate(throughputs) if not math.isnan(value)])
        return self.flagged

    @property
    def flagged(self) -> set[int]:
        """Ranks that are flagged now."""
        return {rank for rank, count in enumerate(self._below) if count >= self.persistence}

    def _count(self, present: list[int]) -> None:
        means = {rank: math.fsum(self._seen[rank]) / len(self._seen[rank]) for rank in present}
        if not means:
            return
        mean = math.fsum(means.values()) / len(means)
        spread = math.sqrt(math.fsum((value - mean) ** 2 for value in means.values()) / len(means))
        # rounding must not decide where all are equal, or between two
        limit = min(mean - self.deviations * spread, mean * (1 - self.margin)) - 1e-12 * mean
        for rank, value in means.items():
            self._below[rank] = self._below[rank] + 1 if value < limit else 0
