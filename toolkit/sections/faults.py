"""[faults]: what goes wrong, in real runs and in simulated ones."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toolkit import units
from toolkit.errors import UserError
from toolkit.keys import key, table

if TYPE_CHECKING:
    from toolkit.experiment import Experiment

DISTRIBUTIONS = ("constant", "uniform", "exponential", "lognormal", "pareto")


@dataclass(frozen=True)
class SlowWorker:
    """A worker whose compute takes `factor` times as long in steps from_step <= step < to_step."""

    worker: int = key(0, "rank of the worker, counted from 0", low=0, required=True)
    factor: float = key(1.0, "its compute takes this many times as long", above=0.0, required=True)
    from_step: int = key(0, "first step in which it is slow", low=0)
    to_step: int = key(0, "step in which it is well again; 0: never", low=0)


@dataclass(frozen=True)
class SlowCpu:
    """A host whose cores are slow: all that its workers do there takes `factor` times as long (toolkit/policies)."""

    host: int = key(0, "number of the host, counted from 0", low=0, required=True)
    factor: float = key(1.0, "work on its cores takes this many times as long", above=0.0, required=True)
    from_step: int = key(0, "first step in which they are slow", low=0)
    to_step: int = key(0, "step in which they are well again; 0: never", low=0)


@dataclass(frozen=True)
class Straggler:
    """Workers that become stragglers by chance: in each step a spell begins with probability `rate`.

    A spell lasts `steps` steps and has one factor, 1 + (factor - 1) X, where X is drawn with mean 1.
    """

    rate: float = key(0.0, "probability that a spell begins, a worker and step", low=0.0, high=1.0, required=True)
    factor: float = key(2.0, "compute takes this many times as long, on average", low=1.0)
    distribution: str = key("constant", "of what is beyond 1 in the factor", choices=DISTRIBUTIONS)
    spread: float = key(1.0, "lognormal: sigma; pareto: tail index 1 + 1/spread", above=0.0, high=100.0)
    steps: int = key(1, "length of a spell", low=1, high=100_000)
    worker: int = key(-1, "the one worker it can happen to; -1: each, independently", low=-1)
    seed: int = key(0, "seed of the draws; 0 takes [run] seed", low=0, high=2**31 - 1)


@dataclass(frozen=True)
class SlowLink:
    """A host whose link has another rate than the cluster's, for the whole run: simulated, and real on the testbed."""

    host: int = key(0, "number of the host, counted from 0", low=0, required=True)
    bandwidth: float = key("1 Gbit/s", "rate of its link, each direction", unit="rate", above=0.0, required=True)


@dataclass(frozen=True)
class AddedLatency:
    """A host whose messages, coming and going, take longer by `latency` from start to end."""

    host: int = key(0, "number of the host, counted from 0", low=0, required=True)
    latency: float = key("0 s", "added to each message", unit="time", low=0.0, required=True)
    start: float = key("0 s", "since when", unit="time", low=0.0)
    end: float = key("0 s", "until when; 0 s: to the end", unit="time", low=0.0)


@dataclass(frozen=True)
class LinkTrace:
    """A host whose link changes its rate: a CSV file of rates over time, or one row of this table a change."""

    host: int = key(0, "number of the host, counted from 0", low=0, required=True)
    file: str = key("", "CSV: time,bandwidth or start,end,bandwidth, beside the experiment file")
    at: float = key("0 s", "without a file: when the rate changes", unit="time", low=0.0)
    bandwidth: float = key("0 bit/s", "without a file: the rate from then on; 0: cut off", unit="rate", low=0.0)


@dataclass(frozen=True)
class Traffic:
    """Another job's stream between two hosts; without `rate` it takes its fair share."""

    source: int = key(0, "host that sends", low=0, required=True)
    target: int = key(0, "host that receives", low=0, required=True)
    rate: float = key("0 bit/s", "its rate, or what is its fair share if that is less; 0: the share", unit="rate")
    start: float = key("0 s", "since when", unit="time", low=0.0)
    end: float = key("0 s", "until when; 0 s: to the end", unit="time", low=0.0)


@dataclass(frozen=True)
class Failure:
    """A failure at a given time; those by chance come at failures_per_day."""

    at: float = key("0 s", "when, since the start of the run", unit="time", low=0.0, required=True)
    kind: str = key("hardware", "of software alone, or of a machine that is replaced", choices=("software", "hardware"))


@dataclass(frozen=True)
class FaultsSection:
    slow_worker: tuple[SlowWorker, ...] = table(SlowWorker, "stragglers")
    slow_cpu: tuple[SlowCpu, ...] = table(SlowCpu, "hosts with slow cores")
    straggler: tuple[Straggler, ...] = table(Straggler, "stragglers by chance")
    slow_link: tuple[SlowLink, ...] = table(SlowLink, "hosts with a slow link")
    added_latency: tuple[AddedLatency, ...] = table(AddedLatency, "hosts whose messages take longer")
    link_trace: tuple[LinkTrace, ...] = table(LinkTrace, "links whose rate changes")
    traffic: tuple[Traffic, ...] = table(Traffic, "other jobs' streams")
    failure: tuple[Failure, ...] = table(Failure, "failures of the job at given times; simulated only")
    failures_per_day: float = key(0.0, "failures of the whole job a day, each at a random time", low=0.0, high=1e6)
    software_share: float = key(0.0, "share of failures that leave the machines' memory alive", low=0.0, high=1.0)
    machines: int = key(1, "machines that fail together in a failure that takes machines", low=1)
    detect: float = key("15 s", "time until a failure is known", unit="time", low=0.0)
    restart: float = key("6 min", "time to start the job again, its warm-up included", unit="time", low=0.0)
    replace: float = key("5 min", "time until a failed machine is replaced", unit="time", low=0.0)
    standbys: int = key(0, "machines that stand by to replace at once", low=0)

    @property
    def fails(self) -> bool:
        """Whether the whole job fails, planned or by chance."""
        return bool(self.failure or self.failures_per_day)

    def link_rates(self, hosts: int, bandwidth: float) -> tuple[float, ...]:
        """Rates of all hosts' links, bytes/s, where the cluster's own is `bandwidth`."""
        slow = {row.host: row.bandwidth for row in self.slow_link}
        return tuple(slow.get(host, bandwidth) for host in range(hosts))

    def slowdown(self, worker: int, step: int) -> float:
        """How many times as long `worker` computes in `step`, chance apart (toolkit.policies.slowness has all)."""
        rows = (row for row in self.slow_worker if row.worker == worker and row.from_step <= step)
        return math.prod(row.factor for row in rows if not row.to_step or step < row.to_step)


TABLES = ("slow_worker", "slow_cpu", "straggler", "slow_link", "added_latency", "link_trace", "traffic", "failure")


def anchor(rows: Any, folder: Path) -> None:
    """Let the trace files that rows of `link_trace` name be found from anywhere: a name is relative to `folder`."""
    for row in rows if isinstance(rows, list) else ():
        if isinstance(row, dict) and isinstance(row.get("file"), str) and row["file"]:
            row["file"] = str(folder.resolve() / row["file"])


def check(experiment: Experiment, source: str) -> None:
    """Every place exists and every span has something in it; UserError names file, key, value."""
    faults, hosts = experiment.faults, experiment.cluster.hosts
    places = {"worker": experiment.cluster.workers, "host": hosts, "source": hosts, "target": hosts}
    for name in TABLES:
        for number, row in enumerate(getattr(faults, name), start=1):
            where = f"{source}: [faults] {name} {number}:"
            for place, count in places.items():
                if getattr(row, place, 0) >= count:
                    raise UserError(f"{where} {place} = {getattr(row, place)}: the cluster has {count}, counted from 0")
            _check_span(row, where)
    if faults.machines > hosts:
        raise UserError(f"{source}: [faults] machines = {faults.machines}: the cluster has {hosts}")
    for number, stream in enumerate(faults.traffic, start=1):
        if stream.source == stream.target:
            where = f"{source}: [faults] traffic {number}: target = {stream.target}"
            raise UserError(f"{where}: another host than the source is wanted")
    _check_links(faults, source)


def _check_span(row: Any, where: str) -> None:
    if 0 < getattr(row, "to_step", 0) <= getattr(row, "from_step", 0):
        raise UserError(f"{where} to_step = {row.to_step}: a step after from_step = {row.from_step}, or 0, is wanted")
    if 0 < getattr(row, "end", 0) <= getattr(row, "start", 0):
        end, start = units.render("time", row.end), units.render("time", row.start)
        raise UserError(f"{where} end = '{end}': a time after start = '{start}', or '0 s', is wanted")


def _check_links(faults: FaultsSection, source: str) -> None:
    """A link has one rate at a time."""
    slow: list[int] = []
    files: list[int] = []
    changes: list[tuple[int, float]] = []
    for number, link in enumerate(faults.slow_link, start=1):
        if link.host in slow:
            raise UserError(
                f"{source}: [faults] slow_link {number}: host = {link.host}: one slow_link a host is allowed"
            )
        slow.append(link.host)
    for number, row in enumerate(faults.link_trace, start=1):
        where = f"{source}: [faults] link_trace {number}:"
        if row.host in slow or row.host in files or (row.file and any(host == row.host for host, _ in changes)):
            raise UserError(f"{where} host = {row.host}: one slow_link, file, or list of changes a host is allowed")
        if row.file and (row.at or row.bandwidth):
            raise UserError(f"{where} file = '{row.file}': a row has a file, or at and bandwidth")
        if not row.file and (row.host, row.at) in changes:
            raise UserError(f"{where} at = '{units.render('time', row.at)}': one rate at a time is allowed")
        if row.file:
            files.append(row.host)
        else:
            changes.append((row.host, row.at))
