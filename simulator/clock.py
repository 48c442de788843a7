"""SimPy's environment with absolute times.

SimPy schedules by delays only, and now + (t - now) is not t in floating point. Horovod's cycle rounds times up to its
ticks, so a last bit would turn into a whole cycle: the engines keep exact times by scheduling at t itself.
"""

from __future__ import annotations

from heapq import heappush
from typing import Any

import simpy
from simpy.events import NORMAL, Event

LATE = 2  # after everything else that happens at the same time


class Clock(simpy.Environment):
    """A SimPy environment that can also trigger an event at an absolute time, in seconds."""

    def at(self, time: float, value: Any = None, priority: int = NORMAL) -> Event:
        """An event that succeeds with `value` at `time`; ValueError if that is past."""
        if time < self.now:
            raise ValueError(f"at {time}: the clock already shows {self.now}")
        event = Event(self)
        event._ok = True
        event._value = value
        queue: list[Any] = self._queue
        heappush(queue, (time, priority, next(self._eid), event))
        return event
