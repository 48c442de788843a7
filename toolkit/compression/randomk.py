"""Random-k: coordinates drawn without looking at the values, by all workers alike or by each for itself."""

from __future__ import annotations

import hashlib

import numpy as np
import torch
from numpy.typing import NDArray

import cext
from toolkit.compression.base import Context, LinearPayload, Rounds, SparsePayload, wanted_count
from toolkit.compression.passes import KernelPasses, Selection, entries_at
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
        if isinstance(self.passes(vector), KernelPasses):
            return self.payload(self._draw(None, vector, context), context.density)
        indices = self._draw(None, None, context)[0].to(vector.device)
        return self.payload((indices, entries_at(vector, indices)), context.density)

    def _select_feedback(self, gradient: torch.Tensor, residual: torch.Tensor, context: Context) -> SparsePayload:
        if isinstance(self.passes(residual), KernelPasses):
            return self.payload(self._draw(gradient, residual, context), context.density)
        payload = super()._select_feedback(gradient, residual, context)
        assert isinstance(payload, SparsePayload)
        return payload

    def _draw(self, gradient: torch.Tensor | None, vector: torch.Tensor | None, context: Context) -> Selection:
        """vector += gradient, if there is one; then what it holds at the places drawn, zeros without one."""
        digest = hashlib.blake2b(repr(self._key(context)).encode(), digest_size=8).digest()
        seed = int.from_bytes(digest, "little")
        counts = block_counts(self.elements, wanted_count(self.elements, context.density), seed)
        return self._kernels.drawn(gradient, vector, self.elements, counts.cumsum(), seed)

    def _key(self, context: Context) -> list[int | str]:
        return [context.seed, context.name, context.step, context.rank]


class RandomK(IndependentRandomK):
    """Random-k with one draw for all: from (seed, name, step), so indices need not travel and an allreduce serves."""

    def nothing(self, context: Context) -> SharedPayload:
        return SharedPayload(*self._draw(None, None, context), self.elements)

    def payload(self, selection: Selection, density: float, **also: float) -> SharedPayload:
        payload = super().payload(selection, density, **also)
        return SharedPayload(payload.indices, payload.values, payload.elements)

    def _key(self, context: Context) -> list[int | str]:
        return super()._key(context)[:-1]


def block_counts(n: int, k: int, seed: int, block: int = cext.DRAW_BLOCK) -> NDArray[np.int64]:
    """How many of a uniform subset of k of n places lie in each block, int64 (⌈n/block⌉,).

    Blocks draw their own binomial numbers. Given the sum, which places these stand for is uniform, and so it is after
    the uniformly chosen ones that are too many are dropped, or those that are missing are added.
    """
    lengths = np.full(-(-n // block), block, np.int64)
    if len(lengths) <= 1:
        return np.array([k], np.int64)[: len(lengths)]
    lengths[-1] = n - block * (len(lengths) - 1)
    generator = np.random.Generator(np.random.PCG64(seed))
    counts: NDArray[np.int64] = generator.binomial(lengths, k / n)
    surplus = int(counts.sum()) - k
    among = (counts if surplus > 0 else lengths - counts).cumsum()
    chosen = generator.choice(int(among[-1]), abs(surplus), replace=False, shuffle=False)
    moved = np.bincount(np.searchsorted(among, chosen, side="right"), minlength=len(lengths))
    return counts - moved if surplus > 0 else counts + moved
