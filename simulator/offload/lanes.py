"""One iteration drawn: a lane a resource, a bar a piece of work, so that waiting can be seen."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from simulator.offload.case import Case, Iteration
from simulator.offload.tiers import Entry
from simulator.plots import save

LANES = ("compute", "to device", "to host", "disk", "cpu")
COLOURS = {  # Okabe and Ito's
    "forward": "#56B4E9",
    "head": "#999999",
    "head backward": "#999999",
    "recompute": "#009E73",
    "backward": "#0072B2",
    "update": "#D55E00",
    "fetch": "#E69F00",
    "write back": "#CC79A7",
}
OTHER = "#F0E442"


def draw(case: Case, run: Iteration, path: Path) -> None:
    """Lanes over seconds; what shares a resource lies on lines of its own. UserError where it cannot be written."""
    lanes = [lane for lane in LANES if lane in run.busy]
    figure = Figure(figsize=(10.4, 1.4 + 0.7 * len(lanes)), layout="constrained")
    axes = figure.subplots()
    kinds = dict.fromkeys(entry.what for entry in run.log)
    for place, lane in enumerate(lanes):
        _lane(axes, place, [entry for entry in run.log if entry.where == lane])
    for what in kinds:
        axes.broken_barh([], (0, 0), color=COLOURS.get(what, OTHER), label=what)
    axes.set_yticks(range(len(lanes)), [f"{lane} {run.busy[lane] / run.seconds:.0%}" for lane in lanes])
    axes.invert_yaxis()
    axes.set(xlim=(0, run.seconds), xlabel="s")
    axes.spines[["top", "right"]].set_visible(False)
    window = f", window {case.settings.window}" if case.settings.window else ""
    axes.set_title(f"{case.settings.method}{window}, {case.model.layers} layers: {run.seconds:.3f} s", fontsize=10)
    figure.legend(frameon=False, fontsize=8, ncols=len(kinds), loc="outside lower center")
    save(figure, path)


def _lane(axes: Axes, place: int, entries: Sequence[Entry]) -> None:
    """Bars around a height; those that overlap in time on lines of their own."""
    entries = sorted(entries, key=lambda entry: (entry.start, entry.end))
    ends: list[float] = []  # of the last bar on each line
    lines = []
    for entry in entries:
        line = next((i for i, end in enumerate(ends) if end <= entry.start + 1e-9), len(ends))
        ends[line : line + 1] = [entry.end]
        lines.append(line)
    height = 0.8 / max(1, len(ends))
    for entry, line in zip(entries, lines, strict=True):
        span = (place - 0.4 + line * height, height)
        colour = COLOURS.get(entry.what, OTHER)
        axes.broken_barh([(entry.start, entry.end - entry.start)], span, color=colour, linewidth=0)
