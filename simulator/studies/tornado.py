"""The figure of an ablation: a bar a mechanism, the largest effect on top."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from simulator.plots import BLUE, GREY, ORANGE, save
from simulator.studies.base import Cell


def draw(cells: Sequence[Cell], path: Path) -> None:
    """What is lost (left, orange) or won (right, blue) by turning each mechanism off, in per cent of the throughput."""
    shown = [cell for cell in cells if cell.predicted is not None]
    figure = Figure(figsize=(8.0, 1.4 + 0.38 * max(1, len(shown))), layout="constrained")
    axes = figure.subplots()
    changes = [100 * ((cell.predicted or 1.0) - 1) for cell in shown]
    names = [cell.settings["study.only"] for cell in shown]
    axes.barh(names, changes, color=[ORANGE if change < 0 else BLUE for change in changes], height=0.6)
    reach = max(1.0, *(abs(change) for change in changes)) if changes else 1.0
    for place, change in enumerate(changes):
        side, gap = ("right", -0.02) if change < 0 else ("left", 0.02)
        axes.text(change + gap * reach, place, f"{change:+.1f} %", ha=side, va="center", fontsize=8)
    axes.axvline(0, color=GREY, linewidth=1)
    axes.set(xlim=(-1.25 * reach, 1.25 * reach), ylim=(len(shown) - 0.4, -0.6))
    axes.set_xlabel("throughput without it, change in %")
    axes.spines[["top", "right", "left"]].set_visible(False)
    figure.suptitle("One mechanism off at a time", fontsize=11)
    save(figure, path)
