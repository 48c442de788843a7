"""`python -m toolkit bench`: each goal beside its measured ratio; `--check-goals` fails unless all hold."""

from __future__ import annotations

import argparse
import json
import statistics
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from toolkit.bench import gpu
from toolkit.bench.goals import (
    DATA_GOALS,
    DATA_LIMIT,
    LARGE,
    LARGE_GOALS,
    WARM_LIMIT_S,
    WARM_SIZE,
    Goal,
)
from toolkit.bench.lines import line_rates, line_table
from toolkit.bench.optimizers import OPTIMIZER_GOALS, OptimizerSides, wire_rates
from toolkit.bench.sides import VALIDATED, Sides
from toolkit.bench.stored import stored_rates, stored_table
from toolkit.gradients import methods
from toolkit.gradients.microbench import parse_densities, parse_sizes
from toolkit.gradients.timing import Times
from toolkit.registry import COMPRESSORS, resolve
from toolkit.runfolder import environment

SLOW = ("torch", "np.")  # peers that take seconds: fewer rounds


@dataclass(frozen=True)
class Outcome:
    """One goal at one size and density. ratio: median over the rounds; low, high: the extremes of the rounds."""

    side: str
    base: str
    elements: int
    density: float
    goal: float
    faster: bool
    ratio: float
    low: float
    high: float
    holds: bool


def predicted() -> int:
    """Elements from which every compressor predicts that does."""
    return max(getattr(resolve(entry.target), "predict_from", 0) for entry in COMPRESSORS.values())


def arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m toolkit bench", description="Speed goals against measured ratios.")
    parser.add_argument("--sizes", default="0.27M,25.6M", help="elements of the vectors (default 0.27M,25.6M)")
    parser.add_argument("--densities", default="0.1,0.01,0.001", help="among 0.1, 0.01 and 0.001")
    parser.add_argument("--threads", type=int, default=2, help="threads of kernels and peers (default 2)")
    parser.add_argument(
        "--rounds", type=int, default=9, help="timed rounds (default 9; slow peers take 3, at 60M elements and more 1)"
    )
    parser.add_argument("--only", default="", help="sides whose name holds this text")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, help="write the outcomes and the machine")
    parser.add_argument("--check-goals", action="store_true", help="exit with 1 unless every goal holds")
    return parser.parse_args(argv)


def main(argv: list[str]) -> int:
    args = arguments(argv)
    sizes, densities = parse_sizes(args.sizes), parse_densities(args.densities)
    outcomes: list[Outcome] = []
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("measuring", total=len(sizes) * len(densities))
        for n in sizes:
            for density in densities:
                outcomes += measure(n, density, args)
                progress.advance(task)
    if outcomes:
        Console(width=120).print(table(outcomes))
    rates = [
        rate
        for n in sizes
        for density in densities
        if n >= LARGE and args.only in "wire"
        for rate in wire_rates(n, density, args.rounds, args.seed)
    ]
    if rates:
        Console(width=110).print(rate_table(rates))
    stored = [
        rate
        for n in sizes
        for density in densities
        if n >= LARGE and args.only in "residual in bf16"
        for rate in stored_rates(n, density, args.threads, args.rounds, args.seed)
    ]
    if stored:
        Console(width=110).print(stored_table(stored))
    lines = [
        line_rates(n, density, args.threads, args.rounds, args.seed)
        for n in sizes
        for density in densities
        if LARGE <= n <= DATA_LIMIT and args.only in "lines of a sparse step"
    ]
    if lines:
        Console(width=110).print(line_table(lines))
    missed = [outcome for outcome in outcomes if not outcome.holds]
    print(f"{len(outcomes) - len(missed)} of {len(outcomes)} goals hold")
    on_gpu = gpu.report(sizes, densities, args)
    if args.json:
        content = {"schema": "sandtable-bench/1", "threads": args.threads, "rounds": args.rounds}
        content |= {
            "environment": environment(),
            "outcomes": [asdict(outcome) for outcome in outcomes],
            "wire": rates,
            "residuals": stored,
            "lines": lines,
            "gpu": on_gpu,
        }
        args.json.write_text(json.dumps(content, indent=1))
    return 1 if missed and args.check_goals else 0


def measure(n: int, density: float, args: argparse.Namespace) -> list[Outcome]:
    """All goals of one size and density; sides that share a base are timed in turn with it."""
    if n <= WARM_SIZE:
        return warm(n, density, args)
    if n < LARGE:
        return []
    sides = Sides(n, density, args.threads, args.seed)
    every = (*LARGE_GOALS, *(DATA_GOALS if n <= DATA_LIMIT else ()))
    goals = [goal for goal in every if density in goal.limits and args.only in goal.side]
    goals.sort(key=lambda goal: goal.side.partition(" on ")[2])  # data by data
    sides.validate()
    timed = {name.partition(" on ")[0] for goal in goals for name in (goal.side, goal.base)}
    for name in sorted(name for name in timed if name.removeprefix("torch:") in COMPRESSORS):
        # The path that is timed: predicted, and on all threads.
        prefix = methods.CHECKED if name.startswith("torch:") else max(predicted(), VALIDATED * args.threads)
        methods.validate(name, torch.from_numpy(sides.x[:prefix].copy()), density, args.threads)
    outcomes = []
    for number, goal in enumerate(goals):
        outcomes.append(ratio_of(sides, goal, density, args.rounds))
        for name in (goal.side, goal.base):
            if not any(name in (other.side, other.base) for other in goals[number + 1 :]):
                sides.free(name)
    del sides  # its vectors make room for the optimizers' states
    return outcomes + optimizers(n, density, args)


def optimizers(n: int, density: float, args: argparse.Namespace) -> list[Outcome]:
    """The goals of the sparse optimizers, in turn with torch's."""
    goals = [goal for goal in OPTIMIZER_GOALS if density in goal.limits and args.only in goal.side]
    if not goals:
        return []
    sides = OptimizerSides(n, density, args.threads, args.seed)
    sides.validate()
    return [ratio_of(sides, goal, density, args.rounds) for goal in goals]


def ratio_of(sides: Sides | OptimizerSides, goal: Goal, density: float, rounds: int) -> Outcome:
    """Time side and base in turn; the ratio of each round, its median and extremes."""
    times = {goal.side: Times(), goal.base: Times()}
    if goal.base.startswith(SLOW):
        rounds = min(rounds, 3 if sides.x.size < DATA_LIMIT else 1)
    for turn in range(rounds + 1):
        for name, time in times.items():
            sides.prepare(name)
            time.measure(sides.call(name))
        if turn == 0:  # the first turn warms up
            for time in times.values():
                time.seconds.clear()
    side, base = times[goal.side].seconds, times[goal.base].seconds
    ratios = [(b / s if goal.faster else s / b) for s, b in zip(side, base, strict=True)]
    median, limit = statistics.median(ratios), goal.limits[density]
    spread = (min(ratios), max(ratios))
    size = sides.x.size
    return Outcome(
        goal.side, goal.base, size, density, limit, goal.faster, median, *spread, holds=goal.holds(median, density)
    )


def warm(n: int, density: float, args: argparse.Namespace) -> list[Outcome]:
    """A vector that fits the cache, one thread: the time of a call over the limit."""
    sides = Sides(n, density, 1, args.seed)
    sides.validate()
    outcomes = []
    for name in ("threshold select", "exact top-k"):
        if args.only not in name:
            continue
        call, time = sides.call(name), Times()
        for turn in range(20 + args.rounds * 20):
            time.measure(call)
            if turn == 20:
                time.seconds.clear()
        ratios = [seconds / WARM_LIMIT_S for seconds in time.seconds]
        median = statistics.median(ratios)
        spread = (min(ratios), max(ratios))
        outcomes.append(Outcome(name, "40 µs, warm", n, density, 1.0, False, median, *spread, holds=median <= 1.0))
    return outcomes


def table(outcomes: list[Outcome]) -> Table:
    rows = Table(title="median ratio of paired rounds; ≤: at most so many times the base, ≥: so many times faster")
    for name in ("side", "base", "elements", "density", "goal", "measured", "min–max", ""):
        rows.add_column(name, justify="left" if name in ("side", "base", "") else "right")
    for o in outcomes:
        goal = f"{'≥' if o.faster else '≤'} {o.goal:g}"
        rows.add_row(
            o.side,
            o.base,
            f"{o.elements / 1e6:g} M",
            f"{o.density:g}",
            goal,
            f"{o.ratio:.2f}",
            f"{o.low:.2f}–{o.high:.2f}",
            "holds" if o.holds else "[red]missed[/red]",
        )
    return rows


def rate_table(rates: list[dict[str, float | str]]) -> Table:
    rows = Table(title="wire formats: encoding and decoding of one bucket, GB/s of entries of 8 bytes, best round")
    for name in ("indices", "values", "elements", "density", "bytes an entry", "encode", "decode"):
        rows.add_column(name, justify="left" if name in ("indices", "values") else "right")
    for rate in rates:
        numbers = [f"{rate[key]:.2f}" for key in ("bytes_per_entry", "encode_gb_s", "decode_gb_s")]
        elements = f"{float(rate['elements']) / 1e6:g} M"
        rows.add_row(str(rate["indices"]), str(rate["values"]), elements, f"{rate['density']:g}", *numbers)
    return rows
