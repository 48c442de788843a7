"""`python -m simulator run FILE`: simulate one experiment and show where its time goes."""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path
from typing import Any

from rich.table import Table

from simulator.clusters import load_on
from simulator.effect import affordable, without_effect
from simulator.job import ENGINES, run_plan
from simulator.output import write_json
from simulator.plan import Plan, build
from simulator.profile import Profile
from simulator.scenario import under
from simulator.terminal import console, duration
from toolkit import units
from toolkit.errors import UserError
from toolkit.experiment import Experiment
from toolkit.trace import Span, write_trace
from toolkit.trace.chrome import write_chrome

SHOWN_STEPS = 3  # the last ones, on a picture


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", help="experiment file (TOML)")
    parser.add_argument("--cluster", metavar="FILE", help="on the cluster of this file (exp_configs/clusters/)")
    parser.add_argument("--set", action="append", default=[], metavar="section.key=value", help="override a key")
    parser.add_argument("--profile", help="measured costs, as 'calibrate' writes them (default: derived from FLOPs)")
    parser.add_argument("--scenario", metavar="FILE", help="what goes wrong, besides [faults] (exp_configs/scenarios/)")
    parser.add_argument("--seed", type=int, help="seed of the simulation (default: [run] seed)")
    parser.add_argument("--engine", default="auto", choices=ENGINES, help="default: fast where it is exact")
    parser.add_argument("--on-host", action="store_true", help="on the network of the host the profile comes from")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write the result")
    parser.add_argument(
        "--trace", type=Path, metavar="OUT", help="OUT.json: a Chrome/Perfetto trace; else a folder with trace/rank*"
    )
    parser.add_argument("--plot", type=Path, metavar="OUT.png", help="timeline of the last steps, and time shares")


class _Asked:
    """What a command line asks for, with its `--set` or with fewer of them."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.profile = Profile.load(args.profile) if args.profile else None

    def experiment(self, overrides: list[str]) -> Experiment:
        return under(load_on(self.args.file, self.args.cluster, overrides), self.args.scenario)

    def plan(self, experiment: Experiment) -> Plan:
        return build(experiment, self.profile, host_network=self.args.on_host, source=self.args.file)

    def seed(self, experiment: Experiment) -> int:
        seed: int = experiment.run.seed if self.args.seed is None else self.args.seed
        if seed < 0:
            raise UserError(f"--seed {seed}: a whole number >= 0 is wanted")
        return seed

    def result(self, experiment: Experiment) -> dict[str, Any]:
        return run_plan(self.plan(experiment), self.seed(experiment), engine=self.args.engine).to_json()


def main(args: argparse.Namespace) -> int:
    asked = _Asked(args)
    experiment = asked.experiment(args.set)
    plan, seed = asked.plan(experiment), asked.seed(experiment)
    spans: list[Span] | None = [] if args.trace or args.plot else None
    since = 0 if args.trace else max(0, plan.steps - SHOWN_STEPS)  # a picture needs no more
    sink = None if spans is None else spans.append
    result = run_plan(plan, seed, engine=args.engine, sink=sink, since=since).to_json()
    if args.set and affordable(plan, result["simulation"]["engine"]):
        notes = without_effect(args.set, asked.experiment, asked.result, result)
        if notes:
            result["simulation"]["without_effect"] = notes
    if args.json:
        write_json(args.json, result)
    if args.trace and spans is not None:
        save_trace(args.trace, plan, spans)
    if args.plot and spans is not None:
        from simulator.timeline import draw  # matplotlib is slow to import

        draw(args.plot, spans, result, SHOWN_STEPS)
    show(result, plan)
    return 0


def save_trace(out: Path, plan: Plan, spans: list[Span]) -> None:
    """A Chrome trace (OUT ends in .json), or a folder that toolkit.trace.read_run reads."""
    try:
        if out.suffix == ".json":
            write_chrome(out, spans, host_names(plan))
            return
        (out / "trace").mkdir(parents=True, exist_ok=True)
        by_rank: dict[int, list[Span]] = defaultdict(list)
        for span in spans:
            by_rank[span.rank].append(span)
        for rank in range(plan.topology.workers):
            write_trace(out / "trace" / f"rank{rank}.jsonl", trace_header(plan, rank), by_rank[rank])
    except OSError as error:
        raise UserError(f"{out}: cannot be written: {error.strerror}") from None


def trace_header(plan: Plan, rank: int) -> dict[str, Any]:
    """The header that the trainer writes for its own traces, of simulated hosts."""
    return {
        "rank": rank,
        "workers": plan.topology.workers,
        "model": plan.experiment.model.name,
        "tensors": [[layer.name, layer.elements] for layer in plan.profile.layers],
        "batch_size": plan.experiment.data.batch_size,
        "examples": plan.profile.examples,
        "cores": plan.experiment.cluster.cores_per_host,
        "hosts": host_names(plan),
    }


def host_names(plan: Plan) -> list[str]:
    """The host of each worker."""
    return [f"host{worker // plan.topology.workers_per_host}" for worker in range(plan.topology.workers)]


def show(result: dict[str, Any], plan: Plan) -> None:
    """Print the result for people."""
    out, cluster, simulation = console(), plan.experiment.cluster, result["simulation"]
    times, shares = result["iteration_time_s"], result["time_share"]
    table = Table(title=f"{plan.experiment.model.name}, {plan.experiment.compression.name}, simulated")
    for title in ("workers", "link", "steps", "total", "iteration", "samples/s", "sent a worker"):
        table.add_column(title, justify="right")
    table.add_row(
        str(result["workers"]),
        f"{units.render('rate', cluster.bandwidth)}, {units.render('time', cluster.latency)}",
        str(result["steps"]),
        duration(result["total_time_s"]),
        duration(times["mean"]),
        f"{result['samples_per_s']:.4g}",
        f"{result['bytes_sent_per_worker'] / 1e6:.4g} MB",
    )
    out.print(table)
    out.print("time: " + ", ".join(f"{name} {share:.1%}" for name, share in shares.items()))
    host = simulation["profile"]["host"]
    source = f"derived for {host.get('device')}" if simulation["profile"]["source"] == "derived" else "measured"
    algorithms = ", ".join(simulation["collectives"])
    out.print(f"profile: {source}; {algorithms}; engine: {simulation['engine']} ({simulation['why']})", highlight=False)
    if "failures" in result:
        failed = result["failures"]
        out.print(f"failures: {failed['count']}; {duration(failed['lost_s'])} lost, {duration(failed['down_s'])} down")
    for note in simulation["assumptions"]:
        out.print(f"assumed: {note}")
    for note in simulation.get("without_effect", ()):
        out.print(note, highlight=False)
