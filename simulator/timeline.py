"""A picture of a run: what every worker did in the last steps, and how the time is shared."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import Patch

from toolkit.errors import UserError
from toolkit.trace import Span

WORKERS = 16  # shown of a run
# Okabe and Ito's colours, told apart by colour-blind readers
COLOURS = {
    "data": "#999999",
    "forward": "#56B4E9",
    "backward": "#0072B2",
    "compress": "#D55E00",
    "merge": "#E69F00",
    "wait": "#F0E442",
    "optimize": "#009E73",
    "checkpoint": "#000000",
    "communicate": "#CC79A7",
}
SHARE_COLOURS = {
    "compute": "#0072B2",
    "compress": "#D55E00",
    "communicate": "#CC79A7",
    "optimize": "#009E73",
    "checkpoint": "#000000",
    "idle": "#DDDDDD",
}


def draw(path: Path, spans: Sequence[Span], result: dict[str, Any], steps: int) -> None:
    """Write a PNG: lanes of the last `steps` steps above, time shares below. UserError where it cannot be written."""
    workers = min(result["workers"], WORKERS)
    figure, (lanes, bar) = plt.subplots(
        2, 1, figsize=(11, 2.6 + 0.5 * workers), height_ratios=[max(2.0, 0.6 * workers), 1], layout="constrained"
    )
    _lanes(lanes, spans, workers, result, steps)
    _shares(bar, result["time_share"])
    try:
        figure.savefig(path, dpi=150)
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be written: {error}") from None
    finally:
        plt.close(figure)


def _lanes(axes: Axes, spans: Sequence[Span], workers: int, result: dict[str, Any], steps: int) -> None:
    first = max(0, result["steps"] - steps)
    shown = [s for s in spans if s.step >= first and s.rank < workers and s.what in COLOURS]
    origin = min((s.start for s in shown), default=0.0)
    longest = max((s.end for s in shown), default=0.0) - origin
    scale, unit = (1e3, "ms") if longest < 10 else (1.0, "s")
    for what, colour in COLOURS.items():
        for rank in range(workers):
            bars = [((s.start - origin) * scale, s.seconds * scale) for s in shown if s.what == what and s.rank == rank]
            low, height = (rank + 0.22, 0.2) if what == "communicate" else (rank - 0.38, 0.56)
            axes.broken_barh(bars, (low, height), facecolors=colour, linewidth=0)
    axes.set_ylim(workers - 0.4, -0.6)
    axes.set_yticks(range(workers), [f"worker {rank}" for rank in range(workers)])
    axes.set_xlim(0, longest * scale)
    axes.set_xlabel(f"time since the start of step {first} ({unit})")
    hidden = f", {workers} of {result['workers']} workers" if workers < result["workers"] else ""
    axes.set_title(f"Steps {first} to {result['steps'] - 1}{hidden}: thin bars are exchanges under way", loc="left")
    used = {s.what for s in shown}
    axes.legend(
        handles=[Patch(color=colour, label=what) for what, colour in COLOURS.items() if what in used],
        loc="upper left",
        bbox_to_anchor=(1.0, 1.0),
        frameon=False,
    )
    axes.spines[["top", "right"]].set_visible(False)


def _shares(axes: Axes, shares: dict[str, float]) -> None:
    left = 0.0
    for name, share in shares.items():
        if share <= 0:
            continue
        label = f"{name} {share:.1%}"
        axes.barh(0, share, left=left, color=SHARE_COLOURS[name], label=label, edgecolor="white")
        left += share
    axes.set_xlim(0, 1)
    axes.set_yticks([])
    axes.xaxis.set_major_formatter(matplotlib.ticker.PercentFormatter(1.0))
    axes.set_title("Share of all workers' time, whole run", loc="left")
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.1), frameon=False)
    axes.spines[["top", "right", "left"]].set_visible(False)
