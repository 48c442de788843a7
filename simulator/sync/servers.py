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


@dataclass(frozen=True)
class View:
    """The shards as one worker sees them, (shards,) each, in the order in which it sends: not everybody begins with the
    same. far: positions behind a link; hosts: theirs; local: 1 where a shard is another rank's on the same host.
    """

    order: Places
    own: NDArray[np.bool_]
    local: Array
    far: Places
    hosts: Places
    all_hosts: Places
    latency: Array


class Servers:
    """Shards on `ranks` of a topology, and when their hosts' links are free again. passing: latencies that come and go;
    those that last are in the topology."""

    def __init__(self, topology: Topology, ranks: Sequence[int], passing: Sequence[AddedLatency] = ()) -> None:
        self.topology, self.passing = topology, tuple(passing)
        self.ranks = np.asarray(ranks)
        self.rates = topology.rates()
        self.per_host = topology.workers_per_host
        self.out_free, self.in_free = np.zeros((2, topology.hosts))
        self.served = np.zeros(len(self.ranks))
        self.views = [self._view(worker) for worker in range(topology.workers)]
        self.applied: list[Array | None] = [None] * topology.workers  # each worker's last push, in its own order

    def _view(self, worker: int) -> View:
        order = np.roll(np.arange(len(self.ranks)), -worker)
        ranks, host = self.ranks[order], worker // self.per_host
        hosts, own = ranks // self.per_host, ranks == worker
        latency = np.where(own, 0.0, self.topology.latencies(np.full(len(ranks), worker), ranks))
        far = np.flatnonzero(hosts != host)
        return View(order, own, ((hosts == host) & ~own).astype(float), far, hosts[far], hosts, latency)

    def push(self, worker: int, now: float, parts: Parts) -> float:
        """When all shards have applied what `worker` pushes now; the time of each is kept for its next pull."""
        view = self.views[worker]
        arrived = self._scatter(view, worker // self.per_host, now, parts.pushed[view.order])
        arrived += self._latency(view, worker // self.per_host, now)
        applied = np.maximum(arrived, self.served[view.order]) + parts.apply[view.order]
        self.served[view.order] = applied
        self.applied[worker] = applied
        return float(applied.max())

    def pull(self, worker: int, since: float, parts: Parts) -> float:
        """When `worker` has the parameters of all shards; each answers from `since` on, and after its last push."""
        view, host, behind = self.views[worker], worker // self.per_host, self.applied[worker]
        latency, sizes = self._latency(view, host, since), parts.pulled[view.order]
        # the question travels right behind the push; the first one of a phase has a way of its own
        asked = since + latency if behind is None else np.maximum(behind, since)
        done = asked + np.where(view.own, 0.0, sizes / self.topology.local_bandwidth)
        if len(view.far):
            done[view.far] = self._gather(host, asked[view.far], view.hosts, sizes[view.far])
        return float((done + latency).max())

    def forget(self, now: float) -> None:
        """A phase begins: nothing is under way."""
        self.applied = [None] * self.topology.workers
        self.out_free[:] = self.in_free[:] = now
        self.served[:] = now

    def _scatter(self, view: View, host: int, now: float, sizes: Array) -> Array:
        """When the last byte of each message to the shards, in the view's order, has come in."""
        done: Array = now + np.cumsum(sizes * view.local) / self.topology.local_bandwidth
        done[view.own] = now
        if len(view.far):
            far = sizes[view.far]
            sent = max(now, float(self.out_free[host])) + np.cumsum(far) / self.rates[host]
            self.out_free[host] = sent[-1]
            came = np.maximum(sent, self.in_free[view.hosts] + far / self.rates[view.hosts])
            np.maximum.at(self.in_free, view.hosts, came)
            done[view.far] = came
        return done

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

    def _latency(self, view: View, host: int, now: float) -> Array:
        """One way between a worker and each shard, s; 0 to its own."""
        latency = view.latency
        for row in self.passing:
            if row.start <= now and (not row.end or now < row.end):
                latency = latency + row.latency * ((view.all_hosts == row.host) ^ (host == row.host))
        return latency
