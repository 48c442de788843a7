"""[sync] and [pipeline]: who waits for whom, and what overlaps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from toolkit.errors import UserError
from toolkit.keys import key

if TYPE_CHECKING:
    from toolkit.experiment import Experiment

POLICIES = ("bsp", "asp", "ssp", "switch")
ONLINE = ("none", "baseline", "greedy", "elastic")
MOMENTA = ("keep", "zero", "scaled", "ramp")
PHASE_LISTS = ("phase_steps", "phase_checkpoint_every", "phase_learning_rate", "phase_momentum")


@dataclass(frozen=True)
class SyncSection:
    """Synchronisation, as in Sync-Switch (ICDCS 2021); what a phase is made of: toolkit/policies/protocol.py."""

    policy: str = key("bsp", "synchronisation", choices=POLICIES)
    staleness: int = key(3, "ssp: steps that a worker may be ahead of the slowest one", low=0)
    order: str = key("10", "switch: the phases in their order, 1 is BSP, 0 is ASP")
    switch_at: float = key(0.0625, "switch: share of the work before it, where no phase_steps are given", low=0, high=1)
    phase_steps: tuple[float, ...] = key((), "switch: steps of each phase; an ASP step is one worker's update", low=0)
    phase_checkpoint_every: tuple[float, ...] = key((), "switch: steps of each phase between checkpoints", low=0)
    phase_learning_rate: tuple[float, ...] = key((), "switch: step size of each phase instead of scale_rate's", above=0)
    phase_momentum: tuple[float, ...] = key((), "switch: momentum of each phase", low=0, high=1)
    scale_batch: bool = key(True, "BSP's global batch is workers x batch_size; false: batch_size, as ASP's")
    scale_rate: bool = key(True, "ASP's learning rate is BSP's over the ratio of their batches; false: the same")
    momentum: str = key("keep", "momentum in ASP phases after a BSP one", choices=MOMENTA)
    servers: str = key("all", "where the parameters' shards live", choices=("all", "dedicated"))
    server_ranks: int = key(1, "dedicated: how many of the last ranks serve and do not compute", low=1)
    online: str = key("none", "what is done about stragglers", choices=ONLINE)
    window: int = key(10, "straggler detector: steps whose throughput is averaged", low=1)
    deviations: float = key(1.0, "straggler detector: standard deviations below the mean", low=0.0)
    persistence: int = key(3, "straggler detector: windows in a row before a worker is flagged", low=1)


@dataclass(frozen=True)
class PipelineSection:
    overlap: bool = key(True, "start a bucket's exchange while backward goes on")
    accumulation: int = key(1, "micro-batches whose gradients are summed before one exchange", low=1)


def check(experiment: Experiment, source: str) -> None:
    """Phases fit together, the switch lies within the run, somebody computes; UserError names file, key, value."""
    sync, workers = experiment.sync, experiment.cluster.workers
    where = f"{source}: [sync]"
    if not sync.order or set(sync.order) - set("10"):
        raise UserError(f"{where} order = '{sync.order}': letters 1 (BSP) and 0 (ASP) are wanted, as in '10' or '101'")
    for name in PHASE_LISTS:
        _check_list(sync, name, where)
    if sync.policy == "switch":
        _check_phases(experiment, where)
    if sync.servers == "dedicated" and sync.server_ranks >= workers:
        raise UserError(f"{where} server_ranks = {sync.server_ranks}: of {workers} workers at least one has to compute")
    if sync.online == "greedy" and (sync.policy, sync.order) != ("switch", "10"):
        raise UserError(f"{where} online = 'greedy': needs policy = 'switch' and order = '10'")
    if sync.online == "elastic" and sync.policy not in ("bsp", "switch"):
        raise UserError(f"{where} online = 'elastic': needs policy = 'bsp' or 'switch', not '{sync.policy}'")
    shared = experiment.data.batch_size * experiment.pipeline.accumulation
    computing = workers - (sync.server_ranks if sync.servers == "dedicated" else 0)
    if not sync.scale_batch and sync.policy != "asp" and shared % computing:
        raise UserError(f"{where} scale_batch = false: {computing} workers cannot share a batch of {shared} evenly")
    if not sync.scale_batch and experiment.pipeline.accumulation > 1:
        raise UserError(f"{where} scale_batch = false: needs [pipeline] accumulation = 1")


def _check_list(sync: SyncSection, name: str, where: str) -> None:
    values = getattr(sync, name)
    if values and len(values) != len(sync.order):
        raise UserError(
            f"{where} {name} = {list(values)}: a number for each of the {len(sync.order)} phases of "
            f"order = '{sync.order}' is wanted, not {len(values)}"
        )
    if name in ("phase_steps", "phase_checkpoint_every") and any(value != int(value) for value in values):
        raise UserError(f"{where} {name} = {list(values)}: whole numbers are wanted")


def _check_phases(experiment: Experiment, where: str) -> None:
    """The phases of policy = "switch": as many as can be placed, and all within [run] steps where that is set."""
    sync, steps = experiment.sync, experiment.run.steps
    if not sync.phase_steps and len(sync.order) > 2:
        raise UserError(f"{where} order = '{sync.order}': {len(sync.order)} phases need phase_steps")
    if sync.phase_steps and not any(sync.phase_steps):
        raise UserError(f"{where} phase_steps = {list(sync.phase_steps)}: at least one phase needs steps")
    if not steps or not sync.phase_steps:
        return
    unit = bsp_units(experiment)
    units = [int(n) * (unit if letter == "1" else 1) for letter, n in zip(sync.order, sync.phase_steps, strict=True)]
    if sum(units[:-1]) > steps * unit:
        raise UserError(
            f"{where} phase_steps = {list(sync.phase_steps)}: a switch after {sum(units[:-1])} batches lies beyond the "
            f"end, [run] steps = {steps} of {unit} each"
        )
    if sum(units) != steps * unit:
        raise UserError(
            f"{where} phase_steps = {list(sync.phase_steps)}: make {sum(units)} batches, but [run] steps = {steps} "
            f"make {steps * unit}; leave [run] steps out or let them agree"
        )


def computing_workers(experiment: Experiment) -> int:
    """Ranks that compute gradients: all but dedicated servers."""
    sync = experiment.sync
    return experiment.cluster.workers - (sync.server_ranks if sync.servers == "dedicated" else 0)


def bsp_units(experiment: Experiment) -> int:
    """Units of work of one BSP step; a unit is a batch, [data] batch_size x [pipeline] accumulation examples."""
    return computing_workers(experiment) if experiment.sync.scale_batch else 1
