"""Compute time from the steps of runs: each tensor's share, how it grows with the batch, how it spreads over workers.

All runs train the same network, so their compute times must agree once batch size and ranks a core are accounted for.
Where they do not, the host was busy with something else during some of them: the median run sets the pace.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import nnls
from scipy.stats import norm

from simulator.fitting import robust_cv, trimmed_mean
from simulator.observe import Run, Steps, observe_steps
from simulator.profile import Layer


@dataclass(frozen=True)
class ComputeFit:
    """What a profile says of computing.

    timing: data_s and step_s; spread: (compute_cv, slice_s); pace: of each run, its seconds over the median run's;
    note: for `fits`.
    """

    batch_size: int
    stretch: float
    fixed_share: float
    layers: tuple[Layer, ...]
    timing: dict[str, float]
    spread: tuple[float, float]
    pace: tuple[float, ...]
    note: dict[str, Any]


def fit_compute(runs: Sequence[Run]) -> ComputeFit:
    """Fit the compute part of a profile; times are for the most common batch size, at the largest stretch."""
    tables = [observe_steps(run) for run in runs]
    sizes = [run.experiment.data.batch_size for run in runs]
    batch = max(sizes, key=lambda size: (sizes.count(size), -sizes.index(size)))
    stretch = max(run.stretch for run in runs)
    weights = [stretch / run.stretch for run in runs]
    seconds = [w * trimmed_mean(t.compute - t.data) for t, w in zip(tables, weights, strict=True)]
    share = fixed_share(sizes, seconds, batch)
    factors = [share + (1.0 - share) * size / batch for size in sizes]
    alike = np.array(seconds) / np.array(factors)
    whole = float(np.median(alike))
    pace = alike / whole
    brought = [w / f / p for w, f, p in zip(weights, factors, pace, strict=True)]
    layers, over = _layers(runs[0], tables, brought, whole)
    rows = np.concatenate([b * (t.compute - t.data) for t, b in zip(tables, brought, strict=True)])
    note = {
        "seconds_per_step": whole,
        "standard_error": float(rows.std() / np.sqrt(len(rows))),
        "relative_residual": float(np.median(np.abs(rows / whole - 1.0))),
        "mean_over_median": over,
        "observations": len(rows),
        "batch_sizes": sorted(set(sizes)),
        "pace_of_runs": pace.tolist(),
    }
    data = [w / p * trimmed_mean(t.data) * batch / s for t, w, p, s in zip(tables, weights, pace, sizes, strict=True)]
    rest = [w / p * trimmed_mean(t.rest) for t, w, p in zip(tables, weights, pace, strict=True)]
    timing = {"data_s": float(np.median(data)), "step_s": float(np.median(rest))}
    spread = spread_of_workers(runs, tables)
    return ComputeFit(batch, stretch, share, layers, timing, spread, tuple(pace.tolist()), note)


def fixed_share(sizes: Sequence[int], seconds: Sequence[float], batch: int) -> float:
    """Part of the seconds at `batch` that no smaller batch saves, from runs of several batch sizes; 0 from one size.

    Non-negative least squares of seconds = fixed + each * size over the median run of each size.
    """
    distinct = sorted(set(sizes))
    if len(distinct) < 2:
        return 0.0
    medians = [float(np.median([s for s, size in zip(seconds, sizes, strict=True) if size == d])) for d in distinct]
    relative = np.array([[1.0, size] for size in distinct]) / np.array(medians)[:, None]
    (fixed, each), _ = nnls(relative, np.ones(len(distinct)))
    return float(fixed / (fixed + each * batch))


def _layers(
    run: Run, tables: Sequence[Steps], weights: Sequence[float], whole: float
) -> tuple[tuple[Layer, ...], float]:
    """Seconds of each tensor: medians over steps, means over ranks and runs, scaled to `whole` seconds.

    The median keeps one preempted step from landing on the tensor where it happened; the scale, which is returned too,
    keeps the time that preemption really costs.
    """
    forward, backward = _by_rank(tables, weights, "forward"), _by_rank(tables, weights, "backward")
    total = float(forward.sum() + backward.sum())
    scale = whole / total if total > 0 else 0.0
    rows = zip(run.tensors, forward.tolist(), backward.tolist(), run.shapes, strict=True)
    return tuple(Layer(name, n, ahead * scale, back * scale, shape) for (name, n), ahead, back, shape in rows), scale


def _by_rank(tables: Sequence[Steps], weights: Sequence[float], stage: str) -> Any:
    medians = [
        weight * np.median(getattr(table, stage)[table.rank == rank], axis=0)
        for table, weight in zip(tables, weights, strict=True)
        for rank in np.unique(table.rank)
    ]
    return np.mean(medians, axis=0)


def spread_of_workers(runs: Sequence[Run], tables: Sequence[Steps]) -> tuple[float, float]:
    """(compute_cv, slice_s): how workers' compute times differ within a step, with a core each and sharing cores.

    Fitted to the mean of largest less mean, which is what a barrier waits for, as if P workers drew from one normal
    law. A slowdown of the whole host moves all workers together and does not count. A run of one worker has only its
    steps. Time slices are as long whatever the step, so sharing is in seconds. What no run shows is 0.
    """
    own, sharing = [], []
    for run, table in zip(runs, tables, strict=True):
        full = [table.compute[table.step == step] for step in np.unique(table.step)]
        full = [row for row in full if len(row) == run.workers]
        if run.workers == 1:
            own.append(robust_cv(table.compute))
        elif full and run.stretch > 1:
            sharing.append(
                trimmed_mean(np.array([row.max() - row.mean() for row in full])) / expected_largest(run.workers)
            )
        elif full:
            excess = trimmed_mean(np.array([row.max() / row.mean() - 1.0 for row in full]))
            own.append(excess / expected_largest(run.workers))
    return (float(np.median(own)) if own else 0.0), (float(np.median(sharing)) if sharing else 0.0)


def expected_largest(workers: int) -> float:
    """Mean of the largest of P standard normal numbers, by its integral (David & Nagaraja, Order Statistics, 3.1)."""
    x = np.linspace(-8.0, 8.0, 4001)
    return float(np.trapezoid(x * workers * norm.pdf(x) * norm.cdf(x) ** (workers - 1), x))
