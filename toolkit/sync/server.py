"""One shard of the parameters: applies what workers push, one push after the other, and hands out what it has.

A message is a header of int64 words (below) and a body. A push is not answered; what a worker asks for after it is
answered after it, because messages between two ranks do not overtake each other.
"""

from __future__ import annotations

import json
import threading
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import cext
from toolkit import optim
from toolkit.checkpoint.state import pack_state
from toolkit.comm import Channel, abort_job
from toolkit.exchange.wire import Wire
from toolkit.experiment import OptimizerSection
from toolkit.optim.sparse import SparseOptimizer
from toolkit.sync.layout import KINDS, SPARSE, OptimizerState, Piece, decode_dense
from toolkit.sync.tickets import Tickets
from toolkit.trace import Recorder

REQUEST, REPLY = 11, 12
HEADER = 6
TICKET, PULL, PUSH, STATE, SAVED, DONE = range(6)  # what a request is; the words behind it are below, with its sender
Rates = Callable[[int], tuple[float, float]]


def message(*words: int, body: NDArray[np.uint8] | None = None) -> NDArray[np.uint8]:
    """Header and body in one buffer."""
    header = np.zeros(HEADER, np.int64)
    header[: len(words)] = words
    return header.view(np.uint8) if body is None else np.concatenate((header.view(np.uint8), body))


def parse(received: NDArray[np.uint8]) -> tuple[list[int], NDArray[np.uint8]]:
    """(words, body) of a message."""
    size = HEADER * 8
    return received[:size].view(np.int64).tolist(), received[size:]


class Shard:
    """The pieces of the parameters that one rank serves, and their optimizer; no communicator is known here.

    version: pushes applied. rates: (learning rate, momentum) of the push that finds so many pushes applied.
    """

    def __init__(self, section: OptimizerSection, pieces: Sequence[Piece], wire: Wire, rates: Rates) -> None:
        self.pieces = pieces
        self.wire = wire
        self.rates = rates
        self.version = 0
        self.values = torch.zeros(sum(piece.elements for piece in pieces))
        views = self.values.split([piece.elements for piece in pieces]) if pieces else ()
        self.parameters = [torch.nn.Parameter(view) for view in views]
        self.optimizer = optim.create(section, self.parameters) if self.parameters else None

    def load(self, buckets: Sequence[torch.Tensor], state: OptimizerState) -> None:
        """Take over values from whole buckets, and the optimizer's `state` for the pieces."""
        with torch.no_grad():
            for parameter, piece in zip(self.parameters, self.pieces, strict=True):
                parameter.copy_(buckets[piece.bucket][piece.start : piece.end])
        if self.optimizer is not None:
            groups = self.optimizer.state_dict()["param_groups"]
            self.optimizer.load_state_dict({"state": state, "param_groups": groups})

    def state(self) -> dict[str, Any]:
        """The values, float32 (elements,), and the optimizer's `state` of a state_dict."""
        state = self.optimizer.state_dict()["state"] if self.optimizer is not None else {}
        return {"values": self.values, "state": state}

    def apply(self, kind: str, body: NDArray[np.uint8], scale: float = 1.0) -> None:
        """One optimizer step with a worker's gradient, times `scale`."""
        if self.optimizer is None:
            self.version += 1
            return
        rate, momentum = self.rates(self.version)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
            if "momentum" in group:
                group["momentum"] = momentum
        if kind == SPARSE:
            self._take_lists(body, np.float32(scale))
        else:
            for parameter, values in zip(self.parameters, decode_dense(body, kind, self.pieces), strict=True):
                parameter.grad = values if scale == 1.0 else values.mul_(scale)
        self.optimizer.step()
        self.version += 1

    def _take_lists(self, body: NDArray[np.uint8], scale: np.float32) -> None:
        entries = self.wire.decode(body)
        for parameter, (indices, values) in zip(self.parameters, entries, strict=True):
            if isinstance(self.optimizer, SparseOptimizer):
                parameter.grad = None
                # copies: in the message they may stand at any byte
                self.optimizer.assign(parameter, torch.from_numpy(indices.copy()), torch.from_numpy(values * scale))
            else:
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
                parameter.grad.zero_()
                cext.scatter_add(parameter.grad.numpy(), indices, values * scale)


@dataclass
class Staleness:
    """What a shard saw. histogram: pushes by the number of others applied since their worker's pull; spread: largest
    difference between the clocks of two workers that were both at work."""

    histogram: dict[int, int] = field(default_factory=dict)
    spread: int = 0

    def add(self, staleness: int) -> None:
        self.histogram[staleness] = self.histogram.get(staleness, 0) + 1


class Server(threading.Thread):
    """Serves one shard until every worker is done. The first server also deals out the tickets."""

    def __init__(
        self, channel: Channel, shard: Shard, workers: Sequence[int], recorder: Recorder, bound: int | None
    ) -> None:
        super().__init__(name="parameter server", daemon=True)
        self.channel = channel
        self.shard = shard
        self.recorder = recorder
        self.bound = bound
        self.clocks = dict.fromkeys(workers, 0)  # pushes of every worker that is still at work
        self.seen = Staleness()
        self.tickets: Tickets | None = None
        self.beside: Callable[[], dict[str, Any]] = dict  # what else goes into a checkpoint with the shard's state
        self.on_ticket: Callable[[int, float], None] = lambda worker, seconds: None
        self.on_saved: Callable[[int, dict[str, str]], None] = lambda units, files: None
        self._files: dict[str, str] = {}
        self._deferred: list[tuple[int, int, float]] = []  # (worker, clock, since): pulls that the bound holds back

    def run(self) -> None:
        try:
            while self.clocks:
                source, request = self.channel.take(REQUEST)
                self._answer(source, *parse(request))
            self.channel.flush()
        except BaseException:
            traceback.print_exc()
            print(f"rank {self.recorder.rank} ends the job: its parameter server failed", flush=True)
            abort_job(1)

    def _answer(self, worker: int, words: list[int], body: NDArray[np.uint8]) -> None:
        what = words[0]
        if what == PUSH:
            self._push(worker, words, body)
        elif what == PULL:
            self._deferred.append((worker, words[1], self.recorder.clock()))
        elif what == TICKET:
            self._ticket(worker, words[1] * 1e-9)
        elif what == STATE:
            self._reply(worker, body=np.frombuffer(pack_state(self.shard.state() | self.beside()), np.uint8))
        elif what == SAVED:
            self._saved(worker, json.loads(body.tobytes()))
        elif what == DONE:
            del self.clocks[worker]
        else:
            raise RuntimeError(f"unknown request {what} of rank {worker}")
        self._release()

    def _push(self, worker: int, words: list[int], body: NDArray[np.uint8]) -> None:
        start, staleness = self.recorder.clock(), self.shard.version - words[1]
        self.shard.apply(KINDS[words[2]], body, float(np.int64(words[4]).view(np.float64)))
        self.clocks[worker] += 1
        self.seen.add(staleness)
        self.seen.spread = max(self.seen.spread, max(self.clocks.values()) - min(self.clocks.values()))
        self.recorder.step = words[3]
        detail = {"worker": float(worker), "staleness": float(staleness)}
        self.recorder.add("serve", "push", start, self.recorder.clock(), body.nbytes, detail)

    def _release(self) -> None:
        """Answer the pulls that the staleness bound allows: nobody starts step c before all have made c - bound."""
        limit = None if self.bound is None or not self.clocks else min(self.clocks.values()) + self.bound
        held = []
        for worker, clock, since in self._deferred:
            if limit is not None and clock > limit:
                held.append((worker, clock, since))
                continue
            waited = round((self.recorder.clock() - since) * 1e9)
            values = self.shard.values.clone().view(torch.uint8).numpy()
            self._reply(worker, self.shard.version, waited, body=values)
        self._deferred = held

    def _ticket(self, worker: int, seconds: float) -> None:
        assert self.tickets is not None
        self.on_ticket(worker, seconds)
        ticket = self.tickets.ask(worker)
        self._reply(worker, ticket.unit, ticket.save, ticket.look)

    def _saved(self, worker: int, files: dict[str, str]) -> None:
        assert self.tickets is not None
        self._files |= files
        units = self.tickets.saving
        if self.tickets.saved(worker):
            self.on_saved(units, self._files)
            self._files = {}

    def _reply(self, worker: int, *words: int, body: NDArray[np.uint8] | None = None) -> None:
        self.channel.post(worker, REPLY, message(*words, body=body))
