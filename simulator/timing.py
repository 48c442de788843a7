"""How long a schedule takes: in closed form where no link is shared, as flows on the links otherwise.

Closed forms, each equal to playing the messages as flows (tests): a ring of equal parts takes rounds x the slowest hop,
because the receiver behind the slowest hop can never be faster than one hop a round, and nobody is slower. A ring of
uneven blocks on equal hops takes (P-1)(latency + largest block / bandwidth): the largest block crosses P-1 hops. In an
exchange of everybody with everybody, all flows of the slowest host's link share it evenly and end last.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from simulator import collectives
from simulator.collectives import Round, Schedule, choose, schedule, wire_bytes
from simulator.play import flow_seconds
from simulator.topology import Topology

LISTS = ("gtopk", "oktopk")  # exchanges that are played message by message
MANY = 1_000_000  # messages that are not played one by one any more


def idle_times(rounds: Schedule, topology: Topology) -> NDArray[np.float64]:
    """When each rank is through, (workers,) s, if all start at 0 and no two messages ever share a link."""
    reached = np.zeros(topology.workers)
    for messages in rounds:
        latency, per_byte = topology.hop(messages.source, messages.target)
        start = np.maximum(reached[messages.source], reached[messages.target]) + topology.overhead
        sent = start + messages.size * per_byte
        after = reached.copy()
        np.maximum.at(after, messages.source, sent)
        np.maximum.at(after, messages.target, sent + latency)
        if messages.work:
            after[messages.target] += messages.work
        reached = after
    return reached


def exclusive(rounds: Schedule, topology: Topology) -> bool:
    """Whether no two messages can ever share a link: on each link at most one a round, all from or all to one rank.

    A rank sends its own, and receives those to it, one round after the other.
    """
    distinct = {(id(m.source), id(m.target)): m for m in rounds}.values()
    rows = []
    for number, messages in enumerate(distinct):
        links = topology.links(messages.source, messages.target)
        ends = np.stack([messages.source, messages.target, np.full(len(links), number)], axis=1)
        rows.append(np.concatenate([np.stack([column, *ends.T], axis=1) for column in links.T]))
    if not rows:
        return True
    used = np.concatenate(rows)
    used = used[used[:, 0] >= 0]
    used = used[np.lexsort((used[:, 3], used[:, 0]))]
    link, source, target, number = used.T
    begins = np.flatnonzero(np.append(True, link[1:] != link[:-1]))
    sizes = np.diff(np.append(begins, len(link)))
    one = [np.equal(end, np.repeat(end[begins], sizes)) for end in (source, target)]
    alone = np.logical_and.reduceat(one[0], begins) | np.logical_and.reduceat(one[1], begins)
    twice = (link[1:] == link[:-1]) & (number[1:] == number[:-1])
    return bool(alone.all() and not twice.any())


def ring_seconds(kind: str, sizes: Sequence[float], topology: Topology) -> float | None:
    """Seconds of a ring where its closed form holds: equal parts, or equal hops."""
    workers = topology.workers
    hops = _ring_hops(topology)
    if kind == "allreduce":
        return 2 * (workers - 1) * max([latency + sizes[0] / workers * per_byte for latency, per_byte in hops])
    if len(hops) == 1 or min(sizes) == max(sizes):
        return (workers - 1) * max([latency + max(sizes) * per_byte for latency, per_byte in hops])
    return None


@lru_cache(maxsize=64)
def _ring_hops(topology: Topology) -> list[tuple[float, float]]:
    """The different (latency and overhead in s, seconds per byte) of a ring's hops."""
    latency, per_byte = topology.hop(*collectives.ring_pairs(topology.workers))
    return sorted(set(zip((latency + topology.overhead).tolist(), per_byte.tolist(), strict=True)))


def crowd_seconds(sizes: Sequence[float], topology: Topology) -> float | None:
    """Seconds of an exchange of everybody with everybody, where it has a closed form.

    sizes: bytes of each rank's message to each other rank, (workers,), or one number for all. Where each rank has a
    host to itself, the rank that sends most is limited by its own link all along. Where hosts are shared, messages must
    be equal; beyond MANY of them, smaller ones are taken to be as large as the largest: nobody has to play them.
    """
    rates, per_host, size = topology.rates(), topology.workers_per_host, max(sizes)
    even, alike = rates.min() == rates.max(), min(sizes) == size
    simple = topology.plain and topology.workers % per_host == 0
    known = alike or (per_host == 1 and even) or topology.workers**2 > MANY
    if not simple or not known or (topology.host_latencies and not (even and alike)):
        return None
    near = (per_host - 1) * size / topology.local_bandwidth + topology.local_latency + topology.overhead
    if topology.hosts == 1:
        return near
    latency = topology.latency + sum(sorted(topology.host_latencies)[-2:]) + topology.overhead
    far = per_host * (topology.workers - per_host) * size / float(rates.min()) + latency
    return max(near, far) if per_host > 1 else far


def closed_seconds(kind: str, algorithm: str, sizes: Sequence[float], topology: Topology) -> float | None:
    """Seconds of a collective on idle links where a closed form holds, None where messages share a link."""
    if topology.workers == 1:
        return 0.0
    if algorithm == "parameter-server":
        seconds = crowd_seconds([sizes[0] / topology.workers], topology)
        return None if seconds is None else 2 * seconds  # push, then pull
    if not never_meet(kind, algorithm, topology):
        return None
    ring = ring_seconds(kind, sizes, topology) if algorithm == "ring" else None
    if ring is not None:
        return ring
    return float(idle_times(schedule(kind, algorithm, sizes, topology.workers_per_host), topology).max())


@lru_cache(maxsize=256)
def never_meet(kind: str, algorithm: str, topology: Topology) -> bool:
    """Whether no two messages of a collective can share a link, whatever their sizes."""
    workers = topology.workers
    if algorithm == "ring":  # the same in every round
        return exclusive([Round(*collectives.ring_pairs(workers), np.ones(workers))], topology)
    return exclusive(schedule(kind, algorithm, [1.0] * workers, topology.workers_per_host), topology)


@dataclass
class Timing:
    """Seconds and bytes of exchanges on idle links, remembered by kind and sizes.

    kind: "allreduce" or "allgather", sizes in bytes, one for all workers or one each; or one of LISTS, whose sizes are
    those that the schedule of that name takes (simulator/exchanges.py).
    """

    topology: Topology
    algorithms: dict[str, str] = field(default_factory=dict)
    _known: dict[tuple[str, tuple[float, ...]], float] = field(default_factory=dict)
    _shares: dict[str, float] = field(default_factory=dict)

    def algorithm(self, kind: str, size: float) -> str:
        """The algorithm in force: the one set for `kind`, or the MPI library's choice for `size` bytes."""
        return self.algorithms.get(kind) or choose(kind, self.topology.workers, size)

    def full(self, sizes: Sequence[float]) -> tuple[float, ...]:
        """Bytes of every worker; one number stands for the same at all."""
        return tuple(sizes) * self.topology.workers if len(sizes) == 1 else tuple(sizes)

    def name(self, kind: str, sizes: Sequence[float]) -> str:
        """ "allreduce: ring", for people."""
        if kind in LISTS:
            return f"{kind}: {'pairs' if kind == 'gtopk' else 'all to all'}"
        return f"{kind}: {self.algorithm(kind, _volume(kind, self.full(sizes)))}"

    def rounds(self, kind: str, sizes: Sequence[float]) -> Schedule:
        """The messages of an exchange."""
        if self.topology.workers == 1:
            return []
        if kind in LISTS:
            return collectives.lists(kind, self.topology.workers, sizes)
        blocks = self.full(sizes)
        return schedule(kind, self.algorithm(kind, _volume(kind, blocks)), blocks, self.topology.workers_per_host)

    def seconds(self, kind: str, sizes: tuple[float, ...]) -> float:
        """Seconds until the last worker is through."""
        key = (kind, sizes)
        if key not in self._known:
            self._known[key] = self._lists(kind, sizes) if kind in LISTS else self._collective(kind, sizes)
        return self._known[key]

    def _collective(self, kind: str, sizes: tuple[float, ...]) -> float:
        blocks = self.full(sizes)
        algorithm = self.algorithm(kind, _volume(kind, blocks))
        closed = closed_seconds(kind, algorithm, blocks, self.topology)
        return flow_seconds(self.rounds(kind, sizes), self.topology) if closed is None else closed

    def _lists(self, kind: str, sizes: tuple[float, ...]) -> float:
        if self.topology.workers == 1:
            return 0.0
        if kind == "oktopk":
            work, *told, parts = *sizes[:4], sizes[4:]
            phases = [crowd_seconds(each, self.topology) for each in ([told[0]], parts, [told[1]], [told[2]])]
            if None not in phases:
                return sum(seconds or 0.0 for seconds in phases) + work
        rounds = self.rounds(kind, sizes)
        if kind == "gtopk" and exclusive(rounds, self.topology):
            return float(idle_times(rounds, self.topology).max())
        return flow_seconds(rounds, self.topology)

    def wire(self, kind: str, sizes: tuple[float, ...]) -> float:
        """Bytes that a worker puts on the wire, mean over workers."""
        workers = self.topology.workers
        if workers == 1:
            return 0.0
        if kind in LISTS:
            return float(collectives.lists_sent(kind, workers, sizes).mean())
        if kind == "allgather":  # every block reaches every other worker once, whatever the algorithm
            return (workers - 1) * sum(self.full(sizes)) / workers
        algorithm = self.algorithm(kind, sizes[0])
        if algorithm in ("ring", "parameter-server"):
            return 2 * (workers - 1) * sizes[0] / workers
        if algorithm not in self._shares:  # an allreduce's messages are parts of its vector: bytes grow in proportion
            unit = schedule(kind, algorithm, [1.0] * workers, self.topology.workers_per_host)
            self._shares[algorithm] = float(wire_bytes(unit, workers).mean())
        return self._shares[algorithm] * sizes[0]


def _volume(kind: str, blocks: Sequence[float]) -> float:
    """What the library's choice looks at: the vector of an allreduce, all blocks of an allgather."""
    return blocks[0] if kind == "allreduce" else sum(blocks)
