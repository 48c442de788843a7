"""The training loop: one optimizer step a step, the same on every rank, resumable after any of them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from toolkit import data, models, optim
from toolkit.checkpoint import CheckpointStore
from toolkit.checkpoint.state import save_state
from toolkit.comm import Communicator
from toolkit.errors import UserError
from toolkit.experiment import Experiment
from toolkit.launcher import CORES
from toolkit.pace import PacedCompute
from toolkit.policies.density import DensitySchedule
from toolkit.policies.learning_rate import learning_rate
from toolkit.reducer import GradientReducer
from toolkit.runfolder import RunFolder
from toolkit.sampler import ShardedSampler
from toolkit.trace import RankSteps, Recorder, summarize

Observer = Callable[[int, int, torch.Tensor], None]
Progress = Callable[[int, int, float], None]
EVALUATION_BATCH = 256


@dataclass
class Hooks:
    """What a caller may watch: own gradients before compression, and progress (step, steps, this rank's loss)."""

    gradient: Observer | None = None
    progress: Progress | None = None


class Trainer:
    """One rank of a run."""

    def __init__(self, experiment: Experiment, out: Path, comm: Communicator, hooks: Hooks | None = None) -> None:
        self.experiment = experiment
        self.comm = comm
        self.hooks = hooks or Hooks()
        self.folder = RunFolder(out, experiment, comm.rank)
        self.store = CheckpointStore(out, comm, experiment.checkpoint.keep)
        self.recorder = Recorder(comm.rank, comm.clock)
        torch.set_num_threads(max(1, len(CORES) // comm.core_sharers))
        torch.manual_seed(experiment.run.seed)
        self.task, self.model = self._build()
        comm.broadcast_parameters(dict(self.model.state_dict()))
        self.reducer = GradientReducer(self.model, experiment, comm, self.recorder)
        self.reducer.observer = self.hooks.gradient
        self.pace = PacedCompute.of(experiment, self.reducer.tensors, comm.rank)
        self.optimizer = optim.create(experiment.optimizer, self.reducer.parameters)
        self.reducer.attach(self.optimizer)
        self.sampler = ShardedSampler(
            len(self.task.train),
            comm.size,
            experiment.data.batch_size,
            experiment.pipeline.accumulation,
            experiment.run.seed,
        )
        self.density = DensitySchedule.of(experiment.compression, self.sampler.steps_per_epoch)
        self.steps = experiment.run.steps or experiment.run.epochs * self.sampler.steps_per_epoch
        self.step = 0
        self.losses: list[float] = []  # per step: sum over this rank's examples, weighted to the global mean
        self.evaluations: list[dict[str, float]] = []
        torch.manual_seed(experiment.run.seed * 100_003 + comm.rank)  # dropout differs from rank to rank

    def _build(self) -> tuple[data.Task, torch.nn.Module]:
        problem: UserError | None = None
        try:
            task = data.load_task(self.experiment.data, self.experiment.run.seed)
            model = models.build(self.experiment.model, task)
        except UserError as error:  # data may be missing on one host only: all ranks end together
            problem = error
        self.comm.agree(problem)
        return task, model

    def run(self, resume: bool = False) -> dict[str, Any]:
        """Train to the last step; returns the result on every rank. Files are written under the run folder."""
        if resume:
            self._resume()
        every, check = self.experiment.run.evaluate_every, self.experiment.checkpoint.every
        while self.step < self.steps:
            self._train_step()
            if every and self.step % every == 0 and self.step < self.steps:
                self._evaluate()
            if check and self.step % check == 0 and self.step < self.steps:
                self._checkpoint()
        self._evaluate()
        return self._finish()

    def _train_step(self) -> None:
        recorder, step = self.recorder, self.step
        start = recorder.clock()
        rate = learning_rate(self.experiment.optimizer, step, self.sampler.steps_per_epoch)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.reducer.begin_step(step, self.density.at(step))
        weight = self.comm.size / self.sampler.global_count(step)
        loss = 0.0
        for micro in range(self.experiment.pipeline.accumulation):
            loss += self._micro_batch(step, micro, weight)
        if self.sampler.count(step, self.comm.rank) == 0:
            self.reducer.launch_empty()
        self.optimizer.step()
        recorder.add("step", "", start, recorder.clock())
        self.losses.append(loss / self.comm.size)
        self.step += 1
        if self.hooks.progress is not None:
            self.hooks.progress(self.step, self.steps, loss)

    def _micro_batch(self, step: int, micro: int, weight: float) -> float:
        if self.pace is not None:
            return self._paced_batch(self.pace, step, micro)
        recorder, rank = self.recorder, self.comm.rank
        with recorder.span("data"):
            indices = self.sampler.indices(step, micro, rank)
            if indices.numel() == 0:
                return 0.0
            inputs, targets = self.task.train.batch(indices, self.sampler.generator(step, micro, rank))
        self.model.train()
        with recorder.span("forward"):
            loss = models.loss(self.task.kind, self.model(inputs), targets) * (weight * indices.numel())
            value = float(loss.detach())
        self.reducer.begin_backward(last_micro=self._is_last(step, micro))
        loss.backward()
        self.reducer.end_backward()
        return value

    def _paced_batch(self, pace: PacedCompute, step: int, micro: int) -> float:
        examples = self.sampler.indices(step, micro, self.comm.rank).numel()
        if examples:
            with self.recorder.span("forward"):
                pace.forward(step, examples)
            self.reducer.begin_backward(last_micro=self._is_last(step, micro))
            pace.backward(self.reducer, step, examples)
            self.reducer.end_backward()
        return 0.0

    def _is_last(self, step: int, micro: int) -> bool:
        """Whether this is the last micro-batch of the step that has examples on this rank."""
        used = self.sampler.count(step, self.comm.rank)
        return micro == -(-used // self.experiment.data.batch_size) - 1

    @torch.no_grad()
    def _evaluate(self) -> None:
        """Loss and accuracy on the test set, dealt out over the ranks; running statistics are averaged first."""
        if self.pace is not None:
            return  # nothing was learned
        with self.recorder.span("evaluate"):
            self._average_buffers()
            self.model.eval()
            own = torch.arange(self.comm.rank, len(self.task.test), self.comm.size)
            total, right, counted = 0.0, 0, 0
            for indices in own.split(EVALUATION_BATCH):
                inputs, targets = self.task.test.batch(indices, None)
                outputs = self.model(inputs)
                total += float(models.loss(self.task.kind, outputs, targets)) * targets.numel()
                correct, number = models.accuracy(self.task.kind, outputs, targets)
                right, counted = right + correct, counted + number
            parts = self.comm.allgather_values((total, right, counted))
            number = max(1, sum(part[2] for part in parts))
            loss, accuracy = sum(part[0] for part in parts) / number, sum(part[1] for part in parts) / number
            self.evaluations.append({"step": self.step, "loss": loss, "accuracy": accuracy})

    def _average_buffers(self) -> None:
        floats = [buffer for buffer in self.model.buffers() if buffer.is_floating_point()]
        if floats:
            mean = self.comm.mean_tensor(torch.cat([buffer.reshape(-1) for buffer in floats]))
            for buffer, part in zip(floats, mean.split([buffer.numel() for buffer in floats]), strict=True):
                buffer.copy_(part.view_as(buffer))

    def _checkpoint(self) -> None:
        start = self.recorder.clock()
        shared = {
            "parameters": [parameter.detach() for parameter in self.reducer.parameters],
            "optimizer": self.optimizer.state_dict(),
            "evaluations": self.evaluations,
        }
        own = {
            "reducer": self.reducer.state_dict(),
            "buffers": dict(self.model.named_buffers()),
            "torch_rng": torch.get_rng_state(),
            "losses": self.losses,
        }
        self.folder.save_trace(
            self._header(), self.recorder.spans
        )  # first: it may run ahead of a checkpoint, not behind
        written = self.store.save(self.step, shared, own)
        self.recorder.add("checkpoint", "disk", start, self.recorder.clock(), written)

    def _resume(self) -> None:
        loaded = self.store.load()
        if loaded is None:
            return
        self.step, shared, own = loaded
        with torch.no_grad():
            for parameter, saved in zip(self.reducer.parameters, shared["parameters"], strict=True):
                parameter.copy_(saved)
            for name, buffer in self.model.named_buffers():
                buffer.copy_(own["buffers"][name])
        self.optimizer.load_state_dict(shared["optimizer"])
        self.reducer.load_state_dict(own["reducer"])
        self.evaluations, self.losses = shared["evaluations"], own["losses"]
        torch.set_rng_state(own["torch_rng"])
        self.recorder.spans = self.folder.spans_before(self.step)
        self.comm.resume_clock(max((span.end for span in self.recorder.spans), default=0.0))

    def _header(self) -> dict[str, Any]:
        return {
            "rank": self.comm.rank,
            "workers": self.comm.size,
            "model": self.experiment.model.name,
            "tensors": self.reducer.tensors,
            "shapes": self.reducer.shapes,
            "batch_size": self.experiment.data.batch_size,
            "examples": len(self.task.train),
            "cores": len(CORES),
            "hosts": self.comm.hosts,
            "core_sharers": self.comm.core_sharers,
        }

    def _digest(self) -> str:
        digest = hashlib.sha256()
        for parameter in self.reducer.parameters:
            digest.update(parameter.detach().numpy().tobytes())
        return digest.hexdigest()

    def _finish(self) -> dict[str, Any]:
        digests = self.comm.allgather_values(self._digest())
        if len(set(digests)) != 1:
            raise RuntimeError(f"replicas differ after {self.step} steps of BSP: {digests}")
        self.folder.save_trace(self._header(), self.recorder.spans)
        ranks = self.comm.allgather_values(RankSteps.of(self.recorder.spans))
        samples = sum(self.sampler.global_count(step) for step in range(self.steps))
        result = summarize(ranks, seed=self.experiment.run.seed, samples=samples)
        selected = self._selected()
        if self.pace is not None:
            result.sections["pace"] = self.pace.report()
        else:
            result.sections["training"] = self._learned(digests[0])
        result.sections["compression"] = {
            "name": self.experiment.compression.name,
            "exchange": self.experiment.exchange,
            "density": self.experiment.compression.density,
            "achieved_density": selected,
        }
        content = result.to_json()
        if self.comm.rank == 0:
            if self.pace is None:
                save_state(self.folder.out / "model.safetensors", self.model.state_dict())
            self.folder.save_result(content)
        self.comm.barrier()
        return content

    def _learned(self, digest: str) -> dict[str, Any]:
        losses = np.sum(self.comm.allgather_values(self.losses), axis=0)
        return {
            "losses": losses.tolist(),
            "loss": self.evaluations[-1]["loss"],
            "accuracy": self.evaluations[-1]["accuracy"],
            "evaluations": self.evaluations,
            "parameters": sum(size for _, size in self.reducer.tensors),
            "parameters_sha256": digest,
        }

    def _selected(self) -> float:
        """Share of the gradient that was sent, mean over steps and ranks."""
        own = [s.detail for s in self.recorder.spans if s.what == "compress" and s.detail]
        pairs = self.comm.allgather_values((sum(d["selected"] for d in own), sum(d["elements"] for d in own)))
        return float(sum(pair[0] for pair in pairs) / max(1.0, sum(pair[1] for pair in pairs)))
