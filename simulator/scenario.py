"""What goes wrong on a simulated cluster: slow workers, slow links, links whose rate changes, other traffic.

A scenario is a TOML file of its own (`run --scenario FILE`), because a real run cannot be told to follow it:

    [[slow_worker]]          # computes `factor` times as long, in steps from_step to to_step - 1
    worker = 2
    factor = 3.0
    [[slow_link]]            # the link of a host, for the whole run
    host = 1
    bandwidth = "100 Mbit/s"
    [[link_trace]]           # rates over time: rows "time,bandwidth" as "10 s,1 Gbit/s"; the last one holds on
    host = 0
    file = "trace.csv"
    [[traffic]]              # another job's stream between two hosts; without `rate` it takes its fair share
    source = 0
    target = 1
    rate = "300 Mbit/s"
    start = "5 s"
    end = "20 s"
"""

from __future__ import annotations

import csv
import dataclasses
import math
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolkit import registry, units
from toolkit.errors import UserError

FOREVER = math.inf


@dataclass(frozen=True)
class SlowWorker:
    """A worker whose compute takes `factor` times as long in steps from_step <= step < to_step."""

    worker: int
    factor: float
    from_step: int = 0
    to_step: float = FOREVER


@dataclass(frozen=True)
class SlowLink:
    """A host whose link has another rate, bytes/s, for the whole run."""

    host: int
    bandwidth: float


@dataclass(frozen=True)
class LinkTrace:
    """A host whose link changes its rate: (second, bytes/s) in ascending order; before the first the cluster's own."""

    host: int
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Traffic:
    """A stream between two hosts from start to end, s; rate in bytes/s, or what is its fair share if that is less."""

    source: int
    target: int
    rate: float = FOREVER
    start: float = 0.0
    end: float = FOREVER


@dataclass(frozen=True)
class Scenario:
    """All that goes wrong in a run; nothing by default."""

    slow_workers: tuple[SlowWorker, ...] = ()
    slow_links: tuple[SlowLink, ...] = ()
    link_traces: tuple[LinkTrace, ...] = ()
    traffic: tuple[Traffic, ...] = ()

    @property
    def contended(self) -> bool:
        """Whether links change or are shared with others while the run goes on."""
        return bool(self.link_traces or self.traffic)

    def factors(self, step: int, workers: int) -> NDArray[np.float64] | None:
        """Compute factors of all workers in `step`, (workers,); None where all are 1."""
        slow = [s for s in self.slow_workers if s.from_step <= step < s.to_step]
        if not slow:
            return None
        factors = np.ones(workers)
        for entry in slow:
            factors[entry.worker] *= entry.factor
        return factors

    def bandwidths(self, hosts: int, bandwidth: float) -> tuple[float, ...]:
        """Rates of all hosts' links at the start of the run, bytes/s."""
        rates = [bandwidth] * hosts
        for link in self.slow_links:
            rates[link.host] = link.bandwidth
        return tuple(rates)

    def events(self) -> list[dict[str, Any]]:
        """The scenario as `events` of a result."""
        kinds = (("slow_worker", self.slow_workers), ("slow_link", self.slow_links), ("traffic", self.traffic))
        rows = [{"kind": kind, **_plain(entry)} for kind, entries in kinds for entry in entries]
        return rows + [{"kind": "link_trace", "host": t.host, "points": len(t.points)} for t in self.link_traces]


def _plain(entry: Any) -> dict[str, Any]:
    return {key: value for key, value in dataclasses.asdict(entry).items() if value != FOREVER}


def scenario_files(path: str) -> list[Path]:
    """A scenario's file and the traces that lie beside it: what its outcome depends on. Only those that exist."""
    found = [Path(path)] if Path(path).exists() else []
    return found + sorted(Path(path).parent.glob("*.csv")) if found else []


def load(path: str, workers: int, hosts: int) -> Scenario:
    """Read a scenario for a job of so many workers and hosts; UserError names file, key, value and what is allowed."""
    try:
        document = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such scenario file") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UserError(f"{path}: not a scenario file: {error}") from None
    known = ("slow_worker", "slow_link", "link_trace", "traffic")
    for kind, rows in document.items():
        if kind not in known or not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise UserError(f"{path}: {kind}: allowed are [[{']], [['.join(known)}]]{registry.nearest(kind, known)}")
    read = _Reader(path, workers, hosts)
    scenario = Scenario(
        tuple(read.slow_worker(i, row) for i, row in enumerate(document.get("slow_worker", ()))),
        tuple(read.slow_link(i, row) for i, row in enumerate(document.get("slow_link", ()))),
        tuple(read.link_trace(i, row) for i, row in enumerate(document.get("link_trace", ()))),
        tuple(read.traffic(i, row) for i, row in enumerate(document.get("traffic", ()))),
    )
    named = [link.host for link in scenario.slow_links] + [trace.host for trace in scenario.link_traces]
    for host in named:
        if named.count(host) > 1:
            raise UserError(f"{path}: host = {host}: one [[slow_link]] or [[link_trace]] a host is allowed")
    return scenario


@dataclass
class _Reader:
    path: str
    workers: int
    hosts: int

    def slow_worker(self, i: int, row: dict[str, Any]) -> SlowWorker:
        where = self._keys("slow_worker", i, row, ("worker", "factor"), ("from_step", "to_step"))
        first, last = self._whole(row, "from_step", where, 0), row.get("to_step", FOREVER)
        if last is not FOREVER and (type(last) is not int or last <= first):
            raise UserError(f"{where} to_step = {last!r}: a whole number > {first} is wanted")
        factor = row["factor"]
        if type(factor) not in (int, float) or not 0 < factor < math.inf:
            raise UserError(f"{where} factor = {factor!r}: a finite number > 0 is wanted")
        return SlowWorker(self._place(row, "worker", where, self.workers), float(factor), first, last)

    def slow_link(self, i: int, row: dict[str, Any]) -> SlowLink:
        where = self._keys("slow_link", i, row, ("host", "bandwidth"), ())
        return SlowLink(self._place(row, "host", where, self.hosts), self._rate(row["bandwidth"], f"{where} bandwidth"))

    def link_trace(self, i: int, row: dict[str, Any]) -> LinkTrace:
        where = self._keys("link_trace", i, row, ("host", "file"), ())
        host = self._place(row, "host", where, self.hosts)
        return LinkTrace(host, self._points(Path(self.path).parent / str(row["file"])))

    def traffic(self, i: int, row: dict[str, Any]) -> Traffic:
        where = self._keys("traffic", i, row, ("source", "target"), ("rate", "start", "end"))
        source, target = (self._place(row, key, where, self.hosts) for key in ("source", "target"))
        if source == target:
            raise UserError(f"{where} target = {target}: another host than the source is wanted")
        rate = self._rate(row["rate"], f"{where} rate") if "rate" in row else FOREVER
        start = units.parse("time", row["start"], f"{where} start") if "start" in row else 0.0
        end = units.parse("time", row["end"], f"{where} end") if "end" in row else FOREVER
        if end <= start:
            raise UserError(f"{where} end = {row['end']!r}: a time after the start is wanted")
        return Traffic(source, target, rate, start, end)

    def _keys(self, kind: str, i: int, row: dict[str, Any], need: tuple[str, ...], may: tuple[str, ...]) -> str:
        where = f"{self.path}: [[{kind}]] {i + 1}:"
        for key in row:
            if key not in need + may:
                raise UserError(f"{where} {key}: unknown key{registry.nearest(key, need + may)}")
        for key in need:
            if key not in row:
                raise UserError(f"{where} {key}: this key is missing")
        return where

    def _whole(self, row: dict[str, Any], key: str, where: str, default: int) -> int:
        value = row.get(key, default)
        if type(value) is not int or value < 0:
            raise UserError(f"{where} {key} = {value!r}: a whole number >= 0 is wanted")
        return value

    def _place(self, row: dict[str, Any], key: str, where: str, count: int) -> int:
        value = self._whole(row, key, where, 0)
        if value >= count:
            raise UserError(f"{where} {key} = {value}: the cluster has {count}, counted from 0")
        return value

    def _rate(self, text: Any, where: str) -> float:
        rate = units.parse("rate", text, where)
        if rate <= 0:
            raise UserError(f"{where} = {text!r}: a rate > 0 is wanted")
        return rate

    def _points(self, path: Path) -> tuple[tuple[float, float], ...]:
        try:
            rows = list(csv.reader(path.read_text(encoding="utf-8").splitlines()))
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"{path}: cannot be read: {error}") from None
        points: list[tuple[float, float]] = []
        for number, row in enumerate(rows, start=1):
            if number == 1 and row == ["time", "bandwidth"]:
                continue
            where = f"{path}:{number}:"
            if len(row) != 2:
                raise UserError(f'{where} {row}: a row is "time,bandwidth", such as "10 s,1 Gbit/s"')
            time = units.parse("time", row[0].strip(), f"{where} time")
            if points and time <= points[-1][0]:
                raise UserError(f"{where} time = {row[0]!r}: times must rise")
            points.append((time, self._rate(row[1].strip(), f"{where} bandwidth")))
        if not points:
            raise UserError(f"{path}: no rows")
        return tuple(points)
