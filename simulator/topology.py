"""Workers on hosts, hosts on switches, switches at sites: the links between them and the way of a message.

Links have a number each, in this order: hosts' outgoing, hosts' incoming, workers' local outgoing, local incoming;
then, where there is such a thing, racks' switches, racks' uplinks and downlinks, sites' outgoing and incoming.
Links are full duplex; a switch's backplane is not.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from toolkit.experiment import ClusterSection

Route = tuple[int, ...]  # the links that a message occupies
Ranks = NDArray[np.int64]


@dataclass(frozen=True)
class Fabric:
    """What lies between hosts; rates in bytes/s, 0 where nothing is limited. A rack is the hosts behind one switch."""

    hosts_per_rack: int = 0  # 0: all hosts behind one switch
    switch: float = 0.0  # all traffic through one switch together
    uplink: float = 0.0  # of a rack, each direction
    racks_per_site: int = 0  # 0: all racks at one site
    site: float = 0.0  # of a site, each direction
    site_latency: float = 0.0  # added to a message between two sites

    @classmethod
    def of(cls, cluster: ClusterSection) -> Fabric:
        uplink = cluster.hosts_per_rack * cluster.bandwidth / cluster.oversubscription
        return cls(
            cluster.hosts_per_rack,
            cluster.switch_bandwidth,
            uplink,
            cluster.racks_per_site,
            cluster.site_bandwidth,
            cluster.site_latency,
        )


@dataclass(frozen=True)
class Topology:
    """Workers on hosts, filled in order. bandwidth and local_bandwidth in bytes/s each direction, latencies in s.

    host_bandwidths: of each host's link, where they differ. host_latencies: added to each message of a host. overhead:
    seconds from when a message may start until its first byte leaves.
    """

    workers: int
    workers_per_host: int
    bandwidth: float
    latency: float
    local_bandwidth: float
    local_latency: float
    host_bandwidths: tuple[float, ...] = ()
    host_latencies: tuple[float, ...] = ()
    fabric: Fabric = field(default_factory=Fabric)
    overhead: float = 0.0

    @classmethod
    def of(cls, cluster: ClusterSection) -> Topology:
        return cls(
            cluster.workers,
            min(cluster.workers, cluster.workers_per_host),
            cluster.bandwidth,
            cluster.latency,
            cluster.local_bandwidth,
            cluster.local_latency,
            fabric=Fabric.of(cluster),
            overhead=cluster.message_overhead,
        )

    @cached_property
    def hosts(self) -> int:
        return -(-self.workers // self.workers_per_host)

    @cached_property
    def racks(self) -> int:
        per_rack = self.fabric.hosts_per_rack
        return -(-self.hosts // per_rack) if per_rack else 1

    @cached_property
    def sites(self) -> int:
        per_site = self.fabric.racks_per_site
        return -(-self.racks // per_site) if per_site else 1

    @cached_property
    def plain(self) -> bool:
        """Whether hosts' links and workers' ports are all that there is."""
        return self.fabric.switch <= 0 and self.racks == 1

    def rates(self) -> NDArray[np.float64]:
        """bytes/s of every host's link, (hosts,)."""
        return np.array(self.host_bandwidths) if self.host_bandwidths else np.full(self.hosts, self.bandwidth)

    @cached_property
    def _levels(self) -> list[tuple[str, int, float]]:
        """Name, number and rate of the links behind hosts and workers."""
        fabric, levels = self.fabric, []
        if fabric.switch > 0:
            levels.append(("switch", self.racks, fabric.switch))
        if self.racks > 1:
            levels += [("rack {} up", self.racks, fabric.uplink), ("rack {} down", self.racks, fabric.uplink)]
        if self.sites > 1 and fabric.site > 0:
            levels += [("site {} out", self.sites, fabric.site), ("site {} in", self.sites, fabric.site)]
        return levels

    def capacities(self) -> NDArray[np.float64]:
        """bytes/s of every link."""
        hosts, ports = self.rates(), np.full(2 * self.workers, self.local_bandwidth)
        return np.concatenate([hosts, hosts, ports, *(np.full(count, rate) for _, count, rate in self._levels)])

    def link_names(self) -> list[str]:
        """What each link is, for people."""
        names = [f"host {host} {way}" for way in ("out", "in") for host in range(self.hosts)]
        names += [f"worker {worker} local {way}" for way in ("out", "in") for worker in range(self.workers)]
        return names + [
            name.format(i) if "{" in name else f"{name} {i}" for name, n, _ in self._levels for i in range(n)
        ]

    def local(self, source: Ranks, target: Ranks) -> NDArray[np.bool_]:
        """Which messages stay within a host."""
        return np.equal(source // self.workers_per_host, target // self.workers_per_host)

    @cached_property
    def _routes(self) -> dict[tuple[int, int], Route]:
        return {}

    def route(self, source: int, target: int) -> Route:
        """The links that a message occupies."""
        if self.plain:
            here, there = source // self.workers_per_host, target // self.workers_per_host
            if here != there:
                return here, self.hosts + there
            return 2 * self.hosts + source, 2 * self.hosts + self.workers + target
        found = self._routes.get((source, target))
        if found is None:
            links = self.links(np.array([source]), np.array([target]))[0]
            found = self._routes[source, target] = tuple(links[links >= 0].tolist())
        return found

    def host_route(self, source: int, target: int) -> Route:
        """The links between two hosts."""
        return self.route(source * self.workers_per_host, target * self.workers_per_host)

    def links(self, source: Ranks, target: Ranks) -> NDArray[np.int64]:
        """The links that each message occupies, (messages, most of one), -1 where it occupies fewer."""
        here, there = source // self.workers_per_host, target // self.workers_per_host
        near, fabric = here == there, self.fabric
        first = 2 * self.hosts
        columns = [
            np.where(near, first + source, here),
            np.where(near, first + self.workers + target, self.hosts + there),
        ]
        if self.plain:
            return np.stack(columns, axis=1)
        first += 2 * self.workers
        rack, rack_there = (host // (fabric.hosts_per_rack or self.hosts) for host in (here, there))
        if fabric.switch > 0:
            columns += [np.where(near, -1, first + rack), np.where(rack != rack_there, first + rack_there, -1)]
            first += self.racks
        if self.racks > 1:
            columns += _crossing(first, rack, rack_there, self.racks)
            first += 2 * self.racks
        if self.sites > 1 and fabric.site > 0:
            columns += _crossing(first, rack // fabric.racks_per_site, rack_there // fabric.racks_per_site, self.sites)
        return np.stack(columns, axis=1)

    def latency_of(self, source: int, target: int) -> float:
        """Seconds from a message's last byte sent to its arrival."""
        if source // self.workers_per_host == target // self.workers_per_host:
            return self.local_latency
        if self.sites == 1 and not self.host_latencies:
            return self.latency
        return float(self.latencies(np.array([source]), np.array([target]))[0])

    def latencies(self, source: Ranks, target: Ranks) -> NDArray[np.float64]:
        """Seconds from each message's last byte sent to its arrival, (messages,)."""
        here, there = source // self.workers_per_host, target // self.workers_per_host
        far = np.full(len(source), self.latency)
        if self.sites > 1:
            of_site = self.fabric.hosts_per_rack * self.fabric.racks_per_site
            far += np.where(here // of_site != there // of_site, self.fabric.site_latency, 0.0)
        if self.host_latencies:
            added = np.array(self.host_latencies)
            far += added[here] + added[there]
        return np.where(here == there, self.local_latency, far)

    def hop(self, source: Ranks, target: Ranks) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(latency in s, seconds per byte) of messages that have their links to themselves."""
        rates = np.append(self.capacities(), np.inf)[self.links(source, target)].min(axis=1)
        return self.latencies(source, target), 1.0 / rates


def _crossing(first: int, here: Ranks, there: Ranks, count: int) -> list[NDArray[np.int64]]:
    """Links out of one group and into another, for messages that cross."""
    return [np.where(here != there, first + here, -1), np.where(here != there, first + count + there, -1)]
