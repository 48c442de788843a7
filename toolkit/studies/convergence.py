"""`python -m toolkit convergence FILE…`: does compressed training reach the loss of dense training in the same steps?

Under mpirun. Trains each experiment with every method and seed, one after the other in one job, and appends a line of
CSV for each; what stands there already, from the same settings, is not run again. When everything is there, writes a
table and a figure: test loss over that of dense training, mean over the seeds.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from toolkit.comm import Communicator
from toolkit.experiment import Experiment, digest, load
from toolkit.gradients.capture import parse_numbers
from toolkit.registry import COMPRESSORS, check_name, exchanges_of
from toolkit.studies.convergence_report import report
from toolkit.studies.runs import append, read, train_once


@dataclass(frozen=True)
class Row:
    """One run. settings: a digest of everything that decides it."""

    task: str
    method: str
    seed: int
    steps: int
    density: float
    loss: float
    accuracy: float
    train_loss: float
    megabytes: float
    settings: str


def methods() -> dict[str, list[str]]:
    """The overrides of each method: every compressor, the exchanges that select again, and DGC with all its steps."""
    found = {name: [f"compression.name={name}"] for name in COMPRESSORS}
    for way in exchanges_of("topk")[1:]:
        found[f"topk, {way}"] = ["compression.name=topk", f"compression.exchange={way}"]
    corrected = ["compression.momentum=0.9", "optimizer.momentum=0", "compression.warmup_epochs=4"]
    found["dgc, momentum, warm-up"] = ["compression.name=dgc", *corrected]
    return found


def arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m toolkit convergence", description="Loss of compressed training over that of dense training."
    )
    parser.add_argument("files", nargs="+", help="experiment files (TOML)")
    parser.add_argument("--methods", help="default: all; among them " + ", ".join(methods()))
    parser.add_argument("--seeds", default="1,2,3,4,5", help="default 1,2,3,4,5")
    parser.add_argument("--set", action="append", default=[], metavar="section.key=value", help="override a key")
    parser.add_argument("--seconds", type=float, default=0.0, help="stop after about so long, to go on in a later call")
    parser.add_argument("--out", type=Path, default=Path("runs/convergence"), help="folder (default runs/convergence)")
    return parser.parse_args(argv)


def cases(args: argparse.Namespace) -> Iterator[tuple[str, str, int, Experiment]]:
    """(task, method, seed, experiment) of every run that is asked for; UserError where an option is wrong."""
    known = methods()
    names = [name.strip() for name in args.methods.split(";")] if args.methods else list(known)
    for name in names:
        check_name("--methods", name, known)
    for seed in parse_numbers("--seeds", args.seeds):
        for file in args.files:
            for name in names:
                experiment = load(file, [*args.set, *known[name], f"run.seed={seed}"])
                yield Path(file).stem, name, seed, experiment


def run(task: str, method: str, seed: int, experiment: Experiment, comm: Communicator) -> Row:
    """Train once."""
    result = train_once(experiment, comm)
    training = result["training"]
    last = training["losses"][-max(1, len(training["losses"]) // 10) :]
    return Row(
        task,
        method,
        seed,
        result["steps"],
        result["compression"]["achieved_density"],
        training["loss"],
        training["accuracy"],
        sum(last) / len(last),
        result["bytes_sent_per_worker"] / 1e6,
        digest(experiment),
    )


def main(argv: list[str]) -> int:
    args = arguments(argv)
    wanted = list(cases(args))
    comm = Communicator(wanted[0][3].cluster.cycle_time)
    path, began = args.out / "convergence.csv", time.monotonic()
    if comm.rank == 0:
        args.out.mkdir(parents=True, exist_ok=True)
    done = comm.broadcast(read(path, Row))
    there = {(row.task, row.method, row.seed, row.settings) for row in done}
    for number, (task, method, seed, experiment) in enumerate(wanted, start=1):
        if (task, method, seed, digest(experiment)) in there:
            continue
        if comm.broadcast(args.seconds and time.monotonic() - began > args.seconds):
            if comm.rank == 0:
                print(f"{number - 1} of {len(wanted)} runs are there; call again to go on", flush=True)
            comm.close()
            return 0
        row = run(task, method, seed, experiment, comm)
        done.append(row)
        if comm.rank == 0:
            append(path, row)
            print(f"{number}/{len(wanted)} {task}, {method}, seed {seed}: test loss {row.loss:.4f}", flush=True)
    if comm.rank == 0:
        current = {digest(experiment) for *_, experiment in wanted}
        report([row for row in done if row.settings in current], args.out)
    comm.close()
    return 0
