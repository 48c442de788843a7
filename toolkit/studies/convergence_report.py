"""Table and figure of the convergence study."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

LIMIT = 1.02  # of the dense loss
DENSE = "none"
MOST = 2.0  # ratio at the figure's right edge


class Run(Protocol):
    @property
    def task(self) -> str: ...
    @property
    def method(self) -> str: ...
    @property
    def seed(self) -> int: ...
    @property
    def loss(self) -> float: ...
    @property
    def accuracy(self) -> float: ...
    @property
    def density(self) -> float: ...
    @property
    def megabytes(self) -> float: ...


def ratios(rows: Sequence[Run], task: str, method: str) -> list[float]:
    """Test loss over the dense one of the same seed, a number a seed that both have."""
    dense = {row.seed: row.loss for row in rows if row.task == task and row.method == DENSE}
    mine = [row for row in rows if row.task == task and row.method == method]
    return [row.loss / dense[row.seed] for row in mine if row.seed in dense]


def report(rows: Sequence[Run], out: Path) -> None:
    """convergence.md and convergence.png in `out`, and the table on the terminal."""
    tasks = list(dict.fromkeys(row.task for row in rows))
    methods = list(dict.fromkeys(row.method for row in rows))
    text = "\n\n".join(table(rows, task, methods) for task in tasks) + "\n"
    (out / "convergence.md").write_text(text, encoding="utf-8")
    print(text)
    figure(rows, tasks, methods, out / "convergence.png")


def table(rows: Sequence[Run], task: str, methods: Sequence[str]) -> str:
    """Markdown: a line a method, the mean over the seeds and its standard error."""
    lines = [
        f"### {task}",
        "",
        "| method | test loss | over dense | ± | accuracy | density | MB sent a worker | within 2 % |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for method in methods:
        mine = [row for row in rows if row.task == task and row.method == method]
        found = ratios(rows, task, method)
        if not found:
            continue
        mean, error = statistics.fmean(found), _error(found)
        lost = sum(not math.isfinite(ratio) for ratio in found)
        means = [statistics.fmean(getattr(row, name) for row in mine) for name in ("loss", "accuracy", "density")]
        verdict = "yes" if mean <= LIMIT else f"no: {lost} of {len(found)} diverged" if lost else "no"
        lines.append(
            f"| {method} | {means[0]:.4f} | {mean:.3f} | {error:.3f} | {means[1]:.4f} | {means[2]:.4f} | "
            f"{statistics.fmean(row.megabytes for row in mine):.3f} | {verdict} |"
        )
    return "\n".join(lines)


def _error(values: Sequence[float]) -> float:
    finite = all(math.isfinite(value) for value in values)
    return statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 and finite else math.nan


def _shown(ratio: float) -> float:
    """Where a ratio stands in the figure: what has diverged, at its right edge."""
    return ratio if ratio < MOST else MOST


def figure(rows: Sequence[Run], tasks: Sequence[str], methods: Sequence[str], path: Path) -> None:
    """A panel a task: each seed's loss over dense a dot, the mean a bar, the limit a line."""
    size = (5.2 * len(tasks), 0.9 + 0.24 * len(methods))
    drawn, axes = plt.subplots(1, len(tasks), figsize=size, squeeze=False, layout="constrained", sharey=True)
    for axis, task in zip(axes[0], tasks, strict=True):
        for place, method in enumerate(methods):
            found = ratios(rows, task, method)
            if found:
                mean = _shown(statistics.fmean(found))
                axis.plot([_shown(ratio) for ratio in found], [place] * len(found), "o", color="0.7", markersize=3)
                axis.plot([mean], [place], "|", color="C0" if mean <= LIMIT else "C3", markersize=14, mew=3)
        axis.axvspan(0, LIMIT, color="C2", alpha=0.10)
        axis.axvline(1.0, color="0.5", linewidth=0.8)
        axis.set_xscale("log")
        axis.set_xlim(0.6, MOST * 1.02)
        axis.set_xticks([0.7, 0.8, 1, 1.25, 1.5, 2], ["0.7", "0.8", "1", "1.25", "1.5", "2 or more"])
        axis.set_xticks([], minor=True)
        axis.set_title(task, fontsize=10)
        axis.set_xlabel("test loss / dense test loss, same steps")
        axis.grid(axis="x", alpha=0.3)
    axes[0][0].set_yticks(range(len(methods)), methods, fontsize=8)
    axes[0][0].invert_yaxis()
    drawn.savefig(path, dpi=100)
    plt.close(drawn)
