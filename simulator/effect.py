"""What-if knobs that turn nothing: each `--set` of a run is taken back, and what that changes is looked at."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from simulator.plan import Plan
from toolkit.errors import UserError
from toolkit.experiment import Experiment

AFFORDABLE = 2_000_000  # workers x steps x buckets that are simulated once more for this
MEASURED = (
    "steps",
    "total_time_s",
    "iteration_time_s",
    "samples_per_s",
    "bytes_sent_per_worker",
    "time_share",
    "events",
)


def affordable(plan: Plan, engine: str) -> bool:
    """Whether simulating a run again costs next to nothing."""
    return engine == "fast" or plan.steps * plan.topology.workers * len(plan.buckets) <= AFFORDABLE


def without_effect(
    overrides: Sequence[str],
    loaded: Callable[[list[str]], Experiment],
    simulated: Callable[[Experiment], dict[str, Any]],
    result: dict[str, Any],
) -> list[str]:
    """A line for each override without which the result is the same; those that cannot be taken back are left out."""
    notes = []
    for number, override in enumerate(overrides):
        try:
            other = loaded([text for place, text in enumerate(overrides) if place != number])
            before = simulated(other)
        except UserError:
            continue
        if all(before.get(name) == result.get(name) for name in MEASURED):
            notes.append(f"no effect: {override} changes nothing")
    return notes
