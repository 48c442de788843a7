"""Sparse allgather: each worker sends its own number of coordinates, everybody merges them in rank order.

The count travels in each message because Horovod's allgather does not tell where one rank's part ends.
"""

from __future__ import annotations

import torch

import cext
from toolkit.comm import Communicator
from toolkit.compression.base import Payload, SparseGradient, SparsePayload
from toolkit.exchange.base import Exchange, Pending
from toolkit.exchange.lists import merge_lists
from toolkit.exchange.wire import Wire


class SparseAllgather(Exchange):
    """Everything that is sent is merged: the sum of all payloads, in rank order, over the number of workers."""

    def launch(self, name: str, payload: Payload) -> Pending:
        assert isinstance(payload, SparsePayload)
        return AllgatherPending(self.comm, self.wire, name, payload)


class AllgatherPending(Pending):
    def __init__(self, comm: Communicator, wire: Wire, name: str, payload: SparsePayload) -> None:
        self.comm = comm
        self.wire = wire
        message = wire.encode(payload.indices.numpy(), payload.values.numpy())
        self.bytes = self.payload_bytes = message.nbytes
        self.handle = comm.allgather(torch.from_numpy(message), name)

    def ready(self) -> bool:
        return self.comm.ready(self.handle)

    def wait(self) -> None:
        self.parts = self.wire.decode(self.comm.wait(self.handle).numpy())

    def merge(self, out: torch.Tensor) -> int:
        out.zero_()
        for indices, values in self.parts:
            cext.scatter_add(out.numpy(), indices, values)
        out.div_(self.comm.size)
        return sum(indices.size for indices, _ in self.parts)

    def merge_sparse(self) -> tuple[SparseGradient, int]:
        indices, values = merge_lists(self.parts)
        mean = torch.from_numpy(values) / self.comm.size
        return (torch.from_numpy(indices), mean), sum(part[0].size for part in self.parts)
