"""Time to accuracy: the published runs' step -> accuracy curves on simulated time.

An event simulation knows no accuracy. What it can say is when a step is reached; the curves say what was reached by
then. Source: syncswitch_curves.csv beside the study's experiment file, from the released run records (Apache-2.0).
"""

from __future__ import annotations

import csv
from collections import defaultdict
from functools import cache

import numpy as np
from numpy.typing import NDArray

from simulator.studies.base import FOLDER
from simulator.sync.job import Story

CURVES = FOLDER / "syncswitch_curves.csv"
TARGETS = {"exp1": 0.88, "exp2": 0.70}
Reached = list[tuple[int, float]]  # (raw step, seconds of training) of each run that got there


@cache
def _curves() -> dict[tuple[str, float], dict[str, list[tuple[int, float, float]]]]:
    """(step, seconds, accuracy) rows of every run, by experiment and share of BSP."""
    found: dict[tuple[str, float], dict[str, list[tuple[int, float, float]]]] = defaultdict(lambda: defaultdict(list))
    lines = [line for line in CURVES.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    for row in csv.DictReader(lines):
        curve = found[row["experiment"], float(row["share"])][row["run"]]
        curve.append((int(row["step"]), float(row["train_s"]), float(row["accuracy"])))
    return found


def reached(experiment: str, share: float, accuracy: float) -> Reached:
    """When each published run of a setting first had the accuracy; empty where no curve is published or none had it."""
    runs = _curves().get((experiment, share), {})
    firsts = (next((point for point in curve if point[2] >= accuracy), None) for curve in runs.values())
    return [(step, seconds) for step, seconds, _ in (point for point in firsts if point is not None)]


def times_of_steps(story: Story) -> NDArray[np.float64]:
    """When each raw step was done, s, (steps + 1,): a BSP step counts 1 here, and so does an update."""
    ends = [0.0, *story.ends]
    for updates in story.updates:
        ends.extend(updates.when)
    return np.sort(np.array(ends))


def replayed(story: Story, points: Reached) -> float:
    """Mean over the published runs of the simulated time at which their step was done, s."""
    times = times_of_steps(story)
    return float(np.mean([times[min(step, len(times) - 1)] for step, _ in points]))
