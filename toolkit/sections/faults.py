"""[faults]: what goes wrong, in real runs and in simulated ones."""

from __future__ import annotations

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
class FaultsSection:
    slow_worker: tuple[SlowWorker, ...] = table(SlowWorker, "stragglers")


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
