"""The result of a run, real or simulated, computed from its spans by one function."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from toolkit.errors import UserError
from toolkit.trace.span import Span

RESULT_SCHEMA = "sandtable-result/1"
SHARES = ("compute", "compress", "communicate", "optimize", "checkpoint", "idle")
SHARE_OF = {
    "data": "compute",
    "forward": "compute",
    "backward": "compute",
    "compress": "compress",
    "merge": "compress",
    "optimize": "optimize",
    "checkpoint": "checkpoint",
}


@dataclass
class RankSteps:
    """What one rank did, folded to a few numbers a step; memory does not grow with the number of spans.

    Waiting is split in `synchronous`: the part until the slowest rank had launched the exchange is idle, the rest is
    communication.
    """

    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(SHARES, 0.0))
    bytes_sent: int = 0
    step_start: list[float] = field(default_factory=list)
    step_end: list[float] = field(default_factory=list)
    waits: list[tuple[int, str, float, float]] = field(default_factory=list)
    launches: dict[tuple[int, str], float] = field(default_factory=dict)

    @classmethod
    def of(cls, spans: Iterable[Span]) -> RankSteps:
        steps = cls()
        for span in spans:
            steps.add(span)
        return steps

    def add(self, span: Span) -> None:
        if span.what == "step":
            self.step_start.append(span.start)
            self.step_end.append(span.end)
        elif span.what == "communicate":
            self.bytes_sent += span.bytes
            self.launches[span.step, span.name] = span.start
        elif span.what == "wait":
            self.waits.append((span.step, span.name, span.start, span.end))
        elif span.what in SHARE_OF:
            self.seconds[SHARE_OF[span.what]] += span.end - span.start


@dataclass
class Result:
    """The contract's keys; `sections` are added under their own names."""

    seed: int
    workers: int
    steps: int
    total_time_s: float
    iteration_time_s: dict[str, float]
    samples_per_s: float
    bytes_sent_per_worker: int
    time_share: dict[str, float]
    phases: list[dict[str, Any]]
    events: list[dict[str, Any]]
    sections: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        plain = {name: value for name, value in vars(self).items() if name != "sections"}
        return {"schema": RESULT_SCHEMA, **plain, **self.sections}


def distribution(values: Sequence[float]) -> dict[str, float]:
    """Mean and percentiles of a list of times, in seconds; zeros for an empty list."""
    if len(values) == 0:
        return {"mean": 0.0, "p50": 0.0, "p95": 0.0, "p99": 0.0}
    p50, p95, p99 = (float(p) for p in np.percentile(values, [50, 95, 99]))
    return {"mean": float(np.mean(values)), "p50": p50, "p95": p95, "p99": p99}


@dataclass
class PhaseTimes:
    """One phase of a run, folded over its ranks. steps: of everybody together, BSP steps or single workers' updates.

    seconds: of the slowest rank. iterations: s, of each step. busy: seconds of all ranks by share.
    """

    name: str
    steps: int
    seconds: float
    iterations: list[float]
    busy: dict[str, float]
    bytes_sent: int


def synchronous(name: str, ranks: Sequence[RankSteps]) -> PhaseTimes:
    """A phase in which all ranks step together.

    The time of an iteration is the mean over the ranks of their own step. Raises UserError where ranks made different
    numbers of steps, as in the traces of a run that was killed.
    """
    made = [len(rank.step_start) for rank in ranks]
    if len(set(made)) > 1:
        raise UserError(f"trace: steps a rank = {made}: the same number on every rank is wanted; did the run end?")
    starts = np.array([rank.step_start for rank in ranks], dtype=float)
    ends = np.array([rank.step_end for rank in ranks], dtype=float)
    iterations = (ends - starts).mean(axis=0) if starts.size else np.zeros(0)
    busy = _busy(ranks)
    last: dict[tuple[int, str], float] = {}
    for rank in ranks:
        for exchange, start in rank.launches.items():
            last[exchange] = max(last.get(exchange, start), start)
    for rank in ranks:
        for step, name_, start, end in rank.waits:
            busy["communicate"] += end - min(max(last.get((step, name_), start), start), end)
    training = float((ends - starts).sum()) + busy["checkpoint"]
    busy["idle"] = max(0.0, training - sum(busy[share] for share in SHARES if share != "idle"))
    return PhaseTimes(name, int(iterations.size), _slowest(ranks), iterations.tolist(), busy, _bytes(ranks))


def asynchronous(name: str, ranks: Sequence[RankSteps]) -> PhaseTimes:
    """A phase in which every rank makes its own steps; ranks without any (dedicated servers) do not count.

    Waits named "bound" are for a slower worker, so idle, as is the time after a rank's last step; the others are for
    the servers.
    """
    computing = [rank for rank in ranks if rank.step_start]
    busy = _busy(ranks)
    for rank in computing:
        busy["communicate"] += sum(end - start for _, name_, start, end in rank.waits if name_ != "bound")
    iterations = [b - a for rank in computing for a, b in zip(rank.step_start, rank.step_end, strict=True)]
    seconds = _slowest(ranks)
    busy["idle"] = max(0.0, seconds * len(computing) - sum(busy[share] for share in SHARES if share != "idle"))
    return PhaseTimes(name, len(iterations), seconds, iterations, busy, _bytes(ranks))


def _busy(ranks: Sequence[RankSteps]) -> dict[str, float]:
    return {share: sum(rank.seconds[share] for rank in ranks) for share in SHARES}


def _bytes(ranks: Sequence[RankSteps]) -> int:
    return sum(rank.bytes_sent for rank in ranks)


def _slowest(ranks: Sequence[RankSteps]) -> float:
    """Steps and checkpoints of the rank that took longest, s."""
    seconds = (float(np.subtract(rank.step_end, rank.step_start).sum()) + rank.seconds["checkpoint"] for rank in ranks)
    return max(seconds, default=0.0)


def joined(phases: Sequence[PhaseTimes], *, seed: int, samples: int, workers: int) -> Result:
    """The result of a run of these phases, one after the other. samples: that all workers consumed together.

    The run's time is that of its phases, steps and checkpoints without evaluation: these two stand outside the step
    spans. Shares are of the time of all ranks.
    """
    busy = {share: sum(phase.busy[share] for phase in phases) for share in SHARES}
    whole, total = sum(busy.values()), sum(phase.seconds for phase in phases)
    return Result(
        seed=seed,
        workers=workers,
        steps=sum(phase.steps for phase in phases),
        total_time_s=total,
        iteration_time_s=distribution([seconds for phase in phases for seconds in phase.iterations]),
        samples_per_s=samples / total if total > 0 else 0.0,
        bytes_sent_per_worker=round(sum(phase.bytes_sent for phase in phases) / max(1, workers)),
        time_share={share: (seconds / whole if whole > 0 else 0.0) for share, seconds in busy.items()},
        phases=phases_of((phase.name, phase.steps, phase.seconds) for phase in phases),
        events=[],
    )


def summarize(ranks: Sequence[RankSteps], *, seed: int, samples: int, phase: str = "bsp") -> Result:
    """The result of a run that is one synchronous phase."""
    return joined([synchronous(phase, ranks)], seed=seed, samples=samples, workers=len(ranks))


def phases_of(rows: Iterable[tuple[str, int, float]]) -> list[dict[str, Any]]:
    """The `phases` of a result from (name, steps, seconds) rows."""
    return [{"name": name, "steps": steps, "time_s": seconds} for name, steps, seconds in rows]
