"""Cores of a host that several tasks share: processor sharing with one version-stamped timeout.

A task asks for `width` cores. While all ask for no more than there are, each goes at full speed; else all are slowed
alike (Kleinrock, Queueing Systems, volume 2, section 4.4). Work is counted on one virtual clock, so that a task's end
on it never changes, however many come and go.
"""

from __future__ import annotations

from functools import partial
from heapq import heappop, heappush
from itertools import count

from simpy.events import Event

from simulator.clock import Clock

EXACT = 1e-12  # of a second, relative: tasks whose ends differ by rounding alone end together


class Pool:
    """Cores of one host in simulated time."""

    def __init__(self, clock: Clock, cores: float) -> None:
        self.clock, self.cores = clock, cores
        self.busy = 0.0  # core-seconds of work done
        self._demand = 0.0
        self._virtual, self._since = 0.0, 0.0
        self._tasks: list[tuple[float, int, float, Event]] = []  # end on the virtual clock, number, width
        self._number = count()
        self._version = 0

    @property
    def speed(self) -> float:
        """How fast each task goes at present, 1 being at full speed."""
        return min(1.0, self.cores / self._demand) if self._demand else 1.0

    def work(self, seconds: float, width: float = 1.0) -> Event:
        """Start a task of so many seconds at full speed; the event succeeds when it is done."""
        done = Event(self.clock)
        if seconds <= 0:
            return done.succeed()
        self._advance()
        heappush(self._tasks, (self._virtual + seconds, next(self._number), width, done))
        self._demand += width
        self._arm()
        return done

    def _advance(self) -> None:
        now, speed = float(self.clock.now), self.speed
        self._virtual += (now - self._since) * speed
        self.busy += (now - self._since) * speed * self._demand
        self._since = now

    def _arm(self) -> None:
        self._version += 1
        if self._tasks:
            left = max(0.0, self._tasks[0][0] - self._virtual)
            self.clock.call(self.clock.now + left / self.speed, partial(self._due, self._version))

    def _due(self, version: int, _: object) -> None:
        if version != self._version:
            return  # somebody has come since
        self._advance()
        self._virtual = max(self._virtual, self._tasks[0][0])
        while self._tasks and self._tasks[0][0] <= self._virtual * (1 + EXACT):
            _, _, width, done = heappop(self._tasks)
            self._demand -= width
            done.succeed()
        if not self._tasks:
            self._demand = 0.0  # no rounding is left behind
        self._arm()
