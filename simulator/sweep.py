"""`python -m simulator sweep FILE --over section.key=a,b,c`: simulate every point of a grid, as a table, CSV, figure.

Every point uses the same seed or seeds, so that points differ by what was changed and not by chance (paired random
numbers); with --seeds the measures are means, and the iteration time has a 95 % confidence interval (Student's t). A
CSV that a killed sweep left behind is taken up again: points that it holds are not simulated twice.
Values of a key: a list (4,8,16), or a range that adds (4..16+4) or multiplies (4..64x2).
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import itertools
import math
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any, TextIO

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from simulator.clusters import load_on
from simulator.job import ENGINES, simulate
from simulator.profile import Profile
from simulator.scenario import scenario_files
from simulator.terminal import console, duration
from toolkit.errors import UserError
from toolkit.experiment import dump

MEASURES = (
    "iteration_time_s",
    "iteration_ci95_s",
    "total_time_s",
    "samples_per_s",
    "bytes_sent_per_worker",
    "communicate",
    "idle",
)
FINGERPRINT = "fingerprint"  # of everything that a row depends on: a resumed sweep takes no foreign rows

MOST = 10_000  # values of one range

Point = dict[str, str]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", help="experiment file (TOML)")
    parser.add_argument(
        "--over", action="append", required=True, metavar="section.key=A,B,…", help="a key and its values; repeatable"
    )
    parser.add_argument("--cluster", metavar="FILE", help="on the cluster of this file (exp_configs/clusters/)")
    parser.add_argument("--set", action="append", default=[], metavar="section.key=value", help="override a key")
    parser.add_argument("--profile", help="measured costs, as 'calibrate' writes them (default: derived from FLOPs)")
    parser.add_argument("--scenario", metavar="FILE", help="slow workers, slow or changing links, other traffic")
    parser.add_argument("--seed", type=int, help="seed of every point (default: [run] seed)")
    parser.add_argument("--seeds", type=int, default=1, metavar="N", help="simulate each point with N seeds")
    parser.add_argument("--engine", default="auto", choices=ENGINES, help="default: fast where it is exact")
    parser.add_argument("--csv", type=Path, metavar="OUT", help="write the points; an interrupted sweep goes on")
    parser.add_argument("--plot", type=Path, metavar="OUT.png", help="iteration time over the first key")


def main(args: argparse.Namespace) -> int:
    if args.seeds < 1 or (args.seed or 0) < 0:
        raise UserError(f"--seed {args.seed} --seeds {args.seeds}: a seed >= 0 and at least 1 of them are wanted")
    axes = [parse_axis(text) for text in args.over]
    names = [name for name, _ in axes]
    if len(set(names)) != len(names):
        raise UserError(f"--over: a key is given twice: {', '.join(names)}")
    points = [dict(zip(names, values, strict=True)) for values in itertools.product(*(values for _, values in axes))]
    rows = list(_simulate(args, points))
    if args.plot:
        from simulator.sweepplot import draw  # matplotlib is slow to import

        draw(args.plot, names, rows)
    _show(names, rows, title=Path(args.file).stem, seeds=args.seeds)
    for note in without_effect(axes, rows):
        console().print(note)
    return 0


def parse_axis(text: str) -> tuple[str, list[str]]:
    """("cluster.workers", ["4", "8"]) of "cluster.workers=4,8"; UserError where the form is another."""
    name, equals, values = text.partition("=")
    name = name.strip()
    listed = [value for part in values.split(",") for value in _values(part.strip(), text)]
    if not equals or name.count(".") != 1 or not all(listed):
        raise UserError(f"--over {text}: write section.key=A,B,…")
    return name, listed


def _values(part: str, text: str) -> list[str]:
    match = re.fullmatch(r"(\d+)\.\.(\d+)([+x])(\d+)", part)
    if match is None:
        return [part]
    first, last, step = int(match[1]), int(match[2]), int(match[4])
    if first > last or first == 0 or step < (2 if match[3] == "x" else 1) or (last - first) // step > MOST:
        raise UserError(f"--over {text}: {part}: a range rises, as 4..16+4 or 4..64x2, over at most {MOST} values")
    found = [first]
    while (following := found[-1] * step if match[3] == "x" else found[-1] + step) <= last:
        found.append(following)
    return [str(value) for value in found]


def _simulate(args: argparse.Namespace, points: list[Point]) -> Iterator[dict[str, Any]]:
    profile = Profile.load(args.profile) if args.profile else None
    names = list(points[0])
    known = _read(args.csv, names) | _read(_part(args.csv), names) if args.csv else {}
    errors = Console(stderr=True)
    with _Writer(args.csv, names) as writer, Progress(console=errors, disable=not errors.is_terminal) as progress:
        task = progress.add_task("simulating", total=len(points))
        for point in points:
            overrides = [*args.set, *(f"{name}={value}" for name, value in point.items())]
            experiment = load_on(args.file, args.cluster, overrides)
            first = experiment.run.seed if args.seed is None else args.seed
            seeds = range(first, first + args.seeds)
            mark = _fingerprint(dump(experiment), profile, seeds, args.scenario)
            row = known.get(mark)
            if row is None:
                how = {"engine": args.engine, "scenario": args.scenario, "source": args.file}
                results = [simulate(experiment, profile, seed=seed, **how) for seed in seeds]
                row = {**point, **_measures([result.to_json() for result in results]), FINGERPRINT: mark}
            else:
                row |= point
            writer.add(row)
            progress.advance(task)
            yield row


def _measures(results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Means over seeds, and the half width of the iteration time's 95 % interval (0 for a single seed)."""
    times = [result["iteration_time_s"]["mean"] for result in results]
    measures = {"iteration_time_s": mean(times), "iteration_ci95_s": interval(times)}
    measures |= {name: mean(result[name] for result in results) for name in ("total_time_s", "samples_per_s")}
    measures["bytes_sent_per_worker"] = round(mean(result["bytes_sent_per_worker"] for result in results))
    return measures | {name: mean(result["time_share"][name] for result in results) for name in ("communicate", "idle")}


def interval(values: Sequence[float]) -> float:
    """Half the width of the mean's 95 % confidence interval (Student's t); 0 for one value."""
    if len(values) < 2:
        return 0.0
    from scipy.stats import t  # slow to import, and seldom needed

    return float(t.ppf(0.975, len(values) - 1)) * stdev(values) / math.sqrt(len(values))


def _fingerprint(experiment: str, profile: Profile | None, seeds: range, scenario: str | None) -> str:
    costs = repr(None if profile is None else profile.to_json())
    wrong = b"".join(path.read_bytes() for path in scenario_files(scenario)) if scenario else b""
    return hashlib.sha256(f"{experiment}\n{costs}\n{seeds}\n".encode() + wrong).hexdigest()[:16]


def _read(path: Path, names: list[str]) -> dict[str, dict[str, Any]]:
    """Rows of an earlier sweep by fingerprint; a last line cut off by a kill is left out."""
    if not path.exists():
        return {}
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read: {error}") from None
    whole = text[: text.rfind("\n") + 1]
    reader = csv.DictReader(whole.splitlines())
    if text and list(reader.fieldnames or []) != _columns(names):
        raise UserError(f"{path}: columns {reader.fieldnames}: not a sweep over {', '.join(names)}; name another file")
    rows = {}
    for row in reader:
        try:
            rows[row[FINGERPRINT]] = {**row, **{name: float(row[name]) for name in MEASURES}}
            rows[row[FINGERPRINT]]["bytes_sent_per_worker"] = int(row["bytes_sent_per_worker"])
        except (TypeError, ValueError):
            raise UserError(f"{path}: line {reader.line_num}: damaged row; remove the file to start anew") from None
    return rows


def _columns(names: Sequence[str]) -> list[str]:
    return [*names, *MEASURES, FINGERPRINT]


class _Writer:
    """Writes each row at once to FILE.part, which becomes FILE when all points are there."""

    def __init__(self, path: Path | None, names: Sequence[str]) -> None:
        self.path, self.columns = path, _columns(names)
        self.file: TextIO | None = None

    def __enter__(self) -> _Writer:
        if self.path is not None:
            try:
                self.file = _part(self.path).open("w", encoding="utf-8", newline="")
            except OSError as error:
                raise UserError(f"{self.path}: cannot be written: {error.strerror}") from None
            csv.writer(self.file, lineterminator="\n").writerow(self.columns)
        return self

    def add(self, row: dict[str, Any]) -> None:
        if self.file is not None:
            csv.DictWriter(self.file, self.columns, lineterminator="\n").writerow(row)
            self.file.flush()

    def __exit__(self, kind: type | None, *_: object) -> None:
        if self.file is not None and self.path is not None:
            self.file.close()
            if kind is None:
                os.replace(_part(self.path), self.path)


def _part(path: Path) -> Path:
    return path.with_name(path.name + ".part")


def without_effect(axes: Sequence[tuple[str, list[str]]], rows: Sequence[dict[str, Any]]) -> list[str]:
    """A warning for each key of the grid that changes no measure anywhere."""
    notes = []
    for name, values in axes:
        others = [other for other, _ in axes if other != name]
        groups: dict[tuple[str, ...], set[tuple[float, ...]]] = {}
        for row in rows:
            group = tuple(row[other] for other in others)
            groups.setdefault(group, set()).add(tuple(row[measure] for measure in MEASURES))
        if len(values) > 1 and all(len(measures) == 1 for measures in groups.values()):
            notes.append(f"no effect: {name} changes nothing at any point")
    return notes


def _show(names: Sequence[str], rows: Sequence[dict[str, Any]], title: str, seeds: int) -> None:
    table = Table(title=f"{title}: {len(rows)} simulated points")
    for name in (*names, "iteration", "samples/s", "sent a worker", "communicate", "idle"):
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(
            *(row[name] for name in names),
            duration(row["iteration_time_s"]) + (f" ± {duration(row['iteration_ci95_s'])}" if seeds > 1 else ""),
            f"{row['samples_per_s']:.4g}",
            f"{row['bytes_sent_per_worker'] / 1e6:.4g} MB",
            f"{row['communicate']:.1%}",
            f"{row['idle']:.1%}",
        )
    console().print(table)
