"""From the traces of real runs to a profile: what a worker's step costs here, and how sure each constant is.

`python -m simulator calibrate RUN… --profile OUT.json`. The runs must train the same network on the same data. Several
compressors, densities, batch sizes and numbers of workers together pin down more constants than one run does.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from simulator.computefit import fit_compute
from simulator.fitting import fit_nonnegative, trimmed_mean
from simulator.linkfit import fit_links
from simulator.netfit import fit_network
from simulator.observe import (
    CallPoint,
    Run,
    achieved_density,
    compress_points,
    load_run,
    merge_points,
    observe_exchanges,
    observe_steps,
    optimize_points,
)
from simulator.paced import device_layers
from simulator.profile import Cost, Profile
from toolkit import registry
from toolkit.errors import UserError

BUSY = 1.2  # ratio of compute times for the same work from which the host counts as disturbed
COST_NAMES = ("call_s", "element_s", "entry_s")
COST_PRIOR = (2e-5, 1e-9, 5e-9)  # seconds a call, an element, an entry, on one core of a few GB/s


def calibrate(runs: Sequence[Run]) -> Profile:
    """Fit a profile to runs of one network, or to paced runs of any. UserError where they do not belong together."""
    if not runs:
        raise UserError("calibrate: at least one run folder is wanted")
    if all(run.paced for run in runs):
        return _calibrate_paced(runs)
    _check_same(runs)
    first = runs[0]
    compute = fit_compute(runs)
    relaxed = [1.0 / run.stretch / pace for run, pace in zip(runs, compute.pace, strict=True)]
    profile = Profile(
        model=first.experiment.model.name,
        batch_size=compute.batch_size,
        source="measured",
        examples=int(first.header["examples"]),
        layers=compute.layers,
        data_s=compute.timing["data_s"],
        step_s=compute.timing["step_s"],
        compute_cv=compute.spread[0],
        slice_s=compute.spread[1],
        fixed_share=compute.fixed_share,
        host=_host(first, compute.stretch),
        fits={"compute": compute.note},
    )
    return _with_software(profile, runs, relaxed, compute.stretch)


def _calibrate_paced(runs: Sequence[Run]) -> Profile:
    """What paced runs show: everything but compute, brought to one rank a core; the layers are those of the first."""
    first = runs[0]
    relaxed = [1.0 / run.stretch for run in runs]
    step, note = _step_cost(runs, relaxed)
    profile = Profile(
        model=first.experiment.model.name,
        batch_size=first.experiment.data.batch_size,
        source="measured",
        examples=int(first.header["examples"]),
        layers=device_layers(first.experiment, str(first.folder / "config.toml")),
        step_s=step.call_s,
        step_element_s=step.element_s,
        host={**_host(first, 1.0), "ranks": first.cores or 1},
        fits={"step": note},
    )
    return _with_software(profile, runs, relaxed, 1.0)


def _with_software(profile: Profile, runs: Sequence[Run], relaxed: Sequence[float], stretch: float) -> Profile:
    """The profile with the costs of compression, exchanges, merging and optimizing that all runs show together."""
    compress, merge, optimize, notes = _costs(runs, [stretch * factor for factor in relaxed])
    seen = [(e, factor) for run, factor in zip(runs, relaxed, strict=True) for e in observe_exchanges(run)]
    cycle = runs[0].experiment.cluster.cycle_time
    near = [(e, factor) for e, factor in seen if not e.rate]
    far = [(e, factor) for e, factor in seen if e.rate]
    network, network_note = fit_network([e for e, _ in near], [factor for _, factor in near], cycle)
    links, links_note = fit_links([e for e, _ in far], [factor for _, factor in far], cycle)
    named = [{"name": run.name, "trace_sha256": run.digest} for run in runs]
    fits = {**profile.fits, **notes, "network": network_note, "links": links_note, "runs": named}
    return dataclasses.replace(
        profile,
        compress=compress,
        merge=merge,
        optimize=optimize,
        achieved=_achieved(runs),
        achieved_by=_achieved_by(runs),
        network=network,
        links=links,
        fits=fits,
    )


def _step_cost(runs: Sequence[Run], relaxed: Sequence[float]) -> tuple[Cost, dict[str, Any]]:
    """What a step needs beside its spans: a part of its own and one for each parameter (zeroing its gradient)."""
    points = []
    for run, factor in zip(runs, relaxed, strict=True):
        elements = sum(size for _, size in run.tensors)
        points += [CallPoint(elements, 0, float(rest) * factor) for rest in observe_steps(run).rest]
    return fit_cost(points)


def _check_same(runs: Sequence[Run]) -> None:
    first = runs[0]
    for run in runs[1:]:
        for section, name in (("model", "name"), ("data", "name"), ("data", "sequence")):
            old = getattr(getattr(first.experiment, section), name)
            new = getattr(getattr(run.experiment, section), name)
            if new != old:
                raise UserError(f"{run.folder}/config.toml: [{section}] {name} = {new!r}: '{first.name}' has {old!r}")
        if run.tensors != first.tensors:
            raise UserError(f"{run.folder}/trace: other tensors than '{first.name}': runs of one network are wanted")


def _achieved(runs: Sequence[Run]) -> dict[str, float]:
    """Achieved over wanted density of each compressor, mean over its runs."""
    ratios: dict[str, list[float]] = {}
    for run in runs:
        ratio = achieved_density(run)
        if ratio is not None:
            ratios.setdefault(run.experiment.compression.name, []).append(ratio)
    return {name: float(np.mean(found)) for name, found in ratios.items()}


def _achieved_by(runs: Sequence[Run]) -> dict[str, list[list[float]]]:
    """The same at each density, for compressors that only aim at it and were seen at several."""
    ratios: dict[str, dict[float, list[float]]] = {}
    for run in runs:
        section, ratio = run.experiment.compression, achieved_density(run)
        if ratio is not None and not registry.COMPRESSORS[section.name].exact_count:
            ratios.setdefault(section.name, {}).setdefault(section.density, []).append(ratio)
    rows = {name: [[d, float(np.mean(found[d]))] for d in sorted(found)] for name, found in ratios.items()}
    return {name: table for name, table in rows.items() if len(table) > 1}


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
    show(profile, wide_console())
    Console().print(f"profile written to {args.profile}", highlight=False)
    return 0


def wide_console() -> Console:
    """A console that does not fold tables where the output is no terminal."""
    console = Console()
    return console if console.is_terminal else Console(width=max(console.width, 120))


def show(profile: Profile, console: Console) -> None:
    """Print the constants of a profile, each with its standard error and the number of observations behind it."""
    host, note = profile.host, profile.fits.get("compute")
    console.print(
        f"{profile.model}, batch {profile.batch_size}, {profile.elements:,} parameters; "
        f"{host.get('ranks')} ranks on {host.get('cores')} cores",
        highlight=False,
    )
    table = Table("constant", "value", "standard error", "residual", "n", pad_edge=False)
    if note:
        row = (f"{note['seconds_per_step'] * 1e3:.2f} ms", f"± {note['standard_error'] * 1e3:.2g} ms")
        table.add_row("forward + backward", *row, f"{note['relative_residual']:.1%}", str(note["observations"]))
        fixed = f"{profile.fixed_share:.0%}" if len(note["batch_sizes"]) > 1 else "unknown: one batch size"
        table.add_row("  of it at any batch size", fixed)
        table.add_row("data", f"{profile.data_s * 1e3:.3g} ms")
    else:
        table.add_row("forward + backward", "paced by the device")
    table.add_row("rest of a step", f"{profile.step_s * 1e3:.3g} ms")
    if profile.slice_s:
        table.add_row("spread of workers that share cores", f"{profile.slice_s * 1e3:.3g} ms")
    if profile.compute_cv:
        table.add_row("spread of workers with a core each", f"{profile.compute_cv:.1%}")
    for stage, fitted in profile.fits.items():
        for name, constant in (fitted.get("constants", {}) if isinstance(fitted, dict) else {}).items():
            error = f"± {constant['standard_error']:.2g}" if constant["identified"] else "not separable"
            residual, n = f"{fitted['relative_residual']:.1%}", str(fitted["observations"])
            table.add_row(f"{stage} {name}", f"{constant['value']:.3g}", error, residual, n)
    for name, ratio in profile.achieved.items():
        seen = ", ".join(f"{r:.3f} at {d:g}" for d, r in profile.achieved_by.get(name, []))
        table.add_row(f"achieved density {name}", seen or f"{ratio:.3f}")
    console.print(table)
    if not note:
        return
    slowest = max(note["pace_of_runs"]) / min(note["pace_of_runs"])
    if slowest > BUSY:
        console.print(f"[yellow]warning[/]: {busy_warning(slowest)}", highlight=False)


def busy_warning(ratio: float) -> str:
    """What runs mean whose compute time for the same work differs by `ratio`."""
    return (
        f"the same computing took {ratio:.2f} times as long in one run as in another: the host was busy with something "
        "else; measure on a quiet host, or expect errors of this size"
    )
