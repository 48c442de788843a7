"""Rounds of dense allreduce: for payloads that add up as they are (random-k with one draw for all, PowerSGD)."""

from __future__ import annotations

import torch

from toolkit.comm import Communicator
from toolkit.compression.base import DensePayload, LinearPayload, Payload, SparseGradient, SparsePayload
from toolkit.exchange.base import Exchange, Pending
from toolkit.exchange.dense import DensePending


class LinearAllreduce(Exchange):
    """The first round starts with the bucket, the others as soon as it is waited for.

    With bf16 values on the wire, payloads at known coordinates travel as such; factors of PowerSGD stay float32.
    """

    def launch(self, name: str, payload: Payload) -> Pending:
        assert isinstance(payload, LinearPayload)
        narrow = self.wire.values == "bf16" and isinstance(payload, SparsePayload)
        return LinearPending(self.comm, name, payload, torch.bfloat16 if narrow else torch.float32)


class LinearPending(Pending):
    def __init__(self, comm: Communicator, name: str, payload: LinearPayload, kind: torch.dtype) -> None:
        self.comm = comm
        self.name = name
        self.payload = payload
        self.kind = kind
        self.simple = isinstance(payload, SparsePayload)  # known coordinates: one round, and nothing to settle
        self.settles = not self.simple
        self.payload_bytes = payload.bytes * kind.itemsize // 4
        self.bytes = self.count = 0
        self.rounds = payload.rounds()
        self._send(next(self.rounds))

    def _send(self, own: torch.Tensor) -> None:
        sent = DensePayload(own.to(self.kind))
        self.bytes += sent.bytes
        self.count += 1
        self.mean = torch.empty(own.numel())
        self.round = DensePending(self.comm, f"{self.name}.round{self.count}", sent)

    def ready(self) -> bool:
        return self.simple and self.round.ready()  # others have a round to come, which only `wait` starts

    def wait(self) -> None:
        while True:
            self.round.wait()
            self.round.merge(self.mean)
            try:
                self._send(self.rounds.send(self.mean))
            except StopIteration as end:
                self.result: torch.Tensor | SparseGradient = end.value
                return

    def settle(self, residual: torch.Tensor) -> None:
        self.payload.settle(residual)

    def merge(self, out: torch.Tensor) -> int:
        if isinstance(self.result, torch.Tensor):
            out.copy_(self.result)
            return out.numel()
        indices, values = self.result
        out.zero_()
        out[indices.long()] = values
        return indices.numel()

    def merge_sparse(self) -> tuple[SparseGradient, int]:
        if isinstance(self.result, torch.Tensor):
            every = torch.arange(self.result.numel(), dtype=torch.int32)
            return (every, self.result), every.numel()
        return self.result, self.result[0].numel()
