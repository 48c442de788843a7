"""Sync-Switch's cluster as the engines of simulator/sync see it: one K80 and one parameter shard a host.

BSP was driven by one master: a serial resource (a time a sample of the global batch) beside the workers' own compute
and a barrier. ASP workers go at their own pace; a checkpoint stops everybody under BSP, the chief alone under ASP.
A delayed host slows every worker, because each host also holds a shard: an n-th of an exchange waits for it, and all
but an n-th of its own.
"""

from __future__ import annotations

from collections.abc import Sequence, Set

import numpy as np

from simulator.studies.syncswitch_fit import ASP_RAMP, BSP_RAMP, Constants, paths
from simulator.sync.cluster import BarrierStep
from simulator.sync.jitter import WorkerJitter
from toolkit.sections.faults import FaultsSection


class PublishedCluster:
    """Workers of one experiment. stalls: seconds of a checkpoint under (BSP, ASP). batch: samples a worker in ASP."""

    def __init__(
        self, laws: Constants, workers: int, batch: int, stalls: tuple[float, float], faults: FaultsSection, seed: int
    ) -> None:
        self.laws, self.workers, self.batch, self.stalls, self.faults = laws, workers, batch, stalls, faults
        self.ramps = {"bsp": BSP_RAMP, "asp": ASP_RAMP, "ssp": ASP_RAMP}
        self.own = WorkerJitter(workers, laws.asp_cv, seed)
        self.master = WorkerJitter(1, laws.bsp_cv, seed)
        self.now = 0.0
        everybody = range(workers)
        self._paths = np.array([[paths(workers, rank, slow) for slow in everybody] for rank in everybody])

    def enter(self, protocol: str, now: float) -> float:
        self.now = now + self.ramps[protocol]
        return self.now

    def together(self, now: float) -> None:
        self.now = now

    def barrier(self, number: int, examples: Sequence[int], removed: Set[int]) -> BarrierStep:
        """The master's serial part, then the slowest worker's."""
        laws = self.laws
        own = np.full(self.workers, np.nan)
        for rank, count in enumerate(examples):
            if count:
                wait = laws.bsp_wait * count * self._delay(rank, self.now, removed)
                own[rank] = laws.compute * count * self._slow(rank, number) + wait
        serial = (laws.fixed + laws.sample * sum(examples)) * self.master.factor(0, number)
        seconds = serial + float(np.nanmax(own))
        self.now += seconds
        return BarrierStep(self.now, own, seconds)

    def pull(self, worker: int, since: float) -> float:
        return since  # the exchange is part of the measured iteration

    def gradient(self, worker: int, iteration: int, now: float) -> float:
        laws = self.laws
        compute = laws.compute * self.batch * self._slow(worker, iteration) * self.own.factor(worker, iteration)
        return now + compute + laws.asp_wait * self._delay(worker, now, frozenset())

    def push(self, worker: int, now: float) -> float:
        return now

    def applied(self, worker: int, now: float) -> None:
        """Nothing is learned here."""

    def save(self, protocol: str, worker: int) -> float:
        if protocol == "bsp":
            return self.stalls[0]
        return self.stalls[1] if worker == 0 else 0.0

    def _slow(self, worker: int, step: int) -> float:
        return self.faults.slowdown(worker, step) if self.faults.slow_worker else 1.0

    def _delay(self, worker: int, now: float, removed: Set[int]) -> float:
        """Added latencies, weighed with the parts of the worker's exchange that meet them, s."""
        delay = 0.0
        for row in self.faults.added_latency:
            if row.host not in removed and row.start <= now and (not row.end or now < row.end):
                delay += row.latency * float(self._paths[worker, row.host])
        return delay
