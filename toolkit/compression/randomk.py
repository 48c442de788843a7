"""Random-k: coordinates drawn without looking at the values, by all workers alike or by each for itself."""

from __future__ import annotations

import math
import zlib

import numpy as np
import torch
from numpy.typing import NDArray

from toolkit.compression.base import Context, LinearPayload, Rounds, SparsePayload, wanted_count
from toolkit.compression.sparse import SparseCompressor


class SharedPayload(SparsePayload, LinearPayload):
    """Values at coordinates that every worker knows: they alone travel, and add up as they are."""

    @property
    def bytes(self) -> int:
        return 4 * self.indices.numel()

    def rounds(self) -> Rounds:
        mean = yield self.values.clone()
        return self.indices, mean


class IndependentRandomK(SparseCompressor):
    """k = max(1, ⌊nδ⌋) distinct coordinates, uniform, drawn from (seed, name, step, rank): each rank has its own.

    No state: a resumed run draws what the uninterrupted one would have. Values are sent as they are, not scaled by n/k:
    what is not sent stays in the residual. NaN and infinity are carried when their coordinate is drawn, and wait in the
    residual until then.
    """

    def select(self, vector: torch.Tensor, context: Context) -> SparsePayload:
        self.passes(vector)
        indices = self._draw(context).to(vector.device)
        return self.payload((indices, vector[indices.long()]), context.density)

    def _draw(self, context: Context) -> torch.Tensor:
        k = wanted_count(self.elements, context.density)
        if k == self.elements:
            return torch.arange(k, dtype=torch.int32)
        key = np.random.SeedSequence(self._key(context))
        return torch.from_numpy(draw_subset(np.random.Generator(np.random.Philox(key)), self.elements, k))

    def _key(self, context: Context) -> list[int]:
        return [context.seed, zlib.crc32(context.name.encode()), context.step, context.rank]


class RandomK(IndependentRandomK):
    """Random-k with one draw for all: from (seed, name, step), so indices need not travel and an allreduce serves."""

    def select(self, vector: torch.Tensor, context: Context) -> SharedPayload:
        payload = super().select(vector, context)
        return SharedPayload(payload.indices, payload.values, payload.elements)

    def nothing(self, context: Context) -> SharedPayload:
        indices = self._draw(context)
        return SharedPayload(indices, torch.zeros(indices.numel()), self.elements)

    def _key(self, context: Context) -> list[int]:
        return super()._key(context)[:-1]


def draw_subset(generator: np.random.Generator, n: int, k: int) -> NDArray[np.int32]:
    """A uniform subset of k of n places, ascending, int32 (k,); 0 <= k <= n.

    A few more than k places are drawn with replacement and sorted; given how many are distinct, these are a uniform
    subset, and so they are after uniformly chosen ones of the surplus are dropped. Three times as fast as a set.
    """
    if k == 0:
        return np.empty(0, np.int32)
    if k > n // 2:
        kept = np.ones(n, dtype=bool)
        kept[draw_subset(generator, n, n - k)] = False
        return np.flatnonzero(kept).astype(np.int32)
    doubles = k * k / (2 * n)
    extra = int(doubles + 4 * math.sqrt(doubles)) + 8
    while True:
        drawn = np.sort(generator.integers(n, size=k + extra, dtype=np.int32))
        distinct = drawn[np.concatenate(([True], drawn[1:] != drawn[:-1]))]
        if distinct.size >= k:
            break
        extra *= 2
    kept = np.ones(distinct.size, dtype=bool)
    kept[generator.choice(distinct.size, distinct.size - k, replace=False, shuffle=False)] = False
    return distinct[kept]
