"""Each worker's compute factor in each of its iterations: lognormal with mean 1, one random stream a worker.

The same numbers as fold.Jitter draws for steps behind a barrier, but every worker asks at its own pace. A worker's
factor in an iteration does not depend on the others or on the protocol: comparisons are paired.
"""

from __future__ import annotations

import numpy as np

CHUNK = 256


class WorkerJitter:
    """Factors with coefficient of variation `cv`; memory grows with the iterations, 8 bytes each."""

    def __init__(self, workers: int, cv: float, seed: int) -> None:
        self.sigma = float(np.sqrt(np.log1p(cv * cv)))
        self._streams = [np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(workers)] if cv else []
        self._drawn: list[list[float]] = [[] for _ in range(workers)]

    def factor(self, worker: int, iteration: int) -> float:
        """The factor of a worker's iteration, counted from 0."""
        if not self._streams:
            return 1.0
        drawn = self._drawn[worker]
        while iteration >= len(drawn):
            normal = self._streams[worker].standard_normal(CHUNK)
            drawn.extend(np.exp(self.sigma * normal - self.sigma**2 / 2).tolist())
        return drawn[iteration]
