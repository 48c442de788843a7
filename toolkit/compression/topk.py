"""Exact top-k: the k = max(1, ⌊nδ⌋) largest magnitudes, ties by the lowest index."""

from __future__ import annotations

import torch

import cext
from toolkit.compression.base import Context, SparsePayload, wanted_count
from toolkit.compression.sparse import SparseCompressor


class TopK(SparseCompressor):
    """Always exactly k entries, zeros included where fewer are non-zero, so that equal densities give equal counts."""

    def select(self, vector: torch.Tensor, context: Context) -> SparsePayload:
        k = wanted_count(self.elements, context.density)
        return self.payload(self.passes(vector).topk(vector, k), context.density)

    def _select_feedback(self, gradient: torch.Tensor, residual: torch.Tensor, context: Context) -> SparsePayload:
        k = wanted_count(self.elements, context.density)
        return self.payload(self.passes(residual).topk_feedback(gradient, residual, k), context.density)

    def works_in_bfloat16(self, residual: torch.Tensor, context: Context) -> bool:
        k = wanted_count(self.elements, context.density)
        return self.in_kernels(residual) and cext.topk_predictable(self.elements, k)
