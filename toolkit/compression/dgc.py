"""Deep Gradient Compression's selection: a threshold from a sample, mended where it misses (ICLR 2018, section 3)."""

from __future__ import annotations

import math

from toolkit.compression.base import Context
from toolkit.compression.fits import Sums
from toolkit.compression.passes import Selection
from toolkit.compression.sparse import ThresholdCompressor
from toolkit.compression.tail import Tail, nth_largest, strided_sample

SAMPLE = 0.01
UPPER, LOWER, FACTOR, ROUNDS = 1.3, 0.8, 0.8, 10


class DGC(ThresholdCompressor):
    """Threshold: the ⌈mδ⌉-th largest of m = max(n/100, 2/δ) magnitudes, strided from a random start.

    Above 1.3 k the k largest of the selected are taken exactly; below 0.8 k the threshold is lowered by ×0.8, at most
    ten times. Momentum correction and clipping are [compression] momentum and clip_norm, the warm-up of the density
    warmup_epochs; they serve every compressor.
    """

    def _search(self, tail: Tail, sums: Sums, k: int, context: Context) -> tuple[Selection, float, float]:
        size = min(self.elements, math.ceil(max(SAMPLE * self.elements, 2.0 / context.density)))
        sample = strided_sample(tail.vector, size, self.seed(context))
        threshold = nth_largest(tail.passes, sample, math.ceil(sample.numel() * context.density))
        estimated = count = tail.count(threshold)
        for _ in range(ROUNDS):
            if count >= LOWER * k:
                break
            threshold *= FACTOR
            count = tail.count(threshold)
        selection = tail.largest(k, threshold) if count > UPPER * k else tail.above(threshold)
        return selection, threshold, estimated
