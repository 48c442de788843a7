"""Deep Gradient Compression's selection: a threshold from a sample, mended where it misses (ICLR 2018, section 3)."""

from __future__ import annotations

import math

import torch

from toolkit.compression.base import Context
from toolkit.compression.fits import Sums
from toolkit.compression.passes import KernelPasses, Prediction, Selection
from toolkit.compression.predict import prediction
from toolkit.compression.statistical import ThresholdCompressor
from toolkit.compression.tail import Tail, nth_largest, strided_sample

SAMPLE = 0.01
UPPER, LOWER, FACTOR, ROUNDS = 1.3, 0.8, 0.8, 10


class DGC(ThresholdCompressor):
    """Threshold: the ⌈mδ⌉-th largest of m = max(n/100, 2/δ) magnitudes, strided from a random start.

    Above 1.3 k the k largest of the selected are taken exactly; below 0.8 k the threshold is lowered by ×0.8, at most
    ten times. Momentum correction and clipping are [compression] momentum and clip_norm, the warm-up of the density
    warmup_epochs; they serve every compressor.
    """

    sums = 0
    predict_from = 200_000  # little to predict

    def _predict(
        self, passes: KernelPasses, gradient: torch.Tensor, residual: torch.Tensor, context: Context
    ) -> Prediction | None:
        """The very threshold: the sample needs no statistics of the whole vector."""
        sample = strided_sample(passes, residual, self._size(context), self.seed(context), gradient)
        threshold = nth_largest(passes, sample, math.ceil(sample.numel() * context.density))
        return prediction(passes, sample, threshold, threshold, self.elements, sums=self.sums)

    def _size(self, context: Context) -> int:
        return min(self.elements, math.ceil(max(SAMPLE * self.elements, 2.0 / context.density)))

    def _search(self, tail: Tail, sums: Sums, k: int, context: Context) -> tuple[Selection, float, float]:
        threshold = tail.floor
        if not math.isfinite(threshold):
            sample = strided_sample(tail.passes, tail.vector, self._size(context), self.seed(context))
            threshold = nth_largest(tail.passes, sample, math.ceil(sample.numel() * context.density))
        estimated = count = tail.count(threshold)
        for _ in range(ROUNDS):
            if count >= LOWER * k:
                break
            threshold *= FACTOR
            count = tail.count(threshold)
        selection = tail.take_largest(k, threshold) if count > UPPER * k else tail.take(threshold)
        return selection, threshold, estimated
