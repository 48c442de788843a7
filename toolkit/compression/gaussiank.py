"""GaussianK: the threshold of a normal distribution with the vector's mean and deviation (arXiv 1911.08772)."""

from __future__ import annotations

import math

from scipy.special import ndtri

from toolkit.compression.base import Context
from toolkit.compression.fits import Sums
from toolkit.compression.passes import Selection
from toolkit.compression.sparse import ThresholdCompressor
from toolkit.compression.tail import Tail

ROUNDS = 3
FEW, MANY = 2.0 / 3.0, 4.0 / 3.0


class GaussianK(ThresholdCompressor):
    """Threshold: μ + |Φ⁻¹(δ/2)|·σ of the signed values; ×0.5 below 2k/3 entries, ×1.5 above 4k/3, three times at most.

    After the third the count may still lie outside the bounds, far outside on data that are not normal.
    """

    def _search(self, tail: Tail, sums: Sums, k: int, context: Context) -> tuple[Selection, float, float]:
        mean = float(tail.vector.mean())
        spread = sums.sum_squares / sums.count - mean * mean
        threshold = max(0.0, mean + abs(float(ndtri(context.density / 2.0))) * math.sqrt(max(0.0, spread)))
        estimated = count = tail.count(threshold)
        for _ in range(ROUNDS):
            if FEW * k <= count <= MANY * k:
                break
            threshold *= 0.5 if count < FEW * k else 1.5
            count = tail.count(threshold)
        return tail.above(threshold), threshold, estimated
