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
SPARSE = 0.05  # density, up to which settling on a threshold among candidates costs less than the strided sample


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
        if not self._is_found_among_candidates(context):
            sample = strided_sample(passes, residual, self._size(context), self.seed(context), gradient)
            threshold = nth_largest(passes, sample, _rank(sample.numel(), context))
            return prediction(passes, sample, threshold, threshold, self.elements, sums=self.sums)
        k = wanted_count(self.elements, context.density)
        rank = _rank(self._placed(context)[2], context)
        sample = passes.sample(gradient, residual, GRAINS)
        return predict_count(passes, sample, self.elements, k * (1.0 + WIDTH / math.sqrt(rank)), k, self.sums)

    def _size(self, context: Context) -> int:
        return min(self.elements, math.ceil(max(SAMPLE * self.elements, 2.0 / context.density)))

    def _is_found_among_candidates(self, context: Context) -> bool:
        return self.elements >= self.sampled_from and context.density <= SPARSE

    def _placed(self, context: Context) -> tuple[int, int, int]:
        """Start, stride and size of the sample."""
        return stride_of(self.elements, self._size(context), self.seed(context))

    def _threshold(self, tail: Tail, context: Context) -> float:
        """That of the strided sample, whose largest are among the candidates, if there are any."""
        placed = self._placed(context)
        rank = _rank(placed[2], context)
        if math.isfinite(tail.floor):
            if not self._is_found_among_candidates(context):
                return tail.floor
            assert isinstance(tail.passes, KernelPasses)
            largest = tail.passes.on_stride(tail.candidates, *placed)
            if largest.numel() >= rank:
                return nth_largest(tail.passes, largest, rank)
        sample = strided_sample(tail.passes, tail.vector, self._size(context), self.seed(context))
        return nth_largest(tail.passes, sample, rank)

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


def _rank(size: int, context: Context) -> int:
    """Of the threshold, from the top of a sample."""
    return math.ceil(size * context.density)
