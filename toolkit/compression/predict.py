"""SIDCo's stages in one pass over a large vector: predict from a sample, collect, finish exactly.

A sample says where each stage's threshold will lie. The pass that adds the gradient then gathers the moments, the sums
above a bracket around each predicted threshold, the entries inside the brackets, and the candidates above the lower end
of the last one. From these the thresholds follow as if every stage had passed over the vector, up to the rounding of
float64 sums. A prediction that missed is noticed, and costs the passes it was to save; it never changes what is sent.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch

from toolkit.compression.fits import Shape, Sums, exponential
from toolkit.compression.passes import Collection, KernelPasses, Prediction

Fit = Callable[[Shape, float], float]
Plan = Sequence[tuple[Fit, float]]

WIDTH = {True: 6.0, False: 9.0}  # half a bracket in standard errors: an exponential stage, one with two moments
FEWEST = 16  # survivors of a sample that a stage is predicted from
LARGEST_SHARE = 0.4  # of the vector that may be candidates: beyond, nothing is saved


def stage_thresholds(sums: Sums, plan: Plan, tail: Callable[[int, float], tuple[int, float, float] | None]) -> float:
    """The last stage's threshold, rounded to float32 at every stage, as the kernels compare it.

    sums: of a first pass over |vector|, count >= 1. plan: (fit, ratio) of each stage. tail(m, threshold): count, sum
    and sum of squares of the excesses over the threshold before stage m; None ends the search with NaN. A stage
    without survivors is the last. NaN or infinity where the vector holds one.
    """
    threshold = 0.0
    shape = Shape.of(sums)
    for number, (fit, ratio) in enumerate(plan):
        if number:
            found = tail(number, threshold)
            if found is None:
                return math.nan
            if not found[0]:
                break
            shape = Shape.of_tail(*found)
        threshold = float(np.float32(threshold + fit(shape, ratio)))
        if not math.isfinite(threshold):
            break
    return threshold


def predict(passes: KernelPasses, sample: torch.Tensor, plan: Plan, elements: int, logs: bool) -> Prediction | None:
    """Brackets around the thresholds of a vector of `elements` from a sample of it; None where it cannot be said."""
    if sample.numel() < FEWEST:
        return None
    shape, survivors = Shape.of(passes.moments(sample)), sample.numel()
    threshold, squared_error = 0.0, 0.0
    brackets: list[tuple[float, float]] = []
    for number, (fit, ratio) in enumerate(plan):
        if number:
            survivors, total, squares = passes.tail_moments(sample, threshold)
            if survivors < FEWEST:
                return None
            shape = Shape.of_tail(survivors, total, squares)
        step = fit(shape, ratio)
        if not (math.isfinite(step) and step > 0.0):
            return None
        threshold += step
        squared_error += step * step / survivors
        around = WIDTH[fit is exponential] * math.sqrt(squared_error)
        brackets.append((max(threshold - around, brackets[-1][1] if brackets else 0.0), threshold + around))
        if brackets[-1][0] >= threshold:
            return None  # the sample is too small to tell this stage from the one before
    return _prediction(sample, brackets, threshold, elements, logs)


def _prediction(
    sample: torch.Tensor, brackets: list[tuple[float, float]], last: float, elements: int, logs: bool
) -> Prediction | None:
    magnitudes = sample.abs()
    low = brackets[-1][0]
    share = float((magnitudes > low).float().mean())
    earlier = brackets[:-1]
    inside = sum(float(((magnitudes > a) & (magnitudes <= b)).float().mean()) for a, b in earlier)
    if share + inside > LARGEST_SHARE:
        return None
    return Prediction(
        low=low,
        zero_above=last,
        room=_room(share, elements),
        brackets=tuple(earlier),
        inside=_room(inside, elements),
        logs=logs,
    )


def _room(share: float, elements: int) -> int:
    return int(1.5 * share * elements) + 4096


def exact_threshold(passes: KernelPasses, seen: Collection, prediction: Prediction, plan: Plan) -> float:
    """The threshold from what one pass collected; NaN where a bracket missed it, or something found no room."""
    if not seen.complete:
        return math.nan

    def tail(number: int, threshold: float) -> tuple[int, float, float] | None:
        low, high = prediction.brackets[number - 1]
        if not low <= threshold <= high:
            return None
        above = _moved(seen.tails[number - 1], high - threshold)
        near = passes.tail_moments(seen.between, threshold)
        beyond = _moved(passes.tail_moments(seen.between, high), high - threshold)  # of later brackets
        return (
            above[0] + near[0] - beyond[0],
            above[1] + near[1] - beyond[1],
            above[2] + near[2] - beyond[2],
        )

    threshold = stage_thresholds(seen.moments, plan, tail)
    return threshold if threshold >= prediction.low else math.nan


def _moved(sums: tuple[int, float, float], by: float) -> tuple[int, float, float]:
    """Sums of excesses over a threshold that is lower by `by`, of the same entries."""
    count, total, squares = sums
    return count, total + count * by, squares + 2.0 * by * total + count * by * by
