"""The cluster of an experiment file: BSP steps by the fast path's arithmetic, pushes and pulls on the hosts' links."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence, Set
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simulator import fast
from simulator.fold import Fold, Jitter
from simulator.plan import Plan
from simulator.stepcosts import Load, Step, StepCosts
from simulator.sync.cluster import BarrierStep
from simulator.sync.jitter import WorkerJitter
from simulator.sync.servers import Parts, Servers
from toolkit.sections.sync import computing_workers

Array = NDArray[np.float64]
WORD = 4  # bytes of a pulled parameter


@dataclass(frozen=True)
class PushCosts:
    """What one gradient costs besides its computation: seconds of compression, exchange with the shards, its bytes."""

    compress: float
    parts: Parts
    pushed: int
    pulled: int


@dataclass
class Stretch:
    """Sums of one phase that the engine does not keep: of BSP a fold; of ASP seconds of compression, (workers,)."""

    fold: Fold
    compress: Array
    bytes_sent: int = 0


class PlannedCluster:
    """A plan's workers. `stretches` has what happened in each phase, in the order of `enter`."""

    def __init__(self, plan: Plan, seed: int) -> None:
        self.plan = plan
        self.workers = computing_workers(plan.experiment)
        self.ranks = np.arange(plan.topology.workers)
        self.jitter = Jitter(plan, seed)
        self.own = WorkerJitter(len(self.ranks), plan.compute_cv, seed)
        sync = plan.experiment.sync
        self.shards = range(self.workers, len(self.ranks)) if sync.servers == "dedicated" else range(len(self.ranks))
        self.servers = Servers(plan.topology, self.shards, plan.scenario.passing_latencies)
        self.start, self.origin = np.zeros(len(self.ranks)), 0.0
        self.stretches: list[Stretch] = []
        self._pushes: dict[float, PushCosts] = {}
        self._now: list[PushCosts] = []

    def enter(self, protocol: str, now: float) -> float:
        """All begin together; Horovod's cycle begins anew."""
        self.stretches.append(Stretch(Fold(self.plan, self.ranks), np.zeros(self.workers)))
        self.start, self.origin = np.full(len(self.ranks), now), now
        self.servers.forget(now)
        self._now = [self._push_costs(0)] * self.workers
        return now

    def together(self, now: float) -> None:
        fold = self.stretches[-1].fold
        fold.checkpoint += now - self.start
        self.start = np.full(len(self.ranks), now)

    def barrier(self, number: int, examples: Sequence[int], removed: Set[int]) -> BarrierStep:
        """As the fast path makes it, but with the examples that each worker was dealt."""
        plan, stretch, first = self.plan, self.stretches[-1], float(self.start.min())
        step = plan.step(number)
        if self._dealt_anew(examples, removed):
            step = dataclasses.replace(step, load=self._load(examples))
        pace = self.jitter.pace(number)
        after = fast.advance(plan, step, self.ranks, (self.start - first, self.origin - first), pace)
        base = first + (float((self.start - first)[0]) + float(after.seconds[0]) - float(after.start[0]))
        stretch.fold.add(after.outcome, slice(None))
        stretch.fold.wire += step.wire
        stretch.fold.all_lasted(after.seconds)
        self.start, self.origin = base + after.start, base + after.origin
        mean = float(np.mean(after.seconds))
        return BarrierStep(float(self.start.max()), self._busy(after.outcome.compute, step), mean)

    def pull(self, worker: int, since: float) -> float:
        return self.servers.pull(worker, since, self._now[worker].parts)

    def gradient(self, worker: int, iteration: int, now: float) -> float:
        """Data, forward, backward of each micro-batch, then compression; a worker's shard may end with a short one."""
        plan, stretch, costs = self.plan, self.stretches[-1], self._push_costs(iteration)
        self._now[worker] = costs
        batches = float(plan.step(iteration).load.batches[worker]) or float(plan.experiment.pipeline.accumulation)
        slow, cores = self._slow(worker, iteration)
        compute = slow * self.own.factor(worker, iteration) * (plan.forward_s + plan.backward_s) * batches
        compress = cores * costs.compress
        stretch.compress[worker] += compress
        stretch.bytes_sent += costs.pushed + costs.pulled
        return now + cores * (plan.step_s + plan.data_s * batches) + compute + compress

    def push(self, worker: int, now: float) -> float:
        return self.servers.push(worker, now, self._now[worker].parts)

    def applied(self, worker: int, now: float) -> None:
        """Nothing is learned here."""

    def save(self, protocol: str, worker: int) -> float:
        """Everybody's file under BSP; a worker's own, and the chief's of the parameters, else."""
        plan = self.plan
        if protocol == "bsp":
            return plan.checkpoint_seconds()
        return plan.checkpoint_bytes(worker) / plan.device.disk_bandwidth

    def _slow(self, worker: int, iteration: int) -> tuple[float, float]:
        """(of compute, of work on the host's cores): how many times as long."""
        slowness, plan = self.plan.scenario.slowness, self.plan
        compute, cpu = slowness.compute(iteration), slowness.cpu(iteration)
        cores = 1.0 if cpu is None else float(cpu[worker])
        slow = float(plan.slowdown[worker]) * (1.0 if compute is None else float(compute[worker]))
        return slow * (cores if plan.on_cores else 1.0), cores

    def _push_costs(self, iteration: int) -> PushCosts:
        density = self.plan.density.at(iteration)
        if density not in self._pushes:
            self._pushes[density] = self._make_costs(self.plan.step(iteration).costs)
        return self._pushes[density]

    def _make_costs(self, costs: StepCosts) -> PushCosts:
        """A worker's list or vector is applied alone: merged into the shard, then a step of its optimizer."""
        plan, shards = self.plan, len(self.shards)
        apply, touched = 0.0, 0
        for elements, way in zip(plan.elements, costs.ways, strict=True):
            merge = plan.cost("merge", plan.profile.merge, "dense" if way.whole else "sparse")
            entries = 0 if way.whole else way.entries
            apply += merge.seconds(elements, entries)
            touched += entries or elements
        optimize = plan.cost("optimize", plan.profile.optimize, plan.experiment.optimizer.name)
        apply = plan.stretch * (apply + optimize.seconds(sum(plan.elements), touched))
        pushed, pulled = sum(costs.payload), WORD * sum(plan.elements)
        even = np.full(shards, 1.0 / shards)
        return PushCosts(float(costs.compressed[-1]), Parts(pushed * even, pulled * even, apply * even), pushed, pulled)

    def _dealt_anew(self, examples: Sequence[int], removed: Set[int]) -> bool:
        """Whether the workers have other examples than the plan's."""
        return bool(removed) or len(self.ranks) > self.workers or examples[0] != self.plan.experiment.data.batch_size

    def _load(self, examples: Sequence[int]) -> Load:
        """Examples of each computing worker, a micro-batch, as work: `accumulation` micro-batches of equal size."""
        profile, accumulation = self.plan.profile, self.plan.experiment.pipeline.accumulation
        count = np.zeros(len(self.ranks))
        count[: self.workers] = examples
        whole = profile.batch_factor(self.plan.experiment.data.batch_size)
        last = np.where(count > 0, profile.batch_factor(count) / whole, 0.0)
        return Load(accumulation * last, last, count > 0, int((count == 0).sum()))

    def _busy(self, compute: Array, step: Step) -> Array:
        return np.where(step.load.busy, compute, np.nan)[: self.workers]
