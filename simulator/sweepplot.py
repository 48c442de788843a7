"""The figure of a sweep: iteration time over its first key, a line for each combination of the others."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt

from toolkit.errors import UserError

# Okabe and Ito's colours, told apart by colour-blind readers
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")
STYLES = ("-", "--", ":", "-.")
MARKERS = "os^Dv<>P"
WIDE = 20  # times between the fastest and the slowest point from which on the axis is logarithmic
LINES = len(COLOURS) * len(STYLES)


def draw(path: Path, names: Sequence[str], rows: Sequence[dict[str, Any]]) -> None:
    """Write a PNG; UserError where it cannot be written or has more lines than can be told apart."""
    first, others = names[0], names[1:]
    ticks = list(dict.fromkeys(row[first] for row in rows))
    lines: dict[str, list[tuple[int, float, float]]] = {}
    for row in rows:
        label = ", ".join(_said(name, row[name]) for name in others)
        lines.setdefault(label, []).append(
            (ticks.index(row[first]), row["iteration_time_s"] * 1e3, row["iteration_ci95_s"] * 1e3)
        )
    if len(lines) > LINES:
        raise UserError(f"--plot {path}: {len(lines)} lines: at most {LINES} can be told apart; sweep over fewer keys")
    spread = [row["iteration_time_s"] * 1e3 for row in rows]
    figure, axes = plt.subplots(figsize=(8, 4.5), layout="constrained")
    for number, (label, points) in enumerate(lines.items()):
        places, times, errors = zip(*points, strict=True)
        axes.errorbar(
            places,
            times,
            errors,
            capsize=3,
            label=label,
            color=COLOURS[number % len(COLOURS)],
            linestyle=STYLES[number // len(COLOURS)],
            marker=MARKERS[number % len(MARKERS)],
        )
    axes.set_xticks(range(len(ticks)), ticks)
    axes.set_xlabel(first)
    if max(spread) > WIDE * min(spread):
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")
        axes.set_ylabel("iteration time (ms, logarithmic)")
    else:
        axes.set_ylim(0, 1.05 * max(spread))
        axes.set_ylabel("iteration time (ms)")
    axes.grid(axis="y", which="both", alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    if others:
        axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    try:
        figure.savefig(path, dpi=150)
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be written: {error}") from None
    finally:
        plt.close(figure)


def _said(name: str, value: str) -> str:
    """A name or a quantity speaks for itself; a bare number needs its key."""
    bare = value.replace(".", "").isdigit() or value in ("true", "false")
    return f"{name.partition('.')[2]} {value}" if bare else value
