"""From the traces of real runs to a profile: what a worker's step costs here, and how sure each constant is.

`python -m simulator calibrate RUN… --profile OUT.json`. The runs must train the same network with the same batch size;
several compressors, densities and numbers of workers together pin down more constants than one run does.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy.stats import norm

from simulator.fitting import fit_nonnegative, robust_cv, trimmed_mean
from simulator.netfit import fit_network
from simulator.observe import (
    CallPoint,
    Run,
    Steps,
    achieved_density,
    compress_points,
    load_run,
    merge_points,
    observe_exchanges,
    observe_steps,
    optimize_points,
)
from simulator.profile import Cost, Layer, Profile
from toolkit.errors import UserError

COST_NAMES = ("call_s", "element_s", "entry_s")
COST_PRIOR = (2e-5, 1e-9, 5e-9)  # seconds a call, an element, an entry, on one core of a few GB/s


def calibrate(runs: Sequence[Run]) -> Profile:
    """Fit a profile to runs of one network and batch size. UserError where they do not belong together."""
    _check_same(runs)
    first = runs[0]
    stretch = max(run.stretch for run in runs)
    tables = [observe_steps(run) for run in runs]
    weights = [stretch / run.stretch for run in runs]
    layers, compute_note = _layers(first, tables, weights)
    compress, merge, optimize, notes = _costs(runs, weights)
    cycle = first.experiment.cluster.cycle_time
    exchanges = [e.scaled(1.0 / run.stretch) for run in runs for e in observe_exchanges(run)]
    network, network_note = fit_network(exchanges, cycle)
    achieved: dict[str, list[float]] = {}
    for run in runs:
        ratio = achieved_density(run)
        if ratio is not None:
            achieved.setdefault(run.experiment.compression.name, []).append(ratio)
    return Profile(
        model=first.experiment.model.name,
        batch_size=first.experiment.data.batch_size,
        source="measured",
        examples=int(first.header["examples"]),
        layers=layers,
        data_s=_mean([w * table.data for table, w in zip(tables, weights, strict=True)]),
        step_s=_mean([w * table.rest for table, w in zip(tables, weights, strict=True)]),
        compute_cv=_compute_cv(tables),
        compress=compress,
        merge=merge,
        optimize=optimize,
        achieved={name: float(np.mean(ratios)) for name, ratios in achieved.items()},
        network=network,
        host=_host(first, stretch),
        fits={
            "compute": compute_note,
            **notes,
            "network": network_note,
            "runs": [{"name": run.name, "trace_sha256": run.digest} for run in runs],
        },
    )


def _check_same(runs: Sequence[Run]) -> None:
    if not runs:
        raise UserError("calibrate: at least one run folder is wanted")
    first = runs[0]
    for run in runs[1:]:
        for section, name in (("model", "name"), ("data", "name"), ("data", "batch_size")):
            old = getattr(getattr(first.experiment, section), name)
            new = getattr(getattr(run.experiment, section), name)
            if new != old:
                raise UserError(f"{run.folder}/config.toml: [{section}] {name} = {new!r}: '{first.name}' has {old!r}")
        if run.tensors != first.tensors:
            raise UserError(f"{run.folder}/trace: other tensors than '{first.name}': runs of one network are wanted")


def _mean(parts: Sequence[Any]) -> float:
    """Trimmed mean of each run, averaged over the runs."""
    return float(np.mean([trimmed_mean(part) for part in parts]))


def _layers(run: Run, tables: Sequence[Steps], weights: Sequence[float]) -> tuple[tuple[Layer, ...], dict[str, Any]]:
    """Seconds of each tensor: medians over steps, means over ranks and runs, scaled to the mean of the whole.

    The median keeps one preempted step from landing on the tensor where it happened; the scale keeps the time that
    preemption really costs.
    """
    forward = _by_rank(tables, weights, "forward")
    backward = _by_rank(tables, weights, "backward")
    rows = np.concatenate([w * (t.compute - t.data) for t, w in zip(tables, weights, strict=True)])
    whole = _mean([w * (t.compute - t.data) for t, w in zip(tables, weights, strict=True)])
    total = forward.sum() + backward.sum()
    scale = whole / total if total > 0 else 0.0
    layers = tuple(
        Layer(name, elements, float(forward[i] * scale), float(backward[i] * scale))
        for i, (name, elements) in enumerate(run.tensors)
    )
    note = {
        "seconds_per_step": whole,
        "standard_error": float(rows.std() / np.sqrt(len(rows))),
        "relative_residual": float(np.median(np.abs(rows / whole - 1.0))) if whole > 0 else 0.0,
        "mean_over_median": float(scale),
        "observations": len(rows),
    }
    return layers, note


def _by_rank(tables: Sequence[Steps], weights: Sequence[float], stage: str) -> Any:
    medians = [
        weight * np.median(getattr(table, stage)[table.rank == rank], axis=0)
        for table, weight in zip(tables, weights, strict=True)
        for rank in np.unique(table.rank)
    ]
    return np.mean(medians, axis=0)


def _compute_cv(tables: Sequence[Steps]) -> float:
    """Relative spread of the workers' compute times within a step: what a barrier waits for.

    Fitted to the mean of largest over mean, the quantity that matters, as if P workers drew from one normal law. A
    slowdown of the whole host moves all workers together and does not count. A run of one worker has only its steps.
    """
    spreads = []
    for table in tables:
        workers = int(table.rank.max()) + 1
        full = [table.compute[table.step == step] for step in np.unique(table.step)]
        full = [row for row in full if len(row) == workers]
        if workers == 1:
            spreads.append(robust_cv(table.compute))
        elif full:
            excess = trimmed_mean(np.array([row.max() / row.mean() - 1.0 for row in full]))
            spreads.append(excess / _expected_largest(workers))
    return float(np.mean(spreads)) if spreads else 0.0


def _expected_largest(workers: int) -> float:
    """Mean of the largest of P standard normal numbers, by its integral (David & Nagaraja, Order Statistics, 3.1)."""
    x = np.linspace(-8.0, 8.0, 4001)
    return float(np.trapezoid(x * workers * norm.pdf(x) * norm.cdf(x) ** (workers - 1), x))


def _costs(
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


def _host(run: Run, stretch: float) -> dict[str, Any]:
    known = ("cpu", "simd", "commit", "packages", "python", "platform")
    host = {name: run.environment[name] for name in known if name in run.environment}
    ranks = stretch * run.cores if run.cores else run.workers / run.hosts
    return {"cores": run.cores, "ranks": round(ranks), "hosts": run.hosts, **host}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = "Fit a profile to the traces of real runs."
    parser.add_argument("runs", nargs="+", metavar="RUN", help="run folder written by 'python -m toolkit train --out'")
    parser.add_argument("--profile", required=True, metavar="OUT.json", help="profile to write")


def main(args: argparse.Namespace) -> int:
    profile = calibrate([load_run(folder) for folder in args.runs])
    profile.save(args.profile)
    show(profile, Console())
    Console().print(f"profile written to {args.profile}", highlight=False)
    return 0


def show(profile: Profile, console: Console) -> None:
    """Print the constants of a profile, each with its standard error and the number of observations behind it."""
    host = profile.host
    console.print(
        f"{profile.model}, batch {profile.batch_size}, {profile.elements:,} parameters; "
        f"{host.get('ranks')} ranks on {host.get('cores')} cores"
    )
    table = Table("constant", "value", "standard error", "relative residual", "n")
    note = profile.fits["compute"]
    row = (f"{note['seconds_per_step'] * 1e3:.2f} ms", f"± {note['standard_error'] * 1e3:.2g} ms")
    table.add_row("forward + backward", *row, f"{note['relative_residual']:.1%}", str(note["observations"]))
    table.add_row("data", f"{profile.data_s * 1e3:.3g} ms", "", "", "")
    table.add_row("rest of a step", f"{profile.step_s * 1e3:.3g} ms", "", "", "")
    table.add_row("compute_cv", f"{profile.compute_cv:.3f}", "", "", "")
    for stage, fitted in profile.fits.items():
        for name, constant in (fitted.get("constants", {}) if isinstance(fitted, dict) else {}).items():
            error = f"± {constant['standard_error']:.2g}" if constant["identified"] else "not separable"
            residual, n = f"{fitted['relative_residual']:.1%}", str(fitted["observations"])
            table.add_row(f"{stage} {name}", f"{constant['value']:.3g}", error, residual, n)
    for name, ratio in profile.achieved.items():
        table.add_row(f"achieved density {name}", f"{ratio:.3f}", "", "", "")
    console.print(table)
