"""Magnitudes compared, and sums over them, in NumPy; see cext.reference."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from cext.moments_type import SUM_ALL, Moments, asked_for
from cext.places import Vector

LOG_EPSILON = np.float32(2.2e-16)


def magnitude_key(x: Vector) -> NDArray[np.int32]:
    """The bits of |x| as int32: the order of magnitudes, with NaN above infinity and above every number."""
    return x.view(np.int32) & np.int32(0x7FFFFFFF)


def largest(x: Vector, k: int) -> Vector:
    """Places of all above the k-th largest key, and of its equals the first."""
    keys = magnitude_key(x)
    if not 0 < k < len(keys):
        return np.arange(k)
    border = np.partition(keys, len(keys) - k)[len(keys) - k]
    above = np.flatnonzero(keys > border)
    return np.sort(np.concatenate((above, np.flatnonzero(keys == border)[: k - len(above)])))


def above(x: Vector, threshold: float) -> Vector:
    if math.isnan(threshold):
        raise ValueError("threshold = nan: any number is allowed")
    return ~(np.abs(x).astype(np.float64) <= threshold)  # a NaN is above


def write(x: Vector, chosen: Vector, indices: Vector, values: Vector) -> int:
    written = min(len(chosen), len(indices))
    indices[:written] = chosen[:written]
    values[:written] = x[chosen[:written]]
    return written


def _sum(x: NDArray[np.floating]) -> float:
    """In extended precision, where the platform has it, and so rounded about once."""
    return float(x.sum(dtype=np.longdouble))


def moments(x: Vector, threads: int = 1, sums: int = SUM_ALL) -> Moments:
    """One pass over |x|: see Moments. A NaN makes every sum and the maximum NaN; an infinity makes them infinite.

    The sums are float64; ln(|x| + 2.2e-16) is the first stage of SIDCo-GP (SIDCo, MLSys 2021), added in float32. Those
    that are not asked for are NaN, and non-zeros are counted only beside all of them.
    """
    a = np.abs(x)
    wide = a.astype(np.float64)
    logs = np.log((a + LOG_EPSILON).astype(np.float64))
    largest = float(a.max()) if len(a) else 0.0
    signed = _sum(x) if math.isfinite(largest) else math.nan
    found = Moments(len(x), int(np.count_nonzero(x)), signed, _sum(wide), _sum(wide * wide), _sum(logs), largest)
    return found if sums == SUM_ALL else asked_for(found, sums)


def moments_feedback(gradient: Vector, residual: Vector, threads: int = 1, sums: int = SUM_ALL) -> Moments:
    """residual += gradient, and the moments of the residual."""
    residual += gradient
    return moments(residual, threads, sums)


def tail_moments(x: Vector, threshold: float, threads: int = 1, limit: float = math.inf) -> tuple[int, float, float]:
    """Count, sum and sum of squares of |x| - threshold in float64 over threshold < |x| <= limit.

    Without a limit infinity and NaN count. ValueError if the limit is below the threshold.
    """
    if not limit >= threshold:
        raise ValueError("limit must be at least the threshold")
    chosen = above(x, threshold) if math.isinf(limit) else above(x, threshold) & ~above(x, limit)
    excess = np.abs(x[chosen]).astype(np.float64) - threshold
    return len(excess), _sum(excess), _sum(excess * excess)


def count_above(x: Vector, threshold: float, threads: int = 1) -> int:
    """Elements with |x| > threshold (compared in double); NaN is above every threshold."""
    return int(np.count_nonzero(above(x, threshold)))
