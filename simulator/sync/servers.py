"""A sharded parameter server on hosts' links: pushes and pulls as messages that are served first come, first served.

A worker's messages leave its host one after the other; a host receives one after the other; a message is cut through,
so that on idle links it takes size/bandwidth + latency. A shard applies one push after the other. Nothing passes a link
where worker and shard are the same rank. Shared links are queues here, not max-min shares as in network.py: the sum of
the bytes over a busy link takes as long in either, only the order within differs. Hosts' links are the only ones: what
racks and sites limit is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simulator.topology import Topology
from toolkit.sections.faults import AddedLatency

Array = NDArray[np.float64]
Places = NDArray[np.int64]


@dataclass(frozen=True)
class Parts:
    """What one worker exchanges with each shard, (shards,): bytes, or seconds of the shard's server."""

    pushed: Array
    pulled: Array
    apply: Array


class Servers:
    """Shards on `ranks` of a topology, and when their hosts' links are free again. passing: latencies that come and go;
    those that last are in the topology."""

    def __init__(self, topology: Topology, ranks: Sequence[int], passing: Sequence[AddedLatency] = ()) -> None:
        self.topology, self.passing = topology, tuple(passing)
        self.ranks = np.asarray(ranks)
        self.hosts = self.ranks // topology.workers_per_host
        self.rates = topology.rates()
        self.out_free, self.in_free = np.zeros((2, topology.hosts))
        self.served = np.zeros(len(self.ranks))
        self.applied = np.full((topology.workers, len(self.ranks)), -np.inf)  # each worker's last push
        self.latencies = np.stack([self._calm(worker) for worker in range(topology.workers)])

    def push(self, worker: int, now: float, parts: Parts) -> float:
        """When all shards have applied what `worker` pushes now; the time of each is kept for its next pull."""
        order = np.roll(np.arange(len(self.ranks)), -worker)  # not everybody begins with the same shard
        arrived = self._scatter(worker, now, parts.pushed[order], order)
        applied = np.maximum(arrived, self.served[order]) + parts.apply[order]
        self.served[order] = applied
        self.applied[worker, order] = applied
        return float(applied.max())

    def pull(self, worker: int, since: float, parts: Parts) -> float:
        """When `worker` has the parameters of all shards; each answers from `since` on, and after its last push."""
        host, latency = worker // self.topology.workers_per_host, self._latency(worker, since)
        behind = self.applied[worker]  # the question travels right behind the push
        asked = np.where(np.isinf(behind), since + latency, np.maximum(behind, since))
        own = self.ranks == worker
        done = asked + np.where(own, 0.0, parts.pulled / self.topology.local_bandwidth)
        far = np.flatnonzero(self.hosts != host)
        if len(far):
            done[far] = self._gather(host, asked[far], self.hosts[far], parts.pulled[far])
        return float((done + latency).max())

    def forget(self, now: float) -> None:
        """A phase begins: nothing is under way, and the first pull of each worker has a way of its own."""
        self.applied[:] = -np.inf
        self.out_free[:] = self.in_free[:] = now
        self.served[:] = now

    def _scatter(self, worker: int, now: float, sizes: Array, order: Places) -> Array:
        """When each message of `worker` to the shards in `order` has arrived."""
        host, hosts = worker // self.topology.workers_per_host, self.hosts[order]
        own, far = self.ranks[order] == worker, np.flatnonzero(hosts != host)
        local = np.where((hosts == host) & ~own, sizes, 0.0)
        done = now + np.where(own, 0.0, np.cumsum(local) / self.topology.local_bandwidth)
        if len(far):
            sent = max(now, self.out_free[host]) + np.cumsum(sizes[far]) / self.rates[host]
            self.out_free[host] = sent[-1]
            done[far] = np.maximum(sent, self.in_free[hosts[far]] + sizes[far] / self.rates[hosts[far]])
            np.maximum.at(self.in_free, hosts[far], done[far])
        return done + self._latency(worker, now)[order]

    def _gather(self, host: int, asked: Array, hosts: Places, sizes: Array) -> Array:
        """When each of the messages, asked for at different times, has come in at `host`."""
        sent = np.maximum(asked, self.out_free[hosts]) + sizes / self.rates[hosts]
        np.maximum.at(self.out_free, hosts, sent)
        order = np.argsort(sent, kind="stable")
        taken = np.cumsum(sizes[order]) / self.rates[host]
        came = taken + np.maximum.accumulate(np.maximum(sent[order] - taken, self.in_free[host]))
        self.in_free[host] = came[-1]
        done = np.empty_like(came)
        done[order] = came
        return done

    def _calm(self, worker: int) -> Array:
        """One way between a worker and each shard, s; 0 to its own."""
        latency = self.topology.latencies(np.full(len(self.ranks), worker), self.ranks)
        return np.where(self.ranks == worker, 0.0, latency)

    def _latency(self, worker: int, now: float) -> Array:
        latency, host = self.latencies[worker], worker // self.topology.workers_per_host
        for row in self.passing:
            if row.start <= now and (not row.end or now < row.end):
                latency = latency + row.latency * ((self.hosts == row.host) ^ (host == row.host))
        return latency
