"""Thresholds of stages that follow one another, and predicting them from a sample, in NumPy; see cext.reference."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from cext.moments_type import SUM_ABS, SUM_LOGS, SUM_SQUARES, SUM_X, Predicted, StageFit, short_above
from cext.places import Vector

MOST_PREDICTED, MOST_SELECTED = 17, 64  # stages

Groups = NDArray[np.float64]  # a row a group: elements, and sums of |x|, x², ln(|x| + 2.2e-16), x


def stages_workspace(n: int) -> int:
    """Bytes of workspace for select_stages of n elements; the reference needs none."""
    return 0


def select_stages(
    gradient: Vector | None,
    x: Vector,
    stages: Sequence[StageFit],
    sums: int,
    indices: Vector,
    values: Vector,
    workspace: Vector,
) -> tuple[int, float, float]:
    """x += gradient, if there is one; then the entries above the threshold that stages end at (SIDCo, MLSys 2021).

    The first stage is asked with the means of the whole vector that `sums` names, SUM_ABS among them; a later one with
    those of the excesses over the threshold before, which is rounded to float32. A stage that nothing is left for is
    none. Returns the count, the threshold and the sum of |x|. Writes at most len(indices) entries, the first in index
    order, which become 0 in x where there is a gradient. Nothing is selected where the threshold is not finite: a
    NaN or an infinity in x makes the means so. From 1 to 64 stages; by one thread, for vectors that caches hold.
    """
    if not sums & SUM_ABS:
        raise ValueError("select_stages: sums must have SUM_ABS among them")
    if not 1 <= len(stages) <= MOST_SELECTED:
        raise ValueError(f"select_stages: {len(stages)} stages: from 1 to {MOST_SELECTED} are allowed")
    if gradient is not None:
        x += gradient
    magnitudes = np.abs(x).astype(np.float64)
    left, threshold = magnitudes, 0.0
    for number, (_, _, of) in enumerate(stages):
        left = left[left > threshold] if number else left
        if not len(left):
            break
        means = _excess_means(left - threshold) if number else _means(x, magnitudes, sums)
        with np.errstate(over="ignore"):
            threshold = float(np.float32(threshold + of(len(left), *means)))
        if not math.isfinite(threshold):
            return 0, threshold, float(magnitudes.sum())
    chosen = np.flatnonzero(magnitudes > threshold)
    written = chosen[: len(indices)]
    indices[: len(written)], values[: len(written)] = written, x[written]
    if gradient is not None:
        x[written] = 0
    return len(chosen), threshold, float(magnitudes.sum())


def _means(x: Vector, magnitudes: NDArray[np.float64], sums: int) -> tuple[float, float, float, float]:
    with np.errstate(invalid="ignore"):
        logs = np.log(np.abs(x) + np.float32(2.2e-16), dtype=np.float64)
        asked = (SUM_ABS, magnitudes), (SUM_SQUARES, magnitudes**2), (SUM_LOGS, logs), (SUM_X, x.astype(np.float64))
        mean, square, log, plain = (float(each.mean()) if sums & bit else math.nan for bit, each in asked)
    return mean, square, log, plain


def _excess_means(excess: NDArray[np.float64]) -> tuple[float, float, float, float]:
    return float(excess.mean()), float((excess**2).mean()), math.nan, math.nan


def predict_stages(
    sample: Vector, groups: int, stages: Sequence[StageFit], width: float, fewest: int
) -> Predicted | None:
    """Brackets of `width` standard errors on either side of each stage's threshold.

    sample: float32, cut in `groups` (2 to 256) equal parts that lie behind each other, each a sample of the whole
    vector; a rest is in none. stages: at most 17. An error adds up over the stages; a bracket's high has at most 20
    significant bits. None where the sample cannot say: a stage has fewer than `fewest` elements, or cannot be told from
    the one before, or a sum is not finite.
    """
    if not width >= 0:
        raise ValueError("predict_stages: width must be 0 or more")
    if len(stages) > MOST_PREDICTED:
        raise ValueError(f"predict_stages: {len(stages)} stages: at most {MOST_PREDICTED} are allowed")
    each = len(sample) // groups
    parts = np.abs(sample[: each * groups].astype(np.float64)).reshape(groups, each)
    threshold, squared_error = 0.0, 0.0
    brackets: list[tuple[float, float]] = []
    for number, (_, _, of) in enumerate(stages):
        sums = _tails(parts, threshold) if number else _all(parts, sample[: each * groups].reshape(groups, each))
        if sums[:, 0].sum() < fewest:
            return None
        step, error = estimate(sums, of)
        if not (math.isfinite(step) and step > 0.0 and math.isfinite(error)):
            return None
        threshold += step
        squared_error += error * error
        around = width * math.sqrt(squared_error)
        low = max(threshold - around, brackets[-1][1] if brackets else 0.0)
        if low >= threshold:
            return None
        brackets.append((low, short_above(threshold + around)))
    if not brackets:
        return None

    def above(bound: float) -> int:
        return int(np.count_nonzero(np.abs(sample) > bound))

    inside = sum(above(low) - above(high) for low, high in brackets[:-1])
    return Predicted(threshold, math.sqrt(squared_error), tuple(brackets), above(brackets[-1][0]), inside)


def estimate(sums: Groups, of: Callable[..., float]) -> tuple[float, float]:
    """of(count, mean, …) of all groups together, and its standard error: the jackknife's, which leaves out one group
    after the other (Tukey), to first order in the means. NaN and infinite where a group is all there is, or where a sum
    is not finite.
    """
    count, totals = sums[:, 0].sum(), sums[:, 1:].sum(0)
    if not (np.isfinite(totals[:2]).all() and (count - sums[:, 0] >= 1).all()):
        return math.nan, math.inf
    means = totals / count
    value, errors = float(of(count, *means)), np.zeros(len(sums))
    for place in np.flatnonzero(np.isfinite(means)):
        moves = (sums[:, 1 + place] - sums[:, 0] * means[place]) / (count - sums[:, 0])
        moved = means.copy()
        moved[place] += (most := np.abs(moves).max())
        if most:
            errors += (of(count, *moved) - value) / most * moves
    return value, math.sqrt((len(sums) - 1) / len(sums) * float((errors * errors).sum()))


def _all(magnitudes: NDArray[np.float64], signed: Vector) -> Groups:
    count = np.full(len(magnitudes), magnitudes.shape[1])
    with np.errstate(invalid="ignore"):
        logs = np.log(np.abs(signed) + np.float32(2.2e-16), dtype=np.float64).sum(1)
        return np.stack((count, magnitudes.sum(1), (magnitudes**2).sum(1), logs, signed.sum(1, dtype=np.float64)), 1)


def _tails(magnitudes: NDArray[np.float64], threshold: float) -> Groups:
    above = magnitudes > threshold
    excess = np.where(above, magnitudes - threshold, 0.0)
    unknown = np.full(len(magnitudes), math.nan)
    return np.stack((above.sum(1), excess.sum(1), (excess**2).sum(1), unknown, unknown), 1)
