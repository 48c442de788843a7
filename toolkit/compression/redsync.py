"""RedSync: a threshold between the mean and the largest magnitude (Fang et al., arXiv 1808.04357)."""

from __future__ import annotations

import math
from dataclasses import replace

import torch

import cext
from toolkit.compression.base import Context, wanted_count
from toolkit.compression.fits import Sums
from toolkit.compression.passes import KernelPasses, Prediction, Selection
from toolkit.compression.predict import GRAINS, predict_count
from toolkit.compression.statistical import ThresholdCompressor
from toolkit.compression.tail import Tail, nth_largest, strided_sample
from toolkit.experiment import CompressionSection

ROUNDS = 40
SAMPLE = 8192
SAMPLE_FROM = 50_000  # elements; below, gathering all that exceeds the mean costs less than a sample
TRIM_STEP = 0.2


class RedSync(ThresholdCompressor):
    """Bisects the threshold mean + ρ(max − mean) until it lets through from k to 2k entries.

    Where fewer than k exceed the mean (densities above a third or so), it bisects between zero and the mean. A search
    that does not end, since many entries tie, takes the k largest exactly. The first passes would look at nearly the
    whole vector again and again: a sample says how far down candidates are wanted, and they are gathered once.
    """

    sums = cext.SUM_ABS

    def __init__(self, section: CompressionSection, elements: int) -> None:
        super().__init__(section, elements)
        self._last_largest = 0.0  # only makes a prediction better: what is sent does not depend on it

    def _predict(
        self, passes: KernelPasses, gradient: torch.Tensor, residual: torch.Tensor, context: Context
    ) -> Prediction | None:
        """Whatever the largest magnitude will be, the threshold lies between the k-th and the 2k-th. Where, the search
        in the sample says, up to the largest magnitude of the call before.
        """
        k = wanted_count(self.elements, context.density)
        sample = passes.sample(gradient, residual, GRAINS)
        found = predict_count(passes, sample, self.elements, 2.0 * k, 1.4 * k, self.sums)
        if found is None or not 0.0 < self._last_largest < math.inf:
            return found
        sums, wanted = passes.moments(sample, self.sums), k / self.elements * sample.numel()
        low, high = sums.sum_abs / sums.count, self._last_largest
        for _ in range(ROUNDS):
            threshold = 0.5 * (low + high)
            count = passes.count_above(sample, threshold)
            if wanted <= count <= 2.0 * wanted:
                return replace(found, zero_above=max(found.low, threshold))
            low, high = (threshold, high) if count > 2.0 * wanted else (low, threshold)
        return found

    def _search(self, tail: Tail, sums: Sums, k: int, context: Context) -> tuple[Selection, float, float]:
        mean, largest = sums.sum_abs / sums.count, sums.max_abs
        self._last_largest = largest
        _prime(tail, k, mean, self.seed(context))
        enough = (tail.floor >= mean and tail.candidates[0].numel() >= k) or tail.count(mean) >= k
        low, high = (mean, largest) if enough else (0.0, mean)
        estimated = 0
        for number in range(ROUNDS):
            threshold = 0.5 * (low + high)
            count = tail.candidates[0].numel()
            if threshold >= tail.floor or count <= 2 * k:  # otherwise it is known to be too many
                count = tail.count(threshold)
            estimated = estimated if number else min(count, 2 * k)
            if k <= count <= 2 * k:
                return tail.take(threshold), threshold, estimated
            low, high = (threshold, high) if count > 2 * k else (low, threshold)
        return tail.take_topk(k), high, estimated


class RedSyncTrimmed(ThresholdCompressor):
    """Exactly the k largest, looked for among those above mean + ρ(max − mean), ρ = 0.8, 0.6, … until there are k.

    What the first of these thresholds lets through is told up to k only: the k largest may be at hand already.
    """

    exact_count = True
    sums = cext.SUM_ABS

    def _predict(
        self, passes: KernelPasses, gradient: torch.Tensor, residual: torch.Tensor, context: Context
    ) -> Prediction | None:
        k = wanted_count(self.elements, context.density)
        sample = passes.sample(gradient, residual, GRAINS)
        found = predict_count(passes, sample, self.elements, k, k, self.sums)
        return None if found is None else replace(found, zero_above=math.inf)

    def _search(self, tail: Tail, sums: Sums, k: int, context: Context) -> tuple[Selection, float, float]:
        mean, largest = sums.sum_abs / sums.count, sums.max_abs
        _prime(tail, k, mean, self.seed(context))
        ratio, threshold, estimated = 1.0 - TRIM_STEP, 0.0, 0
        while ratio > 1e-9:
            threshold = mean + ratio * (largest - mean)
            enough = threshold < tail.floor and tail.candidates[0].numel() >= k  # the k largest are among them
            count = k if enough else tail.count(threshold)
            estimated = estimated or min(count, k)
            if count >= k:
                return tail.take_largest(k, tail.floor if enough else threshold), threshold, estimated
            ratio -= TRIM_STEP
        return tail.take_topk(k), 0.0, estimated


def _prime(tail: Tail, k: int, mean: float, seed: int) -> None:
    """Candidates down to about the 3k-th largest, guessed from a sample, of few elements down to the mean; lower
    thresholds gather again.
    """
    if not math.isfinite(tail.floor) and tail.vector.numel() < SAMPLE_FROM:
        tail.gather(mean)
    elif not math.isfinite(tail.floor):
        sample = strided_sample(tail.passes, tail.vector, SAMPLE, seed)
        tail.gather(nth_largest(tail.passes, sample, round(3.0 * k / tail.vector.numel() * sample.numel()) + 4))
