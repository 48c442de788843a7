"""SimPy's environment with absolute times.

SimPy schedules by delays only, and now + (t - now) is not t in floating point. Horovod's cycle rounds times up to its
ticks, so a last bit would turn into a whole cycle: the engines keep exact times by scheduling at t itself.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappush
from typing import Any

import simpy
from simpy.events import NORMAL, Event

LATE = 2  # after everything else that happens at the same time


class _Call:
    """As much of an event as SimPy needs to call somebody: no process can wait for it, so that it costs little."""

    __slots__ = ("callbacks",)
    _ok, _value = True, None

    def __init__(self, callback: Callable[[object], None]) -> None:
        self.callbacks = [callback]


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

    def call(self, time: float, callback: Callable[[object], None], priority: int = NORMAL) -> None:
        """Call somebody at `time`, which must not be past."""
        queue: list[Any] = self._queue
        heappush(queue, (time, priority, next(self._eid), _Call(callback)))
