"""Tables and figures of the benchmark."""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from rich.console import Console
from rich.table import Table


def seconds(value: float) -> str:
    """A time with the unit that suits it."""
    unit, factor = ("s", 1.0) if value >= 1.0 else ("ms", 1e3) if value >= 1e-3 else ("µs", 1e6)
    return f"{value * factor:.3g} {unit}"


COLUMNS = {
    "compress": ("Compress median", seconds),
    "× read": ("Compress / read pass", "{:.2f}".format),
    "× add": ("Compress / add pass", "{:.2f}".format),
    "× faster than torch.topk": ("torch.topk / compress", "{:.2g}".format),
    "GB/s": ("Compress GB/s", "{:.1f}".format),
    "decompress": ("Decompress median", seconds),
    "density achieved": ("Density achieved", "{:.4g}".format),
}


def print_microbench(rows: list[dict[str, Any]], args: argparse.Namespace) -> None:
    """A table a density; of a series of saved gradients the median over its files."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=120)
    how = "with error feedback" if args.feedback else "without error feedback"
    for density in dict.fromkeys(row["Ratio"] for row in rows):
        here = [row for row in rows if row["Ratio"] == density]
        table = Table(title=f"density {density:g}, {args.threads} thread{'s' * (args.threads > 1)}, {how}")
        table.add_column("vector", no_wrap=True)
        table.add_column("method", no_wrap=True)
        for name in COLUMNS:
            table.add_column(name, justify="right")
        for series in dict.fromkeys(row["Series"] for row in here):
            mine = [row for row in here if row["Series"] == series]
            label = f"{series} ({len({row['Vector'] for row in mine})})"
            for method in dict.fromkeys(row["Method"] for row in mine):
                same = [row for row in mine if row["Method"] == method]
                cells = [_median(same, key, show) for key, show in COLUMNS.values()]
                table.add_row(label, method, *cells)
                label = ""
        console.print(table)
    console.print(f"{args.out}/microbench.csv, .json and .png written")


def _median(rows: list[dict[str, Any]], key: str, show: Callable[[float], str]) -> str:
    """Nothing where the figure was not measured."""
    values = [row[key] for row in rows if row[key] is not None]
    return show(statistics.median(values)) if values else ""


def plot_microbench(rows: list[dict[str, Any]], path: Path, args: argparse.Namespace) -> None:
    """A row a density, a colour a series: the time of a compression over one r += g pass, and the density achieved."""
    densities = list(dict.fromkeys(row["Ratio"] for row in rows))
    names = list(dict.fromkeys(row["Method"] for row in rows))
    size = (11, 1.4 + len(densities) * (0.6 + 0.22 * len(names)))
    figure, axes = plt.subplots(len(densities), 2, figsize=size, squeeze=False, layout="constrained", sharey=True)
    for density, (times, counts) in zip(densities, axes, strict=True):
        here = [row for row in rows if row["Ratio"] == density]
        _plot_times(times, here, names)
        _plot_counts(counts, here, names)
        times.set_title(f"density {density:g}: time / one r += g pass", fontsize=10)
        counts.set_title(f"density {density:g}: achieved / wanted density", fontsize=10)
        times.set_yticks(range(len(names)), names)
    axes[0][0].invert_yaxis()
    figure.legend(*axes[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=9)
    how = "with error feedback" if args.feedback else "without error feedback"
    figure.suptitle(f"Compression {how}, {args.threads} thread(s): medians of rounds timed in turn")
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _offsets(rows: list[dict[str, Any]]) -> dict[str, tuple[float, str]]:
    """Where a series stands beside its method's tick, and its colour."""
    series = list(dict.fromkeys(row["Series"] for row in rows))
    height = 0.8 / len(series)
    return {name: (-0.4 + height * (place + 0.5), f"C{place % 10}") for place, name in enumerate(series)}


def _plot_times(axis: Any, rows: list[dict[str, Any]], names: list[str]) -> None:
    offsets = _offsets(rows)
    for series, (offset, color) in offsets.items():
        medians = []
        for name in names:
            mine = [r["Compress / add pass"] for r in rows if r["Method"] == name and r["Series"] == series]
            medians.append(statistics.median(mine))
        places = [place + offset for place in range(len(names))]
        axis.barh(places, medians, height=0.8 / len(offsets), color=color, label=series)
    axis.set_xscale("log")
    axis.axvline(1.0, color="grey", linewidth=0.8)
    axis.grid(axis="x", alpha=0.3)


def _plot_counts(axis: Any, rows: list[dict[str, Any]], names: list[str]) -> None:
    """Every vector a dot; dense methods send all and are left out."""
    for series, (offset, color) in _offsets(rows).items():
        for place, name in enumerate(names):
            mine = [r for r in rows if r["Method"] == name and r["Series"] == series]
            shares = [r["Density achieved"] / r["Ratio"] for r in mine if r["Density achieved"] < 1.0]
            axis.plot(shares, [place + offset] * len(shares), "o", color=color, markersize=4)
    axis.axvspan(0.8, 1.25, color="grey", alpha=0.12)
    axis.axvline(1.0, color="grey", linewidth=0.8)
    axis.grid(axis="x", alpha=0.3)
