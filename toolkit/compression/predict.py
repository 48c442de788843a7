"""What a sample of a large vector says about the thresholds to come, so that one pass can collect what they ask for.

The pass that adds the gradient then gathers the moments, the sums above a bracket around each predicted threshold, the
entries inside the brackets, and the candidates above the lower end of the last one. From these the exact thresholds
follow as if every one had been given a pass of its own, up to the rounding of its sums, about 1e-8 of a threshold (see
tail.py).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

import cext
from toolkit.compression import fits
from toolkit.compression.fits import Fit, Shape, Sums
from toolkit.compression.passes import KernelPasses, Prediction
from toolkit.compression.tail import nth_largest

Plan = Sequence[tuple[Fit, float]]
Bracket = tuple[float, float]

GRAIN, GRAINS = 32, 2048  # elements of a grain, grains of a sample
GROUPS = 16  # a sample is cut in, to see how far its estimates scatter
WIDTH = 4.0  # half a bracket in standard errors: one stage in about a thousand misses it
FEWEST = 16  # survivors of a sample that a stage is predicted from
LARGEST_SHARE = 0.4  # of the vector that may be candidates: beyond, nothing is saved

GroupSums = NDArray[np.float64]  # (GROUPS, 3 or 4): count, sum, sum of squares, of all magnitudes sum of logarithms too


class Groups:
    """A sample that was dealt out to GROUPS groups grain by grain, so that each is a sample of the whole vector.

    Neighbours resemble each other in real gradients: the scatter between groups shows how much, where a formula for
    independent elements would promise errors up to ten times too small.
    """

    def __init__(self, passes: KernelPasses, sample: torch.Tensor) -> None:
        self.sample = sample[: sample.numel() // (GRAIN * GROUPS) * GRAIN * GROUPS]
        self.passes = passes

    def moments(self) -> GroupSums:
        sums = self.passes.group_moments(self.sample, GROUPS)
        return np.array([(s.count, s.sum_abs, s.sum_squares, s.sum_log) for s in sums])

    def signed_moments(self) -> GroupSums:
        """Count, sum and sum of squares of the elements themselves."""
        return np.array([(s.count, s.sum, s.sum_squares) for s in self.passes.group_moments(self.sample, GROUPS)])

    def tail(self, threshold: float) -> GroupSums:
        """Of the excesses over the threshold."""
        return np.array(self.passes.group_tails(self.sample, GROUPS, threshold))


def jackknife(sums: GroupSums, estimates: Callable[[GroupSums], NDArray[np.float64]]) -> tuple[float, float]:
    """An estimate from the sums of all groups, and its standard error from leaving out one group after the other
    (Tukey's jackknife); infinite where a group is all there is, or where a sum is not finite.

    estimates: one from each row of sums, all at once.
    """
    total = sums.sum(axis=0)
    with np.errstate(all="ignore"):
        first, *rest = estimates(np.vstack((total, total - sums))).tolist()
    known = math.isfinite(sum(total.tolist())) and min((total[0] - sums[:, 0]).tolist()) >= 1
    if not (known and math.isfinite(sum(rest))):
        return first, math.inf
    mean = sum(rest) / len(rest)
    spread = sum((each - mean) ** 2 for each in rest)
    return first, math.sqrt((len(rest) - 1) / len(rest) * spread)


def stage_thresholds(sums: Sums, plan: Plan, tail: Callable[[int, float], tuple[int, float, float]]) -> float:
    """The last stage's threshold, rounded to float32 at every stage, as the kernels compare it.

    sums: of a first pass over |vector|, count >= 1. plan: (fit, ratio) of each stage. tail(m, threshold): count, sum
    and sum of squares of the excesses over the threshold before stage m. A stage without survivors is the last. NaN or
    infinity where the vector holds one.
    """
    threshold = 0.0
    shape = Shape.of(sums)
    for number, (fit, ratio) in enumerate(plan):
        if number:
            found = tail(number, threshold)
            if not found[0]:
                break
            shape = Shape.of_tail(*found)
        threshold = float(np.float32(threshold + fit(shape, ratio)))
        if not math.isfinite(threshold):
            break
    return threshold


def predict_stages(
    passes: KernelPasses, sample: torch.Tensor, plan: Plan, elements: int, sums: int
) -> Prediction | None:
    """Brackets around the stages' thresholds of a vector of `elements`; None where a sample of it cannot say."""
    if sample.numel() < GROUPS * GRAIN:
        return None
    groups = Groups(passes, sample)
    threshold, squared_error = 0.0, 0.0
    brackets: list[Bracket] = []
    for number, (fit, ratio) in enumerate(plan):
        found = groups.tail(threshold) if number else groups.moments()
        if not found[:, 0].sum() >= FEWEST:
            return None
        step, error = jackknife(found, lambda rows: fits.of_rows(fit, rows, ratio))  # noqa: B023 - called at once
        if not (math.isfinite(step) and step > 0.0 and math.isfinite(error)):
            return None
        threshold += step
        squared_error += error * error
        around = WIDTH * math.sqrt(squared_error)
        low = max(threshold - around, brackets[-1][1] if brackets else 0.0)
        brackets.append((low, cext.short_above(threshold + around)))
        if brackets[-1][0] >= threshold:
            return None  # the sample is too small to tell this stage from the one before
    return prediction(passes, sample, brackets[-1][0], threshold, elements, brackets[:-1], sums)


def prediction(
    passes: KernelPasses,
    sample: torch.Tensor,
    low: float,
    zero_above: float,
    elements: int,
    brackets: Sequence[Bracket] = (),
    sums: int = cext.SUM_ALL,
) -> Prediction | None:
    """With the room that the sample says is needed; None where that is so much that nothing would be saved."""

    def share(threshold: float) -> float:
        return passes.tail_moments(sample, threshold)[0] / sample.numel()

    if not 0.0 < low <= zero_above < math.inf:
        return None
    candidates, inside = share(low), sum(share(a) - share(b) for a, b in brackets)
    if candidates + inside > LARGEST_SHARE:
        return None
    return Prediction(
        low=low,
        zero_above=zero_above,
        room=_room(candidates, elements),
        brackets=tuple(brackets),
        inside=_room(inside, elements) if brackets else 0,
        sums=sums,
    )


def _room(share: float, elements: int) -> int:
    return int(1.25 * share * elements) + elements // 256 + 4096


def predict_count(
    passes: KernelPasses, sample: torch.Tensor, elements: int, at_least: float, about: float, sums: int
) -> Prediction | None:
    """Candidates that almost surely include the `at_least` largest; zeroed are `about` so many of them."""
    scale = sample.numel() / elements
    rank = at_least * scale
    low = nth_largest(passes, sample, math.ceil(rank + 8.0 * math.sqrt(rank)) + 8)
    return prediction(
        passes, sample, low, max(low, nth_largest(passes, sample, round(about * scale))), elements, sums=sums
    )
