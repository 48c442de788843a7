"""GaussianK: the threshold of a normal distribution with the vector's mean and deviation (arXiv 1911.08772)."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from scipy.special import ndtri

import cext
from toolkit.compression.base import Context
from toolkit.compression.fits import Sums
from toolkit.compression.passes import KernelPasses, Prediction, Selection
from toolkit.compression.predict import GRAINS, prediction
from toolkit.compression.statistical import ThresholdCompressor
from toolkit.compression.tail import Tail

ROUNDS = 3
FEW, MANY = 2.0 / 3.0, 4.0 / 3.0
AROUND = 0.03  # half a bracket, as a share of the threshold
SUMS = cext.SUM_X + cext.SUM_SQUARES


class GaussianK(ThresholdCompressor):
    """Threshold: μ + |Φ⁻¹(δ/2)|·σ of the signed values; ×0.5 below 2k/3 entries, ×1.5 above 4k/3, three times at most.

    After the third the count may still lie outside the bounds, far outside on data that are not normal.
    """

    def _predict(
        self, passes: KernelPasses, gradient: torch.Tensor, residual: torch.Tensor, context: Context
    ) -> Prediction | None:
        """The same search in a sample says which thresholds will be tried."""
        sample = passes.sample(gradient, residual, GRAINS)
        tried = _tried(
            passes.moments(sample),
            context.density,
            sample.numel() * context.density,
            lambda threshold: passes.tail_moments(sample, threshold)[0],
        )
        last = tried[-1][0]
        low = (1.0 - AROUND) * last
        brackets = [((1.0 - AROUND) * t, (1.0 + AROUND) * t) for t, _ in tried[:-1] if t < low]
        return prediction(passes, sample, low, max(low, last), self.elements, brackets, SUMS)

    def _search(self, tail: Tail, sums: Sums, k: int, context: Context) -> tuple[Selection, float, float]:
        tried = _tried(sums, context.density, k, tail.count)
        return tail.take(tried[-1][0]), tried[-1][0], tried[0][1]


def _tried(sums: Sums, density: float, k: float, count: Callable[[float], int]) -> list[tuple[float, int]]:
    """Each threshold of the search, and how many entries lie above it."""
    mean = sums.sum / sums.count if sums.count else 0.0
    variance = sums.sum_squares / sums.count - mean * mean if sums.count else 0.0
    if not math.isfinite(variance):
        return [(math.inf, 0)]
    threshold = max(0.0, mean + abs(float(ndtri(density / 2.0))) * math.sqrt(max(0.0, variance)))
    tried = [(threshold, count(threshold))]
    while len(tried) <= ROUNDS and not FEW * k <= tried[-1][1] <= MANY * k:
        threshold *= 0.5 if tried[-1][1] < FEW * k else 1.5
        tried.append((threshold, count(threshold)))
    return tried
