"""Figures of the synchronisation study, like those of Sync-Switch (ICDCS 2021): accuracy and time against the
switching point, accuracy against time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from toolkit.studies.intervals import mean
from toolkit.studies.syncswitch_rows import Row, Setting

POINTS = 40  # of a curve


def figure(rows: Sequence[Row], path: Path) -> None:
    """A row of panels a cluster; bars and bands are 95 % intervals (Student's t) over the seeds."""
    factors = list(dict.fromkeys(row.factor for row in rows))
    names = list(dict.fromkeys(row.setting for row in rows))
    colours = {name: f"C{number % 10}" for number, name in enumerate(names)}
    drawn, axes = plt.subplots(
        len(factors), 3, figsize=(13, 3.6 * len(factors)), squeeze=False, layout="constrained", sharey="col"
    )
    for line, factor in zip(axes, factors, strict=True):
        mine = [row for row in rows if row.factor == factor]
        slow = f"one worker {factor} times as slow" if factor != 1 else "workers alike"
        against_point(line[0], mine, "accuracy", colours)
        line[0].set_ylabel(f"{slow}\ntest accuracy")
        against_point(line[1], mine, "seconds", colours)
        line[1].set_ylabel("training time (s)")
        against_time(line[2], mine, colours)
    low, high = min(row.accuracy for row in rows), max(row.accuracy for row in rows)
    for line in axes:  # of single runs: an interval over few seeds may well reach beyond 0 and 1
        line[0].set_ylim(max(-0.02, low - 0.1 * (high - low) - 0.01), min(1.02, high + 0.1 * (high - low) + 0.01))
        line[2].set_ylim(0.0, 1.02)
    axes[0][1].set_ylim(bottom=0)  # after all rows are drawn, because they share it
    axes[0][2].legend(fontsize=7, loc="lower right")
    drawn.savefig(path, dpi=90)
    plt.close(drawn)


def against_point(axis: Any, rows: Sequence[Row], quantity: str, colours: dict[str, str]) -> None:
    """A quantity against the share of the work that BSP did first; other settings stand to the right."""
    line: list[tuple[float, float]] = []
    apart: list[str] = []
    for name, colour in colours.items():
        values = [getattr(row, quantity) for row in rows if row.setting == name]
        share = Setting.parse(name).bsp_first
        if not values:
            continue
        place = 100 * share if share is not None else 118.0 + 25.0 * len(apart)
        if share is None:
            apart.append(Setting.parse(name).label.replace(", ", "\n").replace(" at ", "\nat "))
        found = mean(values)
        axis.plot([place] * len(values), values, ".", color="0.75", markersize=4, zorder=1)
        axis.errorbar([place], [found.value], [found.half], fmt="o", color=colour, capsize=3, markersize=5, zorder=3)
        if share is not None:
            line.append((place, found.value))
    axis.plot(*zip(*sorted(line), strict=True), "-", color="0.5", linewidth=1, zorder=2)
    ticks = [0, 25, 50, 75, 100]
    others = [118.0 + 25.0 * number for number in range(len(apart))]
    axis.set_xticks([*ticks, *others], [*map(str, ticks), *apart], fontsize=7)
    axis.set_xlabel("work done by BSP before ASP (%)")
    axis.grid(alpha=0.3)


def against_time(axis: Any, rows: Sequence[Row], colours: dict[str, str]) -> None:
    """Accuracy against training time: means over the seeds at equal work, bands their intervals; a dot at the end with
    the intervals of both."""
    for name, colour in colours.items():
        mine = [row for row in rows if row.setting == name and row.points]
        if not mine:
            continue
        seconds, accuracy, half = curve(mine)
        axis.plot(seconds, accuracy, "-", color=colour, linewidth=1.2, label=Setting.parse(name).label)
        axis.fill_between(seconds, accuracy - half, accuracy + half, color=colour, alpha=0.12, linewidth=0)
        ends = mean([row.points[-1][1] for row in mine]), mean([row.accuracy for row in mine])
        axis.errorbar(
            [ends[0].value], [ends[1].value], [ends[1].half], [ends[0].half], fmt="o", color=colour, markersize=4
        )
    axis.set_xlim(left=0)
    axis.set_xlabel("time since the start, without tests (s)")
    axis.set_ylabel("test accuracy")
    axis.grid(alpha=0.3)


def curve(rows: Sequence[Row]) -> tuple[Any, Any, Any]:
    """(seconds, accuracy, half interval of it) at equal work, each (POINTS,): tests on the way stand at slightly
    different work in each run, so they are interpolated first."""
    tests = [np.array(row.points).T for row in rows]
    work = np.linspace(max(test[0][0] for test in tests), min(test[0][-1] for test in tests), POINTS)
    seconds = np.array([np.interp(work, test[0], test[1]) for test in tests])
    accuracy = np.array([np.interp(work, test[0], test[2]) for test in tests])
    found = [mean(column.tolist()) for column in accuracy.T]
    return seconds.mean(axis=0), np.array([m.value for m in found]), np.nan_to_num([m.half for m in found])
