"""StellaTrain's figures drawn anew: published values as rings, predictions filled."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from simulator.plots import BLUE, GREY, ORANGE, save
from simulator.studies.base import Cell
from toolkit.units import parse

COLOURS = {"ddp-hetero": BLUE, "stellatrain": ORANGE}
MARKERS = {"resnet152": "o", "vit": "s", "swin": "^"}


def draw(cells: Sequence[Cell], path: Path) -> None:
    """Throughput and time to accuracy over the bandwidth, and the ablations."""
    lines = [cell for cell in cells if "cluster.bandwidth" in cell.settings and "study.system" in cell.settings]
    speeds = [cell for cell in cells if cell.quantity == "relative_speed"]
    names = [name for name in ("samples_per_s", "relative_tta") if any(cell.quantity == name for cell in lines)]
    panels = len(names) + bool(speeds)
    figure = Figure(figsize=(4.4 * max(1, panels), 3.8), layout="constrained")
    axes = figure.subplots(1, max(1, panels), squeeze=False)[0]
    for panel, name in zip(axes, names, strict=False):
        _over_bandwidth(panel, [cell for cell in lines if cell.quantity == name])
        panel.set(ylabel={"samples_per_s": "images/s", "relative_tta": "time to accuracy, DDP = 1"}[name])
    if speeds:
        _ablations(axes[-1], speeds)
    for panel in axes:
        panel.spines[["top", "right"]].set_visible(False)
    figure.suptitle("StellaTrain (SIGCOMM 2024): rings published, filled predicted", fontsize=11)
    save(figure, path)


def _over_bandwidth(axes: Axes, cells: Sequence[Cell]) -> None:
    for system, colour in COLOURS.items():
        for model, marker in MARKERS.items():
            rows = [c for c in cells if (c.settings["study.system"], c.settings["study.model"]) == (system, model)]
            rows = [row for row in rows if not row.settings.get("study.trace")]
            at = [parse("rate", row.settings["cluster.bandwidth"]) / 1.25e5 for row in rows]
            if not rows:
                continue
            label = f"{system}, {model}"
            axes.plot(at, [row.predicted or 0.0 for row in rows], marker + "-", markersize=4, color=colour, label=label)
            seen = [(x, row.observed) for x, row in zip(at, rows, strict=True) if row.observed is not None]
            if seen:
                axes.plot(*zip(*seen, strict=True), marker, markersize=9, fillstyle="none", color=colour)
    axes.set(xscale="log", yscale="log", xlabel="Mbit/s")
    axes.set_xticks([100, 500, 1000], ["100", "500", "1000"])
    axes.minorticks_off()
    axes.legend(frameon=False, fontsize=7)


def _ablations(axes: Axes, cells: Sequence[Cell]) -> None:
    names = [str(cell.settings["study.off"]) for cell in cells]
    axes.barh(names, [cell.predicted or 0.0 for cell in cells], color=BLUE, height=0.6)
    for place, cell in enumerate(cells):
        if cell.observed is not None:
            axes.plot(cell.observed, place, "o", markersize=9, fillstyle="none", color=ORANGE)
    axes.axvline(1.0, color=GREY, linewidth=1)
    axes.set(xlabel="iteration speed, whole system = 1", ylim=(len(cells) - 0.5, -0.5))
