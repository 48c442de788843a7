"""`python -m simulator learn FILE`: train for real in simulated time, and show accuracy against that time."""

from __future__ import annotations

import argparse
import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table
from scipy.stats import t as student

from simulator.clusters import load_on
from simulator.learning.cluster import LearningCluster
from simulator.learning.merging import finite
from simulator.learning.profile import profile_of
from simulator.output import write_json
from simulator.plan import Plan, build
from simulator.profile import Profile
from simulator.scenario import under
from simulator.sync import run as phases
from simulator.sync.job import Job
from simulator.terminal import console, duration
from toolkit import data, registry
from toolkit.errors import UserError
from toolkit.experiment import Experiment


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", help="experiment file (TOML)")
    parser.add_argument("--cluster", metavar="FILE", help="on the cluster of this file (exp_configs/clusters/)")
    parser.add_argument("--set", action="append", default=[], metavar="section.key=value", help="override a key")
    parser.add_argument(
        "--profile", help="measured costs, as 'calibrate' writes them (default: from the network's FLOPs)"
    )
    parser.add_argument("--scenario", metavar="FILE", help="what goes wrong, besides [faults] (exp_configs/scenarios/)")
    parser.add_argument("--seeds", type=int, default=1, help="runs, with seeds from [run] seed on")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write the results, one a seed")
    parser.add_argument("--plot", type=Path, metavar="OUT.png", help="accuracy against simulated time")


def main(args: argparse.Namespace) -> int:
    experiment = under(load_on(args.file, args.cluster, args.set), args.scenario)
    if args.seeds < 1:
        raise UserError(f"--seeds {args.seeds}: at least 1 is wanted")
    profile = Profile.load(args.profile) if args.profile else None
    results = []
    for seed in range(experiment.run.seed, experiment.run.seed + args.seeds):
        own = experiment.replace(run={"seed": seed})
        plan = build(own, profile or profile_of(own, args.file), source=args.file)
        results.append(learn(own, plan, args.file))
    if args.json:
        write_json(args.json, {"schema": "sandtable-learned/1", "runs": results})
    if args.plot:
        from simulator.learning.figure import draw  # matplotlib is slow to import

        draw(results, args.plot)
    show(experiment, results)
    return 0


def learn(experiment: Experiment, plan: Plan, source: str = "experiment") -> dict[str, Any]:
    """One run: the simulated result, with a `training` section as the trainer writes it. Raises UserError."""
    check(experiment, source)
    examples = len(data.load_task(experiment.data, experiment.run.seed).train)
    if examples != plan.profile.examples:  # an epoch's steps follow from it
        plan = build(experiment, dataclasses.replace(plan.profile, examples=examples), source=source)
    why_not = phases.refusal(plan)
    if why_not:
        raise UserError(f"{source}: [sync] policy = '{experiment.sync.policy}': {why_not}")
    seed = experiment.run.seed
    cluster = LearningCluster(plan, seed)
    job = Job(cluster, phases.phases_of(plan), experiment.sync)
    cluster.follow(job)
    story = job.run()
    cluster.test(job.course.units, story.end, averaged=True)
    result, _ = phases.folded(plan, seed, cluster, story)
    learned, last = cluster.learned, cluster.learned.tests[-1]
    result.sections["training"] = {
        "losses": [finite(loss) for loss in learned.losses],
        "loss": finite(last["loss"]),
        "accuracy": last["accuracy"],
        "evaluations": [row | {"loss": finite(row["loss"])} for row in learned.tests],
        "parameters": sum(plan.elements),
    }
    result.sections["assumptions"] = plan.assumptions
    return result.to_json()


def check(experiment: Experiment, source: str) -> None:
    """What only real exchanges do is refused, by key."""
    section = experiment.compression
    if experiment.exchange in ("gtopk", "oktopk"):
        raise UserError(f"{source}: [compression] exchange = '{experiment.exchange}': learning knows auto, allgather")
    if section.wire_values != "fp32":
        raise UserError(f"{source}: [compression] wire_values = '{section.wire_values}': learning knows fp32")
    linear = registry.COMPRESSORS[section.name].wire == "linear"
    if linear and experiment.sync.policy != "bsp":
        raise UserError(f"{source}: [compression] name = '{section.name}': a sum over workers needs policy = 'bsp'")
    if experiment.run.compute == "paced":
        raise UserError(f"{source}: [run] compute = 'paced': learns nothing")


def show(experiment: Experiment, results: list[dict[str, Any]]) -> None:
    """Accuracy and simulated time a seed, and their means with 95 % intervals."""
    sync, cluster = experiment.sync, experiment.cluster
    title = f"{experiment.model.name}, {experiment.compression.name}, {sync.policy}, {cluster.workers} virtual workers"
    table = Table(title=title)
    for name in ("seed", "accuracy", "loss", "simulated time", "mean staleness"):
        table.add_column(name, justify="right")
    for result in results:
        training, stale = result["training"], result["sync"].get("staleness", {}).get("mean")
        loss = training["loss"]
        row = [f"{training['accuracy']:.4f}", "diverged" if loss is None else f"{loss:.4f}"]
        row += [duration(result["total_time_s"]), "-" if stale is None else f"{stale:.2f}"]
        table.add_row(str(result["seed"]), *row)
    out = console()
    out.print(table)
    if len(results) > 1:
        accuracy, time = interval([r["training"]["accuracy"] for r in results]), [r["total_time_s"] for r in results]
        out.print(f"accuracy {accuracy[0]:.4f} ± {accuracy[1]:.4f}, simulated {duration(float(np.mean(time)))}")


def interval(values: list[float]) -> tuple[float, float]:
    """(mean, half of its 95 % interval) by Student's t."""
    spread = float(np.std(values, ddof=1)) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return float(np.mean(values)), float(student.ppf(0.975, max(1, len(values) - 1))) * spread
