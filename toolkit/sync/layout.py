"""How a model's buckets are cut into shards, and how payloads and optimizer state follow the cuts.

The buckets' flat vectors stand behind each other; shard i of S is the i-th S-th of that. A piece is what a shard holds
of one bucket.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from toolkit.compression.base import DensePayload, Payload, SparsePayload
from toolkit.exchange.wire import Wire

SPARSE = "sparse"
DENSE_TYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
KINDS = (SPARSE, *DENSE_TYPES)
OptimizerState = dict[int, dict[str, Any]]  # of a state_dict: by number of the parameter


@dataclass(frozen=True)
class Piece:
    """Elements start <= i < end of a bucket."""

    bucket: int
    start: int
    end: int

    @property
    def elements(self) -> int:
        return self.end - self.start


def cut(sizes: Sequence[int], shards: int) -> list[list[Piece]]:
    """The pieces of each shard, in order; sizes: elements of each bucket. A shard may be empty."""
    total = sum(sizes)
    bounds = [total * shard // shards for shard in range(shards + 1)]
    pieces: list[list[Piece]] = [[] for _ in range(shards)]
    begin = 0
    for bucket, size in enumerate(sizes):
        for shard in range(shards):
            start, end = max(begin, bounds[shard]), min(begin + size, bounds[shard + 1])
            if start < end:
                pieces[shard].append(Piece(bucket, start - begin, end - begin))
        begin += size
    return pieces


def kind_of(payloads: Sequence[Payload]) -> str:
    """How a step's payloads travel: all of them alike, by the law of one density a step."""
    first = payloads[0]
    return str(first.values.dtype).removeprefix("torch.") if isinstance(first, DensePayload) else SPARSE


def encode(payloads: Sequence[Payload], pieces: Sequence[Piece], wire: Wire) -> NDArray[np.uint8]:
    """What a shard is sent of a step's payloads, one a bucket: a message a piece, or its values."""
    parts: list[NDArray[Any]] = []
    for piece in pieces:
        payload = payloads[piece.bucket]
        if isinstance(payload, SparsePayload):
            indices = payload.indices.numpy()
            low, high = np.searchsorted(indices, (piece.start, piece.end))
            parts.append(wire.encode(indices[low:high] - np.int32(piece.start), payload.values.numpy()[low:high]))
        elif isinstance(payload, DensePayload):
            parts.append(payload.values.detach()[piece.start : piece.end].view(torch.uint8).numpy())
        else:
            raise RuntimeError(f"a {type(payload).__name__} is a sum over workers and cannot be pushed by one")
    return np.concatenate(parts) if parts else np.empty(0, np.uint8)


def decode_dense(body: NDArray[np.uint8], kind: str, pieces: Sequence[Piece]) -> list[torch.Tensor]:
    """Float32 values of each piece, fresh where they were rounded for the wire."""
    values = torch.from_numpy(body).view(DENSE_TYPES[kind]).float()
    return list(values.split([piece.elements for piece in pieces]))


def slice_state(optimizer: torch.optim.Optimizer, sizes: Sequence[int], pieces: Sequence[Piece]) -> OptimizerState:
    """What an optimizer of `pieces` takes over from one of whole buckets: `state` of a state_dict."""
    whole: OptimizerState = dict(optimizer.state_dict()["state"])
    return {
        number: {name: _part(value, sizes[piece.bucket], piece) for name, value in whole[piece.bucket].items()}
        for number, piece in enumerate(pieces)
        if piece.bucket in whole
    }


def join_state(shards: Sequence[tuple[Sequence[Piece], OptimizerState]], sizes: Sequence[int]) -> OptimizerState:
    """The reverse of `slice_state`: `state` for whole buckets from (pieces, state) of every shard in order."""
    found: dict[int, list[tuple[Piece, dict[str, Any]]]] = {}
    for pieces, state in shards:
        for number, piece in enumerate(pieces):
            if number in state:
                found.setdefault(piece.bucket, []).append((piece, state[number]))
    return {bucket: _joined(parts, sizes[bucket]) for bucket, parts in found.items()}


def _part(value: Any, elements: int, piece: Piece) -> Any:
    if not isinstance(value, torch.Tensor):
        return value
    along = value.dim() > 0 and value.size(0) == elements
    return value[piece.start : piece.end].clone() if along else value.clone()


def _joined(parts: list[tuple[Piece, dict[str, Any]]], elements: int) -> dict[str, Any]:
    if sum(piece.elements for piece, _ in parts) != elements:
        raise RuntimeError(f"shards hold {sum(piece.elements for piece, _ in parts)} of {elements} elements")
    first = parts[0][1]
    joined = {}
    for name, value in first.items():
        along = isinstance(value, torch.Tensor) and value.dim() > 0 and value.size(0) == parts[0][0].elements
        joined[name] = torch.cat([state[name] for _, state in parts]) if along else value
    return joined
