"""A whole run of phases on a cluster: BSP steps, asynchronous stretches, switches, checkpoints, online decisions.

Phases, course and watch are the trainer's own objects (toolkit/policies), asked in the same order as there.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from simulator.sync.asynchronous import Asynchronous, Observe, Updates
from simulator.sync.cluster import Cluster
from toolkit.policies.online import shares
from toolkit.policies.protocol import Phase
from toolkit.policies.switch import Course
from toolkit.policies.watch import Watch
from toolkit.sections.sync import SyncSection


@dataclass
class Segment:
    """A stretch under one protocol, as it came; steps: BSP steps, or updates. Times in s."""

    protocol: str
    begin: float
    end: float
    steps: int = 0


@dataclass
class Story:
    """What a run came to.

    barrier, ends: seconds of every BSP step, and when it ended. saves: (time, seconds that everybody stopped) each.
    protocols: of the phases as they were entered; neighbours of one protocol are one segment.
    """

    segments: list[Segment] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    updates: list[Updates] = field(default_factory=list)
    barrier: array[float] = field(default_factory=lambda: array("d"))
    ends: array[float] = field(default_factory=lambda: array("d"))
    saves: list[tuple[float, float]] = field(default_factory=list)
    protocols: list[str] = field(default_factory=list)

    @property
    def end(self) -> float:
        return self.segments[-1].end if self.segments else 0.0


class Job:
    """One run. Create it, call `run` once. sync: the online policy and its detector."""

    def __init__(self, cluster: Cluster, phases: Sequence[Phase], sync: SyncSection) -> None:
        self.cluster = cluster
        self.course = Course(tuple(phases))
        self.watch = Watch(sync, cluster.workers)
        self.now = 0.0
        self.number = 0  # of the phase whose settings are in force
        self.story = Story()
        self.observe: Observe | None = None  # may be set: is told the times of every update

    def run(self) -> Story:
        """Simulate the whole run."""
        while (number := self._next()) is not None:
            self.number = number
            self._begin(self.course.phases[number].protocol)
            if self.course.phases[number].protocol == "bsp":
                self._synchronous(number)
            else:
                self._asynchronous(number)
            if self._next() is not None:
                self._save(self.course.phases[number].protocol)
        self.story.events.sort(key=lambda event: event["step"])
        return self.story

    def _next(self) -> int | None:
        """The phase to run now: the plan's, or one of the protocol that the online policy wants instead."""
        due = self.course.due
        if due is None or not self.watch.active:
            return due
        self.watch.follow(self._kind(due), self.course.raw_steps, self.now)
        instead = self.course.instead(self.watch.protocol)
        return due if instead is None else instead

    def _kind(self, number: int) -> str:
        """A phase's protocol as online policies know it."""
        return "bsp" if self.course.phases[number].protocol == "bsp" else "asp"

    def _begin(self, protocol: str) -> None:
        """Enter a phase; where the protocol changes, a segment begins and the switch is an event."""
        left, segments = self.now, self.story.segments
        self.now = self.cluster.enter(protocol, self.now)
        self.story.protocols.append(protocol)
        if segments and segments[-1].protocol == protocol:
            return
        if segments:
            self.story.events.append(
                {
                    "kind": "switch",
                    "from": segments[-1].protocol,
                    "to": protocol,
                    "seconds": self.now - segments[-1].end,
                }
                | {"step": self.course.raw_steps, "units": self.course.units, "time_s": self.now}
            )
            segments[-1].end = left
        segments.append(Segment(protocol, left, left))

    def _save(self, protocol: str) -> None:
        """A checkpoint for which all workers meet."""
        seconds = max(self.cluster.save(protocol, worker) for worker in range(self.cluster.workers))
        self.story.saves.append((self.now, seconds))
        self.now += seconds

    def _synchronous(self, number: int) -> None:
        """BSP steps until the phase is over, or the online policy wants another protocol."""
        phase, story, course, watch = self.course.phases[number], self.story, self.course, self.watch
        batch = phase.batch * self.cluster.workers
        for _ in range(course.steps_left(number)):
            dealt = shares(batch, self.cluster.workers, watch.removed)
            step = self.cluster.barrier(course.units // phase.step_units, dealt, watch.removed)
            self.now = story.segments[-1].end = step.end
            story.barrier.append(step.seconds)
            story.ends.append(step.end)
            story.segments[-1].steps += 1
            course.advance(number, 1)
            if watch.active and self._look(dealt, step.own.tolist()) != "bsp":
                break
            last = course.due != number
            if phase.checkpoint_every and course.done[number] % phase.checkpoint_every == 0 and not last:
                self._save("bsp")
                self.cluster.together(self.now)

    def _look(self, dealt: list[int], own: list[float]) -> str:
        """Let the online policy see all workers' throughputs; returns the protocol that it wants."""
        throughputs = [n / seconds if n and seconds > 0 else math.nan for n, seconds in zip(dealt, own, strict=True)]
        due = self.course.due
        self.watch.look(throughputs, "bsp" if due is None else self._kind(due), self.course.raw_steps, self.now)
        self.story.events += self.watch.events
        self.watch.events = []
        return self.watch.protocol

    def _asynchronous(self, number: int) -> None:
        """Updates until the phase's work is done, or the online policy wants BSP back."""
        phase, course, workers = self.course.phases[number], self.course, self.cluster.workers
        due = course.due
        assert due is not None
        kind, raw, count = self._kind(due), course.raw_steps, 0

        def report(worker: int, now: float, seconds: float) -> bool:
            nonlocal count
            count += 1
            self.watch.report(worker, phase.batch / seconds, kind, raw + count, now)
            return kind == self.watch.protocol == "bsp"

        engine = Asynchronous(
            self.cluster,
            phase.protocol,
            phase.bound,
            first=course.units // workers,
            save_every=phase.checkpoint_every,
        )
        engine.observe = self.observe
        found = engine.run(self.now, course.steps_left(number), report if self.watch.active else None)
        self.story.updates.append(found)
        self.story.events += self.watch.events
        self.watch.events = []
        self.story.segments[-1].steps += len(found.who)
        course.advance(number, len(found.who))
        self.now = self.story.segments[-1].end = found.end
