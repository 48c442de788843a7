"""GEMINI's figures drawn anew: what was published as rings and dashes, what is predicted filled."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from simulator.plots import save
from simulator.studies.base import Cell

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")
TITLES = {
    "recovery_probability": "recovery from memory (Figure 9)",
    "iteration_time_s": "iteration time (Figures 7, 8)",
    "checkpoint_reduction": "checkpoint time, storage / memory (Figure 11)",
    "effective_ratio": "effective training time (Figure 14)",
}


def draw(cells: Sequence[Cell], path: Path) -> None:
    """One panel for each quantity among the cells."""
    names = [name for name in TITLES if any(cell.quantity == name for cell in cells)]
    figure = Figure(figsize=(5.2 * min(2, len(names)), 3.6 * -(-len(names) // 2)), layout="constrained")
    panels = figure.subplots(-(-len(names) // 2), min(2, len(names)), squeeze=False).ravel()
    for axes, name in zip(panels, names, strict=False):
        DRAWERS[name](axes, [cell for cell in cells if cell.quantity == name])
        axes.set_title(TITLES[name], fontsize=10)
        axes.spines[["top", "right"]].set_visible(False)
    for axes in panels[len(names) :]:
        axes.set_visible(False)
    figure.suptitle("GEMINI (SOSP 2023): rings published, lines and bars predicted", fontsize=11)
    save(figure, path)


def _lines(axes: Axes, cells: Sequence[Cell], x: str, series: Sequence[str]) -> None:
    kinds = list(dict.fromkeys(tuple(cell.settings[name] for name in series) for cell in cells))
    for colour, kind in zip(COLOURS * len(kinds), kinds, strict=False):
        rows = [cell for cell in cells if tuple(cell.settings[name] for name in series) == kind]
        at = [cell.settings[x] for cell in rows]
        label = ", ".join(str(part) for part in kind)
        axes.plot(at, [cell.predicted or 0.0 for cell in rows], marker="o", markersize=4, color=colour, label=label)
        seen = [(cell.settings[x], cell.observed) for cell in rows if cell.observed is not None]
        if seen:
            axes.plot(*zip(*seen, strict=True), "o", markersize=9, markerfacecolor="none", markeredgecolor=colour)
    axes.legend(frameon=False, fontsize=8)
    axes.set_ylim(bottom=0)


def _recovery(axes: Axes, cells: Sequence[Cell]) -> None:
    _lines(axes, cells, "faults.machines", ("checkpoint.placement", "cluster.workers"))
    axes.set(xlabel="machines that fail together", ylabel="probability", ylim=(0, 1.02))
    axes.set_xticks(sorted({cell.settings["faults.machines"] for cell in cells}))


def _reduction(axes: Axes, cells: Sequence[Cell]) -> None:
    _lines(axes, cells, "cluster.workers", ("cluster.bandwidth",))
    axes.set(xlabel="machines", ylabel="times faster")


def _ratio(axes: Axes, cells: Sequence[Cell]) -> None:
    _lines(axes, cells, "faults.failures_per_day", ("study.system",))
    axes.set(xlabel="failures a day (15: 1000 machines)", ylabel="share of wall-clock time", ylim=(0, 1.02))


def _iteration(axes: Axes, cells: Sequence[Cell]) -> None:
    labels = [f"{cell.settings['study.model']}\n{cell.settings['checkpoint.traffic']}" for cell in cells]
    times = [cell.predicted or 0.0 for cell in cells]
    axes.bar(labels, times, color=COLOURS[0], width=0.7)
    for place, time in enumerate(times):
        axes.text(place, time, f"{time:.4g}", ha="center", va="bottom", fontsize=8)
    axes.tick_params(axis="x", labelsize=7)
    axes.set_ylabel("seconds")


DRAWERS: dict[str, Callable[[Axes, Sequence[Cell]], None]] = {
    "recovery_probability": _recovery,
    "iteration_time_s": _iteration,
    "checkpoint_reduction": _reduction,
    "effective_ratio": _ratio,
}
