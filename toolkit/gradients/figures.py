"""Figures of gradstats: histograms of magnitudes against the three fits, and k̂/k over the iterations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from numpy.typing import NDArray

from toolkit.compression import fits
from toolkit.compression.fits import FITS, Shape
from toolkit.gradients import store
from toolkit.gradients.store import GradientFile

LABELS = {"exponential": "exponential (E)", "pareto": "generalised Pareto (P)", "gamma": "gamma (GP's first stage)"}


def histograms(series: str, files: list[GradientFile], path: Path) -> None:
    """A column an iteration: density of magnitudes (above) and share above a magnitude (below), data against fits."""
    figure, axes = plt.subplots(2, len(files), figsize=(3.6 * len(files), 6), squeeze=False, layout="constrained")
    for column, file in enumerate(files):
        magnitudes = np.sort(np.abs(store.load(file.path)).astype(np.float64))
        body, tail = axes[0][column], axes[1][column]
        zeros = float(np.searchsorted(magnitudes, 0.0, "right")) / magnitudes.size
        body.set_title(f"iteration {file.iteration}" + (f" ({zeros:.0%} zeros)" if zeros >= 0.005 else ""), fontsize=10)
        if magnitudes[-1] > 0:
            _body(body, magnitudes)
            _tail(tail, magnitudes)
        tail.set_xlabel("|g|")
    axes[0][0].set_ylabel("density of |g|")
    axes[1][0].set_ylabel("share of entries above")
    figure.legend(*axes[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=9)
    figure.suptitle(f"{series}: magnitudes and the fits of SIDCo's first stage")
    figure.savefig(path, dpi=110)
    plt.close(figure)


def shape_of(magnitudes: NDArray[np.float64]) -> Shape:
    """Moments of magnitudes (n,), as the kernels gather them."""
    tail = Shape.of_tail(magnitudes.size, float(magnitudes.sum()), float(np.square(magnitudes).sum()))
    return Shape(tail.mean, tail.variance, float(np.log(magnitudes + fits.LOG_EPSILON).mean()))


def _body(axis: Any, magnitudes: NDArray[np.float64]) -> None:
    """Up to the 99th percentile; the fits as shares of the same bins, so that a pole at zero stays finite."""
    shape = shape_of(magnitudes)
    top = float(np.quantile(magnitudes, 0.99)) or float(magnitudes[-1])
    edges = np.linspace(0.0, top, 61)
    width = edges[1] - edges[0]
    shares = np.histogram(magnitudes, edges)[0] / magnitudes.size
    axis.stairs(shares / width, edges, fill=True, color="0.8", label="gradient")
    middle = (edges[:-1] + edges[1:]) / 2
    for number, fit in enumerate(FITS):
        above = np.array([fits.survival(fit, shape, edge) for edge in edges])
        axis.plot(middle, np.maximum(-np.diff(above), 1e-300) / width, color=f"C{number}", label=LABELS[fit])
    axis.set_yscale("log")
    positive = shares[shares > 0] / width
    axis.set_ylim(float(positive.min()) / 3, float(positive.max()) * 3)


def _tail(axis: Any, magnitudes: NDArray[np.float64]) -> None:
    shape = shape_of(magnitudes)
    n = magnitudes.size
    rank = np.unique(np.geomspace(1, n, 400).astype(np.int64))
    axis.plot(magnitudes[n - rank], rank / n, color="0.5", linewidth=3)
    top = float(magnitudes[-1])
    grid = np.geomspace(max(top * 1e-5, float(magnitudes[n // 10]) or top * 1e-5), top, 200)
    for number, fit in enumerate(FITS):
        axis.plot(grid, [fits.survival(fit, shape, value) for value in grid], color=f"C{number}")
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.set_ylim(0.3 / n, 2.0)
    axis.set_xlim(top * 1e-6, top * 2)
    axis.grid(alpha=0.3)


def counts(series: str, rows: list[dict[str, Any]], feedback: bool, path: Path) -> None:
    """A panel a density: achieved over wanted count of every estimator over the iterations."""
    densities = list(dict.fromkeys(row["density"] for row in rows))
    methods = list(dict.fromkeys(row["method"] for row in rows))
    size = (4.2 * len(densities), 3.8)
    figure, axes = plt.subplots(1, len(densities), figsize=size, squeeze=False, layout="constrained", sharey=True)
    for axis, density in zip(axes[0], densities, strict=True):
        for number, method in enumerate(methods):
            mine = [row for row in rows if row["method"] == method and row["density"] == density]
            ratios = np.maximum([row["count_ratio"] for row in mine], 1e-3)
            mark = "o-" if len(mine) < 40 else "-"
            color, fade = (
                f"C{number // 4 if '=' in method else number}",
                0.25 * (1 + number % 4) if "=" in method else 1.0,
            )
            axis.plot([row["iteration"] for row in mine], ratios, mark, ms=3, color=color, alpha=fade, label=method)
        axis.axhspan(0.8, 1.25, color="grey", alpha=0.12)
        axis.axhline(1.0, color="grey", linewidth=0.8)
        axis.set_yscale("log")
        axis.set_title(f"density {density:g}", fontsize=10)
        axis.set_xlabel("iteration")
        axis.grid(alpha=0.3)
    axes[0][0].set_ylabel("achieved / wanted count")
    figure.legend(*axes[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=5, fontsize=9)
    figure.suptitle(f"{series}, {'with' if feedback else 'without'} error feedback")
    figure.savefig(path, dpi=110)
    plt.close(figure)
