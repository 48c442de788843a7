"""Instead of an exchange between workers: the payloads of a step are kept until they are pushed to the servers."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch

from toolkit.compression import DensePayload, Payload, SparsePayload
from toolkit.compression.base import SparseGradient
from toolkit.exchange import Exchange, Pending
from toolkit.reducer import GradientReducer


class Collect(Exchange):
    """Takes payloads of any kind and sends nothing."""

    def launch(self, name: str, payload: Payload) -> Pending:
        return Collected(payload, self.wire.size(payload.indices.numpy()) if isinstance(payload, SparsePayload) else 0)


class Collected(Pending):
    def __init__(self, payload: Payload, message_bytes: int) -> None:
        self.payload = payload
        self.bytes = self.payload_bytes = message_bytes or payload.bytes

    def ready(self) -> bool:
        return True

    def wait(self) -> None:
        pass

    def merge(self, out: torch.Tensor) -> int:
        raise RuntimeError("a payload for a parameter server is merged there")

    def merge_sparse(self) -> tuple[SparseGradient, int]:
        raise RuntimeError("a payload for a parameter server is merged there")


@contextmanager
def collecting(reducer: GradientReducer) -> Iterator[None]:
    """Let a reducer keep its payloads; without a bypass, because one push is all lists or all dense."""
    before = reducer.exchange, reducer.dense_exchange, reducer.bypass
    reducer.exchange = reducer.dense_exchange = Collect(reducer.comm, reducer.wire)
    reducer.bypass = replace(reducer.bypass, automatic=False)
    try:
        yield
    finally:
        reducer.exchange, reducer.dense_exchange, reducer.bypass = before


def take(reducer: GradientReducer, limit: float, scale: float = 1.0) -> tuple[list[Payload], float]:
    """This step's payloads, one a bucket, and by what the servers are to multiply them: `scale`, and what cuts them to
    the joint norm `limit` (0: nothing), as a merged gradient is. They stay as the wire carries them without loss."""
    payloads = [pending.payload for pending in reducer.compressed() if isinstance(pending, Collected)]
    if limit > 0:
        norm = math.sqrt(sum(float(_values(p).double().square().sum()) for p in payloads)) * scale
        scale *= min(1.0, limit / norm) if norm > 0 else 1.0
    return payloads, scale


def _values(payload: Payload) -> torch.Tensor:
    assert isinstance(payload, (DensePayload, SparsePayload))
    return payload.values
