"""`python -m simulator sweep FILE --over section.key=a,b,c`: simulate every point of a grid, as a table, CSV, figure.

Every point uses the same seed or seeds, so that points differ by what was changed and not by chance (paired random
numbers); with --seeds the measures are means, and the iteration time has a 95 % confidence interval (Student's t). A
CSV that a killed sweep left behind is taken up again: points that it holds are not simulated twice.
Values of a key: a list (4,8,16), or a range that adds (4..16+4) or multiplies (4..64x2).
"""

from __future__ import annotations

import argparse
import csv
import itertools
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from simulator import points
from simulator.points import Base, measures_of
from simulator.terminal import console, duration
from toolkit.errors import UserError

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


def add_arguments(parser: argparse.ArgumentParser) -> None:
    points.add_arguments(parser, seeds=1)
    parser.add_argument(
        "--over", action="append", required=True, metavar="section.key=A,B,…", help="a key and its values; repeatable"
    )
    parser.add_argument("--csv", type=Path, metavar="OUT", help="write the points; an interrupted sweep goes on")
    parser.add_argument("--plot", type=Path, metavar="OUT.png", help="iteration time over the first key")


def main(args: argparse.Namespace) -> int:
    base = Base.of(args)
    axes = [parse_axis(text) for text in args.over]
    names = [name for name, _ in axes]
    if len(set(names)) != len(names):
        raise UserError(f"--over: a key is given twice: {', '.join(names)}")
    grid = [dict(zip(names, values, strict=True)) for values in itertools.product(*(values for _, values in axes))]
    rows = list(_simulate(base, args.csv, grid))
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


def _simulate(base: Base, path: Path | None, grid: list[dict[str, str]]) -> Iterator[dict[str, Any]]:
    names = list(grid[0])
    known = _read(path, names) | _read(_part(path), names) if path else {}
    experiments = [base.experiment(point) for point in grid]  # a bad value is refused before anything is written
    errors = Console(stderr=True)
    with _Writer(path, names) as writer, Progress(console=errors, disable=not errors.is_terminal) as progress:
        task = progress.add_task("simulating", total=len(grid))
        for point, experiment in zip(grid, experiments, strict=True):
            mark = base.mark(experiment)
            row = known.get(mark)
            if row is None:
                row = {**point, **measures_of(base.results(experiment)), FINGERPRINT: mark}
            else:
                row |= point
            writer.add(row)
            progress.advance(task)
            yield row


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
