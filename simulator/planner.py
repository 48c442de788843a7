"""`python -m simulator plan FILE`: will it fit, by which method, with which window, how fast, and what binds."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from rich.table import Table

from simulator import checkpoints
from simulator.job import run_plan
from simulator.offload.advice import VARIANTS, Advice, advise, validated
from simulator.offload.case import Case
from simulator.offload.measured import reached_flops
from simulator.output import write_json
from simulator.plan import build
from simulator.profile import Profile
from simulator.terminal import console, duration
from toolkit.errors import UserError
from toolkit.experiment import Experiment, load

GIB = 2.0**30
STEPS = 20  # simulated for the time of an iteration


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", help="experiment file (TOML)")
    parser.add_argument(
        "--set", action="extend", nargs="+", default=[], metavar="section.key=value", help="override keys"
    )
    parser.add_argument("--machines", type=Path, metavar="TOML", help="machines of your own, in the catalogue's form")
    parser.add_argument("--profile", help="take the device's rate from a measured profile of a gpt")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write the plan")
    parser.add_argument("--plot", type=Path, metavar="OUT.png", help="draw an iteration of the file's method")


def main(args: argparse.Namespace) -> int:
    experiment = load(args.file, args.set)
    if experiment.faults.failures_per_day and (experiment.model.name != "gpt" or experiment.cluster.hosts > 1):
        return plan_checkpoints(experiment, args)
    case = Case.of(experiment, args.file, args.machines)
    notes = []
    if args.profile:
        rate = reached_flops(Profile.load(args.profile), args.profile)
        case = case.replace(machine=case.machine.replace(flops=rate))
        notes.append(f"compute at {rate / 1e12:.3g} Tflop/s, as {args.profile} measured")
    if text := validated(case):
        notes.append(text)
    advices = [advise(case, name, variant) for variant, (_, methods) in VARIANTS.items() for name in methods]
    if args.json:
        write_json(args.json, to_json(case, advices, notes))
    if args.plot:
        plot(case, advices, args.plot)
    show(case, advices, notes)
    return 0


def plan_checkpoints(experiment: Experiment, args: argparse.Namespace) -> int:
    """What to do about failures of a job on several hosts; a gpt's iteration is that of its offloading method."""
    if args.plot or args.machines:
        raise UserError(
            "plan: --plot and --machines are for offloading, and [faults] failures_per_day asks for checkpoints"
        )
    if experiment.model.name == "gpt":
        case = Case.of(experiment, args.file)
        parameters, iteration = case.model.parameters, case.run().seconds
    else:
        profile = Profile.load(args.profile) if args.profile else None
        short = experiment.replace(run={"steps": STEPS}, checkpoint={"every": 0})
        found = build(short, profile, source=args.file)
        parameters = found.profile.elements
        iteration = run_plan(found, experiment.run.seed).iteration_time_s["mean"]
    advice = checkpoints.advise(experiment, parameters, iteration, experiment.run.seed)
    if args.json:
        write_json(args.json, {"schema": 1, "checkpoints": advice.to_json()})
    checkpoints.show(experiment, advice)
    return 0


def plot(case: Case, advices: list[Advice], path: Path) -> None:
    """One iteration of the file's own method, with its best window; UserError where it does not fit."""
    from simulator.offload.lanes import draw  # matplotlib is slow to import

    mine = next(advice for advice in advices if advice.method == case.settings.method)
    if not mine.case or not mine.iteration:
        raise UserError(f"--plot {path}: {mine.method} does not hold this model: {mine.why_not}")
    draw(mine.case, mine.iteration, path)


def to_json(case: Case, advices: list[Advice], notes: list[str]) -> dict[str, Any]:
    """The plan: model, machine, `methods` as asked, `counterfactuals`."""
    model = vars(case.model) | {"parameters": case.model.parameters}
    rows = [advice.to_json() for advice in advices]
    as_asked = [row for row in rows if row["variant"] == "as asked"]
    others = [row for row in rows if row["variant"] != "as asked"]
    plan = {"schema": 1, "model": model, "machine": vars(case.machine), "budget": case.machine.budget()}
    return plan | {"asked": case.settings.method, "methods": as_asked, "counterfactuals": others, "notes": notes}


def show(case: Case, advices: list[Advice], notes: list[str]) -> None:
    """Two tables, what does not fit and why, and the answer in a sentence."""
    out, model, machine = console(), case.model, case.machine
    budget = machine.budget()
    out.print(
        f"gpt of {model.parameters / 1e9:.3f} B parameters ({model.layers} layers, hidden {model.hidden}, batch "
        f"{model.batch} x {model.sequence}, {'bf16' if model.value_bytes == 2 else 'fp32'}) on {machine.name}: "
        f"{budget['device'] / GIB:.1f} GiB of the device and {budget['host'] / GIB:.1f} GiB of the host to use"
    )
    as_asked = [advice for advice in advices if advice.variant == "as asked"]
    table = Table(title="this model", title_justify="left")
    for name in ("method", "fits", "best window", "iteration", "samples/s", "busiest", "device GiB", "host GiB"):
        table.add_column(name, justify="left" if name in ("method", "fits", "busiest") else "right", no_wrap=True)
    for advice in as_asked:
        table.add_row(*_row(advice))
    out.print(table)
    out.print(_largest(as_asked))
    for advice in as_asked:
        if advice.why_not:
            out.print(f"{advice.method} does not fit: {advice.why_not}")
        elif advice.case and advice.case.note:
            out.print(f"note: {advice.case.note}")
        if advice.rule:
            unmet = ", ".join(advice.rule.unmet)
            hidden = f"; {unmet}: too slow for any window to hide" if unmet else ", and hides all that moves"
            out.print(f"the published rule would take window {advice.rule.window} for {advice.method}{hidden}")
    out.print(_counterfactuals([advice for advice in advices if advice.variant != "as asked"]))
    for note in notes:
        out.print(f"note: {note}")
    out.print(answer(case.settings.method, as_asked))


def _row(advice: Advice) -> list[str]:
    if not advice.case or not advice.iteration:
        return [advice.method, "no", *["-"] * 6]
    run, binds = advice.iteration, advice.iteration.binds
    footprint = advice.case.footprint
    return [
        advice.method,
        "yes",
        str(advice.window or "-"),
        f"{duration(run.seconds)} ± {advice.error:.0%}",
        f"{advice.case.model.batch / run.seconds:.4g}",
        f"{binds} {run.busy[binds] / run.seconds:.0%}",
        f"{footprint.total('device') / GIB:.1f}",
        f"{footprint.total('host') / GIB:.1f}",
    ]


def _largest(advices: list[Advice]) -> Table:
    table = Table(title="largest model of this width (± 4 layers)")
    table.title_justify = "left"
    for name in ("method", "layers", "parameters", "best window", "binds"):
        table.add_column(name, justify="left" if name in ("method", "binds") else "right")
    for advice in advices:
        found = advice.largest
        parameters = f"{found.parameters / 1e9:.3f} B" if found.layers else "-"
        table.add_row(advice.method, str(found.layers or "none"), parameters, str(found.window or "-"), found.limit)
    return table


def _counterfactuals(advices: list[Advice]) -> Table:
    table = Table(title="what if", title_justify="left")
    for name in ("change", "method", "iteration", "best window", "largest model, layers"):
        table.add_column(name, justify="left" if name in ("change", "method") else "right")
    for advice in advices:
        seconds = duration(advice.seconds) if advice.seconds else "does not fit"
        window, layers = str(advice.window or "-"), str(advice.largest.layers or "none")
        table.add_row(advice.variant, advice.method, seconds, window, layers)
    return table


def answer(asked: str, advices: list[Advice]) -> str:
    """Whether the file's own method holds the model, and which is fastest."""
    running = [advice for advice in advices if advice.iteration]
    mine = next(advice for advice in advices if advice.method == asked)
    fit = f"{asked} {'holds' if mine.iteration else 'does not hold'} this model"
    if not running:
        return f"{fit}; no method does"
    best = min(running, key=lambda advice: advice.seconds or 0.0)
    seconds = best.seconds or 0.0
    window = f" with window {best.window}" if best.window else ""
    text = f"{fit}; fastest of all: {best.method}{window}, {duration(seconds)} an iteration"
    near = [
        a.method for a in running if a is not best and (a.seconds or 0.0) * (1 - a.error) <= seconds * (1 + best.error)
    ]
    return text + (f", within the errors no faster than {', '.join(near)}" if near else "")
