"""A fixed threshold: every entry with a magnitude above it is sent, however many these are."""

from __future__ import annotations

import numpy as np
import torch

from toolkit.compression.base import Context, SparsePayload
from toolkit.compression.sparse import SparseCompressor


class Threshold(SparseCompressor):
    """Strict |x| > [compression] threshold; at density 1 (dense first steps) everything that is not zero.

    The threshold is rounded to float32, as the entries are. The density of the experiment file does not act otherwise;
    the selection may be empty.
    """

    def select(self, vector: torch.Tensor, context: Context) -> SparsePayload:
        threshold = self._threshold(context)
        return self.payload(self.passes(vector).above(vector, threshold), context.density, threshold=threshold)

    def _select_feedback(self, gradient: torch.Tensor, residual: torch.Tensor, context: Context) -> SparsePayload:
        threshold = self._threshold(context)
        selection = self.passes(residual).above_feedback(gradient, residual, threshold)
        return self.payload(selection, context.density, threshold=threshold)

    def works_in_bfloat16(self, residual: torch.Tensor, context: Context) -> bool:
        return self.in_kernels(residual)

    def _threshold(self, context: Context) -> float:
        return 0.0 if context.density >= 1.0 else float(np.float32(self.section.threshold))
