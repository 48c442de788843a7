"""Compressors that choose by the moments of the whole vector, and those of them that search for a threshold."""

from __future__ import annotations

import math
import zlib
from abc import abstractmethod
from dataclasses import replace

import numpy as np
import torch

import cext
from toolkit.compression.base import COMPRESS, Context, SparsePayload, wanted_count
from toolkit.compression.fits import Sums
from toolkit.compression.passes import Collection, KernelPasses, Prediction, Selection
from toolkit.compression.residual import opened
from toolkit.compression.sparse import SparseCompressor
from toolkit.compression.tail import Tail


class StatisticalCompressor(SparseCompressor):
    """A compressor that first gathers the moments of |g + r|, in the pass that adds g to r, and then chooses.

    For all but small vectors in the C kernels that pass also takes the entries that are likely to be asked for, as a
    sample, or the calls before, predict them. A prediction that misses costs the passes it was to save; it never
    changes what is sent, but for the roundings of a residual in bfloat16 (residual.py).
    """

    sums: int  # that it chooses by, beside the largest magnitude: cext.SUM_ABS and so on
    predict_from = 800_000  # elements; below, further passes over what caches hold cost less than a prediction

    def select(self, vector: torch.Tensor, context: Context) -> SparsePayload:
        passes = self.passes(vector)
        return self._choose(Tail(passes, vector), passes.moments(vector, self.sums), context)

    def _select_feedback(self, gradient: torch.Tensor, residual: torch.Tensor, context: Context) -> SparsePayload:
        passes = self.passes(residual)
        if isinstance(passes, KernelPasses) and self.predicts():
            prediction = self._predict(passes, gradient, residual, context)
            if prediction is not None:
                return self._collect(passes, gradient, residual, prediction, context)
        with opened(residual, context, COMPRESS) as values:
            assert values is not None
            sums = passes.moments_feedback(gradient, values, self.sums)
            return self._choose(Tail(passes, values, True), sums, context)

    def _collect(
        self,
        passes: KernelPasses,
        gradient: torch.Tensor,
        residual: torch.Tensor,
        prediction: Prediction,
        context: Context,
    ) -> SparsePayload:
        """Add the gradient, in a pass that collects what is predicted, and choose."""
        seen = passes.collect_feedback(gradient, residual, prediction)
        return self._choose_collected(passes, residual, seen, context)

    def _choose_collected(
        self, passes: KernelPasses, residual: torch.Tensor, seen: Collection, context: Context
    ) -> SparsePayload:
        sums = seen.moments
        if self.sums & cext.SUM_SQUARES and not (
            sums.max_abs < cext.LARGEST_SQUARED and all(high > cext.SMALLEST_SQUARED for _, high in seen.brackets)
        ):
            seen = replace(seen, brackets=())  # the tails' squares have left float32
        tail = Tail(passes, residual, True, seen)
        if math.isinf(sums.sum_abs) and math.isfinite(sums.max_abs):  # a few were added up in float32
            sums = passes.moments(tail.vector, self.sums)
            tail = Tail(passes, residual, True)
        return self._choose(tail, sums, context)

    def works_in_bfloat16(self, residual: torch.Tensor, context: Context) -> bool:
        return self.predicts() and self.in_kernels(residual)

    def predicts(self) -> bool:
        """Whether the vector is large enough for a prediction to pay."""
        return self.elements >= self.predict_from

    @abstractmethod
    def _predict(
        self, passes: KernelPasses, gradient: torch.Tensor, residual: torch.Tensor, context: Context
    ) -> Prediction | None:
        """What of gradient + residual is likely to be asked for; None where it cannot be said, or saves nothing."""

    @abstractmethod
    def _choose(self, tail: Tail, sums: Sums, context: Context) -> SparsePayload:
        """Take from `tail`, whose vector's sums these are."""


class ThresholdCompressor(StatisticalCompressor):
    """A compressor that looks for a threshold between two bounds of the count.

    What every such search shares: density 1 sends all that is not zero; a vector with NaN or infinity is cut by the
    exact top-k, which carries them; a search that ends with nothing above its threshold gives way to it as well.
    """

    exact_count = False  # whether payloads always hold exactly k entries, zeros included

    def _choose(self, tail: Tail, sums: Sums, context: Context) -> SparsePayload:
        k = wanted_count(self.elements, context.density)
        whole = context.density >= 1.0 or sums.max_abs == 0.0
        if not math.isfinite(sums.max_abs) or (whole and self.exact_count):
            return self.payload(tail.take_topk(k), context.density)
        if whole:
            return self.payload(tail.take(0.0), context.density, threshold=0.0)
        selection, threshold, estimated = self._search(tail, sums, k, context)
        if not selection[0].numel():
            selection = tail.take_topk(k)
        told = {"threshold": float(np.float32(threshold)), "estimated": estimated / self.elements}
        return self.payload(selection, context.density, **told)

    @abstractmethod
    def _search(self, tail: Tail, sums: Sums, k: int, context: Context) -> tuple[Selection, float, float]:
        """What is taken, its threshold, and the count that the first estimate alone would have given.

        The vector is finite and not all zero, 1 <= k <= n.
        """

    @staticmethod
    def seed(context: Context) -> int:
        """What a draw of this call depends on: the run's seed, the bucket's name and the step."""
        return zlib.crc32(f"{context.seed} {context.name} {context.step}".encode())
