"""The figure of a search: the objective over its trials, and over each key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from simulator.objective import Objective
from simulator.plots import BLUE, GREY, ORANGE, save
from simulator.search import Trial
from simulator.space import LOGARITHMIC, Axis

ACROSS = 3  # panels in a row


def draw(path: Path, goal: Objective, axes: Sequence[Axis], trials: Sequence[Trial], best: Mapping[str, str]) -> None:
    """Every tried point as a dot, in each panel; the recommended one ringed."""
    shown = [trial for trial in trials if not trial.refused]
    rows, across = -(-(len(axes) + 1) // ACROSS), min(ACROSS, len(axes) + 1)
    figure = Figure(figsize=(4.0 * across, 3.2 * rows), layout="constrained")
    panels = figure.subplots(rows, across, squeeze=False).ravel()
    _history(panels[0], goal, shown)
    for panel, axis in zip(panels[1:], axes, strict=False):
        _over(panel, axis, shown, best)
    for panel in panels:
        panel.spines[["top", "right"]].set_visible(False)
        panel.grid(alpha=0.2)
    for panel in panels[len(axes) + 1 :]:
        panel.set_visible(False)
    panels[0].set_ylabel(f"{goal.name}\n{goal.unit}", fontsize=9)
    figure.suptitle(f"{len(trials)} points tried for {goal.name}; the recommended one is ringed", fontsize=11)
    save(figure, path)


def _history(panel: Axes, goal: Objective, trials: Sequence[Trial]) -> None:
    best: list[float] = []
    for trial in trials:
        best.append(trial.value if not best or goal.better(trial.value, best[-1]) else best[-1])
    panel.plot([trial.value for trial in trials], "o", markersize=3, color=GREY)
    panel.step(range(len(best)), best, where="post", color=BLUE, label="best so far")
    panel.set_xlabel("trial")
    panel.legend(frameon=False, fontsize=8)


def _over(panel: Axes, axis: Axis, trials: Sequence[Trial], best: Mapping[str, str]) -> None:
    if axis.values:
        places: dict[str, float] = {value: float(i) for i, value in enumerate(axis.values)}
        panel.set_xticks(range(len(axis.values)), axis.values, rotation=30 if len(axis.values) > 4 else 0, fontsize=8)
    else:
        places = {trial.point[axis.name]: float(trial.point[axis.name]) for trial in trials}
        if axis.low > 0 and axis.high / axis.low >= LOGARITHMIC:
            panel.set_xscale("log")
    panel.plot([places[t.point[axis.name]] for t in trials], [t.value for t in trials], "o", markersize=3, color=GREY)
    for trial in trials:
        if trial.point == best:
            panel.plot(places[trial.point[axis.name]], trial.value, "o", markersize=9, color=ORANGE, fillstyle="none")
    panel.set_xlabel(axis.name)
