"""`python -m toolkit search FILE`: the switch from BSP to ASP by Sync-Switch's binary search, on real runs.

Under mpirun: R runs of BSP give the target, then each setting is trained R times, one run after the other in one job.
The state is a JSON file that is written after every run, so that an interrupted search goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import tempfile
import time
from pathlib import Path
from typing import Any

from toolkit.comm import Communicator
from toolkit.errors import UserError
from toolkit.experiment import Experiment, digest
from toolkit.policies.timing import Request, SwitchSearch
from toolkit.registry import check_name
from toolkit.train import load_for_ranks

SCHEMA = "sandtable-search/1"
METRICS = {"accuracy": 1.0, "loss": -1.0}  # times which more is better


def arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m toolkit search", description="Search the switching point of an experiment on real runs."
    )
    parser.add_argument("file", help="experiment file (TOML); [sync] policy and switch_at are the search's")
    parser.add_argument("--runs", type=int, default=5, help="R: runs of each setting, seeds from [run] seed on")
    parser.add_argument("--settings", type=int, default=5, help="M: settings to try")
    parser.add_argument("--tolerance", type=float, default=0.01, help="how far below BSP's mean is good enough")
    parser.add_argument("--metric", default="accuracy", help="accuracy (default) or loss, of the last test")
    parser.add_argument("--set", action="append", default=[], metavar="section.key=value", help="override a key")
    parser.add_argument("--seconds", type=float, default=0.0, help="stop after about so long, to go on in a later call")
    parser.add_argument("--out", type=Path, default=Path("runs/search"), help="folder (default runs/search)")
    return parser.parse_args(argv)


def main(argv: list[str]) -> int:
    args = arguments(argv)
    experiment = checked(args)
    comm = Communicator(experiment.cluster.cycle_time)
    book = Book(args.out / "search.json", identity(args, experiment))
    problem: UserError | None = None
    if comm.rank == 0:
        try:
            book.open(args)
        except UserError as error:
            problem = error
    comm.agree(problem)
    search, began = SwitchSearch.from_json(comm.broadcast(book.state())), time.monotonic()
    while (request := search.request) is not None:
        if comm.broadcast(args.seconds and time.monotonic() - began > args.seconds):
            break
        quality, seconds = run(experiment, request, args.metric, comm)
        search.record(quality, seconds)
        if comm.rank == 0:
            book.write(search)
            print(f"switch_at = {request.share:g}, run {request.run + 1} of {search.runs}: ", end="")
            print(f"{args.metric} {abs(quality):.4f} in {seconds:.2f} s", flush=True)
    if comm.rank == 0:
        print(search.summary(args.metric))
    comm.close()
    return 0


def checked(args: argparse.Namespace) -> Experiment:
    """The experiment, if it can be searched; UserError names the option or key."""
    check_name("--metric", args.metric, METRICS)
    if args.runs < 1 or args.settings < 1 or not 0 <= args.tolerance < math.inf:
        given = f"--runs {args.runs} --settings {args.settings} --tolerance {args.tolerance}"
        raise UserError(f"{given}: at least 1, at least 1 and a finite number >= 0 are wanted")
    experiment = load_for_ranks(args.file, [*args.set, "sync.policy=switch"])
    sync = experiment.sync
    if sync.order != "10" or sync.phase_steps:
        said = f"phase_steps = {list(sync.phase_steps)}" if sync.phase_steps else f"order = '{sync.order}'"
        raise UserError(f"{args.file}: [sync] {said}: a search sets switch_at of order = '10'")
    if experiment.run.compute == "paced":
        raise UserError(f"{args.file}: [run] compute = 'paced': learns nothing that a search could compare")
    return experiment


def identity(args: argparse.Namespace, experiment: Experiment) -> dict[str, Any]:
    """What an earlier state must agree with to be gone on from."""
    same = experiment.replace(sync={"switch_at": 0.0})
    return {"schema": SCHEMA, "metric": args.metric, "experiment": digest(same)}


def run(experiment: Experiment, request: Request, metric: str, comm: Communicator) -> tuple[float, float]:
    """Train once in a folder that is not kept: (quality, more is better; seconds), the same on every rank."""
    from toolkit.train import train

    seed = experiment.run.seed + request.run  # the same seeds in every setting
    asked = experiment.replace(sync={"switch_at": request.share}, run={"seed": seed})
    with tempfile.TemporaryDirectory() as folder:
        shared = Path(comm.broadcast(folder))
        result = train(asked, shared / "run", comm)
        comm.barrier()
    told: tuple[float, float] = comm.broadcast((result["training"][metric] * METRICS[metric], result["total_time_s"]))
    return told


class Book:
    """The search's state on disk, kept by rank 0."""

    def __init__(self, path: Path, same: dict[str, Any]) -> None:
        self.path, self.same = path, same
        self.search = SwitchSearch()

    def open(self, args: argparse.Namespace) -> None:
        """Take up the state in the folder, or begin; UserError where it is of another search or damaged."""
        self.search = SwitchSearch(runs=args.runs, settings=args.settings, tolerance=args.tolerance)
        if not self.path.exists():
            self.write(self.search)
            return
        try:
            content = json.loads(self.path.read_text(encoding="utf-8"))
            found = SwitchSearch.from_json(content["state"])
            before = {name: content[name] for name in self.same}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{self.path}: not a search's state: {error}; give another --out") from None
        wanted = (self.search.runs, self.search.settings, self.search.tolerance)
        if before != self.same or (found.runs, found.settings, found.tolerance) != wanted:
            raise UserError(f"{self.path}: belongs to a search with other settings; give another --out")
        self.search = found

    def state(self) -> dict[str, Any]:
        return self.search.to_json()

    def write(self, search: SwitchSearch) -> None:
        """Whole or not at all."""
        content = {**self.same, "state": search.to_json(), "found": search.found()}
        part = self.path.with_name(self.path.name + ".part")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            part.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")
            os.replace(part, self.path)
        except OSError as error:
            raise UserError(f"{self.path}: cannot be written: {error.strerror}") from None
