"""Horovod's background thread: the cycle, the coordination of ready tensors, and operations one at a time.

Every cycle all ranks agree which tensors are ready everywhere (a bit vector over the response cache; what is not cached
is gathered at rank 0 and the answer broadcast), so the loops of all ranks run in step. A tensor that the last rank
launches between two ticks waits for the next one. Source: horovod/common/operations.cc (RunLoopOnce) and
mpi/mpi_controller.cc of Horovod 0.28.1.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simulator.collectives import binomial_broadcast
from simulator.timing import idle_times
from simulator.topology import Fabric, Topology

UNCACHED_TREES = 4  # gather of lengths, gather of requests, broadcast of a length, broadcast of the responses


@dataclass(frozen=True)
class Cycle:
    """period: s between ticks. tree_s: latency of one tree over all ranks. Software costs in s: call_s of an operation,
    coordinate_s of a cycle that has any (waking the threads of all ranks, agreeing on what is ready).
    """

    period: float
    tree_s: float
    call_s: float
    coordinate_s: float = 0.0

    @classmethod
    def of(cls, topology: Topology, cycle_time: float, call_s: float = 0.0, coordinate_s: float = 0.0) -> Cycle:
        latency = topology.latency if topology.hosts > 1 else topology.local_latency
        depth = math.ceil(math.log2(topology.workers)) if topology.workers > 1 else 0
        tree = depth * (latency + topology.overhead) + _detour(topology)
        return cls(max(cycle_time, tree), tree, call_s, coordinate_s)

    def tick(self, origin: float, ready: float) -> float:
        """The first tick at or after `ready`, where ticks run from `origin` on."""
        if ready <= origin:
            return origin
        # the small part keeps a tensor that is ready exactly at a tick from waiting for the next one
        return max(ready, origin + math.ceil((ready - origin) / self.period - 1e-9) * self.period)

    def coordination(self, cached: bool) -> float:
        """Seconds from a tick to the first operation of its batch."""
        return self.coordinate_s + (self.tree_s if cached else (1 + UNCACHED_TREES) * self.tree_s)

    def following(self, tick: float, end: float) -> float:
        """The earliest next tick after a cycle that began at `tick` and whose operations ended at `end`."""
        return max(tick + self.period, end)


def _detour(topology: Topology) -> float:
    """Seconds by which hosts and sites that are further away lengthen a tree."""
    if topology.sites == 1 and not topology.host_latencies:
        return 0.0
    tree = binomial_broadcast(topology.workers, 0.0)
    near = dataclasses.replace(topology, host_latencies=(), fabric=Fabric())
    return float(idle_times(tree, topology).max() - idle_times(tree, near).max())


def serve(
    cycle: Cycle, origin: float, ready: NDArray[np.float64], seconds: Sequence[float], cached: bool
) -> tuple[NDArray[np.float64], float]:
    """Run operations that become ready at `ready` and take `seconds`: (done, next origin), all in s."""
    order = np.argsort(ready, kind="stable").tolist()
    times = ready.tolist()
    done = [0.0] * len(times)
    call_s, coordination = cycle.call_s, cycle.coordination(cached)
    position, count = 0, len(order)
    while position < count:
        tick = cycle.tick(origin, times[order[position]])
        now = tick + coordination
        while position < count and times[order[position]] <= tick:
            operation = order[position]
            now = now + (call_s + seconds[operation])
            done[operation] = now
            position += 1
        origin = cycle.following(tick, now)
    return np.array(done), origin
