"""Virtual workers: the gradients, residuals, random streams and running statistics of all ranks, one model for all.

A gradient is taken at the parameters as they are now; the event model decides when that is. What a rank does with it is
the trainer's way (toolkit/trainer.py, toolkit/reducer.py) without a communicator.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from toolkit import compression, data, models
from toolkit.compression import Compressor, Context, Payload
from toolkit.compression.residual import KINDS, opened
from toolkit.experiment import Experiment
from toolkit.policies.buckets import plan_buckets
from toolkit.policies.bypass import Bypass
from toolkit.sampler import ShardedSampler

EVALUATION_BATCH = 256


@dataclass
class Rank:
    """What one worker keeps: a residual and a compressor a bucket, its random stream, its running statistics, and the
    number of examples it has seen since those were averaged."""

    residuals: list[torch.Tensor | None]
    compressors: list[Compressor]
    stream: torch.Tensor
    buffers: list[torch.Tensor]
    fresh: int = 0


@dataclass(frozen=True)
class Moment:
    """Where in the run a gradient is taken: raw step (updates counted singly), density, whether a bypass may act."""

    step: int
    density: float
    bypass: bool


class VirtualWorkers:
    """All ranks of a run. `parameters` are flat, one a bucket; the model's own are views of them."""

    def __init__(self, experiment: Experiment, workers: int) -> None:
        self.experiment = experiment
        self.workers = workers
        torch.manual_seed(experiment.run.seed)
        self.task = data.load_task(experiment.data, experiment.run.seed)
        self.model = models.build(experiment.model, self.task)
        named = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        section = experiment.compression
        plan = plan_buckets([p.numel() for p in named], section.granularity, section.merge_elements)
        self.members = [[named[i] for i in bucket] for bucket in plan]
        self.parameters = [self._flatten(members) for members in self.members]
        self.bypass = Bypass.of(experiment)
        self.ranks = [self._rank(rank) for rank in range(workers)]

    def _flatten(self, members: list[torch.nn.Parameter]) -> torch.nn.Parameter:
        flat = torch.nn.Parameter(torch.cat([p.detach().reshape(-1) for p in members]))
        start = 0
        for p in members:
            p.data = flat.data[start : start + p.numel()].view(p.shape)
            start += p.numel()
        return flat

    def _rank(self, rank: int) -> Rank:
        section = self.experiment.compression
        keeps = section.error_feedback and section.name != "none"
        kind = KINDS[section.residual]
        residuals = [torch.zeros(p.numel(), dtype=kind) if keeps else None for p in self.parameters]
        compressors = [compression.create(section, p.numel()) for p in self.parameters]
        stream = torch.Generator().manual_seed(self.experiment.run.seed * 100_003 + rank).get_state()
        return Rank(residuals, compressors, stream, [buffer.clone() for buffer in self.model.buffers()])

    def gradient(self, rank: int, sampler: ShardedSampler, position: int, weight: float) -> tuple[list, float]:
        """(a flat gradient a bucket, loss) of a worker's step `position` of its stream: sums over its micro-batches of
        weight x the mean over a micro-batch x its examples."""
        state = self.ranks[rank]
        self._swap_in(state)
        self.model.train()
        self.model.zero_grad(set_to_none=True)
        total = 0.0
        for micro in range(self.experiment.pipeline.accumulation):
            indices = sampler.indices(position, micro, rank)
            if indices.numel() == 0:
                continue
            state.fresh += indices.numel()
            inputs, targets = self.task.train.batch(indices, sampler.generator(position, micro, rank))
            loss = models.loss(self.task.kind, self.model(inputs), targets) * (weight * indices.numel())
            total += float(loss.detach())
            loss.backward()
        self._swap_out(state)
        return [self._flat_gradient(members) for members in self.members], total

    def _flat_gradient(self, members: list[torch.nn.Parameter]) -> torch.Tensor:
        return torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).reshape(-1) for p in members])

    def _swap_in(self, state: Rank) -> None:
        torch.set_rng_state(state.stream)
        for buffer, own in zip(self.model.buffers(), state.buffers, strict=True):
            buffer.copy_(own)

    def _swap_out(self, state: Rank) -> None:
        state.stream = torch.get_rng_state()
        state.buffers = [buffer.clone() for buffer in self.model.buffers()]

    def payloads(self, rank: int, gradients: list[torch.Tensor], moment: Moment, empty: bool = False) -> list[Payload]:
        """What a worker sends of its gradients, a payload a bucket; `empty`: it had no examples."""
        found: list[Payload] = []
        for bucket, gradient in enumerate(gradients):
            dense = self.bypass.dense(gradient.numel(), moment.density) if moment.bypass else moment.density >= 1.0
            context = self._context(rank, bucket, moment.step, 1.0 if dense else moment.density)
            compressor = self.ranks[rank].compressors[bucket]
            if empty and not dense:
                found.append(compressor.nothing(context))
                continue
            residual = self.ranks[rank].residuals[bucket]
            if dense:
                found.append(compressor.everything(gradient, None if empty else residual, context))
            elif residual is None:
                found.append(compressor.select(gradient, context))
            else:
                found.append(compressor.select_feedback(gradient, residual, context))
        return found

    def _context(self, rank: int, bucket: int, step: int, density: float) -> Context:
        shapes = tuple(tuple(p.shape) for p in self.members[bucket])
        seed, name = self.experiment.run.seed, f"bucket{bucket}"
        return Context(name, step, density, seed, self.workers, rank, shapes)

    def settle(self, rank: int, bucket: int, payload: Payload, moment: Moment) -> None:
        """After the rounds of a linear payload: what was sent leaves the residual."""
        if not isinstance(payload, compression.LinearPayload):
            return
        context = self._context(rank, bucket, moment.step, moment.density)
        with opened(self.ranks[rank].residuals[bucket], context, "settle") as residual:
            if residual is not None:
                payload.settle(residual)

    def average_buffers(self) -> None:
        """Every rank gets the mean of all ranks' running statistics, as before every test: each counts by the examples
        it has seen since the last time."""
        total = sum(rank.fresh for rank in self.ranks)
        for number, buffer in enumerate(self.ranks[0].buffers):
            if total and buffer.is_floating_point():
                mean = torch.stack([rank.buffers[number] * (rank.fresh / total) for rank in self.ranks]).sum(dim=0)
                for rank in self.ranks:
                    rank.buffers[number] = mean.clone()
        for rank in self.ranks:
            rank.fresh = 0

    @torch.no_grad()
    def test(self) -> tuple[float, float]:
        """(loss, accuracy) on the whole test set, with worker 0's running statistics."""
        for buffer, own in zip(self.model.buffers(), self.ranks[0].buffers, strict=True):
            buffer.copy_(own)
        self.model.eval()
        total, right, counted = 0.0, 0, 0
        for indices in torch.arange(len(self.task.test)).split(EVALUATION_BATCH):
            inputs, targets = self.task.test.batch(indices, None)
            outputs = self.model(inputs)
            total += float(models.loss(self.task.kind, outputs, targets)) * targets.numel()
            correct, number = models.accuracy(self.task.kind, outputs, targets)
            right, counted = right + correct, counted + number
        return total / counted, right / counted
