"""Sparse allgather: each worker sends its own number of coordinates, everybody merges them in rank order.

A message is one int32 buffer: the count k, k indices, the bits of k float32 values. The count travels along because
Horovod's allgather does not tell where one rank's part ends.
"""

from __future__ import annotations

import numpy as np
import torch

import cext
from toolkit.compression.base import Payload, SparsePayload
from toolkit.exchange.base import Exchange, SparseGradient


class SparseAllgather(Exchange):
    def launch(self, name: str, payload: Payload) -> int:
        assert isinstance(payload, SparsePayload)
        return self.comm.allgather(pack(payload), name)

    def merge(self, received: torch.Tensor, out: torch.Tensor) -> int:
        out.zero_()
        entries = 0
        for indices, values in unpack(received.numpy()):
            cext.scatter_add(out.numpy(), indices, values)
            entries += indices.size
        out.div_(self.comm.size)
        return entries

    def merge_sparse(self, received: torch.Tensor, elements: int) -> tuple[SparseGradient, int]:
        parts = unpack(received.numpy())
        indices = np.concatenate([part[0] for part in parts])
        values = np.concatenate([part[1] for part in parts])
        offsets = np.cumsum([0] + [part[0].size for part in parts], dtype=np.int64)
        merged_indices, merged_values = np.empty_like(indices), np.empty_like(values)
        count = cext.merge_sorted(indices, values, offsets, merged_indices, merged_values)
        merged_values[:count] /= np.float32(self.comm.size)
        return (torch.from_numpy(merged_indices[:count]), torch.from_numpy(merged_values[:count])), indices.size


def pack(payload: SparsePayload) -> torch.Tensor:
    """One int32 tensor of 1 + 2k entries."""
    k = payload.indices.numel()
    message = torch.empty(1 + 2 * k, dtype=torch.int32)
    message[0] = k
    message[1 : 1 + k] = payload.indices
    message[1 + k :] = payload.values.view(torch.int32)
    return message


def unpack(message: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """The (indices int32, values float32) of each rank, in rank order, as views of the received int32 array."""
    parts = []
    start = 0
    while start < message.size:
        k = int(message[start])
        if k < 0 or start + 1 + 2 * k > message.size:
            raise RuntimeError(f"damaged message: count {k} at {start} of {message.size}")
        middle = start + 1 + k
        parts.append((message[start + 1 : middle], message[middle : middle + k].view(np.float32)))
        start = middle + k
    return parts
