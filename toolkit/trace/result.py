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

    Waiting is split in `summarize`: the part until the slowest rank had launched the exchange is idle, the rest is
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


def summarize(ranks: Sequence[RankSteps], *, seed: int, samples: int, phase: str = "bsp") -> Result:
    """Fold the steps of all ranks into a result.

    samples: training examples that all workers together consumed. The time of an iteration is the mean over the ranks
    of their own step; the run's time is that of the slowest rank, steps and checkpoints, without evaluation: these two
    stand outside the step spans. Shares are of the time of all ranks. Raises UserError where ranks made different
    numbers of steps, as in the traces of a run that was killed.
    """
    made = [len(rank.step_start) for rank in ranks]
    if len(set(made)) > 1:
        raise UserError(f"trace: steps a rank = {made}: the same number on every rank is wanted; did the run end?")
    starts = np.array([rank.step_start for rank in ranks], dtype=float)
    ends = np.array([rank.step_end for rank in ranks], dtype=float)
    iterations = (ends - starts).mean(axis=0) if starts.size else np.zeros(0)
    busy = dict.fromkeys(SHARES, 0.0)
    for rank in ranks:
        for share, seconds in rank.seconds.items():
            busy[share] += seconds
    last: dict[tuple[int, str], float] = {}
    for rank in ranks:
        for exchange, start in rank.launches.items():
            last[exchange] = max(last.get(exchange, start), start)
    for rank in ranks:
        for step, name, start, end in rank.waits:
            busy["communicate"] += end - min(max(last.get((step, name), start), start), end)
    training = float((ends - starts).sum()) + busy["checkpoint"]
    busy["idle"] = max(0.0, training - sum(busy[share] for share in SHARES if share != "idle"))
    whole = sum(busy.values())
    totals = (ends - starts).sum(axis=1) + np.array([rank.seconds["checkpoint"] for rank in ranks])
    total = float(totals.max()) if totals.size else 0.0
    steps = int(iterations.size)
    return Result(
        seed=seed,
        workers=len(ranks),
        steps=steps,
        total_time_s=total,
        iteration_time_s=distribution(iterations.tolist()),
        samples_per_s=samples / total if total > 0 else 0.0,
        bytes_sent_per_worker=round(sum(rank.bytes_sent for rank in ranks) / max(1, len(ranks))),
        time_share={share: (seconds / whole if whole > 0 else 0.0) for share, seconds in busy.items()},
        phases=phases_of([(phase, steps, total)]),
        events=[],
    )


def phases_of(rows: Iterable[tuple[str, int, float]]) -> list[dict[str, Any]]:
    """The `phases` of a result from (name, steps, seconds) rows."""
    return [{"name": name, "steps": steps, "time_s": seconds} for name, steps, seconds in rows]
