"""STRONGHOLD's figures drawn anew: published values as rings, predictions filled."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from simulator.plots import BLUE, GREY, ORANGE, save
from simulator.studies.base import Cell

TITLE = "STRONGHOLD (SC 2022): rings published, filled predicted"
RING: dict[str, Any] = {
    "marker": "o",
    "markerfacecolor": "none",
    "markeredgecolor": ORANGE,
    "linestyle": "none",
    "markersize": 8,
}


def draw(cells: Sequence[Cell], path: Path) -> None:
    """Largest models, iteration times at them, scaling, windows; a bar for a single cell."""
    sizes = [c for c in cells if c.quantity == "largest_layers" and c.predicted is not None]
    times = [c for c in cells if c.quantity == "iteration_time_s" and c.predicted is not None]
    if len(times) < 2:
        _few(sizes or times, path)
        return
    figure = Figure(figsize=(10.4, 7.2), layout="constrained")
    panels = figure.subplots(2, 2).ravel()
    windows = [c for c in times if c.settings["model.layers"] == 32 and c.settings["offload.method"] == "stronghold"]
    _bars(panels[0], sizes, "largest trainable model, layers")
    _bars(panels[1], [c for c in times if c.group.startswith(("case 2", "case 3"))], "iteration time, s")
    _line(panels[2], [c for c in times if c.settings.get("offload.window") == 15], "model.layers", "layers (window 15)")
    _line(panels[3], windows, "offload.window", "window (32 layers)")
    for axes in panels:
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(TITLE, fontsize=11)
    save(figure, path)


def _few(cells: Sequence[Cell], path: Path) -> None:
    """The one cell that was asked for; an empty figure where it does not fit."""
    figure = Figure(figsize=(8.0, 1.8), layout="constrained")
    axes = figure.subplots()
    size = bool(cells) and cells[0].quantity == "largest_layers"
    _bars(axes, cells, "largest trainable model, layers" if size else "iteration time, s" if cells else "does not fit")
    axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(TITLE, fontsize=11)
    save(figure, path)


def _bars(axes: Axes, cells: Sequence[Cell], title: str) -> None:
    places = np.arange(len(cells))
    axes.barh(places, [c.predicted or 0.0 for c in cells], color=BLUE, height=0.55, label="predicted")
    seen = [(place, c.observed) for place, c in zip(places, cells, strict=True) if c.observed is not None]
    if seen:
        axes.plot([value for _, value in seen], [place for place, _ in seen], label="published", **RING)
    axes.set_yticks(places, [_label(c) for c in cells], fontsize=8)
    axes.invert_yaxis()
    axes.set_title(title, fontsize=10)


def _label(cell: Cell) -> str:
    method, layers = cell.settings["offload.method"], cell.settings.get("model.layers")
    fitted = " (fitted)" if cell.role == "calibration" else ""
    counted = " (counted)" if cell.settings.get("study.memory") == "counted" else ""
    return f"{method}{f' {layers}' if layers else ''}{fitted}{counted}"


def _line(axes: Axes, cells: Sequence[Cell], key: str, label: str) -> None:
    rows = sorted(cells, key=lambda c: c.settings[key])
    times = np.array(
        [[c.settings[key], c.predicted, np.nan if c.observed is None else c.observed] for c in rows], float
    )
    if not rows:
        return
    axes.plot(times[:, 0], times[:, 1], color=BLUE, marker=".", label="predicted")
    axes.plot(times[:, 0], times[:, 2], label="published", **RING)
    for cell, (place, _, seen) in zip(rows, times, strict=True):
        if cell.role == "calibration":
            axes.annotate("fitted", (place, seen), (6, -12), textcoords="offset points", fontsize=8, color=GREY)
    axes.set(xlabel=label, ylabel="iteration time, s", ylim=(0, None))
    axes.legend(frameon=False, fontsize=8)
