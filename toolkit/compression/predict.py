"""What a sample of a vector says about the thresholds to come, so that one pass can collect what they ask for.

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
from toolkit.compression.fits import KERNEL_FITS, Fit, Shape, Sums
from toolkit.compression.passes import KernelPasses, Prediction
from toolkit.compression.tail import nth_largest

Plan = Sequence[tuple[Fit, float]]
Bracket = tuple[float, float]

GRAIN, GRAINS = 32, 2048  # elements of a grain, grains of a sample
GROUPS = 16  # a sample is cut in, to see how far its estimates scatter
WIDTH = 4.0  # half a bracket in standard errors: one stage in about a thousand misses it
FEWEST = 16  # survivors of a sample that a stage is predicted from
LARGEST_SHARE = 0.4  # of the vector that may be candidates: beyond, a sample saves nothing
MOST_STAGES = 17  # that one pass keeps apart


def grouped(sample: torch.Tensor) -> torch.Tensor:
    """A sample that was dealt out to GROUPS groups grain by grain, so that each is a sample of the whole vector.

    Neighbours resemble each other in real gradients: the scatter between groups shows how much, where a formula for
    independent elements would promise errors up to ten times too small.
    """
    beyond = sample.numel() % (GRAIN * GROUPS)
    return sample[:-beyond] if beyond else sample


def told_by(passes: KernelPasses, sample: torch.Tensor, stages: Sequence[cext.StageFit]) -> cext.Predicted | None:
    """What a sample, dealt out to GROUPS groups, says of the stages' thresholds; None where it is too short, or cannot
    say.
    """
    if sample.numel() < GROUPS * GRAIN:
        return None
    return passes.predict_stages(grouped(sample), GROUPS, stages, WIDTH, FEWEST)


def stage_thresholds(sums: Sums, plan: Plan, tail: Callable[[int, float], tuple[int, float, float]]) -> list[float]:
    """Every stage's threshold, rounded to float32, as the kernels compare it.

    sums: of a first pass over |vector|, count >= 1. plan: (fit, ratio) of each stage. tail(m, threshold): count, sum
    and sum of squares of the excesses over the threshold before stage m. The stage before one without survivors is the
    last, and so is one whose threshold is NaN or infinity, where the vector holds one.
    """
    threshold, thresholds = 0.0, []
    shape = Shape.of(sums)
    for number, (fit, ratio) in enumerate(plan):
        if number:
            found = tail(number, threshold)
            if not found[0]:
                break
            shape = Shape.of_tail(*found)
        threshold = float(np.float32(threshold + fit(shape, ratio)))
        thresholds.append(threshold)
        if not math.isfinite(threshold):
            break
    return thresholds


def predict_stages(
    passes: KernelPasses, sample: torch.Tensor, stages: Sequence[cext.StageFit], elements: int, sums: int
) -> Prediction | None:
    """Brackets around the stages' thresholds of a vector of `elements`; None where a sample of it cannot say."""
    told = told_by(passes, sample, stages)
    if told is None or not told.brackets[-1][0] > 0.0:
        return None
    brackets, taken = told.brackets, grouped(sample).numel()
    if told.above + told.inside > LARGEST_SHARE * taken:
        return None
    candidates, inside = told.above * elements / taken, told.inside * elements / taken
    return with_room(brackets[-1][0], told.threshold, candidates, inside, elements, brackets[:-1], sums)


def stages_of(plan: Plan) -> list[cext.StageFit]:
    """The same for the kernels."""
    return [(KERNEL_FITS.get(fit, cext.FIT_OTHER), ratio, _of_means(fit, ratio)) for fit, ratio in plan]


def _of_means(fit: Fit, ratio: float) -> Callable[[float, float, float, float, float], float]:
    def of(count: float, mean: float, square: float, mean_log: float, _: float) -> float:
        return fit(Shape.of_means(count, mean, square, mean_log), ratio)

    return of


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
    if not 0.0 < low <= zero_above < math.inf:
        return None

    def share(threshold: float) -> float:
        return passes.count_above(sample, threshold) / sample.numel()

    candidates, inside = share(low), sum(share(a) - share(b) for a, b in brackets)
    if candidates + inside > LARGEST_SHARE:
        return None
    return with_room(low, zero_above, candidates * elements, inside * elements, elements, brackets, sums)


def with_room(
    low: float,
    zero_above: float,
    candidates: float,
    inside: float,
    elements: int,
    brackets: Sequence[Bracket],
    sums: int,
) -> Prediction:
    """With room for about so many candidates, and elements inside brackets."""

    def room(count: float) -> int:
        return int(1.25 * count) + elements // 256 + 4096

    return Prediction(low, zero_above, room(candidates), tuple(brackets), room(inside) if brackets else 0, sums)


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
