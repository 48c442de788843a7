"""Dense allreduce of a whole vector."""

from __future__ import annotations

import torch

from toolkit.compression.base import DensePayload, Payload
from toolkit.exchange.base import Exchange, SparseGradient


class DenseAllreduce(Exchange):
    def launch(self, name: str, payload: Payload) -> int:
        assert isinstance(payload, DensePayload)
        return self.comm.allreduce(payload.values, name)

    def empty(self, elements: int) -> Payload:
        return DensePayload(torch.zeros(elements))

    def merge(self, received: torch.Tensor, out: torch.Tensor) -> int:
        if received.data_ptr() != out.data_ptr():
            out.copy_(received)
        out.div_(self.comm.size)
        return received.numel()

    def merge_sparse(self, received: torch.Tensor, elements: int) -> tuple[SparseGradient, int]:
        values = received.float() / self.comm.size
        return (torch.arange(elements, dtype=torch.int32), values), elements
