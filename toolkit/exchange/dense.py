"""Dense allreduce of a whole vector.

Horovod cannot add up bfloat16: such vectors travel by allgather, as bytes, and are added in float32 in rank order.
"""

from __future__ import annotations

import torch

from toolkit.comm import Communicator
from toolkit.compression.base import DensePayload, Payload, SparseGradient
from toolkit.exchange.base import Exchange, Pending


class DenseAllreduce(Exchange):
    """Its mean is the library's sum, in an order of its own, over the number of workers."""

    def launch(self, name: str, payload: Payload) -> Pending:
        assert isinstance(payload, DensePayload)
        return DensePending(self.comm, name, payload)


class DensePending(Pending):
    def __init__(self, comm: Communicator, name: str, payload: DensePayload) -> None:
        self.comm = comm
        self.elements = payload.elements
        self.bytes = self.payload_bytes = payload.bytes
        if payload.values.dtype == torch.bfloat16:
            self.handle = comm.allgather(payload.values.view(torch.uint8), name)
        else:
            self.handle = comm.allreduce(payload.values, name)

    def ready(self) -> bool:
        return self.comm.ready(self.handle)

    def wait(self) -> None:
        self.received = self.comm.wait(self.handle)

    def merge(self, out: torch.Tensor) -> int:
        if self.received.dtype == torch.uint8:
            out.copy_(_sum_of_bits(self.received, self.comm.size))
        elif self.received.data_ptr() != out.data_ptr():
            out.copy_(self.received)
        out.div_(self.comm.size)
        return self.received.numel()

    def merge_sparse(self) -> tuple[SparseGradient, int]:
        values = torch.empty(self.elements)
        entries = self.merge(values)
        return (torch.arange(self.elements, dtype=torch.int32), values), entries


def _sum_of_bits(received: torch.Tensor, workers: int) -> torch.Tensor:
    """Sum over the workers, in rank order, of their bfloat16 vectors."""
    parts = received.view(torch.bfloat16).view(workers, -1)
    total = parts[0].float()
    for part in parts[1:]:
        total += part
    return total
