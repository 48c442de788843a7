"""Figures of calibration and what-if: predicted against measured, and the map of where compression pays.

Colours are Okabe and Ito's, and matplotlib's PuOr: both can be told apart with any colour vision. What a colour says is
always written or shaped too.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter
from numpy.typing import NDArray

from toolkit import units
from toolkit.errors import UserError

if TYPE_CHECKING:
    from simulator.map import Map
    from simulator.validate import Comparison

BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#666666"
GROUPS = ((True, BLUE, "o", "fitted"), (False, ORANGE, "D", "held out"))
MOST_NAMED = 24  # runs; more are drawn without their names


def save(figure: Figure, path: Path) -> None:
    """Write a figure; UserError where the name is no picture's or the folder cannot be written."""
    FigureCanvasAgg(figure)
    try:
        figure.savefig(path, dpi=160)
    except (OSError, ValueError) as error:
        raise UserError(f"--plot {path}: cannot be written: {error}") from None


def plot_validation(rows: Sequence[Comparison], path: Path) -> None:
    """Predicted against measured iteration time on equal logarithmic axes; run by run beside it, where they are few."""
    named = len(rows) <= MOST_NAMED
    size = (10.6, max(4.4, 1.6 + 0.3 * len(rows))) if named else (6.0, 5.4)
    figure = Figure(figsize=size, layout="constrained")
    scatter, *beside = figure.subplots(1, 2 if named else 1, squeeze=False, width_ratios=[1, 1.15] if named else None)[
        0
    ]
    _scatter(scatter, rows)
    if named:
        _run_by_run(beside[0], sorted(rows, key=lambda row: (not row.fitted, row.measured_s)))
    figure.suptitle("Simulation of real runs against their measurement", fontsize=11)
    save(figure, path)


def _scatter(axes: Axes, rows: Sequence[Comparison]) -> None:
    times = np.array([[row.measured_s, row.predicted_s] for row in rows]) * 1e3
    low, high = times.min() / 1.25, times.max() * 1.25
    line = np.array([low, high])
    axes.fill_between(line, line / 1.1, line * 1.1, color="0.9", linewidth=0, zorder=0, label="within 10 %")
    axes.plot(line, line, color=GREY, linewidth=1, zorder=1)
    for fitted, colour, marker, label in GROUPS:
        chosen = np.array([row.fitted == fitted for row in rows])
        if chosen.any():
            error = np.mean([abs(row.error) for row in rows if row.fitted == fitted])
            text = f"{label}: {chosen.sum()} run{'s' * bool(chosen.sum() > 1)}, mean error {error:.1%}"
            x, y = times[chosen].T
            axes.scatter(x, y, s=48, c=colour, marker=marker, edgecolor="white", linewidth=0.6, zorder=3, label=text)
    axes.set(xscale="log", yscale="log", xlim=(low, high), ylim=(low, high))
    axes.set(xlabel="measured iteration time, ms", ylabel="predicted iteration time, ms")
    _plain_ticks(axes, low, high)
    axes.legend(loc="upper left", frameon=False, fontsize=8)


def _run_by_run(axes: Axes, rows: Sequence[Comparison]) -> None:
    """A line a run from the measured (ring) to the predicted time (filled), with the error beside it."""
    right = max(max(row.measured_s, row.predicted_s) for row in rows) * 1e3
    for i, row in enumerate(rows):
        _, colour, marker, _ = GROUPS[0] if row.fitted else GROUPS[1]
        measured, predicted = row.measured_s * 1e3, row.predicted_s * 1e3
        axes.plot([measured, predicted], [i, i], color=colour, linewidth=1.5, zorder=1)
        axes.plot(measured, i, marker="o", markersize=8, markerfacecolor="white", markeredgecolor="black", zorder=2)
        axes.plot(predicted, i, marker=marker, markersize=5, color=colour, zorder=3)
        axes.text(right * 1.06, i, f"{row.error:+.1%}", va="center", fontsize=8, color=colour)
    axes.plot([], [], "o", markersize=8, markerfacecolor="white", markeredgecolor="black", label="measured")
    for fitted, colour, marker, label in GROUPS:
        if any(row.fitted == fitted for row in rows):
            axes.plot([], [], marker, markersize=5, color=colour, label=f"predicted, {label}")
    axes.set_yticks(range(len(rows)), [row.label for row in rows], fontsize=8)
    axes.set(xlim=(0, right * 1.24), ylim=(len(rows) - 0.4, -0.6), xlabel="iteration time, ms")
    axes.grid(axis="x", color="0.92", zorder=0)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, 1.1), ncols=3, frameon=False, fontsize=8, handletextpad=0.2)


def _plain_ticks(axes: Axes, low: float, high: float) -> None:
    """Few ticks with plain numbers on two equal logarithmic axes."""
    steps = np.array([1, 2, 3, 5, 7]) if high / low < 12 else np.array([1, 2, 5])
    ticks = np.concatenate([steps * 10.0**power for power in range(-3, 7)])
    ticks = ticks[(ticks >= low) & (ticks <= high)]
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_ticks(ticks)
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_minor_formatter(NullFormatter())


def plot_map(found: Map, path: Path) -> None:
    """A panel a compressor: speed-up over the dense exchange by bandwidth and number of workers."""
    panels, rows, columns = found.compressors, found.bandwidths, found.workers
    width = 1.5 + len(panels) * (0.9 + 0.72 * len(columns))
    figure = Figure(figsize=(max(6.0, width), 1.9 + 0.62 * len(rows)), layout="constrained")
    values = {choice: np.array([[found.at(w, b, choice).speedup for w in columns] for b in rows]) for choice in panels}
    limit = max(2.0, *(float(np.exp(np.abs(np.log(value)).max())) for value in values.values()))
    norm = LogNorm(1 / limit, limit)
    all_axes = figure.subplots(1, len(panels), squeeze=False, sharey=True)[0]
    for axes, choice in zip(all_axes, panels, strict=True):
        image = axes.pcolormesh(values[choice], cmap="PuOr_r", norm=norm, edgecolor="white", linewidth=1.5)
        density = found.at(columns[0], rows[0], choice).density
        axes.set_title(f"{choice.name}, density {density:g}", fontsize=10)
        _write_cells(axes, values[choice], found.pays_from)
        axes.set_xticks(np.arange(len(columns)) + 0.5, [str(w) for w in columns])
        axes.set_xlabel("workers")
        axes.tick_params(length=0)
    all_axes[0].set_yticks(np.arange(len(rows)) + 0.5, [units.render("rate", b) for b in rows])
    all_axes[0].set_ylabel("bandwidth of a host's link")
    bar = figure.colorbar(image, ax=list(all_axes), pad=0.02, aspect=14)
    bar.set_label("speed-up over dense exchange")
    ticks = [t for t in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50) if 1 / limit <= t <= limit]
    bar.set_ticks(ticks, labels=[f"×{t:g}" for t in ticks])
    bar.minorticks_off()
    section = found.experiment
    figure.suptitle(
        f"Where compression pays: {section.model.name}, batch {section.data.batch_size} a worker"
        f"{' (computation measured)' if found.measured else ' (computation derived from FLOPs)'}",
        fontsize=11,
    )
    figure.text(0.01, 0.01, f"grey: below ×{found.pays_from:.2f}, no clear difference", fontsize=8, color=GREY)
    save(figure, path)


def _write_cells(axes: Axes, values: NDArray[np.float64], pays_from: float) -> None:
    """The number in each cell: bold where compression pays, grey where it makes no difference."""
    strongest = np.abs(np.log(values)).max()
    for (row, column), value in np.ndenumerate(values):
        pays, same = value >= pays_from, 1 / pays_from < value < pays_from
        dark = abs(np.log(value)) > 0.62 * max(strongest, np.log(2.0))
        axes.text(
            column + 0.5,
            row + 0.5,
            f"×{value:.2f}" if value < 9.95 else f"×{value:.0f}",
            ha="center",
            va="center",
            fontsize=9,
            fontweight="bold" if pays else "normal",
            color="white" if dark else GREY if same else "black",
        )
