"""`python -m toolkit testbed-runs LIST.toml --out DIR`: the runs of a list, one after the other, on emulated clusters.

    [[run]]
    name = "vgg16-topk-.01-4x200"       # its folder below DIR
    file = "vgg16.toml"                 # experiment file, beside the list
    set = ["cluster.bandwidth=200 Mbit/s", "compression.name=topk"]
    fit = true                          # for `calibrate`; false, the default: held out

A run whose folder already holds a result of the same experiment is kept, so that an interrupted list goes on. How much
of the processors others used meanwhile stands in its machine.json; with --max-busy SHARE, runs that were disturbed more
than that are done again.
"""

from __future__ import annotations

import argparse
import json
import sys
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from toolkit import registry
from toolkit.errors import UserError
from toolkit.experiment import Experiment, load
from toolkit.testbed import main as testbed
from toolkit.testbed.bystanders import Bystanders

MACHINE = "machine.json"
TIMEOUT = "5 min"  # a run takes seconds; one that hangs must not hold the list
DISTURBED = 0.05  # share of the processors from which others are worth a word
KEYS = {"name": str, "file": str, "set": list, "fit": bool}


@dataclass(frozen=True)
class Listed:
    """One run of a list."""

    name: str
    file: Path
    overrides: tuple[str, ...]
    fit: bool

    def experiment(self) -> Experiment:
        return load(self.file, self.overrides)


def read_list(path: Path) -> list[Listed]:
    """The runs of a list; UserError names the file, the run and what is wrong."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UserError(f"{path}: not a list of runs: {error}") from None
    rows = document.get("run")
    if list(document) != ["run"] or not isinstance(rows, list) or not rows:
        raise UserError(f"{path}: [[run]] tables with {', '.join(KEYS)} are wanted, and nothing else")
    runs = [_listed(path, number, row) for number, row in enumerate(rows, start=1)]
    names = [run.name for run in runs]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"{path}: name = {name!r}: each run wants a name of its own")
    return runs


def _listed(path: Path, number: int, row: dict[str, Any]) -> Listed:
    where = f"{path}: [[run]] {number}:"
    for key, value in row.items():
        if key not in KEYS or not isinstance(value, KEYS[key]):
            raise UserError(f"{where} {key} = {value!r}: allowed are name, file (texts), set (a list), fit (a truth)")
    if "name" not in row or "file" not in row:
        raise UserError(f"{where} name and file are wanted")
    run = Listed(row["name"], path.parent / row["file"], tuple(row.get("set", ())), row.get("fit", False))
    run.experiment()  # a mistake in the last one is better known before the first one runs
    return run


def kept(run: Listed, out: Path, max_busy: float = 1.0) -> bool:
    """Whether `out` holds a finished run of this very experiment that others did not disturb more than `max_busy`."""
    try:
        same = load(out / "config.toml") == run.experiment()
    except UserError:  # none, or of keys that are no more
        same = False
    return same and (out / "result.json").is_file() and busy(out) <= max_busy


def busy(out: Path) -> float:
    """Share of the processors that others used during a run; 0 where it was not measured."""
    try:
        return float(json.loads((out / MACHINE).read_text(encoding="utf-8"))["others_share"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0.0


def train(run: Listed, out: Path) -> int:
    """One run on its testbed; the exit code is mpirun's."""
    settings = [word for override in run.overrides for word in ("--set", override)]
    others = Bystanders()
    status = testbed.main(["--timeout", TIMEOUT, "--", str(run.file), *settings, "--out", str(out), "--quiet"])
    if status == 0:
        (out / MACHINE).write_text(json.dumps({"others_share": round(others.share(), 4)}) + "\n", encoding="utf-8")
    return status


def main(argv: Sequence[str]) -> int:
    """Run what is missing; 0, or the exit code of the first run that failed. `--fitted` and `--held-out` only list."""
    parser = argparse.ArgumentParser(
        prog="python -m toolkit testbed-runs", description="The runs of a list on emulated clusters (needs root)."
    )
    parser.add_argument("list", type=Path, help="TOML file of [[run]] tables")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the run folders")
    parser.add_argument("--max-busy", type=float, default=1.0, metavar="SHARE", help="do disturbed runs again, .05 say")
    parser.add_argument("--only", metavar="NAME", help="this run and no other")
    only = parser.add_mutually_exclusive_group()
    only.add_argument("--fitted", action="store_true", help="print the folders of the runs to calibrate from")
    only.add_argument("--held-out", action="store_true", help="print those of all others")
    args = parser.parse_args(argv)
    runs = read_list(args.list)
    if args.only is not None:
        registry.check_name("--only", args.only, [run.name for run in runs])
        runs = [run for run in runs if run.name == args.only]
    if args.fitted or args.held_out:
        print("\n".join(str(args.out / run.name) for run in runs if run.fit == args.fitted))
        return 0
    for number, run in enumerate(runs, start=1):
        out = args.out / run.name
        if kept(run, out, args.max_busy):
            continue
        print(f"[{number}/{len(runs)}] {run.name}", file=sys.stderr, flush=True)
        status = train(run, out)
        if status:
            return status
    disturbed = [run.name for run in runs if busy(args.out / run.name) > DISTURBED]
    if disturbed:
        print(
            f"others used more than {DISTURBED:.0%} of the processors during {len(disturbed)} of {len(runs)} runs: "
            f"times are too long there; on a quiet machine --max-busy {DISTURBED} does these again",
            file=sys.stderr,
        )
    return 0
