"""The figures of a report, as SVG text that stands in the page itself."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from simulator.timeline import COLOURS, SHARE_COLOURS
from toolkit.trace import Span

STEPS = 3  # the last ones, in a timeline
LANES = 8  # workers shown of a run
Lane = tuple[str, list[Span]]


def svg(figure: Figure) -> str:
    """A figure as an <svg> element; the same bytes for the same figure."""
    out = io.StringIO()
    FigureCanvasSVG(figure)
    with matplotlib.rc_context({"svg.hashsalt": "sandtable", "svg.fonttype": "none"}):
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    text = out.getvalue()
    return text[text.index("<svg") :]


def last_steps(spans: Sequence[Span]) -> list[Span]:
    """The spans of a worker's last steps, timed from the start of the first of them."""
    last = max((span.step for span in spans), default=0)
    first = max(0, last - STEPS + 1)
    shown = [span for span in spans if span.step >= first and span.what in COLOURS]
    return sorted(shown, key=lambda span: (span.start, span.end))


def timeline(groups: Sequence[tuple[str, Sequence[Sequence[Span]]]]) -> str:
    """Lanes of the last steps: a group a run ("measured", "simulated"), a lane a worker, on one axis of time.

    With two groups the lanes of a worker stand one above the other, so that both can be compared.
    """
    lanes: list[Lane] = []
    for rank in range(min(LANES, max(len(ranks) for _, ranks in groups))):
        for name, ranks in groups:
            if rank < len(ranks):
                lanes.append((f"{name} {rank}", last_steps(ranks[rank])))
    origins = {}
    for name, ranks in groups:
        starts = [span.start for spans in ranks[:LANES] for span in last_steps(spans)]
        origins[name] = min(starts, default=0.0)
    longest = max((s.end - origins[label.rsplit(" ", 1)[0]] for label, spans in lanes for s in spans), default=1.0)
    scale, unit = (1e3, "ms") if longest < 10 else (1.0, "s")
    figure = Figure(figsize=(10.5, 1.3 + 0.42 * len(lanes)), layout="constrained")
    axes = figure.subplots()
    for place, (label, spans) in enumerate(lanes):
        _lane(axes, place, spans, origins[label.rsplit(" ", 1)[0]], scale)
    axes.set_yticks(range(len(lanes)), [label for label, _ in lanes], fontsize=8)
    axes.set(ylim=(len(lanes) - 0.4, -0.6), xlim=(0, longest * scale), xlabel=f"time, {unit}")
    axes.spines[["top", "right"]].set_visible(False)
    used = {span.what for _, spans in lanes for span in spans}
    handles = [Patch(color=colour, label=what) for what, colour in COLOURS.items() if what in used]
    axes.legend(handles=handles, loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False, fontsize=8)
    return svg(figure)


def _lane(axes: Axes, place: int, spans: Sequence[Span], origin: float, scale: float) -> None:
    for what, colour in COLOURS.items():
        bars = [((s.start - origin) * scale, s.seconds * scale) for s in spans if s.what == what]
        low, height = (place + 0.24, 0.18) if what == "communicate" else (place - 0.36, 0.54)
        axes.broken_barh(bars, (low, height), facecolors=colour, linewidth=0)


def shares(rows: Mapping[str, Mapping[str, float]]) -> str:
    """Time shares, a bar a run."""
    figure = Figure(figsize=(10.5, 0.9 + 0.45 * len(rows)), layout="constrained")
    axes = figure.subplots()
    names = list(rows)
    left = np.zeros(len(names))
    for share, colour in SHARE_COLOURS.items():
        values = np.array([rows[name].get(share, 0.0) for name in names])
        if values.any():
            axes.barh(names, values, left=left, color=colour, edgecolor="white", label=share)
            left += values
    axes.set(xlim=(0, 1), ylim=(len(names) - 0.4, -0.6))
    axes.xaxis.set_major_formatter(matplotlib.ticker.PercentFormatter(1.0))
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.05), frameon=False, fontsize=8)
    return svg(figure)


def iterations(rows: Mapping[str, Sequence[float]]) -> str:
    """Iteration time over the steps, and its distribution, a colour a run."""
    figure = Figure(figsize=(10.5, 2.8), layout="constrained")
    course, spread = figure.subplots(1, 2, width_ratios=[2, 1], sharey=True)
    for (name, seconds), colour in zip(rows.items(), ("#0072B2", "#D55E00"), strict=False):
        course.plot(np.asarray(seconds) * 1e3, color=colour, linewidth=0.9, label=name)
        spread.hist(np.asarray(seconds) * 1e3, bins=30, orientation="horizontal", color=colour, alpha=0.6)
    course.set(xlabel="step", ylabel="iteration, ms", ylim=(0, None))
    spread.set(xlabel="steps")
    course.legend(frameon=False, fontsize=8)
    for axes in (course, spread):
        axes.spines[["top", "right"]].set_visible(False)
    return svg(figure)


def sweep(name: str, rows: Sequence[Mapping[str, Any]], others: Sequence[str]) -> str:
    """Iteration time over the first key of a sweep, a line for each combination of the others."""
    figure = Figure(figsize=(10.5, 4.2), layout="constrained")
    axes = figure.subplots()
    ticks = list(dict.fromkeys(row[name] for row in rows))
    lines: dict[str, list[tuple[int, float]]] = {}
    for row in rows:
        label = ", ".join(f"{other.partition('.')[2]} {row[other]}" for other in others)
        lines.setdefault(label, []).append((ticks.index(row[name]), float(row["iteration_time_s"]) * 1e3))
    for label, points in lines.items():
        axes.plot(*zip(*sorted(points), strict=True), marker="o", markersize=4, linewidth=1.2, label=label)
    axes.set_xticks(range(len(ticks)), ticks, fontsize=8)
    axes.set(xlabel=name, ylabel="iteration, ms", ylim=(0, None))
    axes.spines[["top", "right"]].set_visible(False)
    if others:
        axes.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return svg(figure)
