"""One pass for thresholds that need statistics of the whole vector, in NumPy; see cext.reference."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cext.moments_type import (
    LARGEST_SQUARED,
    SMALLEST_SQUARED,
    SUM_ABS,
    SUM_ALL,
    SUM_SQUARES,
    Collected,
    StageFit,
    asked_for,
    asked_tails,
)
from cext.places import Vector, check_places
from cext.reference_bf16 import either
from cext.reference_sums import above, largest, moments, tail_moments, write


def collect_workspace(n: int) -> int:
    """Bytes (uint8 elements) of workspace; the reference needs none."""
    return 0


@either
def collect_feedback(
    gradient: Vector,
    residual: Vector,
    low: float,
    zero_above: float,
    indices: Vector,
    values: Vector,
    brackets: Vector,
    between: Vector,
    workspace: Vector,
    sums: int = SUM_ALL,
    threads: int = 1,
    seed: int = 0,
) -> Collected:
    """One pass for thresholds that need statistics of the whole vector: predict, collect, settle.

    residual += gradient; the candidates |residual| > low go to indices and values, ascending, as many as have room;
    those above zero_above (>= low) become 0 in the residual, except where there was no room. Moments are those of the
    residual before that: the largest magnitude and what `sums` asks for (SUM_X + SUM_ABS + SUM_SQUARES + SUM_LOGS),
    the others are NaN, and non-zeros are not counted (-1). brackets (float64, low and high in turn, disjoint, in any
    order) are where further thresholds are predicted: tails has the sums above each high (squares: with SUM_SQUARES),
    and `between` receives the elements inside each bracket, in no particular order, so that the sums above any
    threshold inside can be completed exactly.
    The kernels add up 16 of a tail's excesses and their squares in float32 first and, where the sum of |residual| is
    wanted alone, that, too: as a rule 1e-8 of a tail off over 2 M elements, and 1e-10 of the sum. For SUM_ABS,
    SUM_SQUARES and SUM_LOGS together they multiply 16 mantissas in float32 first: at most 2^-24 an element off in
    sum_log, either way. They are quickest where every high has at most 20 significant bits (cext.short_above).
    ValueError where brackets overlap.
    """
    bounds = np.sort(brackets.reshape(-1, 2), axis=0).ravel()
    if (np.diff(bounds) < 0).any():
        raise ValueError("collect_feedback: brackets must not overlap")
    residual += gradient
    every = moments(residual)
    tails = tuple(tail_moments(residual, float(high)) for high in brackets[1::2])
    inside = [
        residual[above(residual, float(a)) & ~above(residual, float(b))]
        for a, b in zip(brackets[::2], brackets[1::2], strict=True)
    ]
    found = np.concatenate([np.empty(0, np.float32), *inside])
    between[: len(found)] = found[: len(between)]
    chosen = np.flatnonzero(above(residual, low))
    written = write(residual, chosen, indices, values)
    zeroed = chosen[:written]
    residual[zeroed[above(residual[zeroed], zero_above)]] = 0
    return Collected(len(chosen), asked_for(every, sums), asked_tails(tails, sums), len(found))


@either
def settle(
    residual: Vector,
    indices: Vector,
    values: Vector,
    count: int,
    zeroed_above: float,
    threshold: float,
    threads: int = 1,
    seed: int = 0,
) -> int:
    """Decides among `count` candidates: those with |value| > threshold stay, in order, at the front of indices, values.

    The residual is mended where the prediction was off: 0 where an entry stays, the value where one that was zeroed
    (|value| > zeroed_above) does not. So payload + residual is again the compensated gradient, exactly.
    """
    return _keep(residual, indices, values, count, zeroed_above, above(values[:count], threshold))


@either
def settle_topk(
    residual: Vector,
    indices: Vector,
    values: Vector,
    count: int,
    zeroed_above: float,
    k: int,
    threads: int = 1,
    seed: int = 0,
) -> int:
    """As settle, but what stays are the k (0 to `count`) largest of the candidates, of ties those that come first."""
    stays = np.zeros(count, bool)
    stays[largest(values[:count], k)] = True
    return _keep(residual, indices, values, count, zeroed_above, stays)


def _keep(
    residual: Vector, indices: Vector, values: Vector, count: int, zeroed_above: float, stays: NDArray[np.bool_]
) -> int:
    check_places(indices[:count], len(residual))
    zeroed = above(values[:count], zeroed_above)
    residual[indices[:count][stays]] = 0
    back = zeroed & ~stays
    residual[indices[:count][back]] = values[:count][back]
    kept = np.flatnonzero(stays)
    indices[: len(kept)], values[: len(kept)] = indices[kept], values[kept]
    return len(kept)


@either
def collect_stages(
    gradient: Vector,
    residual: Vector,
    low: float,
    zero_above: float,
    indices: Vector,
    values: Vector,
    brackets: Vector,
    between: Vector,
    workspace: Vector,
    sums: int,
    stages: Sequence[StageFit],
    threads: int = 1,
    seed: int = 0,
) -> tuple[Collected | None, int, tuple[float, ...], int]:
    """collect_feedback, then the threshold that stages end at (as in select_stages), and settling on it.

    Returns None, the count, the threshold of every stage, fewer where one has no survivors, and how many elements lay
    in brackets; where what was collected does not tell the threshold, all that collect_feedback returns, -1 and no
    threshold: candidates and the residual are as it leaves them. It does not tell where a stage is asked above a
    threshold in no bracket, where brackets or candidates had no room, where the last threshold lies below `low` or is
    not finite, where all is zero, and where squares are asked for that float32 cannot hold (magnitudes of 4e18,
    brackets that end at 1e-17). sums: all that the fits look at, SUM_ABS among them; unlike select_stages, later stages
    are told squares only with SUM_SQUARES. Where a fit raises, the gradient has been added, and nothing is taken; no
    fit may write to the arrays of the call.
    """
    if not sums & SUM_ABS:
        raise ValueError("collect_stages: sums must have SUM_ABS among them")
    arrays = (indices, values, brackets, between, workspace)
    seen = collect_feedback(gradient, residual, low, zero_above, *arrays, sums)
    known = 0.0 < seen.moments.sum_abs < math.inf and seen.between <= len(between) and seen.candidates <= len(indices)
    whole = residual.copy()
    whole[indices[: seen.candidates]] = values[: seen.candidates]
    known = known and not (sums & SUM_SQUARES and not _squares_add_up(seen, brackets))
    try:
        thresholds = _thresholds(whole, seen, brackets, sums, stages) if known else []
    except Exception:
        residual[:] = whole
        raise
    if not thresholds or thresholds[-1] < _float32_below(low):
        return seen, -1, (), seen.between
    kept = settle(residual, indices, values, seen.candidates, zero_above, thresholds[-1])
    return None, kept, tuple(thresholds), seen.between


def _float32_below(number: float) -> float:
    """The largest float32 that is not above it: candidates above the one are those above the other."""
    nearest = np.float32(number)
    return float(nearest if nearest <= number else np.nextafter(nearest, np.float32(-np.inf)))


def _squares_add_up(seen: Collected, brackets: Vector) -> bool:
    return seen.moments.max_abs < LARGEST_SQUARED and bool((brackets[1::2] > SMALLEST_SQUARED).all())


def _thresholds(x: Vector, seen: Collected, brackets: Vector, sums: int, stages: Sequence[StageFit]) -> list[float]:
    """None where one is in no bracket, or not finite."""
    m, threshold, found = seen.moments, 0.0, []
    means = tuple(each / len(x) for each in (m.sum_abs, m.sum_squares, m.sum_log, m.sum))
    count = len(x)
    for number, (_, _, of) in enumerate(stages):
        if number:
            if not any(a <= threshold <= b < math.inf for a, b in brackets.reshape(-1, 2)):
                return []
            count, total, squares = tail_moments(x, threshold)
            if not count:
                break
            means = (total / count, squares / count if sums & SUM_SQUARES else math.nan, math.nan, math.nan)
        with np.errstate(over="ignore"):
            threshold = float(np.float32(threshold + of(count, *means)))
        if not math.isfinite(threshold):
            return []
        found.append(threshold)
    return found
