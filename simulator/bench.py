"""`python -m simulator bench`: how fast the simulator is on this machine, each figure checked before it is timed.

The job: ResNet-50, every tensor a bucket of its own (161), on A100s, with a spread of compute times, so that no two
workers and no two steps are the same. CPU seconds, not wall-clock ones, so that a busy machine does not blur them.
"""

from __future__ import annotations

import argparse
import dataclasses
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from rich.table import Table

from simulator import fast
from simulator.clock import Clock
from simulator.engine import Engine
from simulator.job import run_plan
from simulator.network import Network
from simulator.output import write_json
from simulator.plan import Plan, build
from simulator.terminal import console
from simulator.topology import Topology
from toolkit.experiment import parse


@dataclass(frozen=True)
class Figure:
    """One line: what was done, CPU seconds, and a rate with its unit."""

    what: str
    seconds: float
    rate: float
    unit: str


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", type=Path, metavar="OUT", help="write the figures and the machine")


def main(args: argparse.Namespace) -> int:
    check()
    figures = [jittered(), steady(), events(), large(), sweep(), flows(), crowd()]
    table = Table(title=f"simulator on {machine()['cpu']}, one thread, CPU seconds")
    table.add_column("what")
    for title in ("seconds", "rate"):
        table.add_column(title, justify="right")
    for figure in figures:
        table.add_row(figure.what, f"{figure.seconds:.3f}", f"{figure.rate:.3g} {figure.unit}")
    console().print(table)
    if args.json:
        write_json(args.json, {"machine": machine(), "figures": [dataclasses.asdict(figure) for figure in figures]})
    return 0


def machine() -> dict[str, str]:
    """CPU and Python of this machine."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        cpu = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        cpu = platform.processor() or platform.machine()
    return {"cpu": cpu, "python": platform.python_version()}


def job(workers: int, steps: int, spread: float, bandwidth: str = "10 Gbit/s") -> Plan:
    """The job of the figures."""
    document = {
        "model": {"name": "resnet50"},
        "data": {"name": "imagefolder"},
        "cluster": {"workers": workers, "bandwidth": bandwidth, "device": "a100"},
        "compression": {"granularity": "layer"},
        "run": {"steps": steps},
    }
    plan = build(parse(document, "bench"), source="bench")
    plan.profile = dataclasses.replace(plan.profile, compute_cv=spread)
    return plan


def check() -> None:
    """Both engines give one answer before either is timed."""
    plan = job(8, 20, 0.1)
    times = [run_plan(plan, 1, engine=engine).total_time_s for engine in ("fast", "events", "flows")]
    assert max(times) - min(times) <= 1e-9 * times[0], times


def timed(work: Callable[[], object]) -> float:
    """CPU seconds of `work`."""
    start = time.process_time()
    work()
    return time.process_time() - start


def jittered() -> Figure:
    seconds = timed(lambda: run_plan(job(128, 1000, 0.1), 1))
    return Figure(
        "default engine, 128 workers x 1000 steps x 161 layers", seconds, 128 * 1000 * 161 / seconds, "layers/s"
    )


def steady() -> Figure:
    seconds = timed(lambda: run_plan(job(128, 1000, 0.0), 1))
    return Figure("the same without spread", seconds, 128 * 1000 * 161 / seconds, "layers/s")


def events() -> Figure:
    plan = job(128, 100, 0.1)
    seconds = timed(lambda: Engine(plan, 1).run())
    return Figure("event engine, 128 workers x 100 steps x 161 layers", seconds, 128 * 100 * 161 / seconds, "layers/s")


def large() -> Figure:
    seconds = timed(lambda: fast.run(job(10_000, 100, 0.1), 1))
    return Figure("default engine, 10,000 workers x 100 steps", seconds, 10_000 * 100 / seconds, "worker-steps/s")


def sweep() -> Figure:
    rates = [f"{10 + 5 * i} Mbit/s" for i in range(200)]
    seconds = timed(lambda: [run_plan(job(128, 1000, 0.0, rate), 1) for rate in rates])
    return Figure("sweep of 200 points of 128 workers x 1000 steps x 161 layers", seconds, 200 / seconds, "points/s")


def flows(count: int = 20_000, hosts: int = 256) -> Figure:
    """Messages between random hosts at random times, sharing their links."""
    chance, clock = np.random.default_rng(1), Clock()
    network = Network(clock, Topology(hosts, 1, 1e9, 0.0, 1e9, 0.0))
    starts = np.cumsum(chance.exponential(1e-3, count)).tolist()
    source = chance.integers(0, hosts, count)
    target = (source + chance.integers(1, hosts, count)) % hosts
    sizes = chance.exponential(1e7, count).tolist()
    rows = iter(zip(starts, source.tolist(), target.tolist(), sizes, strict=True))
    done, left = clock.event(), count

    def sent() -> None:
        nonlocal left
        left -= 1
        if left == 0:
            done.succeed()

    def arrive(source: int, target: int, size: float) -> None:
        network.start(network.topology.route(source, target), size, sent)
        following()

    def following() -> None:
        row = next(rows, None)
        if row is not None:
            network.later(row[0], partial(arrive, *row[1:]))

    def whole() -> None:
        following()
        clock.run(until=done)

    seconds = timed(whole)
    return Figure(f"{count} flows over {2 * hosts} links", seconds, count / seconds, "flows/s")


def crowd(count: int = 20_000, senders: int = 128) -> Figure:
    """Senders of which each starts its next message to one and the same host when its last is sent."""
    chance, clock = np.random.default_rng(1), Clock()
    network = Network(clock, Topology(senders + 1, 1, 1e9, 0.0, 1e9, 0.0))
    sizes = iter(chance.exponential(1e7, count).tolist())
    done, left = clock.event(), count

    def sent(sender: int) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            done.succeed()
        begin(sender)

    def begin(sender: int) -> None:
        size = next(sizes, None)
        if size is not None:
            network.start(network.topology.route(sender, 0), size, partial(sent, sender))

    def whole() -> None:
        for sender in range(1, senders + 1):
            begin(sender)
        clock.run(until=done)

    seconds = timed(whole)
    return Figure(f"{count} flows, {senders} at a time on one link", seconds, count / seconds, "flows/s")
