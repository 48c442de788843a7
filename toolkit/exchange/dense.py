"""Dense allreduce of a whole vector.

Horovod cannot add up bfloat16: such vectors travel by allgather, as bytes, and are added in float32 in rank order.
"""

from __future__ import annotations

import torch

from toolkit.compression.base import DensePayload, Payload
from toolkit.exchange.base import Exchange, SparseGradient


class DenseAllreduce(Exchange):
    def launch(self, name: str, payload: Payload) -> int:
        assert isinstance(payload, DensePayload)
        if payload.values.dtype == torch.bfloat16:
            return self.comm.allgather(payload.values.view(torch.uint8), name)
        return self.comm.allreduce(payload.values, name)

    def merge(self, received: torch.Tensor, out: torch.Tensor) -> int:
        if received.dtype == torch.uint8:
            out.copy_(_sum_of_bits(received, self.comm.size))
        elif received.data_ptr() != out.data_ptr():
            out.copy_(received)
        out.div_(self.comm.size)
        return received.numel()

    def merge_sparse(self, received: torch.Tensor, elements: int) -> tuple[SparseGradient, int]:
        values = torch.empty(elements)
        entries = self.merge(received, values)
        return (torch.arange(elements, dtype=torch.int32), values), entries


def _sum_of_bits(received: torch.Tensor, workers: int) -> torch.Tensor:
    """Sum over the workers, in rank order, of their bfloat16 vectors."""
    parts = received.view(torch.bfloat16).view(workers, -1)
    total = parts[0].float()
    for part in parts[1:]:
        total += part
    return total
