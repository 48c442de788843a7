"""Cost laws of compressors, merges and optimizers from the calls that runs show: call + element * n + entry * k."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from simulator.fitting import fit_nonnegative, trimmed_mean
from simulator.observe import CallPoint, Run, compress_points, merge_points, optimize_points
from simulator.profile import Cost

COST_NAMES = ("call_s", "element_s", "entry_s")
COST_PRIOR = (2e-5, 1e-9, 5e-9)  # seconds a call, an element, an entry, on one core of a few GB/s


def fit_costs(
    runs: Sequence[Run], weights: Sequence[float]
) -> tuple[dict[str, Cost], dict[str, Cost], dict[str, Cost], dict[str, Any]]:
    """Cost laws of compressors, merges and optimizers, and what `fits` says of them."""
    compress: dict[str, list[CallPoint]] = {}
    merge: dict[str, list[CallPoint]] = {}
    optimize: dict[str, list[CallPoint]] = {}
    for run, weight in zip(runs, weights, strict=True):
        compress.setdefault(run.experiment.compression.name, []).extend(_scaled(compress_points(run), weight))
        optimize.setdefault(run.experiment.optimizer.name, []).extend(_scaled(optimize_points(run), weight))
        for wire, points in merge_points(run).items():
            merge.setdefault(wire, []).extend(_scaled(points, weight))
    notes: dict[str, Any] = {}
    fitted = []
    for stage, by_name in (("compress", compress), ("merge", merge), ("optimize", optimize)):
        costs = {}
        for name, points in by_name.items():
            if points:
                costs[name], notes[f"{stage} {name}"] = fit_cost(points)
        fitted.append(costs)
    return fitted[0], fitted[1], fitted[2], notes


def _scaled(points: Sequence[CallPoint], weight: float) -> list[CallPoint]:
    return [CallPoint(p.elements, p.entries, p.seconds * weight, p.density) for p in points]


def fit_cost(points: Sequence[CallPoint]) -> tuple[Cost, dict[str, Any]]:
    """Fit call + element * n + entry * k. A column that is zero throughout takes no part and stays zero.

    The robust fit finds the proportions; the whole is scaled to the mean, because waiting for a core costs time too.
    """
    design = np.array([[1.0, p.elements, p.entries] for p in points])
    seconds = np.array([p.seconds for p in points])
    used = [column for column in range(3) if design[:, column].any()]
    fit = fit_nonnegative(design[:, used], seconds, [COST_PRIOR[column] for column in used])
    predicted = trimmed_mean(design[:, used] @ np.array(fit.constants))
    scale = trimmed_mean(seconds) / predicted if predicted > 0 else 1.0
    values = dict.fromkeys(COST_NAMES, 0.0)
    values.update({COST_NAMES[column]: value * scale for column, value in zip(used, fit.constants, strict=True)})
    return Cost(**values), fit.note([COST_NAMES[column] for column in used]) | {"mean_over_fit": scale}
