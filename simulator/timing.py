"""How long a schedule takes: in closed form where no link is shared, as flows on the links otherwise.

Closed forms, each equal to playing the messages as flows (tests): a ring of equal parts takes rounds x the slowest hop,
because the receiver behind the slowest hop can never be faster than one hop a round, and nobody is slower. A ring of
uneven blocks on equal hops takes (P-1)(latency + largest block / bandwidth): the largest block crosses P-1 hops.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from simpy.events import AllOf, Event

from simulator.clock import Clock
from simulator.collectives import Schedule, choose, schedule, wire_bytes
from simulator.network import Network, Topology


def idle_times(rounds: Schedule, topology: Topology) -> NDArray[np.float64]:
    """When each rank is through, (workers,) s, if all start at 0 and no two messages ever share a link."""
    reached = np.zeros(topology.workers)
    for messages in rounds:
        latency, per_byte = topology.hop(messages.source, messages.target)
        start = np.maximum(reached[messages.source], reached[messages.target])
        sent = start + messages.size * per_byte
        after = reached.copy()
        np.maximum.at(after, messages.source, sent)
        np.maximum.at(after, messages.target, sent + latency)
        reached = after
    return reached


class _Message:
    """One message of a played schedule: starts when both ends have joined."""

    def __init__(self, network: Network, source: int, target: int, size: float) -> None:
        self.network, self.source, self.target, self.size = network, source, target, size
        self.joined = 0
        self.sent, self.arrived = Event(network.clock), Event(network.clock)

    def join(self) -> None:
        self.joined += 1
        if self.joined == 2:
            self.network.clock.process(self._travel())

    def _travel(self) -> Generator[Event, None, None]:
        yield self.network.send(self.source, self.target, self.size)
        self.sent.succeed()
        yield self.network.clock.timeout(self.network.topology.latency_of(self.source, self.target))
        self.arrived.succeed()


def play(network: Network, rounds: Schedule) -> list[Event]:
    """Play a schedule as flows from now on; one event a rank, which succeeds when that rank is through."""
    plans: list[list[list[tuple[_Message, bool]]]] = [[] for _ in range(network.topology.workers)]
    for messages in rounds:
        for plan in plans:
            plan.append([])
        rows = zip(messages.source.tolist(), messages.target.tolist(), messages.size.tolist(), strict=True)
        for source, target, size in rows:
            message = _Message(network, source, target, size)
            plans[source][-1].append((message, True))
            plans[target][-1].append((message, False))

    def rank(plan: list[list[tuple[_Message, bool]]]) -> Generator[Event, None, None]:
        for parts in plan:
            for message, _ in parts:
                message.join()
            if parts:
                yield AllOf(network.clock, [m.sent if sends else m.arrived for m, sends in parts])

    return [network.clock.process(rank(plan)) for plan in plans]


def flow_seconds(rounds: Schedule, topology: Topology) -> float:
    """Seconds until the last rank is through, played as flows on links that are idle at first."""
    clock = Clock()
    network = Network(clock, topology)
    clock.run(until=AllOf(clock, play(network, rounds)))
    return float(clock.now)


def closed_seconds(kind: str, algorithm: str, sizes: Sequence[float], topology: Topology) -> float | None:
    """Seconds of a collective on idle links where a closed form holds, None where messages share a link."""
    workers = topology.workers
    if workers == 1:
        return 0.0
    flat = topology.workers_per_host == 1 or topology.hosts == 1
    slowest = float(topology.rates().min())
    even = flat and slowest == float(topology.rates().max())
    if algorithm == "ring" and (even or min(sizes) == max(sizes)):
        rounds, part = (2 * (workers - 1), sizes[0] / workers) if kind == "allreduce" else (workers - 1, max(sizes))
        local = topology.local_latency + part / topology.local_bandwidth
        remote = topology.latency + part / slowest
        return rounds * max(remote if topology.hosts > 1 else 0.0, local if topology.workers_per_host > 1 else 0.0)
    if flat or algorithm == "ring":
        return float(idle_times(schedule(kind, algorithm, sizes), topology).max())
    return None


@dataclass
class Timing:
    """Seconds and bytes of collectives on idle links, remembered by kind and sizes."""

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

    def rounds(self, kind: str, sizes: Sequence[float]) -> Schedule:
        """The messages of a collective; sizes in bytes, one for all workers or one each."""
        blocks = self.full(sizes)
        return schedule(kind, self.algorithm(kind, _volume(kind, blocks)), blocks)

    def seconds(self, kind: str, sizes: tuple[float, ...]) -> float:
        """Seconds until the last worker is through; sizes in bytes, one for all workers or one each."""
        key = (kind, sizes)
        if key not in self._known:
            blocks = self.full(sizes)
            closed = closed_seconds(kind, self.algorithm(kind, _volume(kind, blocks)), blocks, self.topology)
            self._known[key] = flow_seconds(self.rounds(kind, sizes), self.topology) if closed is None else closed
        return self._known[key]

    def wire(self, kind: str, sizes: tuple[float, ...]) -> float:
        """Bytes that a worker puts on the wire, mean over workers."""
        workers = self.topology.workers
        if workers == 1:
            return 0.0
        if kind == "allgather":  # every block reaches every other worker once, whatever the algorithm
            return (workers - 1) * sum(self.full(sizes)) / workers
        algorithm = self.algorithm(kind, sizes[0])
        if algorithm == "ring":
            return 2 * (workers - 1) * sizes[0] / workers
        if algorithm not in self._shares:  # an allreduce's messages are parts of its vector: bytes grow in proportion
            unit = schedule(kind, algorithm, [1.0] * workers)
            self._shares[algorithm] = float(wire_bytes(unit, workers).mean())
        return self._shares[algorithm] * sizes[0]


def _volume(kind: str, blocks: Sequence[float]) -> float:
    """What the library's choice looks at: the vector of an allreduce, all blocks of an allgather."""
    return blocks[0] if kind == "allreduce" else sum(blocks)
