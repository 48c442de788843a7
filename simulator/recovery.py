"""Failures in a simulated run: work since the last checkpoint is done again, after a recovery.

A failure ends the job for all workers, whatever they do then; a failure during a recovery starts that anew. Steps that
are done again take what they took the first time: the run itself is simulated once, without failures, and this folds
them in, so that it is the same behind every engine. A run without failures is left as it is.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolkit import units
from toolkit.errors import UserError
from toolkit.sections.faults import FaultsSection
from toolkit.trace import Result

DAY = 86400.0
HOPELESS = 50  # times the run without failures: a job that is not done by then never ends


@dataclass(frozen=True)
class Course:
    """A run without failures. ends: when each step is done, (steps,); saved: when each checkpoint is, by steps done."""

    ends: NDArray[np.float64]
    saved: dict[int, float]

    @classmethod
    def of(cls, seconds: Sequence[float] | NDArray[np.float64], every: int, stop: float) -> Course:
        """From the seconds of each step, and the seconds for which a checkpoint after each `every` steps stops all."""
        ends, steps = np.cumsum(np.asarray(seconds, dtype=float)), len(seconds)
        number = np.arange(steps)
        stops = number // every if every else np.zeros(steps, dtype=int)
        ends = ends + stop * stops
        done = range(every, steps, every) if every else ()
        return cls(ends, {count: float(ends[count - 1]) + stop for count in done})

    @property
    def total(self) -> float:
        return float(self.ends[-1]) if len(self.ends) else 0.0

    def kept(self, reached: float) -> float:
        """How far the newest checkpoint is that was whole when the run had come to `reached`, s."""
        return max((time for time in self.saved.values() if time <= reached), default=0.0)


@dataclass
class Outcome:
    """What failures made of a run, in s: total = the run without failures + lost + down."""

    total: float = 0.0
    lost: float = 0.0
    down: float = 0.0
    events: list[dict[str, Any]] = field(default_factory=list)


def failures(faults: FaultsSection, seed: int) -> Iterator[tuple[float, bool, int]]:
    """(time in s, whether of software alone, machines that fail) in order: those of the table, and those by chance."""
    planned = sorted((row.at, row.kind == "software", 0 if row.kind == "software" else 1) for row in faults.failure)
    if not faults.failures_per_day:
        yield from planned
        return
    times, kinds = (np.random.default_rng(stream) for stream in np.random.SeedSequence([seed, 2]).spawn(2))
    time = 0.0
    while True:
        time += float(times.exponential(DAY / faults.failures_per_day))
        while planned and planned[0][0] <= time:
            yield planned.pop(0)
        software = bool(kinds.random() < faults.software_share)
        yield time, software, 0 if software else faults.machines


def suffer(course: Course, faults: FaultsSection, fetch: float, seed: int) -> Outcome:
    """Fold failures into a run; fetch: seconds to read a checkpoint. Raises UserError where the run never ends."""
    outcome, begun, position, ready = Outcome(), 0.0, 0.0, 0.0  # since when it runs on, from where, or is down until
    replaced = 0.0  # when the last failed machine has its replacement
    for time, software, machines in failures(faults, seed):
        if time >= begun + course.total - position:
            break
        if time > HOPELESS * course.total + faults.restart + max((row.at for row in faults.failure), default=0.0):
            rate, mean = faults.failures_per_day, units.render("time", round(DAY / faults.failures_per_day, 3))
            raise UserError(f"[faults] failures_per_day = {rate:g}: the run never ends: it fails every {mean}")
        kept, lost = position, 0.0
        if time >= begun:
            reached = position + (time - begun)
            kept = max(position, course.kept(reached))
            lost = reached - kept
        outcome.lost += lost
        outcome.down -= max(0.0, ready - time)  # a recovery that this failure interrupts
        known = time + faults.detect
        if machines > faults.standbys:
            replaced = known + faults.replace
        # a failure during a recovery starts it anew, but what was to be replaced is still awaited
        wait = max(known, replaced) - time + faults.restart + fetch
        outcome.down += wait
        begun, position, ready = time + wait, kept, time + wait
        _note(outcome, course, (time, software, machines), lost, kept, ready)
    outcome.total = begun + course.total - position
    return outcome


def _note(
    outcome: Outcome, course: Course, failure: tuple[float, bool, int], lost: float, kept: float, ready: float
) -> None:
    time, software, machines = failure
    step = next((count for count, saved in course.saved.items() if math.isclose(saved, kept)), 0)
    outcome.events.append(
        {"kind": "failure", "time_s": time, "software": software, "machines": machines, "lost_s": lost}
    )
    outcome.events.append({"kind": "recovery", "time_s": ready, "step": step})


def with_failures(result: Result, course: Course, faults: FaultsSection, fetch: float) -> None:
    """Add to a result what failures add: `total_time_s`, `events`, shares (lost work and recoveries are idle time), and
    a section of its own."""
    outcome = suffer(course, faults, fetch, result.seed)
    before, result.total_time_s = result.total_time_s, outcome.total
    scale = before / outcome.total if outcome.total else 1.0
    result.samples_per_s *= scale
    result.time_share = {name: share * scale for name, share in result.time_share.items()}
    result.time_share["idle"] += 1.0 - scale
    if result.phases:
        result.phases[-1]["time_s"] += outcome.total - before
    result.events.extend(outcome.events)
    result.sections["failures"] = {
        "count": sum(event["kind"] == "failure" for event in outcome.events),
        "lost_s": outcome.lost,
        "down_s": outcome.down,
        "effective_ratio": scale,
    }
