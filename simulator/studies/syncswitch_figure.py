"""Sync-Switch's results drawn anew: published values as rings, predictions as lines and bars."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from simulator.plots import save
from simulator.studies.base import Cell

COLOURS = {"exp1": "#0072B2", "exp2": "#D55E00", "exp3": "#009E73", "legacy": "#CC79A7"}
NAMES = {
    "exp1": "ResNet32, 8 workers (exp1)",
    "exp2": "ResNet50, 8 workers (exp2)",
    "exp3": "ResNet32, 16 workers (exp3)",
    "legacy": "ResNet32, 4 workers (legacy)",
}
TITLES = {
    "train_time_s": ("training time against the switching point", "seconds"),
    "time_to_accuracy_s": ("time to accuracy (.88 exp1, .70 exp2)", "seconds"),
    "bsp_step_s": ("plain pace of BSP", "seconds a step"),
    "asp_steps_per_s": ("plain pace of ASP", "updates a second"),
    "slowdown": ("slow-down by stragglers", "times"),
}


def draw(cells: Sequence[Cell], path: Path) -> None:
    """One panel for each quantity among the cells."""
    names = [name for name in TITLES if any(cell.quantity == name for cell in cells)]
    across = min(3, len(names))
    down = -(-len(names) // across)
    figure = Figure(figsize=(5.0 * across, 3.6 * down), layout="constrained")
    panels = figure.subplots(down, across, squeeze=False).ravel()
    for axes, name in zip(panels, names, strict=False):
        mine = [cell for cell in cells if cell.quantity == name]
        (_over_share if name in ("train_time_s", "time_to_accuracy_s") else _bars)(axes, mine)
        axes.set_title(TITLES[name][0], fontsize=10)
        axes.set_ylabel(TITLES[name][1])
        axes.spines[["top", "right"]].set_visible(False)
    for axes in panels[len(names) :]:
        axes.set_visible(False)
    figure.suptitle("Sync-Switch (ICDCS 2021): rings published, lines and bars predicted", fontsize=11)
    save(figure, path)


def _over_share(axes: Axes, cells: Sequence[Cell]) -> None:
    """A line an experiment over the share of BSP; runs with stragglers are left to the table."""
    plain = [c for c in cells if set(c.settings) == {"study.experiment", "sync.switch_at"}] or list(cells)
    for name in dict.fromkeys(cell.settings["study.experiment"] for cell in plain):
        rows = [cell for cell in plain if cell.settings["study.experiment"] == name]
        rows.sort(key=lambda cell: float(cell.settings.get("sync.switch_at", 0.0)))
        at = [100 * float(cell.settings.get("sync.switch_at", 0.0)) for cell in rows]
        axes.plot(at, [c.predicted or 0.0 for c in rows], "-o", markersize=4, color=COLOURS[name], label=NAMES[name])
        seen = [(place, cell.observed) for place, cell in zip(at, rows, strict=True) if cell.observed is not None]
        if seen:
            x, y = zip(*seen, strict=True)
            axes.plot(x, y, "o", markersize=9, markerfacecolor="none", markeredgecolor=COLOURS[name])
    axes.set_xlabel("BSP before the switch, % of the work")
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False, fontsize=8)


def _bars(axes: Axes, cells: Sequence[Cell]) -> None:
    colours = [COLOURS[cell.settings["study.experiment"]] for cell in cells]
    at = list(range(len(cells)))
    axes.bar(at, [cell.predicted or 0.0 for cell in cells], color=colours, width=0.6, alpha=0.75)
    seen = [(x, cell.observed) for x, cell in zip(at, cells, strict=True) if cell.observed is not None]
    if seen:
        axes.plot([x for x, _ in seen], [y for _, y in seen], "o", markersize=9, color="black", markerfacecolor="none")
    axes.set_xticks(at, [_label(cell) for cell in cells], fontsize=7)
    if all((cell.predicted or 0.0) >= 1 for cell in cells) and cells[0].quantity == "slowdown":
        axes.set_ylim(bottom=1.0)


def _label(cell: Cell) -> str:
    """A few words a bar: the experiment, the protocol, what is unusual."""
    settings = cell.settings
    words = [str(settings["study.experiment"])]
    if cell.quantity == "slowdown":
        share = settings.get("sync.switch_at")
        words = [{0.0: "ASP", 1.0: "BSP"}.get(share, "switch") if isinstance(share, float) else "switch"]
        delayed = settings.get("faults.added_latency", [])
        words += [f"{len(delayed)} ×", str(delayed[0]["latency"])] if delayed else []
    if "data.batch_size" in settings:
        words.append(f"batch {settings['data.batch_size']}")
    if settings.get("study.saving"):
        words.append("saving")
    return "\n".join(words)
