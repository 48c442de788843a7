"""`python -m simulator tune FILE --over section.key=…`: search for the best setting, and say how sure it is.

A small space is tried whole; a large one by Optuna's tree-structured Parzen estimator (Bergstra et al., NeurIPS 2011),
with a seed. Every point is simulated with the same seeds. Then the best, the second and the file's own setting are
simulated again with more seeds, and the recommendation says by how much it wins: mean and 95 % interval of the paired
differences. A search that is interrupted and started again takes its points from --log and ends where it would have.
"""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path
from typing import Any

from rich.table import Table

from simulator import margin, points, space
from simulator.objective import NAMES, condition, objective
from simulator.output import write_json, write_text
from simulator.points import Base
from simulator.search import Log, Search, Trial
from simulator.terminal import console
from toolkit.errors import UserError
from toolkit.experiment import dump

SHOWN = 10
SWITCH = "sync.switch_at=search"
LEARNS = "simulator.learning.search"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    points.add_arguments(parser, seeds=1)
    parser.add_argument(
        *("--over",), action="append", required=True, metavar="section.key=A,B,…|low..high", help="a key to search"
    )
    parser.add_argument("--objective", default="throughput", choices=NAMES, help="default: throughput")
    parser.add_argument("--samples", type=int, default=1_000_000, help="examples of the job (time, cost)")
    parser.add_argument("--price", type=float, default=1.0, help="price of a worker and hour (cost)")
    parser.add_argument("--where", action="append", default=[], metavar="measure<=number", help="condition; repeatable")
    parser.add_argument("--trials", type=int, default=60, help="points to try where the space is larger")
    parser.add_argument(
        "--validation", metavar="FILE", help="'validate --json': smaller gains than its error say nothing"
    )
    parser.add_argument("--log", type=Path, metavar="FILE", help="tried points; an interrupted search goes on")
    parser.add_argument("--out", type=Path, metavar="OUT.toml", help="write the recommended experiment file")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write trials and recommendation")
    parser.add_argument("--plot", type=Path, metavar="OUT.png", help="objective over the trials and over each key")
    switch = parser.add_argument_group(f"--over {SWITCH}: Sync-Switch's binary search, learning in simulated time")
    switch.add_argument("--runs", type=int, default=5, help="runs of each setting (default: 5)")
    switch.add_argument("--settings", type=int, default=5, help="settings to try (default: 5)")
    switch.add_argument("--tolerance", type=float, default=0.01, help="accuracy below BSP's that is good enough")


def main(args: argparse.Namespace) -> int:
    if args.over == [SWITCH]:
        status: int = importlib.import_module(LEARNS).main(args)  # needs torch, nothing else here does
        return status
    if args.trials < 1 or args.samples < 1 or not args.price > 0:
        raise UserError(f"--trials {args.trials} --samples {args.samples} --price {args.price}: positive are wanted")
    base, axes = Base.of(args), [space.axis(text) for text in args.over]
    if len({axis.name for axis in axes}) != len(axes):
        raise UserError("--over: a key is given twice")
    search = Search(base, objective(args.objective, args.samples, args.price), [condition(t) for t in args.where])
    least = margin.pays_from(args.validation)
    with Log(args.log) as search.log:
        trials = search.run(axes, args.trials, base.experiment({}).run.seed)
        found = search.judge(trials, least)
    if args.json:
        write_json(args.json, found | {"trials": [vars(trial) for trial in trials]})
    if args.out:
        text = base.experiment(found["point"])
        write_text(args.out, f"# {found['verdict']}\n" + dump(text))
    if args.plot:
        from simulator.tuneplot import draw  # matplotlib is slow to import

        draw(args.plot, search.objective, axes, trials, found["point"])
    show(search, trials, found)
    return 0


def show(search: Search, trials: list[Trial], found: dict[str, Any]) -> None:
    """The best trials, what was refused, and the verdict."""
    ranked = search.ranked(trials)
    table = Table(
        title=f"{len(trials)} points simulated, the best {min(SHOWN, len(ranked))} by {search.objective.name}"
    )
    for name in trials[0].point:
        table.add_column(name, justify="right")
    table.add_column(search.objective.unit, justify="right")
    table.add_column("iteration, s", justify="right")
    for trial in ranked[:SHOWN]:
        table.add_row(*trial.point.values(), f"{trial.value:.5g}", f"{trial.measures['iteration_time_s']:.5g}")
    out = console()
    out.print(table)
    refused = [trial for trial in trials if trial.refused]
    missed = len(trials) - len(refused) - sum(search.feasible(trial) for trial in trials)
    if missed:
        out.print(f"{missed} points miss {', '.join(map(str, search.conditions))}")
    if refused:
        out.print(f"{len(refused)} points are no experiments, such as: {refused[0].refused}", highlight=False)
    file = found["gains"]["file"]
    out.print(f"recommended: {found['verdict']}", highlight=False)
    beside = "" if found["feasible"]["file"] else " (which misses the conditions)"
    out.print(f"against the file's own setting{beside}: x{file['factor']:.3f} ± {file['ci95']:.3f}", highlight=False)
    for note in idle_keys(trials):
        out.print(note)


def idle_keys(trials: list[Trial]) -> list[str]:
    """A warning for each key that changed no measure wherever it alone was changed."""
    notes = []
    good = [trial for trial in trials if not trial.refused]
    for name in trials[0].point:
        groups: dict[tuple[str, ...], set[tuple[float, ...]]] = {}
        sizes: dict[tuple[str, ...], set[str]] = {}
        for trial in good:
            others = tuple(value for key, value in trial.point.items() if key != name)
            groups.setdefault(others, set()).add(tuple(trial.measures.values()))
            sizes.setdefault(others, set()).add(trial.point[name])
        compared = [group for group in groups if len(sizes[group]) > 1]
        if compared and all(len(groups[group]) == 1 for group in compared):
            notes.append(f"no effect: {name} changes nothing at any tried point")
    return notes
