"""Hosts, their links, and flows that share them max-min fairly.

A message occupies the sender's outgoing and the receiver's incoming link at the rate that max-min fairness gives it
(Bertsekas and Gallager, Data Networks, section 6.5.2: progressive filling), and arrives `latency` after its last byte
was sent. Links are full duplex. Workers of one host talk over their own local ports.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from simpy.events import Event

from simulator.clock import LATE, Clock
from toolkit.experiment import ClusterSection


@dataclass(frozen=True)
class Topology:
    """Workers on hosts, filled in order. bandwidth and local_bandwidth in bytes/s each direction, latencies in s."""

    workers: int
    workers_per_host: int
    bandwidth: float
    latency: float
    local_bandwidth: float
    local_latency: float

    @classmethod
    def of(cls, cluster: ClusterSection) -> Topology:
        return cls(
            cluster.workers,
            min(cluster.workers, cluster.workers_per_host),
            cluster.bandwidth,
            cluster.latency,
            cluster.local_bandwidth,
            cluster.local_latency,
        )

    @property
    def hosts(self) -> int:
        return -(-self.workers // self.workers_per_host)

    def capacities(self) -> NDArray[np.float64]:
        """bytes/s of every link: hosts' outgoing, hosts' incoming, workers' local outgoing, local incoming."""
        return np.concatenate(
            [np.full(2 * self.hosts, self.bandwidth), np.full(2 * self.workers, self.local_bandwidth)]
        )

    def local(self, source: NDArray[np.int64], target: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which messages stay within a host."""
        return np.equal(source // self.workers_per_host, target // self.workers_per_host)

    def route(self, source: int, target: int) -> tuple[int, int]:
        """The links that a message occupies: outgoing, incoming."""
        here, there = source // self.workers_per_host, target // self.workers_per_host
        if here == there:
            return 2 * self.hosts + source, 2 * self.hosts + self.workers + target
        return here, self.hosts + there

    def latency_of(self, source: int, target: int) -> float:
        same = source // self.workers_per_host == target // self.workers_per_host
        return self.local_latency if same else self.latency

    def hop(self, source: NDArray[np.int64], target: NDArray[np.int64]) -> tuple[NDArray, NDArray]:
        """(latency in s, seconds per byte) of messages that have their links to themselves."""
        near = self.local(source, target)
        rate = np.where(near, self.local_bandwidth, self.bandwidth)
        return np.where(near, self.local_latency, self.latency), 1.0 / rate


def max_min(routes: NDArray[np.int64], capacity: NDArray[np.float64]) -> NDArray[np.float64]:
    """Max-min fair rates, bytes/s.

    routes: (flows, links a flow) link numbers; capacity: (links,) bytes/s. Progressive filling: the most contended link
    fixes the rate of its flows, then the rest is shared again.
    """
    rates = np.zeros(len(routes))
    left = capacity.astype(float)
    open_flows = np.ones(len(routes), dtype=bool)
    while open_flows.any():
        load = np.bincount(routes[open_flows].ravel(), minlength=len(capacity))
        share = np.full(len(capacity), np.inf)
        np.divide(left, load, out=share, where=load > 0)
        level = share.min()
        fixed = open_flows & (share <= level * (1 + 1e-12))[routes].any(axis=1)
        rates[fixed] = level
        left -= level * np.bincount(routes[fixed].ravel(), minlength=len(capacity))
        open_flows &= ~fixed
    return rates


@dataclass
class Flow:
    """A message under way: bytes still to be sent as of `since`, its rate, and when it will be sent at that rate."""

    route: tuple[int, int]
    left: float
    sent: Event
    rate: float = 0.0
    since: float = 0.0
    finish: float = field(default=float("inf"))


class Network:
    """Flows on a topology in simulated time. `bytes_moved` counts what was sent, per link."""

    def __init__(self, clock: Clock, topology: Topology) -> None:
        self.clock = clock
        self.topology = topology
        self.capacity = topology.capacities()
        self.bytes_moved = np.zeros(len(self.capacity))
        self.flows: list[Flow] = []
        self._settling = False
        self._version = 0

    def send(self, source: int, target: int, size: float) -> Event:
        """Start a message of `size` bytes now; the event succeeds when its last byte was sent."""
        sent = Event(self.clock)
        route = self.topology.route(source, target)
        self.bytes_moved[list(route)] += size
        if size <= 0:
            sent.succeed()
            return sent
        self.flows.append(Flow(route, float(size), sent, since=self.clock.now))
        self._settle_later()
        return sent

    def _settle_later(self) -> None:
        # all flows that start or end at one time are settled together, once
        if not self._settling:
            self._settling = True
            self.clock.at(self.clock.now, priority=LATE).callbacks.append(self._settle)

    def _settle(self, _: Event) -> None:
        self._settling = False
        now = self.clock.now
        done = [flow for flow in self.flows if flow.finish <= now]
        self.flows = [flow for flow in self.flows if flow.finish > now]
        for flow in done:
            flow.sent.succeed()
        if not self.flows:
            return
        rates = max_min(np.array([flow.route for flow in self.flows]), self.capacity)
        for flow, rate in zip(self.flows, rates.tolist(), strict=True):
            if rate != flow.rate:  # an unchanged rate keeps its finish, so that no rounding piles up
                flow.left -= flow.rate * (now - flow.since)
                flow.rate, flow.since = rate, now
                flow.finish = now + max(0.0, flow.left) / rate
        self._version += 1
        version = self._version
        wake = self.clock.at(min(flow.finish for flow in self.flows))
        wake.callbacks.append(lambda _: self._settle_later() if version == self._version else None)
