"""What the moments passes and predictions return, and which sums, fits and 16-bit formats may be asked for."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

SUM_X, SUM_ABS, SUM_SQUARES, SUM_LOGS = 1, 2, 4, 8
SUM_ALL = SUM_X + SUM_ABS + SUM_SQUARES + SUM_LOGS
HALF_FP16, HALF_BF16 = 0, 1
LARGEST_SQUARED, SMALLEST_SQUARED = 4e18, 1e-17  # between these a few excesses' squares add up in float32
FIT_OTHER, FIT_EXPONENTIAL, FIT_PARETO = 0, 1, 2
SHORT_BITS, LEAST_EXPONENT, LARGEST_FLOAT32 = 20, -125, (2.0 - 2.0**-23) * 2.0**127

TailSums = tuple[int, float, float]
StageFit = tuple[int, float, Callable[[float, float, float, float, float], float]]
"""(fit, ratio, of). of(count, mean |x|, mean x², mean ln(|x| + 2.2e-16), mean x) is the threshold that a share `ratio`
exceeds. Later stages are asked with the excesses over the threshold before; the last two are NaN then. A fit other than
FIT_OTHER lets a kernel compute the same by itself.
"""


class Moments(NamedTuple):
    """Sums over x and |x| in float64: enough for the normal, exponential, gamma and Pareto fits, for mean and max."""

    count: int  # type: ignore[assignment]  # hides tuple.count, which nobody needs of a record
    """Elements."""
    nonzero: int
    """Elements that are not 0; a NaN is not 0. -1: not counted."""
    sum: float
    """Sum of x itself; NaN if there is a NaN or an infinity."""
    sum_abs: float
    sum_squares: float
    sum_log: float
    """Sum of ln(|x| + 2.2e-16), zeros included; the addition is made in float32."""
    max_abs: float


class Collected(NamedTuple):
    """What collect_feedback saw in its one pass."""

    candidates: int
    """Elements above `low`; more than the room means that the rest was not written (and is still in the residual)."""
    moments: Moments
    """Of the whole residual after the gradient was added; sums that were not asked for are NaN."""
    tails: tuple[TailSums, ...]
    """For each stage: count, sum and sum of squares of |x| - high over |x| > high, its bracket's upper end."""
    between: int
    """Elements inside a stage's bracket; more than the room means that some are missing."""


class Predicted(NamedTuple):
    """What a sample says about the thresholds of a vector's stages."""

    threshold: float
    """The last stage's."""
    error: float
    """Its standard error."""
    brackets: tuple[tuple[float, float], ...]
    """(low, high] around each stage's threshold, ascending and disjoint."""
    above: int
    """Elements of the sample above the last bracket's low."""
    inside: int
    """Elements of the sample inside the other brackets."""


def asked_for(moments: Moments, sums: int) -> Moments:
    """The same without what was not asked for, whatever the pass summed up beside it."""
    return moments._replace(
        nonzero=-1,
        sum=moments.sum if sums & SUM_X else math.nan,
        sum_abs=moments.sum_abs if sums & SUM_ABS else math.nan,
        sum_squares=moments.sum_squares if sums & SUM_SQUARES else math.nan,
        sum_log=moments.sum_log if sums & SUM_LOGS else math.nan,
    )


def asked_tails(tails: tuple[TailSums, ...], sums: int) -> tuple[TailSums, ...]:
    """Tails, their squares only if squares were asked for."""
    return tails if sums & SUM_SQUARES else tuple((count, total, math.nan) for count, total, _ in tails)


def short_above(number: float) -> float:
    """The least float32 of at most 20 significant bits that is not below `number` > 0: 16 of them add up in float32
    without an error.
    """
    if not number <= LARGEST_FLOAT32:
        return number + math.inf  # a NaN stays one
    exponent = max(math.frexp(number)[1], LEAST_EXPONENT)
    above = math.ldexp(math.ceil(math.ldexp(number, SHORT_BITS - exponent)), exponent - SHORT_BITS)
    return above if above <= LARGEST_FLOAT32 else math.inf
