"""One machine in simulated time: compute stream, links, disk, CPU, thread pool, memories; and the log of what they did.

Streams, links and the disk serve one piece of work at a time, first come, first served. The CPU is shared evenly among
the updates under way (one alone uses all cores: its loops are parallel). A memory counts what is in it and never holds
more than its capacity.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from dataclasses import dataclass

import simpy
from simpy.events import AllOf, Event, Process

from simulator.clock import Clock
from simulator.offload.machine import Machine

Work = Generator[Event, object, None]
SAME = 1e-12  # relative: jobs that end together but for rounding


@dataclass(frozen=True)
class Entry:
    """What a resource did for a layer (the number of layers: for all that is none), start and end in s, bytes moved."""

    where: str
    what: str
    layer: int
    start: float
    end: float
    bytes: float = 0.0


class Memory:
    """Bytes in use of a tier; `peak` is the most there ever were."""

    def __init__(self, name: str, capacity: float) -> None:
        self.name, self.capacity = name, capacity
        self.used = self.peak = 0.0

    def take(self, size: float) -> None:
        self.used += size
        self.peak = max(self.peak, self.used)
        assert self.used <= self.capacity * (1 + 1e-9), f"{self.name}: {self.used:.0f} of {self.capacity:.0f} bytes"

    def give(self, size: float) -> None:
        self.used -= size
        assert self.used >= -1.0, f"{self.name}: more was given back than taken"


class Server:
    """A stream, link or disk: one piece of work at a time, in order of arrival."""

    def __init__(self, tiers: Tiers, name: str) -> None:
        self.tiers, self.name = tiers, name
        self.queue = simpy.Resource(tiers.clock, capacity=1)

    def hold(self, what: str, layer: int, seconds: float, size: float = 0.0) -> Work:
        """Wait for the turn, then work for `seconds`."""
        with self.queue.request() as turn:
            yield turn
            start = self.tiers.clock.now
            yield self.tiers.clock.timeout(seconds)
            self.tiers.note(Entry(self.name, what, layer, start, self.tiers.clock.now, size))


class Link:
    """A server that moves bytes at a rate, in bytes/s."""

    def __init__(self, server: Server, rate: float) -> None:
        self.server, self.rate = server, rate

    def move(self, what: str, layer: int, size: float) -> Work:
        yield from self.server.hold(what, layer, size / self.rate, size)


class Cpu:
    """The host's cores, shared evenly (processor sharing) among the jobs under way."""

    def __init__(self, tiers: Tiers) -> None:
        self.tiers = tiers
        self.left: dict[Event, float] = {}
        self.since = 0.0
        self.version = 0

    def run(self, what: str, layer: int, seconds: float) -> Work:
        """A job that takes `seconds` when it is alone."""
        start = self.tiers.clock.now
        self._settle()
        done = self.tiers.clock.event()
        self.left[done] = seconds
        self._next()
        yield done
        self.tiers.note(Entry("cpu", what, layer, start, self.tiers.clock.now))

    def _settle(self) -> None:
        now = self.tiers.clock.now
        share = (now - self.since) / max(1, len(self.left))
        self.left = {job: seconds - share for job, seconds in self.left.items()}
        self.since = now

    def _next(self) -> None:
        """Plan for the first jobs to end; a change of the jobs before that makes the plan void."""
        self.version += 1
        if self.left:
            least = max(0.0, min(self.left.values()))
            first = [job for job, seconds in self.left.items() if seconds <= least * (1 + SAME)]
            self.tiers.clock.process(self._finish(first, least * len(self.left), self.version))

    def _finish(self, first: list[Event], wait: float, version: int) -> Work:
        """End the jobs that were planned to, whatever rounding on a late clock left over of them."""
        yield self.tiers.clock.timeout(wait)
        if version != self.version:
            return
        self._settle()
        for job in first:
            del self.left[job]
            job.succeed()
        self._next()


class Tiers:
    """The machine as a schedule uses it. budget: bytes of "device" and "host" (Machine.budget)."""

    def __init__(self, machine: Machine, budget: dict[str, float], threads: int) -> None:
        self.clock = Clock()
        self.log: list[Entry] = []
        self.compute = Server(self, "compute")
        self.to_device = Link(Server(self, "to device"), machine.to_device)
        self.to_host = Link(Server(self, "to host"), machine.to_host)
        disk = Server(self, "disk")  # reads and writes share it
        self.disk_read, self.disk_write = Link(disk, machine.disk_read), Link(disk, machine.disk_write)
        self.cpu = Cpu(self)
        self.pool = simpy.Resource(self.clock, capacity=threads)
        self.device, self.host = Memory("device", budget["device"]), Memory("host", budget["host"])

    def note(self, entry: Entry) -> None:
        self.log.append(entry)

    def start(self, work: Work) -> Process:
        """Let work go on beside what is under way."""
        return self.clock.process(work)

    def task(self, work: Work) -> Process:
        """The same by a thread of the pool, in order of submission."""
        return self.clock.process(self._task(work))

    def _task(self, work: Work) -> Work:
        with self.pool.request() as thread:
            yield thread
            yield from work

    def all_of(self, events: Iterable[Event]) -> AllOf:
        return AllOf(self.clock, list(events))

    def run(self, work: Work) -> float:
        """Run one schedule from the start to its end; seconds. RuntimeError where it waits for ever."""
        self.clock.run(until=self.clock.process(work))
        return float(self.clock.now)

    def busy(self) -> dict[str, float]:
        """Seconds in which each resource worked: the union of its entries' times."""
        spans: dict[str, list[tuple[float, float]]] = {}
        for entry in self.log:
            spans.setdefault(entry.where, []).append((entry.start, entry.end))
        return {where: _union(sorted(times)) for where, times in spans.items()}


def _union(times: list[tuple[float, float]]) -> float:
    total, reached = 0.0, float("-inf")
    for start, end in times:
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return total
