"""`python -m toolkit syncswitch FILE…`: what BSP, ASP, SSP and a switch between them cost in accuracy and in time.

Under mpirun, on real data, in real time. Trains each experiment under every setting, with and without a straggler, with
every seed, one after the other in one job; all settings of a seed start from the same weights and do the same work
(batches). Appends a line of CSV for each; what stands there already, from the same settings, is not run again. When
everything is there, writes a table, the published claims held against it, and figures like those of Sync-Switch
(Li et al., ICDCS 2021).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from toolkit.comm import Communicator
from toolkit.errors import UserError
from toolkit.experiment import Experiment, digest
from toolkit.gradients.capture import parse_numbers
from toolkit.studies.runs import append, read, train_once
from toolkit.studies.syncswitch_report import report
from toolkit.studies.syncswitch_rows import Case, Row, Setting
from toolkit.train import load_for_ranks

SETTINGS = "bsp;asp;ssp@3;10@0.0625;10@0.25;10@0.5;01@0.5"
SLOW = 1  # rank of the straggler: rank 0 also deals out the work and is the one whose parameters are tested on the way


def arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m toolkit syncswitch",
        description="Accuracy and time of BSP, ASP, SSP and the switch between them.",
    )
    parser.add_argument("files", nargs="+", help="experiment files (TOML); FILE=SETTINGS has settings of its own")
    parser.add_argument(
        "--settings", default=SETTINGS, help=f"bsp, asp, ssp@BOUND, or ORDER@SHARE of the work; default {SETTINGS}"
    )
    parser.add_argument(
        "--factors", default="1,3", help="how many times as long rank 1 computes; default 1,3 (1: even)"
    )
    parser.add_argument(
        "--pace",
        type=int,
        default=3,
        help="every worker sleeps so long that it computes this many times as long; default 3",
    )
    parser.add_argument("--seeds", default="1,2,3,4,5", help="default 1,2,3,4,5")
    parser.add_argument("--set", action="append", default=[], metavar="section.key=value", help="override a key")
    parser.add_argument("--seconds", type=float, default=0.0, help="stop after about so long, one run at least")
    parser.add_argument("--out", type=Path, default=Path("runs/syncswitch"), help="folder (default runs/syncswitch)")
    return parser.parse_args(argv)


def overrides(setting: Setting, factor: int, pace: int, workers: int) -> list[str]:
    """What a setting changes in an experiment, and how slow its `workers` are.

    Ranks that outnumber the cores take turns, and while one sleeps the others compute all the faster, so that a
    straggler would cost nobody anything. `pace` lets all of them sleep most of the time, as devices of their own would.
    """
    changed = [f"sync.policy={setting.policy}"]
    if setting.policy == "ssp":
        changed.append(f"sync.staleness={setting.bound}")
    elif setting.policy == "switch":
        changed += [f"sync.order={setting.order}", f"sync.switch_at={setting.share!r}"]
    slow = [(worker, pace) for worker in range(workers) if pace != 1] + [(SLOW, factor)] * (factor != 1)
    rows = ", ".join(f"{{worker={worker}, factor={float(times)}}}" for worker, times in slow)
    if rows:
        changed.append(f"faults.slow_worker=[{rows}]")
    return changed


def settings_of(args: argparse.Namespace) -> dict[str, list[Setting]]:
    """The settings of every file; UserError where one is wrong."""
    found = {}
    for text in args.files:
        file, _, own = text.partition("=")
        found[file] = [Setting.parse(part.strip()) for part in (own or args.settings).split(";")]
    return found


def cases(args: argparse.Namespace) -> Iterator[tuple[Case, Experiment]]:
    """Every run that is asked for, a seed's settings after each other, so that what disturbs the machine for a while
    disturbs all of them; UserError where an option or a file is wrong."""
    settings = settings_of(args)
    factors = parse_numbers("--factors", args.factors)
    if 0 in factors or args.pace < 1:
        raise UserError(f"--factors {args.factors} --pace {args.pace}: whole numbers from 1 on are wanted")
    workers = {file: load_for_ranks(file, args.set).cluster.workers for file in settings}
    for seed in parse_numbers("--seeds", args.seeds):
        for file in settings:
            for factor in factors:
                for setting in settings[file]:
                    changed = [*args.set, *overrides(setting, factor, args.pace, workers[file]), f"run.seed={seed}"]
                    yield Case(Path(file).stem, factor, setting.name, seed), _learning(file, changed)


def _learning(file: str, changed: list[str]) -> Experiment:
    experiment = load_for_ranks(file, changed)
    if experiment.run.compute == "paced":
        raise UserError(f"{file}: [run] compute = 'paced': learns nothing that could be compared")
    return experiment


def row_of(case: Case, experiment: Experiment, result: dict[str, Any]) -> Row:
    """The line of a finished run."""
    sync, training = result["sync"], result["training"]
    return Row(
        case.task,
        case.factor,
        case.setting,
        case.seed,
        training["accuracy"],
        training["loss"],
        result["total_time_s"],
        sum(event["seconds"] for event in result["events"] if event["kind"] == "switch"),
        sync.get("staleness", {}).get("mean", 0.0),
        " ".join(f"{p['units']}:{p['time_s']:.4f}:{p['accuracy']:.5f}" for p in sync["evaluations"]),
        digest(experiment),
    )


def main(argv: list[str]) -> int:
    args = arguments(argv)
    wanted = list(cases(args))
    comm = Communicator(wanted[0][1].cluster.cycle_time)
    path = args.out / "syncswitch.csv"
    done, began = _earlier(path, comm), time.monotonic()
    there = {(row.case, row.settings) for row in done}
    missing = [(case, experiment) for case, experiment in wanted if (case, digest(experiment)) not in there]
    for number, (case, experiment) in enumerate(missing):
        if number and comm.broadcast(args.seconds and time.monotonic() - began > args.seconds):
            if comm.rank == 0:
                there_now = len(wanted) - len(missing) + number
                print(f"{there_now} of {len(wanted)} runs are there; call again to go on", flush=True)
            comm.close()
            return 0
        row = row_of(case, experiment, train_once(experiment, comm))
        done.append(row)
        if comm.rank == 0:
            append(path, row)
            told = f"accuracy {row.accuracy:.4f}, loss {row.loss:.4f} in {row.seconds:.2f} s"
            print(f"{number + 1}/{len(missing)} {case}: {told}", flush=True)
    if comm.rank == 0:
        current = {(case, digest(experiment)) for case, experiment in wanted}
        report([row for row in done if (row.case, row.settings) in current], args.out)
    comm.close()
    return 0


def _earlier(path: Path, comm: Communicator) -> list[Row]:
    """The rows of an earlier job, on every rank; rank 0 reads them and makes the folder."""
    rows: list[Row] = []
    problem: UserError | None = None
    if comm.rank == 0:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            rows = read(path, Row)
        except UserError as error:
            problem = error
        except OSError as error:
            problem = UserError(f"--out {path.parent}: cannot be made: {error.strerror}")
    comm.agree(problem)
    earlier: list[Row] = comm.broadcast(rows)
    return earlier
