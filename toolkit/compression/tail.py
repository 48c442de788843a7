"""Searching a threshold: counts above many thresholds from one gathering of candidates."""

from __future__ import annotations

import math

import numpy as np
import torch

from toolkit.compression.passes import Passes, Selection


class Tail:
    """The large entries of a vector. One pass gathers those above the lowest threshold asked for so far; counts and
    selections above any higher one look at these candidates only.

    Thresholds are rounded to float32, and strict; NaN lies above all of them.
    """

    def __init__(
        self, passes: Passes, vector: torch.Tensor, floor: float = math.inf, candidates: Selection | None = None
    ) -> None:
        self.passes = passes
        self.vector = vector
        self.floor = floor
        empty = torch.zeros(0, dtype=torch.int32, device=vector.device), vector[:0].clone()
        self.candidates: Selection = empty if candidates is None else candidates

    def count(self, threshold: float) -> int:
        """Entries with |x| > threshold."""
        self.gather(threshold)
        return self.passes.tail_moments(self.candidates[1], float(np.float32(threshold)))[0]

    def above(self, threshold: float) -> Selection:
        """Entries with |x| > threshold, ascending."""
        self.gather(threshold)
        threshold = float(np.float32(threshold))
        if threshold == self.floor:
            return self.candidates
        places, values = self.passes.above(self.candidates[1], threshold)
        return torch.index_select(self.candidates[0], 0, places), values

    def largest(self, k: int, threshold: float) -> Selection:
        """The k largest of those above `threshold`, of which there must be as many; ties by the lowest index."""
        indices, values = self.above(threshold)
        places, chosen = self.passes.topk(values, k)
        return torch.index_select(indices, 0, places), chosen

    def moments(self, threshold: float) -> tuple[int, float, float]:
        """Count, sum and sum of squares of |x| − threshold where |x| > threshold.

        Looks at the candidates if they reach so far down; otherwise it passes over the whole vector and gathers none.
        """
        threshold = float(np.float32(threshold))
        if threshold >= self.floor:
            return self.passes.tail_moments(self.candidates[1], threshold)
        return self.passes.tail_moments(self.vector, threshold)

    def gather(self, threshold: float) -> None:
        """Take candidates down to `threshold`, if they do not reach so far yet."""
        threshold = float(np.float32(threshold))
        if threshold < self.floor:
            self.candidates = self.passes.above(self.vector, threshold)
            self.floor = threshold


def strided_sample(vector: torch.Tensor, size: int, seed: list[int]) -> torch.Tensor:
    """About `size` values, float32, evenly strided from a start drawn from `seed`; at least one of n >= 1."""
    stride = max(1, vector.numel() // max(1, size))
    start = int(np.random.default_rng(seed).integers(stride))
    return vector[start::stride][: max(1, size)].contiguous()


def nth_largest(passes: Passes, values: torch.Tensor, n: int) -> float:
    """The n-th largest magnitude, n from 1 on; clipped to the smallest."""
    return float(passes.topk(values, min(max(1, n), values.numel()))[1].abs().min())
