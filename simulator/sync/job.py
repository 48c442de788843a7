"""A whole run of phases on a cluster: BSP steps, asynchronous stretches, switches, checkpoints, online decisions.

Phases, detector and online policies are the trainer's own objects (toolkit/policies). BSP work counts against the BSP
phases; what a policy does in ASP instead is taken from the last phase, so that the work of the run stays the same.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from simulator.sync.asynchronous import Asynchronous, Updates
from simulator.sync.cluster import Cluster
from toolkit.policies.online import NOBODY, Decision, OnlinePolicy, shares
from toolkit.policies.protocol import Phase
from toolkit.policies.straggler import StragglerDetector


@dataclass
class Segment:
    """A stretch under one protocol, as it came; steps: BSP steps, or updates. Times in s."""

    protocol: str
    begin: float
    end: float = 0.0
    steps: int = 0
    units: int = 0


@dataclass
class Story:
    """What a run came to.

    barrier, ends: seconds of every BSP step, and when it ended. saves: (time, seconds that everybody stopped) each.
    """

    segments: list[Segment] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    updates: list[Updates] = field(default_factory=list)
    barrier: array[float] = field(default_factory=lambda: array("d"))
    ends: array[float] = field(default_factory=lambda: array("d"))
    saves: list[tuple[float, float]] = field(default_factory=list)

    @property
    def end(self) -> float:
        return self.segments[-1].end if self.segments else 0.0


class Job:
    """One run. Create it, call `run` once. online and detector: None where nothing is done about stragglers."""

    def __init__(
        self,
        cluster: Cluster,
        phases: Sequence[Phase],
        online: OnlinePolicy | None = None,
        detector: StragglerDetector | None = None,
    ) -> None:
        self.cluster, self.phases = cluster, phases
        self.online, self.detector = online or OnlinePolicy(), detector
        self.left = [phase.units for phase in phases]
        self.decision = Decision("")
        self.flagged: set[int] = set()
        self.now = 0.0
        self.steps = 0  # BSP steps so far
        self.rounds = 0  # iterations that every worker has behind it, about
        self.story = Story()

    def run(self) -> Story:
        """Simulate the whole run."""
        while any(self.left):
            due = next(number for number, units in enumerate(self.left) if units)
            self._decide(self.phases[due].protocol)
            number = self._number(due)
            protocol = self.phases[number].protocol
            self._enter(protocol)
            if protocol == "bsp":
                self._barrier(number)
            else:
                self._asynchronous(number, detour=number != due)
        return self.story

    def _number(self, due: int) -> int:
        """The phase whose work is done now: the one that is due, or the last one where a policy leaves BSP early."""
        last = len(self.phases) - 1
        return last if self.decision.protocol != self.phases[due].protocol and self.left[last] else due

    def _decide(self, due: str) -> bool:
        """Ask the online policy; whether it decided otherwise than before."""
        before, kind = self.decision, "asp" if due == "ssp" else due
        self.decision = self.online.decide(kind, self.flagged, self.cluster.workers)
        if self.decision.protocol == kind:
            self.decision = Decision(due, self.decision.removed)
        if self.decision.removed != before.removed:
            self._event("membership", removed=sorted(self.decision.removed))
            if self.detector is not None:
                self.detector.forget()
        return self.decision != before

    def _enter(self, protocol: str) -> None:
        """Begin a segment; a switch first writes a checkpoint, for which everybody stops."""
        segments = self.story.segments
        if segments and segments[-1].protocol != protocol:
            before = segments[-1].protocol
            self._event("switch", **{"from": before, "to": protocol})
            self._save(before)
            segments[-1].end = self.now
            if self.detector is not None:
                self.detector.forget()
        if not segments or segments[-1].protocol != protocol:
            self.now = self.cluster.enter(protocol, self.now)
            segments.append(Segment(protocol, self.now if segments else 0.0))

    def _save(self, protocol: str) -> None:
        seconds = max(self.cluster.save(protocol, worker) for worker in range(self.cluster.workers))
        self.story.saves.append((self.now, seconds))
        self.now += seconds

    def _barrier(self, number: int) -> None:
        """BSP steps until the phase is done or the policy leaves it."""
        phase, segment = self.phases[number], self.story.segments[-1]
        batch = phase.batch * self.cluster.workers
        while self.left[number]:
            removed = self.decision.removed
            step = self.cluster.barrier(self.steps, shares(batch, self.cluster.workers, removed), removed)
            self.now, segment.end = step.end, step.end
            self.story.barrier.append(step.seconds)
            self.story.ends.append(step.end)
            self.steps += 1
            self.rounds += 1
            segment.steps += 1
            segment.units += phase.step_units
            self.left[number] -= phase.step_units
            if phase.checkpoint_every and segment.steps % phase.checkpoint_every == 0 and any(self.left):
                self._save("bsp")
                self.cluster.together(self.now)
            dealt = shares(batch, self.cluster.workers, removed)
            rates = [n / own if own > 0 and n else math.nan for n, own in zip(dealt, step.own, strict=True)]
            if self._observe(rates) and self._decide("bsp") and self.decision.protocol != "bsp":
                return

    def _asynchronous(self, number: int, detour: bool) -> None:
        """Updates until the phase's work is done, or, on a detour, until all are clear."""
        phase, segment, workers = self.phases[number], self.story.segments[-1], self.cluster.workers
        last = [math.nan] * workers
        count = 0

        def watch(worker: int, now: float, seconds: float) -> bool:
            nonlocal count
            last[worker] = phase.batch / seconds
            count += 1
            if count % workers:
                return False
            self.now = now
            return self._observe(last) and detour and not self.flagged

        engine = Asynchronous(
            self.cluster, phase.protocol, phase.bound, first=self.rounds, save_every=phase.checkpoint_every
        )
        found = engine.run(self.now, self.left[number], watch if self.detector is not None else None)
        self.story.updates.append(found)
        self.rounds += -(-len(found.who) // workers)
        segment.steps += len(found.who)
        segment.units += len(found.who)
        self.left[number] -= len(found.who)
        self.now = segment.end = found.end

    def _observe(self, throughputs: list[float]) -> bool:
        """Let the detector see; whether somebody was flagged or cleared."""
        if self.detector is None:
            return False
        before, self.flagged = self.flagged, self.detector.observe(throughputs)
        if self.flagged != before:
            self._event("stragglers", ranks=sorted(self.flagged))
        return self.flagged != before

    def _event(self, kind: str, **detail: Any) -> None:
        if kind != "membership" or detail["removed"] or self.story.segments:
            self.story.events.append({"kind": kind, "time_s": self.now, **detail})


__all__ = ["NOBODY", "Job", "Segment", "Story"]
