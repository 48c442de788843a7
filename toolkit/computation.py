"""A rank's forward and backward over the micro-batches of a step: real, slowed down, or paced."""

from __future__ import annotations

import torch

from toolkit import data, models
from toolkit.experiment import Experiment
from toolkit.lag import Lag
from toolkit.pace import PacedCompute
from toolkit.reducer import GradientReducer
from toolkit.sampler import ShardedSampler
from toolkit.trace import Recorder


class Computation:
    """Fills the reducer's gradients. samples: examples that this rank has seen so far."""

    def __init__(
        self,
        experiment: Experiment,
        task: data.Task,
        model: torch.nn.Module,
        reducer: GradientReducer,
        recorder: Recorder,
    ) -> None:
        self.task = task
        self.model = model
        self.reducer = reducer
        self.recorder = recorder
        self.accumulation = experiment.pipeline.accumulation
        self.lag = Lag(experiment, recorder.rank)
        self.pace = PacedCompute.of(experiment, reducer.tensors, recorder.rank)
        reducer.lag = self.lag.after if self.pace is None else None  # paced compute knows of slow workers itself
        self.samples = 0

    def gradient(self, sampler: ShardedSampler, step: int, weight: float) -> float:
        """Forward and backward over this rank's micro-batches of a step; gradients and losses are summed, times
        weight x their number of examples. Returns the loss so weighted; 0 where compute is paced."""
        rank = self.recorder.rank
        micros = [sampler.indices(step, micro, rank) for micro in range(self.accumulation)]
        filled = [micro for micro, indices in enumerate(micros) if indices.numel()]
        self.lag.begin_step(step)
        self.samples += sum(indices.numel() for indices in micros)
        loss = 0.0
        for micro in filled:
            last = micro == filled[-1]
            if self.pace is not None:
                self._paced(self.pace, step, micros[micro].numel(), last)
            else:
                loss += self._micro_batch(micros[micro], sampler.generator(step, micro, rank), weight, last)
        return loss

    def _micro_batch(self, indices: torch.Tensor, generator: torch.Generator, weight: float, last: bool) -> float:
        recorder = self.recorder
        with recorder.span("data"):
            inputs, targets = self.task.train.batch(indices, generator)
        self.model.train()
        with recorder.span("forward"):
            start = recorder.clock()
            loss = models.loss(self.task.kind, self.model(inputs), targets) * (weight * indices.numel())
            value = float(loss.detach())
            self.lag.after(recorder.clock() - start)
        self.reducer.begin_backward(last_micro=last)
        loss.backward()
        self.reducer.end_backward()
        return value

    def _paced(self, pace: PacedCompute, step: int, examples: int, last: bool) -> None:
        with self.recorder.span("forward"):
            pace.forward(step, examples)
        self.reducer.begin_backward(last_micro=last)
        pace.backward(self.reducer, step, examples)
        self.reducer.end_backward()
