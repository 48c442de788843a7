"""[faults]: what goes wrong, in real runs and in simulated ones."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from toolkit.errors import UserError
from toolkit.keys import key, table

if TYPE_CHECKING:
    from toolkit.experiment import Experiment


@dataclass(frozen=True)
class SlowWorker:
    """A worker whose compute takes `factor` times as long in steps from_step <= step < to_step."""

    worker: int = key(0, "rank of the worker, counted from 0", low=0, required=True)
    factor: float = key(1.0, "its compute takes this many times as long", above=0.0, required=True)
    from_step: int = key(0, "first step in which it is slow", low=0)
    to_step: int = key(0, "step in which it is well again; 0: never", low=0)


@dataclass(frozen=True)
class SlowLink:
    """A host whose link has another rate than the cluster's, for the whole run: simulated, and real on the testbed."""

    host: int = key(0, "number of the host, counted from 0", low=0, required=True)
    bandwidth: float = key("1 Gbit/s", "rate of its link, each direction", unit="rate", above=0.0, required=True)


@dataclass(frozen=True)
class FaultsSection:
    slow_worker: tuple[SlowWorker, ...] = table(SlowWorker, "stragglers")
    slow_link: tuple[SlowLink, ...] = table(SlowLink, "hosts with a slow link")
    failures_per_day: float = key(0.0, "failures of the whole job a day, each at a random time", low=0.0, high=1e6)
    software_share: float = key(0.0, "share of failures that leave the machines' memory alive", low=0.0, high=1.0)
    machines: int = key(1, "machines that fail together in a failure that takes machines", low=1)
    detect: float = key("15 s", "time until a failure is known", unit="time", low=0.0)
    restart: float = key("6 min", "time to start the job again, its warm-up included", unit="time", low=0.0)
    replace: float = key("5 min", "time until a failed machine is replaced", unit="time", low=0.0)
    standbys: int = key(0, "machines that stand by to replace at once", low=0)

    def link_rates(self, hosts: int, bandwidth: float) -> tuple[float, ...]:
        """Rates of all hosts' links, bytes/s, where the cluster's own is `bandwidth`."""
        slow = {row.host: row.bandwidth for row in self.slow_link}
        return tuple(slow.get(host, bandwidth) for host in range(hosts))

    def slowdown(self, worker: int, step: int) -> float:
        """How many times as long `worker` computes in `step`."""
        rows = (row for row in self.slow_worker if row.worker == worker and row.from_step <= step)
        return math.prod(row.factor for row in rows if not row.to_step or step < row.to_step)


def check(experiment: Experiment, source: str) -> None:
    """Every place exists and every span of steps has a step in it; UserError names file, key, value."""
    workers = experiment.cluster.workers
    for number, row in enumerate(experiment.faults.slow_worker, start=1):
        where = f"{source}: [faults] slow_worker {number}:"
        if row.worker >= workers:
            raise UserError(f"{where} worker = {row.worker}: the cluster has {workers}, counted from 0")
        if 0 < row.to_step <= row.from_step:
            raise UserError(
                f"{where} to_step = {row.to_step}: a step after from_step = {row.from_step}, or 0, is wanted"
            )
    hosts = experiment.cluster.hosts
    if experiment.faults.machines > hosts:
        raise UserError(f"{source}: [faults] machines = {experiment.faults.machines}: the cluster has {hosts}")
    named = [row.host for row in experiment.faults.slow_link]
    for number, host in enumerate(named, start=1):
        where = f"{source}: [faults] slow_link {number}: host = {host}"
        if host >= hosts:
            raise UserError(f"{where}: the cluster has {hosts}, counted from 0")
        if named.count(host) > 1:
            raise UserError(f"{where}: one slow_link a host is allowed")
