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

import cext
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

GroupSums = Sequence[tuple[float, ...]]  # of each group: how many elements, and sums over them


def grouped(sample: torch.Tensor) -> torch.Tensor:
    """A sample that was dealt out to GROUPS groups grain by grain, so that each is a sample of the whole vector.

    Neighbours resemble each other in real gradients: the scatter between groups shows how much, where a formula for
    independent elements would promise errors up to ten times too small.
    """
    return sample[: sample.numel() // (GRAIN * GROUPS) * GRAIN * GROUPS]


def estimate(groups: GroupSums, of: Callable[..., float]) -> tuple[float, float]:
    """of(count, mean, …) of all groups together, and its standard error: the jackknife's, which leaves out one group
    after the other (Tukey), to first order in the means. NaN and infinite where a group is all there is, or where a sum
    is not finite.
    """
    count, *totals = map(sum, zip(*groups, strict=True))
    if not (math.isfinite(sum(totals)) and all(count - group[0] >= 1 for group in groups)):
        return math.nan, math.inf
    means = [total / count for total in totals]
    value, errors = of(count, *means), [0.0] * len(groups)
    for place, mean in enumerate(means):
        moves = [(group[place + 1] - group[0] * mean) / (count - group[0]) for group in groups]
        most = max(map(abs, moves))
        if most > 0.0:
            slope = (of(count, *means[:place], mean + most, *means[place + 1 :]) - value) / most
            errors = [error + slope * move for error, move in zip(errors, moves, strict=True)]
    return value, math.sqrt((len(groups) - 1) / len(groups) * math.fsum(error * error for error in errors))


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
    sample = grouped(sample)
    threshold, squared_error = 0.0, 0.0
    brackets: list[Bracket] = []
    for number, (fit, ratio) in enumerate(plan):
        found = passes.group_tails(sample, GROUPS, threshold) if number else _group_moments(passes, sample)
        if not sum(group[0] for group in found) >= FEWEST:
            return None
        step, error = estimate(found, lambda *means: fit(Shape.of_means(*means), ratio))  # noqa: B023 - called at once
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


def _group_moments(passes: KernelPasses, sample: torch.Tensor) -> GroupSums:
    sums = passes.group_moments(sample, GROUPS)
    return [(s.count, s.sum_abs, s.sum_squares, s.sum_log) for s in sums]


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
        return passes.count_above(sample, threshold) / sample.numel()

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
