"""From the traces of real runs to a profile: what a worker's step costs here, and how sure each constant is.

`python -m simulator calibrate RUN… --profile OUT.json`. The runs must train the same network on the same data. Several
compressors, densities, batch sizes and numbers of workers together pin down more constants than one run does.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from simulator.computefit import fit_compute
from simulator.costfit import fit_cost, fit_costs
from simulator.exchanged import Exchanged, observe_exchanges
from simulator.hvdtimeline import read_timeline
from simulator.linkfit import fit_links
from simulator.netfit import fit_network
from simulator.observe import (
    CallPoint,
    Run,
    achieved_density,
    load_run,
    observe_steps,
)
from simulator.paced import device_layers
from simulator.profile import Cost, Profile
from toolkit import registry
from toolkit.errors import UserError

BUSY = 1.2  # ratio of compute times for the same work from which the host counts as disturbed


def calibrate(runs: Sequence[Run], timelines: Sequence[tuple[Run, Path]] = ()) -> Profile:
    """Fit a profile to runs of one network, or to paced runs of any. UserError where they do not belong together.

    timelines: what Horovod itself wrote of some of the runs (HOROVOD_TIMELINE); their exchanges count besides.
    """
    if not runs:
        raise UserError("calibrate: at least one run folder is wanted")
    if all(run.paced for run in runs):
        return _calibrate_paced(runs, timelines)
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
    return _with_software(
        profile, runs, [factor * compute.stretch for factor in relaxed], _seen(runs, relaxed, timelines)
    )


def _calibrate_paced(runs: Sequence[Run], timelines: Sequence[tuple[Run, Path]]) -> Profile:
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
    return _with_software(profile, runs, relaxed, _seen(runs, relaxed, timelines))


def _seen(
    runs: Sequence[Run], relaxed: Sequence[float], timelines: Sequence[tuple[Run, Path]]
) -> list[tuple[Exchanged, float]]:
    """All exchanges that can be timed, each with its run's factor."""
    seen = [(e, factor) for run, factor in zip(runs, relaxed, strict=True) for e in observe_exchanges(run)]
    factors = {id(run): factor for run, factor in zip(runs, relaxed, strict=True)}
    return seen + [(e, factors[id(run)]) for run, path in timelines for e in read_timeline(path, run)]


def _with_software(
    profile: Profile, runs: Sequence[Run], weights: Sequence[float], seen: Sequence[tuple[Exchanged, float]]
) -> Profile:
    """The profile with the costs of compression, merging and optimizing that all runs show together, and exchanges.

    weights: what brings each run's seconds to the profile's crowding of cores.
    """
    compress, merge, optimize, notes = fit_costs(runs, weights)
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


def _host(run: Run, stretch: float) -> dict[str, Any]:
    known = ("cpu", "simd", "commit", "packages", "python", "platform")
    host = {name: run.environment[name] for name in known if name in run.environment}
    ranks = stretch * run.cores if run.cores else run.workers / run.hosts
    return {"cores": run.cores, "ranks": round(ranks), "hosts": run.hosts, **host}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = "Fit a profile to the traces of real runs."
    parser.add_argument("runs", nargs="+", metavar="RUN", help="run folder written by 'python -m toolkit train --out'")
    parser.add_argument(
        "--timeline", action="append", default=[], metavar="RUN=FILE", help="what HOROVOD_TIMELINE wrote of one of them"
    )
    parser.add_argument("--profile", required=True, metavar="OUT.json", help="profile to write")


def main(args: argparse.Namespace) -> int:
    runs = [load_run(folder) for folder in args.runs]
    profile = calibrate(runs, _timelines(args.timeline, runs))
    profile.save(args.profile)
    show(profile, wide_console())
    Console().print(f"profile written to {args.profile}", highlight=False)
    return 0


def _timelines(options: Sequence[str], runs: Sequence[Run]) -> list[tuple[Run, Path]]:
    folders = {run.folder.resolve(): run for run in runs}
    found = []
    for option in options:
        folder, equals, file = option.partition("=")
        run = folders.get(Path(folder).resolve())
        if not equals or not file or run is None:
            raise UserError(f"--timeline {option}: RUN=FILE is wanted, RUN one of the runs to calibrate from")
        found.append((run, Path(file)))
    return found


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
