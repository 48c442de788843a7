"""GaussianK: the threshold of a normal distribution with the vector's mean and deviation (arXiv 1911.08772)."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import torch
from scipy.special import ndtri

import cext
from toolkit.compression.base import Context
from toolkit.compression.fits import Sums
from toolkit.compression.passes import KernelPasses, Prediction, Selection
from toolkit.compression.predict import GRAINS, GROUPS, WIDTH, prediction, told_by
from toolkit.compression.statistical import ThresholdCompressor
from toolkit.compression.tail import Tail
from toolkit.experiment import CompressionSection

ROUNDS = 3
FEW, MANY = 2.0 / 3.0, 4.0 / 3.0
MOST_AROUND = 0.05  # half a bracket, as a share of the threshold, at most: thresholds tried lie a third apart


class GaussianK(ThresholdCompressor):
    """Threshold: μ + |Φ⁻¹(δ/2)|·σ of the signed values; ×0.5 below 2k/3 entries, ×1.5 above 4k/3, three times at most.

    After the third the count may still lie outside the bounds, far outside on data that are not normal.
    """

    sums = cext.SUM_X + cext.SUM_SQUARES

    def __init__(self, section: CompressionSection, elements: int) -> None:
        super().__init__(section, elements)
        self._last_lowest = 1.0  # of the thresholds tried, as a share of the first: only saves passes

    def _predict(
        self, passes: KernelPasses, gradient: torch.Tensor, residual: torch.Tensor, context: Context
    ) -> Prediction | None:
        """The same search in a sample says which thresholds will be tried; three times, since a count near a bound
        may fall on either side of it.
        """
        sample = passes.sample(gradient, residual, GRAINS, GROUPS)
        sums, wanted = passes.moments(sample, self.sums), sample.numel() * context.density
        first = _first(sums.count, sums.sum, sums.sum_squares, context.density)

        @functools.cache
        def above(threshold: float) -> int:
            return passes.count_above(sample, threshold)

        def search(deviations: float) -> list[float]:
            def count(threshold: float) -> float:
                found = above(threshold)
                return max(0.0, found + deviations * math.sqrt(found + 1.0))

            return [threshold for threshold, _ in _tried(first, wanted, count)]

        searches = [search(deviations) for deviations in (-3.0, 0.0, 3.0)]
        around = self._scatter(passes, sample, context.density)
        low, last = (1.0 - around) * min(tried[-1] for tried in searches), searches[1][-1]
        others = sorted({threshold for tried in searches for threshold in tried if threshold < low})
        brackets = [((1.0 - around) * threshold, (1.0 + around) * threshold) for threshold in others]
        return prediction(passes, sample, low, max(low, last), self.elements, brackets, self.sums)

    def _scatter(self, passes: KernelPasses, sample: torch.Tensor, density: float) -> float:
        """Half a bracket, as a share of a threshold: all of them are multiples of the first."""

        def of(_: float, __: float, square: float, ___: float, mean: float) -> float:
            return _first(1, mean, square, density)

        told = told_by(passes, sample, [(cext.FIT_OTHER, density, of)])
        return MOST_AROUND if told is None else min(MOST_AROUND, WIDTH * told.error / told.threshold)

    def _search(self, tail: Tail, sums: Sums, k: int, context: Context) -> tuple[Selection, float, float]:
        first = _first(sums.count, sums.sum, sums.sum_squares, context.density)
        if tail.seen is None:
            tail.gather(first * self._last_lowest)
        tried = _tried(first, k, tail.count)
        self._last_lowest = min(threshold for threshold, _ in tried) / first if 0.0 < first < math.inf else 1.0
        return tail.take(tried[-1][0]), tried[-1][0], tried[0][1]


def _tried(threshold: float, k: float, count: Callable[[float], float]) -> list[tuple[float, float]]:
    """Each threshold of the search, from the first on, and how many entries lie above it."""
    if not math.isfinite(threshold):
        return [(math.inf, 0)]
    tried = [(threshold, count(threshold))]
    while len(tried) <= ROUNDS and not FEW * k <= tried[-1][1] <= MANY * k:
        threshold *= 0.5 if tried[-1][1] < FEW * k else 1.5
        tried.append((threshold, count(threshold)))
    return tried


def _first(count: float, total: float, squares: float, density: float) -> float:
    """The threshold of the normal distribution with these sums; infinite where they are not finite."""
    mean = total / count if count else 0.0
    variance = squares / count - mean * mean if count else 0.0
    if not math.isfinite(variance):
        return math.inf
    return max(0.0, mean + abs(float(ndtri(density / 2.0))) * math.sqrt(max(0.0, variance)))
