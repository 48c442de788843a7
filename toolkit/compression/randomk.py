"""Random-k: coordinates drawn without looking at the values."""

from __future__ import annotations

import zlib

import numpy as np
import torch

from toolkit.compression.base import Context, SparsePayload, wanted_count
from toolkit.compression.sparse import SparseCompressor


class RandomK(SparseCompressor):
    """k = max(1, ⌊nδ⌋) distinct coordinates, uniform, drawn from (seed, name, step): every rank draws the same ones.

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
        key = np.random.SeedSequence([context.seed, zlib.crc32(context.name.encode()), context.step])
        drawn = np.random.Generator(np.random.Philox(key)).choice(self.elements, k, replace=False, shuffle=False)
        return torch.from_numpy(np.sort(drawn).astype(np.int32))
