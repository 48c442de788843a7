"""Rates of links over time: what [faults] link_trace means, for both worlds.

A file's rows are "time,bandwidth" as "10 s,1 Gbit/s" (a rate holds until the next row), or "start,end,bandwidth", where
each row begins at the end of the one before; the first line may name the columns. The last rate holds on.
"""

from __future__ import annotations

import csv
from pathlib import Path

from toolkit import units
from toolkit.errors import UserError
from toolkit.sections.faults import FaultsSection

Points = tuple[tuple[float, float], ...]
HEADERS = (["time", "bandwidth"], ["start", "end", "bandwidth"])


def link_traces(faults: FaultsSection, source: str = "experiment") -> dict[int, Points]:
    """(second, bytes/s) in ascending order a host whose link changes; before the first the link's own rate.

    A rate of 0 cuts the host off until the next one. Raises UserError, also where nobody would ever reach it again.
    """
    traces: dict[int, Points] = {}
    for row in faults.link_trace:
        if row.file:
            traces[row.host] = read_points(Path(row.file))
        else:
            traces[row.host] = tuple(sorted((*traces.get(row.host, ()), (row.at, row.bandwidth))))
    for host, points in traces.items():
        if points[-1][1] == 0:
            file = next((row.file for row in faults.link_trace if row.host == host and row.file), "")
            where = file or f"{source}: [faults] link_trace: host = {host}"
            since = units.render("time", points[-1][0])
            raise UserError(f"{where}: host {host} is unreachable from {since} on: a last rate > 0 is wanted")
    return traces


def read_points(path: Path) -> Points:
    """The rates of a file; UserError names file and line."""
    try:
        rows = list(csv.reader(path.read_text(encoding="utf-8").splitlines()))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read: {error}") from None
    points: list[tuple[float, float]] = []
    until: float | None = None
    for number, cells in enumerate(rows, start=1):
        row, where = [cell.strip() for cell in cells], f"{path}:{number}:"
        if number == 1 and row in HEADERS:
            continue
        if len(row) not in (2, 3) or (points and (len(row) == 3) != (until is not None)):
            raise UserError(
                f'{where} {row}: a row is "time,bandwidth", such as "10 s,1 Gbit/s", or start,end,bandwidth'
            )
        if not all(row):
            raise UserError(f"{where} {row}: the trace has a gap: a time and a rate are wanted in each row")
        time = units.parse("time", row[0], f"{where} time")
        if points and time <= points[-1][0]:
            raise UserError(f"{where} time = {row[0]!r}: times must rise")
        if until is not None and time != until:
            what = "a gap" if time > until else "two rates"
            raise UserError(f"{where} start = {row[0]!r}: the trace has {what} after {units.render('time', until)}")
        if len(row) == 3:
            until = units.parse("time", row[1], f"{where} end")
            if until <= time:
                raise UserError(f"{where} end = {row[1]!r}: a time after the start is wanted")
        points.append((time, _rate(row[-1], f"{where} bandwidth")))
    if not points:
        raise UserError(f"{path}: no rows")
    return tuple(points)


def _rate(text: str, where: str) -> float:
    if text.startswith("-"):
        raise UserError(f"{where} = {text!r}: a rate >= 0 is wanted")
    return units.parse("rate", text, where)
