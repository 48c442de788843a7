"""The cluster of an experiment file on which workers also learn: time from the plan, gradients from torch."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence, Set
from dataclasses import dataclass, field
from typing import Any

from simulator.learning.merging import mean_of, own, step
from simulator.learning.workers import Moment, VirtualWorkers
from simulator.plan import Plan
from simulator.sync.cluster import BarrierStep
from simulator.sync.job import Job
from simulator.sync.planned import PlannedCluster
from toolkit import optim
from toolkit.compression import Payload
from toolkit.policies.configuration import momentum_at, worker_batch
from toolkit.policies.density import DensitySchedule
from toolkit.policies.learning_rate import learning_rate
from toolkit.policies.protocol import Phase
from toolkit.sampler import ShardedSampler
from toolkit.sections.sync import bsp_units


@dataclass
class Learned:
    """losses: of every step or update, in the order of work. tests: {units, step, time_s, loss, accuracy} each."""

    losses: list[float] = field(default_factory=list)
    tests: list[dict[str, Any]] = field(default_factory=list)


class LearningCluster(PlannedCluster):
    """Tell it its job by `follow` before the job runs."""

    def __init__(self, plan: Plan, seed: int) -> None:
        super().__init__(plan, seed)
        experiment = plan.experiment
        self.experiment = experiment
        self.virtual = VirtualWorkers(experiment, self.workers)
        self.optimizer = optim.create(experiment.optimizer, self.virtual.parameters)
        self.samplers = {protocol: self._sampler(protocol) for protocol in ("bsp", "asp")}
        self.per_epoch = self.samplers["bsp"].steps_per_epoch
        self.density = DensitySchedule.of(experiment.compression, self.per_epoch)
        self.learned = Learned()
        self._pushed: dict[int, list[Payload]] = {}
        self._positions = [0] * self.workers
        self._begun = self._applied = 0  # updates of this phase

    def follow(self, job: Job) -> None:
        self.job = job

    def _sampler(self, protocol: str) -> ShardedSampler:
        experiment = self.experiment
        batch = worker_batch(experiment, protocol)
        examples = len(self.virtual.task.train)
        return ShardedSampler(examples, self.workers, batch, experiment.pipeline.accumulation, experiment.run.seed)

    @property
    def phase(self) -> Phase:
        return self.job.course.phases[self.job.number]

    def enter(self, protocol: str, now: float) -> float:
        units = self.job.course.units
        self._positions = [units // self.workers] * self.workers
        self._begun = self._applied = 0
        return super().enter(protocol, now)

    def barrier(self, number: int, examples: Sequence[int], removed: Set[int]) -> BarrierStep:
        """A BSP step in time, and for real: every rank's gradient, their mean, a step of the optimizer."""
        timed = super().barrier(number, examples, removed)
        sampler, course = self.samplers["bsp"], self.job.course
        sampler.leave_out(removed)
        moment = Moment(course.raw_steps, self.density.at(number), bypass=True)
        weight, sent, total = self.workers / sampler.global_count(number), [], 0.0
        for rank in range(self.workers):
            gradients, loss = self.virtual.gradient(rank, sampler, number, weight)
            sent.append(self.virtual.payloads(rank, gradients, moment, sampler.count(number, rank) == 0))
            total += loss
        merged = [mean_of(bucket) for bucket in zip(*sent, strict=True)]
        for rank, payloads in enumerate(sent):
            for bucket, payload in enumerate(payloads):
                self.virtual.settle(rank, bucket, payload, moment)
        sampler.leave_out(frozenset())
        self._step(merged, float(number), self.phase.momentum)
        self.learned.losses.append(total / self.workers)
        self._look(course.units + self.phase.step_units, timed.end, averaged=True)
        return timed

    def gradient(self, worker: int, iteration: int, now: float) -> float:
        """The parameters are now those that the worker has just pulled: its gradient is taken here, applied later."""
        sampler = self.samplers["asp"]
        while sampler.count(self._positions[worker], worker) == 0:  # its shard ends before the others'
            self._positions[worker] += 1
        position = self._positions[worker]
        gradients, loss = self.virtual.gradient(worker, sampler, position, 1.0 / sampler.count(position, worker))
        course, unit = self.job.course, self._begun
        whole = (course.units + unit) // bsp_units(self.experiment)
        moment = Moment(course.raw_steps + unit, self.density.at(whole), bypass=False)
        self._pushed[worker] = self.virtual.payloads(worker, gradients, moment)
        self._positions[worker] += 1
        self._begun += 1
        self.learned.losses.append(loss)
        return super().gradient(worker, iteration, now)

    def applied(self, worker: int, now: float) -> None:
        """A worker's push becomes a step of the servers' optimizer, with the rate and momentum of that push."""
        course, phase = self.job.course, self.phase
        progress = (course.done[self.job.number] + self._applied) / max(1, phase.steps)
        momentum = momentum_at(phase.policy, phase.momentum, self.workers, progress)
        position = (course.units + self._applied) / bsp_units(self.experiment)
        self._step([own(payload) for payload in self._pushed.pop(worker)], position, momentum)
        self._applied += 1
        self._look(course.units + self._applied, now, averaged=False)

    def _step(self, gradients: list[Any], position: float, momentum: float) -> None:
        section = dataclasses.replace(self.experiment.optimizer, learning_rate=self.phase.learning_rate)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(section, position, self.per_epoch)
            if "momentum" in group:
                group["momentum"] = momentum
        step(self.optimizer, self.virtual.parameters, gradients, self.experiment.optimizer.clip_norm)

    def _look(self, units: int, now: float, averaged: bool) -> None:
        """Test at every [run] evaluate_every steps' work."""
        every = self.experiment.run.evaluate_every * bsp_units(self.experiment)
        if every and units % every == 0 and self.job.course.left > units - self.job.course.units:
            self.test(units, now, averaged)

    def test(self, units: int, now: float, averaged: bool) -> None:
        """Keep a test's outcome with the work and the simulated time that it took."""
        if averaged:
            self.virtual.average_buffers()
        loss, accuracy = self.virtual.test()
        row = {"units": units, "step": units / bsp_units(self.experiment), "time_s": now}
        self.learned.tests.append(row | {"loss": loss, "accuracy": accuracy})
