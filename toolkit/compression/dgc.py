"""Deep Gradient Compression's selection: a threshold from a sample, mended where it misses (ICLR 2018, section 3)."""

from __future__ import annotations

import math

import torch

from toolkit.compression.base import Context, wanted_count
from toolkit.compression.fits import Sums
from toolkit.compression.passes import KernelPasses, Prediction, Selection
from toolkit.compression.predict import GRAINS, WIDTH, predict_count, prediction
from toolkit.compression.statistical import ThresholdCompressor
from toolkit.compression.tail import Tail, nth_largest, stride_of, strided_sample

SAMPLE = 0.01
UPPER, LOWER, FACTOR, ROUNDS = 1.3, 0.8, 0.8, 10
FEW = 0.05  # density, up to which settling on a threshold among candidates costs less than the strided sample


class DGC(ThresholdCompressor):
    """Threshold: the ⌈mδ⌉-th largest of m = max(n/100, 2/δ) magnitudes, strided from a random start.

    Above 1.3 k the k largest of the selected are taken exactly; below 0.8 k the threshold is lowered by ×0.8, at most
    ten times. Momentum correction and clipping are [compression] momentum and clip_norm, the warm-up of the density
    warmup_epochs; they serve every compressor.
    """

    sums = 0
    predict_from = 200_000  # little to predict
    sampled_from = 2_000_000  # elements; below, the strided sample costs less than its prediction

    def _predict(
        self, passes: KernelPasses, gradient: torch.Tensor, residual: torch.Tensor, context: Context
    ) -> Prediction | None:
        """The very threshold, by the strided sample, which needs no statistics of the whole vector. In a large one that
        sample is spread over a sixth of all cache lines: a smaller one of neighbours says where its threshold may lie.
        """
        if not self._predicts_sample(context):
            sample = strided_sample(passes, residual, self._size(context), self.seed(context), gradient)
            threshold = nth_largest(passes, sample, math.ceil(sample.numel() * context.density))
            return prediction(passes, sample, threshold, threshold, self.elements, sums=self.sums)
        k, rank = wanted_count(self.elements, context.density), self._rank(context)
        sample = passes.sample(gradient, residual, GRAINS)
        return predict_count(passes, sample, self.elements, k * (1.0 + WIDTH / math.sqrt(rank)), k, self.sums)

    def _size(self, context: Context) -> int:
        return min(self.elements, math.ceil(max(SAMPLE * self.elements, 2.0 / context.density)))

    def _predicts_sample(self, context: Context) -> bool:
        return self.elements >= self.sampled_from and context.density <= FEW

    def _rank(self, context: Context) -> int:
        """Of the threshold, from the top of the strided sample."""
        _, _, size = stride_of(self.elements, self._size(context), self.seed(context))
        return math.ceil(size * context.density)

    def _threshold(self, tail: Tail, context: Context) -> float:
        """That of the strided sample, whose largest are among the candidates, if there are any."""
        if math.isfinite(tail.floor):
            if not self._predicts_sample(context):
                return tail.floor
            assert isinstance(tail.passes, KernelPasses)
            placed = stride_of(self.elements, self._size(context), self.seed(context))
            largest = tail.passes.on_stride(tail.candidates, *placed)
            if largest.numel() >= self._rank(context):
                return nth_largest(tail.passes, largest, self._rank(context))
        sample = strided_sample(tail.passes, tail.vector, self._size(context), self.seed(context))
        return nth_largest(tail.passes, sample, self._rank(context))

    def _search(self, tail: Tail, sums: Sums, k: int, context: Context) -> tuple[Selection, float, float]:
        threshold = self._threshold(tail, context)
        estimated = count = tail.count(threshold)
        for _ in range(ROUNDS):
            if count >= LOWER * k:
                break
            threshold *= FACTOR
            count = tail.count(threshold)
        selection = tail.take_largest(k, threshold) if count > UPPER * k else tail.take(threshold)
        return selection, threshold, estimated
