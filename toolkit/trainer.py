"""The training loop of one rank: phases of synchronous steps and of asynchronous ones, resumable after any of them."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from toolkit import data, models, optim
from toolkit.checkpoint import CheckpointStore
from toolkit.comm import Communicator
from toolkit.computation import Computation
from toolkit.errors import UserError
from toolkit.evaluate import Evaluator
from toolkit.experiment import Experiment
from toolkit.launcher import CORES
from toolkit.outcome import write_outcome
from toolkit.policies.configuration import worker_batch
from toolkit.policies.density import DensitySchedule
from toolkit.policies.learning_rate import learning_rate
from toolkit.policies.protocol import plan_phases
from toolkit.policies.switch import Course
from toolkit.policies.watch import Watch
from toolkit.reducer import GradientReducer
from toolkit.runfolder import RunFolder
from toolkit.sampler import ShardedSampler
from toolkit.sections.sync import bsp_units, computing_workers
from toolkit.sync.asynchronous import run_asynchronous
from toolkit.sync.journal import Journal
from toolkit.trace import Recorder

Observer = Callable[[int, int, torch.Tensor], None]
Progress = Callable[[int, int, float], None]


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
        self.evaluator = Evaluator(self.task, self.model, comm)
        self.reducer = GradientReducer(self.model, experiment, comm, self.recorder)
        self.reducer.observer = self.hooks.gradient
        self.computation = Computation(experiment, self.task, self.model, self.reducer, self.recorder)
        self.optimizer = optim.create(experiment.optimizer, self.reducer.parameters)
        self.reducer.attach(self.optimizer)
        self.sampler = self.sampler_of("bsp")
        self.density = DensitySchedule.of(experiment.compression, self.sampler.steps_per_epoch)
        steps = experiment.run.steps or experiment.run.epochs * self.sampler.steps_per_epoch
        self.course = Course(plan_phases(experiment, steps))
        self.journal = Journal()
        self.watch = Watch(experiment.sync, computing_workers(experiment))
        self.losses: list[float] = []  # per step: sum over this rank's examples, weighted to the global mean
        self.evaluations: list[dict[str, float]] = []
        self._position: int | None = None  # of this worker's stream in the asynchronous phase that is resumed
        self._updates: list[tuple[int, float]] = []  # its losses so far
        self._apart = 0.0
        self._left: tuple[str, float] | None = None  # how the phase before ended: "in-job" or "restart", and when
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

    def sampler_of(self, protocol: str) -> ShardedSampler:
        """The stream of a protocol's batches."""
        experiment = self.experiment
        workers, batch = computing_workers(experiment), worker_batch(experiment, protocol)
        return ShardedSampler(
            len(self.task.train), workers, batch, experiment.pipeline.accumulation, experiment.run.seed
        )

    @property
    def position(self) -> int:
        """Work done, in BSP steps."""
        return self.course.units // bsp_units(self.experiment)

    def run(self, resume: bool = False, until_switch: bool = False) -> dict[str, Any]:
        """Train to the last step; returns the result on every rank. Files are written under the run folder.

        until_switch: end at the next switch, after its checkpoint, to be resumed; the result is then empty.
        """
        self._apart = self.recorder.clock()
        if resume:
            self._resume()
        while (number := self._next()) is not None:
            phase = self.course.phases[number]
            self.journal.begin(phase.protocol, self.course.raw_steps)
            if phase.protocol == "bsp":
                self._run_synchronous(number)
            else:
                run_asynchronous(self, number)
            self._check_replicas()
            following = self._next()
            if following is not None:
                self._left = ("in-job", time.time())
                self.checkpoint()
                if until_switch:
                    return {}
        self.evaluate()
        return write_outcome(self)

    def _next(self) -> int | None:
        """The phase to run now: the plan's, or one of the protocol that the online policy wants instead."""
        due = self.course.due
        if due is None or not self.watch.active:
            return due
        self.watch.follow(self.course.phases[due].protocol, self.course.raw_steps, self.recorder.clock())
        instead = self.course.instead(self.watch.protocol)
        return due if instead is None else instead

    def note_switch(self) -> None:
        """At a phase's first step: what the switch to it cost, in seconds from the end of the last step."""
        protocols = [segment["protocol"] for segment in self.journal.segments[-2:]]
        new = self.journal.segments[-1]["first"] == self.course.raw_steps
        if self._left is not None and len(protocols) == 2 and new:
            how, since = self._left
            event = {"kind": "switch", "from": protocols[0], "to": protocols[1], "how": how}
            event |= {"seconds": self.comm.broadcast(time.time() - since), "step": self.course.raw_steps}
            self.journal.events.append(event | {"units": self.course.units, "time_s": self.recorder.clock()})
        self._left = None

    def _run_synchronous(self, number: int) -> None:
        """BSP steps until the phase is over, or the online policy wants another protocol."""
        phase, every = self.course.phases[number], self.experiment.run.evaluate_every
        self.sampler.leave_out(self.watch.removed)
        self.note_switch()
        for _ in range(self.course.steps_left(number)):
            self._train_step(number)
            if every and self.position % every == 0 and self.course.left:
                self.evaluate()
            if self.watch.active and self.watch.protocol != "bsp":
                break
            last = self.course.due != number
            if phase.checkpoint_every and self.course.done[number] % phase.checkpoint_every == 0 and not last:
                self.checkpoint()
        self.sampler.leave_out(frozenset())

    def _look(self, step: int, busy: float) -> None:
        """Let the online policy see all workers' throughputs of a step; `busy`: seconds that this rank computed."""
        own = self.sampler.count(step, self.comm.rank) / busy if busy > 0 else math.nan
        throughputs = self.comm.allgather_values(own)[: self.watch.workers]
        due = self.course.due
        protocol = "bsp" if due is None else self.course.phases[due].protocol
        self.watch.look(throughputs, protocol, self.course.raw_steps, self.recorder.clock())
        self.sampler.leave_out(self.watch.removed)

    def _train_step(self, number: int) -> None:
        """One BSP step of phase `number`."""
        phase, recorder, step = self.course.phases[number], self.recorder, self.position
        start = recorder.clock()
        section = replace(self.experiment.optimizer, learning_rate=phase.learning_rate)
        rate = learning_rate(section, step, self.sampler.steps_per_epoch)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
            if "momentum" in group:
                group["momentum"] = phase.momentum
        self.reducer.begin_step(self.course.raw_steps, self.density.at(step))
        weight = self.comm.size / self.sampler.global_count(step)
        began = recorder.clock()
        loss = self.computation.gradient(self.sampler, step, weight)
        busy = recorder.clock() - began if self.sampler.count(step, self.comm.rank) else 0.0
        if not busy:
            self.reducer.launch_empty()
        self.optimizer.step()
        self.course.advance(number, 1)
        self.journal.count(self.course.raw_steps)
        if self.watch.active:
            self._look(step, busy)
        recorder.add("step", "", start, recorder.clock())
        self.losses.append(loss / self.comm.size)
        if self.hooks.progress is not None:
            self.hooks.progress(self.course.raw_steps, sum(p.steps for p in self.course.phases), loss)

    def evaluate(self) -> None:
        """Test the model as it is on all ranks; running statistics are averaged first."""
        if self.computation.pace is not None:
            return  # nothing was learned
        moment = self.recorder.clock()
        with self.recorder.span("evaluate"):
            self.evaluator.average_buffers(self.computation.samples)
            self.note_test(*self.evaluator.test(), self.course.units, moment)
        self.set_apart(self.recorder.clock() - moment)

    def set_apart(self, seconds: float) -> None:
        """Time that is not training's."""
        self._apart += seconds

    def note_test(self, loss: float, accuracy: float, units: int, moment: float) -> None:
        """Keep a test's outcome with the work and the training time, without evaluations, that it took."""
        whole, rest = divmod(units, bsp_units(self.experiment))
        step = whole + rest / bsp_units(self.experiment) if rest else whole
        self.evaluations.append({"step": step, "loss": loss, "accuracy": accuracy})
        seconds = max(0.0, moment - self._apart)
        self.journal.points.append({"units": units, "time_s": seconds, "loss": loss, "accuracy": accuracy})

    def checkpoint(self) -> None:
        """Write a checkpoint of all ranks, which meet for it."""
        start = self.recorder.clock()
        self.folder.save_trace(self.header(), self.recorder.spans)  # first: it may run ahead of a checkpoint
        shared = self.shared_state([p.detach() for p in self.reducer.parameters], self.optimizer.state_dict())
        written = self.store.save(self.course.raw_steps, shared, self.own_state(None))
        self.recorder.add("checkpoint", "disk", start, self.recorder.clock(), written)

    def shared_state(self, parameters: list[torch.Tensor], optimizer: dict[str, Any]) -> dict[str, Any]:
        """What is the same on all ranks; `parameters` are the flat buckets."""
        return {
            "parameters": parameters,
            "optimizer": optimizer,
            "evaluations": self.evaluations,
            "done": self.course.done,
            "journal": self.journal.state(),
            "removed": sorted(self.watch.removed),
            "left": self._left[1] if self._left else None,
        }

    def own_state(self, position: int | None, updates: list[tuple[int, float]] | None = None) -> dict[str, Any]:
        """What is this rank's alone; `position` and `updates` within an asynchronous phase."""
        return {
            "reducer": self.reducer.state_dict(),
            "buffers": dict(self.model.named_buffers()),
            "torch_rng": torch.get_rng_state(),
            "losses": self.losses,
            "samples": self.computation.samples,
            "counted": self.evaluator.counted,
            "position": position,
            "updates": updates or [],
        }

    def _resume(self) -> None:
        loaded = self.store.load()
        if loaded is None:
            return
        step, shared, own = loaded
        with torch.no_grad():
            for parameter, saved in zip(self.reducer.parameters, shared["parameters"], strict=True):
                parameter.copy_(saved)
            for name, buffer in self.model.named_buffers():
                buffer.copy_(own["buffers"][name])
        self.optimizer.load_state_dict(shared["optimizer"])
        self.reducer.load_state_dict(own["reducer"])
        self.evaluations, self.losses = shared["evaluations"], own["losses"]
        self.computation.samples, self.evaluator.counted = own["samples"], own["counted"]
        self.course = Course(self.course.phases, shared["done"])
        self.journal.load(shared["journal"])
        self.watch.take_out(frozenset(shared["removed"]))
        self._left = ("restart", shared["left"]) if shared["left"] else None
        self._position, self._updates = own["position"], [(unit, loss) for unit, loss in own["updates"]]
        torch.set_rng_state(own["torch_rng"])
        self.recorder.spans = self.folder.spans_before(step)
        self.comm.resume_clock(max((span.end for span in self.recorder.spans), default=0.0))
        began = min((span.start for span in self.recorder.spans), default=0.0)
        self._apart = began + sum(span.seconds for span in self.recorder.spans if span.what == "evaluate")

    def resumed_stream(self, position: int) -> tuple[int, list[tuple[int, float]]]:
        """Where this worker's stream begins in an asynchronous phase, and its losses so far: from the checkpoint if
        one is resumed in mid-phase, else at `position`."""
        found = (position if self._position is None else self._position), self._updates
        self._position, self._updates = None, []
        return found

    def header(self) -> dict[str, Any]:
        """The first line of this rank's trace."""
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

    def _check_replicas(self) -> None:
        """After every phase all ranks hold the same model, bit for bit."""
        digests = self.comm.allgather_values(self.digest())
        if len(set(digests)) != 1:
            raise RuntimeError(f"replicas differ after {self.course.raw_steps} steps: {digests}")

    def digest(self) -> str:
        """SHA-256 of the parameters."""
        digest = hashlib.sha256()
        for parameter in self.reducer.parameters:
            digest.update(parameter.detach().numpy().tobytes())
        return digest.hexdigest()
