"""A slow worker for real: what [faults] says of its compute is slept away, in proportion to what was just measured."""

from __future__ import annotations

import time

from toolkit.experiment import Experiment
from toolkit.policies.slowness import Slowness

SHORTEST_SLEEP_S = 1e-3  # less is owed until the next time: a sleep of 60 us takes twice as long


class Lag:
    """Delays of one rank. A factor below 1 cannot be done for real and counts as 1."""

    def __init__(self, experiment: Experiment, rank: int) -> None:
        self.slowness = Slowness.of(experiment)
        self.rank = rank
        self.factor = 1.0
        self._owed = 0.0

    def begin_step(self, step: int) -> None:
        """Look up how slow this worker is in its own step number `step`."""
        factors = [
            table[self.rank] for table in (self.slowness.compute(step), self.slowness.cpu(step)) if table is not None
        ]
        self.factor = 1.0
        for factor in factors:
            self.factor *= max(1.0, float(factor))

    def after(self, seconds: float) -> None:
        """Sleep as long as this compute of so many seconds would have taken longer."""
        self._owed += (self.factor - 1.0) * seconds
        if self._owed < SHORTEST_SLEEP_S:
            return
        start = time.perf_counter()
        time.sleep(self._owed)
        self._owed -= time.perf_counter() - start
