"""A long training job with failures: lost work, recovery from memory, peers or storage (GEMINI, SOSP 2023).

Work is counted in seconds of undisturbed training. Between two failures it advances in closed form (checkpoints fall on
a grid of work); failures, recoveries and what strikes during them are events in SimPy. Deterministic by seed.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from simpy.events import AnyOf, Event

from simulator.clock import Clock
from toolkit.policies.placement import Placement

DAY = 86400.0
HOPELESS = 50  # times the target: a job that took so long and is not done never ends
SLACK = 1e-9  # of an interval: a multiple of it that was rounded down is still that multiple


@dataclass(frozen=True)
class Tier:
    """A level that keeps checkpoints; times in seconds.

    interval: work between two checkpoints. stall: training waits so long for each. latency: from a checkpoint's
    beginning until it can be recovered from. local, peer: time to fetch it after a failure that left the machine's own
    memory alive, and after one that did not (for storage both are the same).
    """

    name: str
    interval: float
    stall: float
    latency: float
    local: float
    peer: float

    def __post_init__(self) -> None:
        times = (self.stall, self.latency, self.local, self.peer)
        if not (self.interval > 0 and all(time >= 0 for time in times)):
            raise ValueError(f"tier {self.name}: interval > 0 and times >= 0 are wanted")


@dataclass(frozen=True)
class Faults:
    """How failures come. rate: a second.

    machines: how many of `units` fail together in a failure that is not of software alone; units: what fails as one,
    such as the machines of a rack; every machine for itself where none are given.
    """

    rate: float
    software_share: float = 0.0
    machines: int = 1
    detect: float = 15.0
    restart: float = 360.0
    replace: float = 300.0
    standbys: int = 0
    units: tuple[tuple[int, ...], ...] = ()


@dataclass
class Report:
    """What became of a job. work + stalled + lost + down = total; all in seconds, `lost` with its stalls."""

    total: float = 0.0
    work: float = 0.0
    stalled: float = 0.0
    lost: float = 0.0
    down: float = 0.0
    failures: int = 0
    sources: Counter[str] = field(default_factory=Counter)
    events: list[dict[str, Any]] = field(default_factory=list)

    @property
    def ratio(self) -> float:
        """Effective training-time ratio: work over wall-clock time."""
        return self.work / self.total if self.total else 1.0


class Pace:
    """Work against wall-clock time where at most one tier stalls training."""

    def __init__(self, tiers: tuple[Tier, ...]) -> None:
        stalling = [tier for tier in tiers if tier.stall > 0]
        if len(stalling) > 1:
            raise ValueError(f"only one tier may stall training: {', '.join(tier.name for tier in stalling)}")
        self.interval, self.stall = (stalling[0].interval, stalling[0].stall) if stalling else (math.inf, 0.0)

    def work(self, start: float, seconds: float) -> float:
        """The work reached after so many seconds of running from work `start` on; `start` itself is checkpointed."""
        if not self.stall:
            return start + seconds
        first = (math.floor(start / self.interval + SLACK) + 1) * self.interval - start
        if seconds <= first:
            return start + seconds
        cycles, rest = divmod(seconds - first, self.interval + self.stall)
        return start + first + cycles * self.interval + max(0.0, rest - self.stall)

    def seconds(self, start: float, work: float) -> float:
        """Running time from work `start` to reaching `work`; a stall that begins there is not in it."""
        if not self.stall:
            return work - start
        crossed = math.ceil(work / self.interval - SLACK) - math.floor(start / self.interval + SLACK) - 1
        return work - start + self.stall * max(0, crossed)


class Job:
    """One job of `target` seconds of work. Create it, call `run` once."""

    def __init__(self, tiers: tuple[Tier, ...], faults: Faults, placement: Placement, target: float, seed: int) -> None:
        assert tiers, "a job without checkpoints never ends once it fails often"
        self.tiers, self.faults, self.placement, self.target = tiers, faults, placement, target
        streams = np.random.SeedSequence(seed).spawn(2)
        self.times, self.kinds = (np.random.default_rng(stream) for stream in streams)
        self.clock, self.pace, self.report = Clock(), Pace(tiers), Report()
        self.kept = {tier.name: 0.0 for tier in tiers}  # work of the newest checkpoint that can be used
        self.missing: set[int] = set()  # machines whose memory is empty: failed and not yet restored
        self.units = faults.units or tuple((machine,) for machine in range(placement.machines))
        self.failure = self._next_failure()

    def run(self, keep_events: int = 1000) -> Report:
        """Simulate to the end; the first `keep_events` failures are described in `events`."""
        self.keep_events = keep_events
        self.report.work = self.clock.run(until=self.clock.process(self._train()))  # type: ignore[assignment]
        self.report.total = float(self.clock.now)
        return self.report

    def _next_failure(self) -> Event:
        if self.faults.rate <= 0:
            return self.clock.event()  # never
        return self.clock.timeout(self.times.exponential(1 / self.faults.rate))

    def _train(self) -> Generator[Event, object, float]:
        """The work that was reached: the target, or less where failures let the job make no progress."""
        work = 0.0
        while True:
            began, whole = float(self.clock.now), self.pace.seconds(work, self.target)
            end = self.clock.timeout(whole)
            yield AnyOf(self.clock, [end, self.failure])
            if end.processed:
                self.report.stalled += whole - (self.target - work)
                return self.target
            ran = float(self.clock.now) - began
            for tier in self.tiers:
                if ran > tier.latency:
                    reached = self.pace.work(work, ran - tier.latency)
                    self.kept[tier.name] = max(
                        self.kept[tier.name], math.floor(reached / tier.interval + SLACK) * tier.interval
                    )
            resumed = yield from self._recover()
            # what was run since the checkpoint is lost; training before it counts as work and stalls
            if resumed >= work:
                useful = self.pace.seconds(work, resumed)
                self.report.stalled += useful - (resumed - work)
                self.report.lost += ran - useful
            else:  # older than where this run began: the work in between was counted and is lost after all
                self.report.lost += ran + (work - resumed)
            work = resumed
            if self.clock.now > HOPELESS * self.target:
                return work

    def _recover(self) -> Generator[Event, object, float]:
        """From a failure to training again, through whatever fails meanwhile; the work that it resumes from."""
        began = float(self.clock.now)
        need_new, replaced = False, 0.0  # whether a machine failed; when the last one has its replacement
        while True:
            software = bool(self.kinds.random() < self.faults.software_share)
            failed = self._strike(software)
            self.report.failures += 1
            need_new = need_new or not software
            tier, fetch = self._source()
            known = float(self.clock.now) + self.faults.detect
            if not software and not self._standby(len(failed)):
                replaced = known + self.faults.replace
            wait = max(known, replaced) - float(self.clock.now) + fetch + self.faults.restart
            self._note(software, failed, tier)
            self.failure = self._next_failure()
            ready = self.clock.timeout(wait)
            yield AnyOf(self.clock, [ready, self.failure])
            if ready.processed:
                break
        self.missing.clear()
        resumed = self.kept[tier.name]
        for other in self.tiers:  # a tier in memory starts again from what was resumed
            if other is not self.tiers[-1]:
                self.kept[other.name] = resumed
        self.report.sources["local" if tier is self.tiers[0] and software and not need_new else tier.name] += 1
        self.report.down += float(self.clock.now) - began
        return resumed

    def _strike(self, software: bool) -> list[int]:
        if software:
            return []
        chosen = self.kinds.choice(len(self.units), self.faults.machines, replace=False)
        failed = [machine for unit in chosen for machine in self.units[unit]]
        self.missing.update(failed)
        return sorted(failed)

    def _source(self) -> tuple[Tier, float]:
        """The tier to recover from, and the seconds to fetch it: the first in which every shard is alive."""
        for tier in self.tiers[:-1]:
            if self.placement.survives(self.missing):
                return tier, tier.peer if self.missing else tier.local
        return self.tiers[-1], self.tiers[-1].peer

    def _standby(self, machines: int) -> bool:
        """Whether enough replacements stand by; what they replace is mended and stands by in its turn."""
        return 0 < machines <= self.faults.standbys

    def _note(self, software: bool, failed: list[int], tier: Tier) -> None:
        if len(self.report.events) < self.keep_events:
            self.report.events.append(
                {
                    "kind": "failure",
                    "time_s": float(self.clock.now),
                    "software": software,
                    "machines": failed,
                    "recovered_from": tier.name,
                }
            )


def young(checkpoint: float, mean_time_between: float) -> float:
    """Young's interval (CACM 1974): sqrt(2 C M) seconds of work between checkpoints that cost C seconds each."""
    return math.sqrt(2 * checkpoint * mean_time_between)


def daly(checkpoint: float, mean_time_between: float) -> float:
    """Daly's higher-order interval (FGCS 2006, equation 37); M where C >= 2 M."""
    if checkpoint >= 2 * mean_time_between:
        return mean_time_between
    root = math.sqrt(checkpoint / (2 * mean_time_between))
    return young(checkpoint, mean_time_between) * (1 + root / 3 + root * root / 9) - checkpoint
