"""An ASP or SSP phase in the trainer's hands: the servers, this rank's worker, checkpoints and tests on the way."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from toolkit.sections.sync import bsp_units
from toolkit.sync.client import Client
from toolkit.sync.phase import Outcome, Servers, Stretch
from toolkit.sync.worker import AsynchronousWorker, Duties, Look

if TYPE_CHECKING:
    from toolkit.trainer import Trainer


def run_asynchronous(trainer: Trainer, number: int) -> None:
    """Make phase `number` of the trainer's course, or what an online policy lets it make of it, on all ranks."""
    AsynchronousPhase(trainer, number).run()


class AsynchronousPhase:
    """One rank's part in it. Positions count this worker's own updates, raw steps everybody's."""

    def __init__(self, trainer: Trainer, number: int) -> None:
        self.trainer = trainer
        self.number = number
        course = trainer.course
        phase = course.phases[number]
        self.stretch = Stretch(
            phase,
            course.done[number],
            course.steps_left(number),
            course.units,
            course.raw_steps,
            trainer.sampler.steps_per_epoch,
        )
        self.sampler = trainer.sampler_of(phase.protocol)
        self.servers = Servers(trainer.experiment, trainer.comm, trainer.reducer, trainer.optimizer, self.stretch)
        start = self.stretch.units // len(self.servers.workers)
        self.position, self.earlier = trainer.resumed_stream(start)
        self.worker = self._worker() if trainer.comm.rank in self.servers.workers else None

    def _worker(self) -> AsynchronousWorker:
        trainer = self.trainer
        duties = Duties(self._compute, self._save, self._progress)
        client = self.servers.client(trainer.recorder.clock)
        clip = trainer.experiment.optimizer.clip_norm
        return AsynchronousWorker(trainer.reducer, trainer.recorder, client, duties, clip, 1.0 / self._excess)

    @property
    def _excess(self) -> float:
        """How much larger than a mean a worker's gradient is under BSP, where the sum is divided by all ranks, also
        by dedicated servers; residuals pass from phase to phase, so it is here, too, until it is pushed."""
        return self.trainer.comm.size / len(self.servers.workers)

    def run(self) -> None:
        trainer, servers = self.trainer, self.servers
        if servers.first and servers.server is not None:
            trainer.store.discard_unfinished()
            servers.server.on_ticket = self._watch
            servers.server.on_saved = lambda units, files: trainer.store.seal(self._raw(units), files)
        if servers.server is not None and self.worker is None:  # this rank rests: its thread may answer for it
            servers.server.beside = lambda: {"rank": trainer.own_state(None)}
        servers.start()
        trainer.note_switch()
        if self.worker is not None:
            self.worker.run(trainer.evaluator.buffers(), self._raw(0))
        outcome = servers.end()
        trainer.recorder.spans += servers.recorder.spans
        if trainer.watch.active:
            trainer.watch = trainer.comm.allgather_values(trainer.watch)[servers.ranks[0]]
        self._test_looks()
        self._count(outcome)

    def _raw(self, updates: int) -> int:
        """Raw step of an update of the phase."""
        return self.stretch.raw + updates - self.stretch.first

    def _compute(self, unit: int) -> float:
        trainer, rank = self.trainer, self.trainer.comm.rank
        while self.sampler.count(self.position, rank) == 0:  # this worker's shard ends before the others'
            self.position += 1
        step = (self.stretch.units + unit - self.stretch.first) // bsp_units(trainer.experiment)
        trainer.reducer.begin_step(self._raw(unit), trainer.density.at(step))
        weight = self._excess / self.sampler.count(self.position, rank)
        loss = trainer.computation.gradient(self.sampler, self.position, weight) / self._excess
        self.position += 1
        return loss

    def _progress(self, unit: int, loss: float) -> None:
        if self.trainer.hooks.progress is not None:
            total = sum(phase.steps for phase in self.trainer.course.phases)
            self.trainer.hooks.progress(self._raw(unit) + 1, total, loss)

    def _watch(self, worker: int, seconds: float) -> None:
        """On the first server: a worker's throughput to the online policy, which may end the phase."""
        trainer, tickets = self.trainer, self.servers.server.tickets if self.servers.server else None
        if not trainer.watch.active or seconds <= 0 or tickets is None:
            return
        due = trainer.course.due
        assert due is not None
        protocol = "bsp" if trainer.course.phases[due].protocol == "bsp" else "asp"
        throughput = self.stretch.phase.batch * trainer.experiment.pipeline.accumulation / seconds
        trainer.watch.report(worker, throughput, protocol, self._raw(tickets.issued), trainer.recorder.clock())
        if protocol == "bsp" and trainer.watch.protocol == "bsp":
            tickets.close()

    def _save(self, updates: int, client: Client) -> dict[str, str]:
        """This worker's part of a checkpoint; the chief also asks the servers for theirs. Nobody else waits."""
        trainer, servers, rank = self.trainer, self.servers, self.trainer.comm.rank
        start, raw = trainer.recorder.clock(), self._raw(updates)
        trainer.folder.save_trace(trainer.header(), trainer.recorder.spans)
        losses = self.earlier + (self.worker.losses if self.worker is not None else [])
        before = [(unit, loss) for unit, loss in losses if unit < updates]  # this worker's last one will be made again
        parts: dict[str, Any] = {f"rank{rank}": trainer.own_state(self.position, before)}
        if rank == servers.workers[0]:
            shards = client.states()
            values, optimizer = servers.joined_values(shards), servers.joined_optimizer(shards)
            parts["model"] = self._as_after(updates, trainer.shared_state(values, optimizer))
            parts |= {f"rank{at}": s["rank"] for at, s in zip(servers.ranks, shards, strict=True) if "rank" in s}
        files, written = trainer.store.write(raw, parts)
        trainer.recorder.add("checkpoint", "disk", start, trainer.recorder.clock(), written)
        return files

    def _as_after(self, updates: int, shared: dict[str, Any]) -> dict[str, Any]:
        """The shared state with this phase's progress in it, which the course itself takes note of at the end."""
        done = list(shared["done"])
        done[self.number] = updates
        segments = [dict(row) for row in shared["journal"]["segments"]]
        segments[-1]["steps"] = self._raw(updates) - segments[-1]["first"]
        return shared | {"done": done, "journal": shared["journal"] | {"segments": segments}}

    def _test_looks(self) -> None:
        """Test the parameters that the chief kept on the way; the model is overwritten, and taken back afterwards."""
        trainer = self.trainer
        own: list[Look] = self.worker.looks if self.worker is not None and trainer.comm.rank == 0 else []
        if trainer.computation.pace is not None or not trainer.comm.broadcast(len(own)):
            return
        parameters = [p.detach().clone() for p in trainer.reducer.parameters]
        buffers = [b.clone() for b in trainer.evaluator.buffers()]
        start = trainer.recorder.clock()
        with trainer.recorder.span("evaluate"):
            for number in range(trainer.comm.broadcast(len(own))):
                updates, moment = trainer.comm.broadcast((own[number].updates, own[number].time) if own else None)
                self._load(trainer.comm.broadcast(_flat(own[number].buckets) if own else None))
                if buffers:
                    flat = trainer.comm.broadcast(_flat(own[number].buffers) if own else None)
                    trainer.evaluator.load_buffers(torch.from_numpy(flat))
                units = self.stretch.units + updates - self.stretch.first
                trainer.note_test(*trainer.evaluator.test(), units, moment)
        trainer.set_apart(trainer.recorder.clock() - start)
        self._load(_flat(parameters))
        if buffers:
            trainer.evaluator.load_buffers(torch.cat([b.reshape(-1) for b in buffers]))

    def _load(self, flat: np.ndarray) -> None:
        with torch.no_grad():
            parameters = self.trainer.reducer.parameters
            for parameter, part in zip(
                parameters, torch.from_numpy(flat).split([p.numel() for p in parameters]), strict=True
            ):
                parameter.copy_(part)

    def _count(self, outcome: Outcome) -> None:
        """Take note of what was made: in the course, in the journal, and everybody's losses in the order of work."""
        trainer = self.trainer
        own = self.earlier + (self.worker.losses if self.worker is not None else [])
        everybody = sorted(pair for part in trainer.comm.allgather_values(own) for pair in part)
        trainer.losses += [loss if trainer.comm.rank == 0 else 0.0 for _, loss in everybody]
        trainer.course.advance(self.number, outcome.updates)
        trainer.journal.see(outcome.staleness)
        trainer.journal.count(trainer.course.raw_steps)


def _flat(tensors: list[torch.Tensor]) -> np.ndarray:
    return torch.cat([tensor.detach().reshape(-1) for tensor in tensors]).numpy()
