"""Searching a threshold: counts, sums and selections above many thresholds from one gathering of candidates."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch

from toolkit.compression.passes import Collection, KernelPasses, Passes, Selection, entries_at


class TailSums(NamedTuple):
    """Count, sum and sum of squares of the excesses |x| − threshold over |x| > threshold."""

    count: int  # type: ignore[assignment]  # hides tuple.count
    sum: float
    squares: float

    def over_lower(self, by: float) -> TailSums:
        """Of the same entries, over a threshold that is lower by `by`."""
        squares = self.squares + 2.0 * by * self.sum + self.count * by * by
        return TailSums(self.count, self.sum + self.count * by, squares)


NOTHING: Selection = (torch.empty(0, dtype=torch.int32), torch.empty(0))


class Tail:
    """The large entries of a vector. Candidates above a floor answer every question about higher thresholds; a lower
    one is answered by what a pass has noted in a bracket around it, or by another pass over the vector.

    Thresholds are rounded to float32, and strict; NaN lies above all of them.

    removing: what is taken becomes zero in the vector (error feedback), which may be bfloat16 then; else the vector
    stays as it is. seen: what a pass has collected already.
    """

    def __init__(
        self, passes: Passes, vector: torch.Tensor, removing: bool = False, seen: Collection | None = None
    ) -> None:
        self.passes = passes
        self.removing = removing
        self.seen = seen
        self._vector = vector
        self._wide: torch.Tensor | None = vector if vector.dtype == torch.float32 else None
        self.candidates: Selection = seen.candidates if seen else NOTHING
        self.floor = seen.floor if seen else math.inf
        self._zeroed_above = seen.zeroed_above if seen else math.inf

    @property
    def vector(self) -> torch.Tensor:
        """All of it, in float32: what was zeroed in advance is put back."""
        self._put_back()
        if self._wide is None:
            self._wide = self._vector.float()
        return self._wide

    def _put_back(self) -> None:
        if self._zeroed_above < math.inf:
            assert isinstance(self.passes, KernelPasses)
            self.passes.put_back(self._vector, self.candidates)
            self._zeroed_above = math.inf

    def gather(self, threshold: float) -> None:
        """Take candidates down to `threshold`, if they do not reach so far yet."""
        self._gather(_single(threshold))

    def _gather(self, threshold: float) -> None:
        if threshold < self.floor:
            self.candidates = self.passes.above(self.vector, threshold)
            self.floor = threshold

    def knows(self, threshold: float) -> bool:
        """Whether sums above `threshold` need no pass over the vector."""
        threshold = _single(threshold)
        return threshold >= self.floor or self._bracket(threshold) is not None

    def count(self, threshold: float) -> int:
        """Entries with |x| > threshold."""
        threshold = _single(threshold)
        if threshold < self.floor:
            if self._bracket(threshold) is not None:
                return self._moments(threshold).count
            self._gather(threshold)
        if threshold == self.floor:
            return self.candidates[0].numel()
        return self.passes.count_above(self.candidates[1], threshold)

    def moments(self, threshold: float) -> TailSums:
        """Sums over |x| > threshold; gathers no candidates."""
        return self._moments(_single(threshold))

    def _moments(self, threshold: float) -> TailSums:
        if threshold >= self.floor:
            return TailSums(*self.passes.tail_moments(self.candidates[1], threshold))
        number = self._bracket(threshold)
        if number is None:
            return TailSums(*self.passes.tail_moments(self.vector, threshold))
        assert self.seen is not None
        high = self.seen.brackets[number][1]
        above = TailSums(*self.seen.tails[number]).over_lower(high - threshold)
        inside = self.passes.tail_moments(self.seen.between, threshold, high)
        return TailSums(above.count + inside[0], above.sum + inside[1], above.squares + inside[2])

    def _bracket(self, threshold: float) -> int | None:
        brackets = self.seen.brackets if self.seen else ()
        return next((number for number, (low, high) in enumerate(brackets) if low <= threshold <= high), None)

    def take(self, threshold: float) -> Selection:
        """The entries with |x| > threshold, ascending. The last question to this tail."""
        threshold = _single(threshold)
        self._gather(threshold)
        if threshold == self.floor and self._zeroed_above == threshold:
            taken = self.candidates
        elif self.removing:
            taken = self.passes.settle(self._vector, self.candidates, self._zeroed_above, threshold)
        else:
            taken = self._above(threshold)
        self.candidates, self._zeroed_above = taken, math.inf
        return taken

    def take_largest(self, k: int, threshold: float) -> Selection:
        """The k largest of those above `threshold`, of which there must be as many; ties by the lowest index. The last
        question to this tail.
        """
        self._gather(_single(threshold))
        if not self.removing:
            places, chosen = self.passes.topk(self.candidates[1], k)
            return entries_at(self.candidates[0], places), chosen
        self.candidates = self.passes.settle_topk(self._vector, self.candidates, self._zeroed_above, k)
        self._zeroed_above = math.inf
        return self.candidates

    def take_topk(self, k: int) -> Selection:
        """The k largest of all, zeros included; ties by the lowest index."""
        taken = self.passes.topk(self.vector, k)
        if self.removing:
            self._put_back()
            self.passes.zero_at(self._vector, taken[0])
        return taken

    def _above(self, threshold: float) -> Selection:
        if threshold == self.floor:
            return self.candidates
        places, values = self.passes.above(self.candidates[1], threshold)
        return entries_at(self.candidates[0], places), values


def _single(threshold: float) -> float:
    """Rounded to float32, as the kernels compare."""
    return float(np.float32(threshold))


def strided_sample(
    passes: Passes, vector: torch.Tensor, size: int, seed: int, gradient: torch.Tensor | None = None
) -> torch.Tensor:
    """About `size` values of `vector`, or of gradient + vector, float32, evenly strided from a start that `seed` says;
    at least one of n >= 1.
    """
    start, stride, size = stride_of(vector.numel(), size, seed)
    if isinstance(passes, KernelPasses):
        return passes.sample_strided(gradient, vector, start, stride, size)
    taken = vector[start::stride][:size]
    return taken.contiguous() if gradient is None else taken + gradient[start::stride][:size]


def stride_of(elements: int, size: int, seed: int) -> tuple[int, int, int]:
    """Start, stride and size of a strided sample of about `size` elements."""
    stride = max(1, elements // max(1, size))
    start = seed % stride  # seeds are mixed already
    return start, stride, min(max(1, size), -(-(elements - start) // stride))


def nth_largest(passes: Passes, values: torch.Tensor, n: int) -> float:
    """The n-th largest magnitude, n from 1 on; clipped to the smallest."""
    return smallest(passes.topk(values, min(max(1, n), values.numel()))[1])


def smallest(values: torch.Tensor) -> float:
    """The smallest magnitude. On the CPU in NumPy, as in `entries_at`."""
    return float(np.abs(values.numpy()).min() if values.is_cpu else values.abs().min())
