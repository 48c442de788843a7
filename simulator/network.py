"""Hosts, their links, and flows that share them max-min fairly.

A message occupies the sender's outgoing and the receiver's incoming link at the rate that max-min fairness gives it
(Bertsekas and Gallager, Data Networks, section 6.5.2: progressive filling), and arrives `latency` after its last byte
was sent. Links are full duplex. Workers of one host talk over their own local ports.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from simpy.events import Event

from simulator.clock import LATE, Clock
from toolkit.experiment import ClusterSection

Route = tuple[int, ...]  # the links that a message occupies


@dataclass(frozen=True)
class Topology:
    """Workers on hosts, filled in order. bandwidth and local_bandwidth in bytes/s each direction, latencies in s."""

    workers: int
    workers_per_host: int
    bandwidth: float
    latency: float
    local_bandwidth: float
    local_latency: float
    host_bandwidths: tuple[float, ...] = ()  # of each host, where they differ

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
        hosts = self.rates()
        return np.concatenate([hosts, hosts, np.full(2 * self.workers, self.local_bandwidth)])

    def rates(self) -> NDArray[np.float64]:
        """bytes/s of every host's link, (hosts,)."""
        return np.array(self.host_bandwidths) if self.host_bandwidths else np.full(self.hosts, self.bandwidth)

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
        rates = self.rates()
        link = np.minimum(rates[source // self.workers_per_host], rates[target // self.workers_per_host])
        rate = np.where(near, self.local_bandwidth, link)
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


def few_max_min(routes: Sequence[Route], capacity: list[float]) -> list[float]:
    """The same as `max_min` for a few flows, without the cost of arrays."""
    if len(routes) == 1:
        return [min(capacity[link] for link in routes[0])]
    load: dict[int, int] = {}
    for route in routes:
        for link in route:
            load[link] = load.get(link, 0) + 1
    left = {link: capacity[link] for link in load}
    rates, unfixed = [0.0] * len(routes), list(range(len(routes)))
    while unfixed:
        level = min(left[link] / count for link, count in load.items() if count)
        full = {link for link, count in load.items() if count and left[link] / count <= level * (1 + 1e-12)}
        for i in [i for i in unfixed if not full.isdisjoint(routes[i])]:
            rates[i] = level
            for link in routes[i]:
                left[link] -= level
                load[link] -= 1
        unfixed = [i for i in unfixed if not rates[i]]
    return rates


FEW = 40  # flows up to which plain numbers are faster than arrays


@dataclass(eq=False)
class Flow:
    """A message under way: bytes still to be sent as of `since`, at `rate`; `version` counts its rates."""

    route: Route
    left: float
    sent: Event
    rate: float = 0.0
    since: float = 0.0
    version: int = 0


class Network:
    """Flows on a topology in simulated time. `bytes_moved` counts what was sent, per link."""

    def __init__(self, clock: Clock, topology: Topology) -> None:
        self.clock = clock
        self.topology = topology
        self.capacity = topology.capacities()
        self.bytes_moved = np.zeros(len(self.capacity))
        self._plain = self.capacity.tolist()
        self._on: list[dict[Flow, None]] = [{} for _ in self._plain]  # in order of arrival, so that runs repeat
        self._changed: dict[int, None] = {}

    def send(self, source: int, target: int, size: float) -> Event:
        """Start a message of `size` bytes now; the event succeeds when its last byte was sent."""
        return self.send_over(self.topology.route(source, target), size)

    def send_over(self, route: Route, size: float) -> Event:
        """Start a message over given links; with size inf it lasts until `cancel`."""
        sent = Event(self.clock)
        if size <= 0:
            sent.succeed()
            return sent
        flow = Flow(route, float(size), sent, since=self.clock.now)
        for link in route:
            self.bytes_moved[link] += size if size < float("inf") else 0.0
            self._on[link][flow] = None
        self._settle_later(route)
        return sent

    def add_link(self, capacity: float) -> int:
        """One more link, bytes/s, beside those of the topology: a limit of its own for some stream."""
        self._plain.append(capacity)
        self.capacity = np.array(self._plain)
        self.bytes_moved = np.append(self.bytes_moved, 0.0)
        self._on.append({})
        return len(self._plain) - 1

    def set_capacity(self, links: Sequence[int], capacity: float) -> None:
        """Change the rate of links, bytes/s, from now on; flows under way go on at their new share."""
        for link in links:
            self._plain[link] = capacity
        self.capacity = np.array(self._plain)
        self._settle_later(tuple(links))

    def cancel(self, sent: Event) -> None:
        """End the message whose event this is, now, as if it were sent."""
        flow = next(flow for flows in self._on for flow in flows if flow.sent is sent)
        flow.version += 1
        self._leave(flow)

    def _settle_later(self, route: Route) -> None:
        # all flows that start or end at one time are settled together, once
        if not self._changed:
            self.clock.at(self.clock.now, priority=LATE).callbacks.append(self._settle)
        for link in route:
            self._changed[link] = None

    def _end(self, event: Event) -> None:
        stamped: Any = event.value
        flow, version = stamped
        if version != flow.version:
            return  # its rate has changed since
        self._leave(flow)

    def _leave(self, flow: Flow) -> None:
        for link in flow.route:
            del self._on[link][flow]
        flow.sent.succeed()
        self._settle_later(flow.route)

    def _settle(self, _: Event) -> None:
        flows = self._touched()
        self._changed = {}
        now = self.clock.now
        for flow, rate in zip(flows, self._rates([flow.route for flow in flows]), strict=True):
            if rate != flow.rate:  # an unchanged rate keeps its end, so that no rounding piles up
                flow.left -= flow.rate * (now - flow.since)
                flow.rate, flow.since = rate, now
                flow.version += 1
                if flow.left == float("inf"):
                    continue
                end = self.clock.at(now + max(0.0, flow.left) / rate, (flow, flow.version))
                end.callbacks.append(self._end)

    def _rates(self, routes: list[Route]) -> list[float]:
        if not routes:
            return []
        if len(routes) <= FEW:
            return few_max_min(routes, self._plain)
        return [float(rate) for rate in max_min(np.array(routes), self.capacity)]

    def _touched(self) -> list[Flow]:
        """Flows whose rate the changed links can have changed: those joined to them by shared links."""
        links, flows = list(self._changed), dict[Flow, None]()
        seen = set(links)
        while links:
            for flow in self._on[links.pop()]:
                if flow not in flows:
                    flows[flow] = None
                    for link in flow.route:
                        if link not in seen:
                            seen.add(link)
                            links.append(link)
        return list(flows)
