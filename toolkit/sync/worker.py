"""A worker in an asynchronous phase: a ticket, a pull, a gradient, a push, until no ticket is left."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from toolkit.reducer import GradientReducer
from toolkit.sync.client import Client, Pulled
from toolkit.sync.collect import collecting, take
from toolkit.sync.tickets import NEVER
from toolkit.trace import Recorder


@dataclass
class Look:
    """The parameters as the chief pulled them after so many updates of the phase, to be evaluated when it is over."""

    updates: int
    time: float
    buckets: list[torch.Tensor]
    buffers: list[torch.Tensor]


@dataclass
class Duties:
    """What the trainer does for a worker.

    compute: the gradient of this worker's next batch into the reducer's buckets; takes the update's number in the
    phase, returns the batch's mean loss. save: this worker's part of the checkpoint after so many updates of the
    phase; returns SHA-256 by file name. progress: told of each update and its loss.
    """

    compute: Callable[[int], float]
    save: Callable[[int, Client], dict[str, str]]
    progress: Callable[[int, float], None]


@dataclass
class AsynchronousWorker:
    """Runs on every rank that computes.

    scale: of what is pushed, where compute's gradients are not plain means. losses: (update's number in the phase,
    loss) of its own updates.
    """

    reducer: GradientReducer
    recorder: Recorder
    client: Client
    duties: Duties
    clip_norm: float
    scale: float = 1.0
    losses: list[tuple[int, float]] = field(default_factory=list)
    looks: list[Look] = field(default_factory=list)

    def run(self, buffers: list[torch.Tensor], raw: int) -> None:
        """Work until no ticket is left. raw: added to an update's number to name its step in the trace."""
        seconds = 0.0
        with collecting(self.reducer):
            while True:
                ticket, pulled = self.client.begin(self.reducer.parameters, seconds)
                if ticket.unit == NEVER:
                    return
                self.recorder.step = raw + ticket.unit
                if ticket.look != NEVER:
                    buckets = [p.detach().clone() for p in self.reducer.parameters]
                    self.looks.append(Look(ticket.look, pulled.end, buckets, [b.clone() for b in buffers]))
                seconds = self._update(ticket.unit, pulled)
                if ticket.save != NEVER:
                    self.client.saved(self.duties.save(ticket.save, self.client))

    def _update(self, unit: int, pulled: Pulled) -> float:
        """Compute and push; returns the seconds of the computation."""
        recorder = self.recorder
        waited = pulled.start + min(pulled.held, pulled.end - pulled.start)
        recorder.add("wait", "bound", pulled.start, waited)
        recorder.add("wait", "servers", waited, pulled.end)
        recorder.add("communicate", "pull", pulled.start, pulled.end, pulled.bytes)
        start = recorder.clock()
        loss = self.duties.compute(unit)
        seconds = recorder.clock() - start
        payloads, scale = take(self.reducer, self.clip_norm, self.scale)
        posted = recorder.clock()
        size = self.client.push(payloads, recorder.step, scale)
        end = recorder.clock()
        recorder.add("wait", "push", posted, end)
        recorder.add("communicate", "push", posted, end, size)
        recorder.add("step", "", pulled.start, end)
        self.losses.append((unit, loss))
        self.duties.progress(unit, loss)
        return seconds
