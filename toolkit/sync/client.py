"""A worker's side of the parameter servers: tickets, pulls, pushes."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from toolkit.checkpoint.state import unpack_state
from toolkit.comm import Channel
from toolkit.compression import Payload
from toolkit.exchange.wire import Wire
from toolkit.sync.layout import KINDS, Piece, encode, kind_of
from toolkit.sync.server import DONE, PULL, PUSH, REPLY, REQUEST, SAVED, STATE, TICKET, message, parse
from toolkit.sync.tickets import NEVER, Ticket


@dataclass
class Pulled:
    """A pull: when it was asked for and complete (s), bytes received, and seconds that a staleness bound held it."""

    start: float
    end: float
    bytes: int
    held: float


class Client:
    """Talks to `servers`, one shard each, in rank order. clock: updates that this worker has pushed."""

    def __init__(
        self,
        channel: Channel,
        servers: Sequence[int],
        shards: Sequence[Sequence[Piece]],
        wire: Wire,
        now: Callable[[], float],
    ) -> None:
        self.channel = channel
        self.servers = servers
        self.shards = shards
        self.wire = wire
        self.now = now
        self.clock = 0
        self.versions = [0] * len(servers)

    def begin(self, buckets: Sequence[torch.Tensor], seconds: float) -> tuple[Ticket, Pulled]:
        """Ask for the next unit of work and pull the parameters into `buckets`; both in one round trip.

        seconds: of this worker's last computation, for whoever looks for stragglers. Where no unit is left the pulled
        parameters are whatever the servers had.
        """
        start = self.now()
        self._post(0, TICKET, round(seconds * 1e9))
        for number in range(len(self.servers)):
            self._post(number, PULL, self.clock)
        words, _ = self._answer(0)
        ticket = Ticket(*words[:3])
        if ticket.unit == NEVER:
            self.done()  # before the pulls are waited for: a bound must not wait for a worker that has ended
        size, held = 0, 0.0
        for number in range(len(self.servers)):
            words, body = self._answer(number)
            self.versions[number] = words[0]
            held = max(held, words[1] * 1e-9)
            size += body.nbytes
            self._spread(number, body, buckets)
        return ticket, Pulled(start, self.now(), size, held)

    def _spread(self, number: int, body: Any, buckets: Sequence[torch.Tensor]) -> None:
        values, at = torch.from_numpy(body).view(torch.float32), 0
        with torch.no_grad():
            for piece in self.shards[number]:
                buckets[piece.bucket][piece.start : piece.end].copy_(values[at : at + piece.elements])
                at += piece.elements

    def push(self, payloads: Sequence[Payload], step: int, scale: float = 1.0) -> int:
        """Send a gradient, a payload a bucket, to all servers, which multiply it by `scale`; returns the bytes of it.
        Nobody is waited for."""
        kind, size = KINDS.index(kind_of(payloads)), 0
        factor = int(np.float64(scale).view(np.int64))
        for number, pieces in enumerate(self.shards):
            body = encode(payloads, pieces, self.wire)
            size += body.nbytes
            self._post(number, PUSH, self.versions[number], kind, step, factor, body=body)
        self.clock += 1
        return size

    def states(self) -> list[dict[str, Any]]:
        """`Shard.state` of every shard, for a checkpoint; the servers go on meanwhile."""
        for number in range(len(self.servers)):
            self._post(number, STATE)
        return [unpack_state(self._answer(number)[1].tobytes()) for number in range(len(self.servers))]

    def saved(self, files: dict[str, str]) -> None:
        """This worker's part of the checkpoint is on disk: SHA-256 by file name."""
        self._post(0, SAVED, body=np.frombuffer(json.dumps(files).encode(), np.uint8))

    def done(self) -> None:
        """No more pushes will come: the servers may end when all workers have said so."""
        for number in range(len(self.servers)):
            self._post(number, DONE)

    def _post(self, number: int, *words: int, body: np.ndarray | None = None) -> None:
        self.channel.post(self.servers[number], REQUEST, message(*words, body=body))

    def _answer(self, number: int) -> tuple[list[int], Any]:
        _, received = self.channel.take(REPLY, self.servers[number])
        return parse(received)
