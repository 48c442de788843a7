"""ASP and SSP: every worker pulls, computes and pushes at its own pace, two events a worker-iteration.

A push is not answered, the next pull is asked for right behind it; a server answers it once it has applied the push and
the bound allows it (toolkit/sync does the same for real). SSP (Ho et al., NIPS 2013): a worker may begin its iteration
c only when every worker has completed c - s. ASP is SSP without a bound. Staleness of an update: updates by others that
were applied between its worker's pull and its own application.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable
from dataclasses import dataclass, field
from heapq import heappop, heappush

import numpy as np

from simulator.sync.cluster import Cluster

READY, APPLIED = 0, 1


@dataclass
class Updates:
    """What an asynchronous phase came to: an entry an update, in the order of application, and sums a worker.

    who: rank; when: time of application; seconds: of the iteration, from its pull to its push. gated,
    exchanging, computing, saving: seconds of each worker, waiting for slower ones, on the network, and so on. saves:
    when a checkpoint fell due. spread: largest difference between the iterations that two workers had completed.
    """

    workers: int
    who: array[int] = field(default_factory=lambda: array("l"))
    when: array[float] = field(default_factory=lambda: array("d"))
    seconds: array[float] = field(default_factory=lambda: array("d"))
    staleness: array[int] = field(default_factory=lambda: array("l"))
    saves: list[float] = field(default_factory=list)
    begin: float = 0.0
    end: float = 0.0
    spread: int = 0

    def __post_init__(self) -> None:
        self.gated, self.exchanging, self.computing, self.saving = np.zeros((4, self.workers))


Observe = Callable[[int, tuple[float, float, float, float]], None]  # rank; asked, free to, pulled, ready to push
Report = Callable[[int, float, float], bool]  # rank, time, seconds that it computed -> whether to end the phase


class Asynchronous:
    """One asynchronous phase. Create it, call `run` once.

    bound: SSP's staleness bound, None for ASP. first: iterations that each worker has behind it. save_every: updates
    between checkpoints, 0 for none; each worker stops for its own part of one, the others go on meanwhile. observe: may
    be set, and is then told the times of every iteration.
    """

    def __init__(
        self, cluster: Cluster, protocol: str, bound: int | None = None, *, first: int = 0, save_every: int = 0
    ) -> None:
        self.cluster, self.protocol, self.save_every = cluster, protocol, save_every
        self.bound = math.inf if bound is None else bound
        self.first = first
        self.observe: Observe | None = None
        self.clock = [0] * cluster.workers  # iterations completed in this phase
        self.slowest = 0  # smallest clock
        self.at_slowest = cluster.workers  # workers that have it
        self.held: list[int] = []  # workers that wait for slower ones
        self.read = [0] * cluster.workers  # the version that a worker's parameters have
        self.begun = [0.0] * cluster.workers
        self.idle = [0.0] * cluster.workers  # since when a worker has had nothing to compute
        self.computed = [0.0] * cluster.workers
        self.owed = [0] * cluster.workers  # checkpoints that a worker still has to stop for
        self.queue: list[tuple[float, int, int, int]] = []
        self.order = 0  # of events at the same time

    def run(self, begin: float, units: int, report: Report | None = None) -> Updates:
        """Simulate `units` updates from `begin` on, or until `report` says so and all under way are applied."""
        found = self.found = Updates(self.cluster.workers, begin=begin, end=begin)
        self.left, stopped = units, False
        self.idle = [begin] * self.cluster.workers
        for worker in range(self.cluster.workers):
            self._begin(worker, begin, begin)
        while self.queue:
            now, _, kind, worker = heappop(self.queue)
            if kind == READY:
                self.idle[worker] = now
                self._at(self.cluster.push(worker, now), APPLIED, worker)
                continue
            self._apply(worker, now)
            if report is not None and not stopped and report(worker, now, self.computed[worker]):
                stopped, self.left = True, 0
            self._next(worker, now)
        return found

    def _at(self, time: float, kind: int, worker: int) -> None:
        heappush(self.queue, (time, self.order, kind, worker))
        self.order += 1

    def _begin(self, worker: int, now: float, since: float) -> None:
        """Start a worker's next iteration; its unit of work is taken here, so that none is done twice.

        since: when the servers may answer its pull: from its last push on, or from now where the bound held it.
        """
        if self.left == 0:
            return
        self.left -= 1
        found = self.found
        held = max(0.0, since - self.idle[worker])
        if self.owed[worker]:
            stop = self.owed[worker] * self.cluster.save(self.protocol, worker)
            found.saving[worker] += stop
            self.idle[worker], self.owed[worker] = self.idle[worker] + stop, 0
            since = max(since, self.idle[worker])
            held = since - self.idle[worker]
        begun = self.idle[worker]
        self.read[worker], self.begun[worker] = len(found.who), begun
        pulled = max(now, self.cluster.pull(worker, since))
        ready = self.cluster.gradient(worker, self.first + self.clock[worker], pulled)
        found.gated[worker] += held
        found.exchanging[worker] += pulled - begun - held
        found.computing[worker] += ready - pulled
        self.computed[worker] = ready - pulled
        if self.observe is not None:
            self.observe(worker, (begun, begun + held, pulled, ready))
        self._at(ready, READY, worker)

    def _apply(self, worker: int, now: float) -> None:
        found = self.found
        found.staleness.append(len(found.who) - self.read[worker])
        found.who.append(worker)
        found.when.append(now)
        found.seconds.append(self.idle[worker] - self.begun[worker])
        found.end = now
        self.cluster.applied(worker, now)
        if self.save_every and len(found.who) % self.save_every == 0:
            found.saves.append(now)
            self.owed = [count + 1 for count in self.owed]

    def _next(self, worker: int, now: float) -> None:
        """Count a completed iteration, and start whoever may start now."""
        mine = self.clock[worker]
        self.clock[worker] = mine + 1
        if mine == self.slowest:
            self.at_slowest -= 1
            if self.at_slowest == 0:
                self.slowest = min(self.clock)
                self.at_slowest = self.clock.count(self.slowest)
                self._release(now)
        self.found.spread = max(self.found.spread, self.clock[worker] - self.slowest)
        if self.clock[worker] - self.slowest > self.bound:
            self.held.append(worker)
        else:
            self._begin(worker, now, self.idle[worker])

    def _release(self, now: float) -> None:
        for worker in [w for w in self.held if self.clock[w] - self.slowest <= self.bound]:
            self.held.remove(worker)
            self._begin(worker, now, now)
